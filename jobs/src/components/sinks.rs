//! Kinds of sinks.

use anabranch_connectors::sink::{
    FilesOptions, JsonlOptions, MdsOptions, ParquetOptions, TableOptions, WebdatasetOptions,
};
use anabranch_pipelines::sink::Sink;

use super::Component;
use crate::component;

/// All kinds of sinks.
pub(super) fn all() -> Vec<Component<dyn Sink>> {
    vec![
        component!("files", FilesOptions),
        component!("jsonl", JsonlOptions),
        component!("mds", MdsOptions),
        component!("parquet", ParquetOptions),
        component!("table", TableOptions),
        component!("webdataset", WebdatasetOptions),
    ]
}
