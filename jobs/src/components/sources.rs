//! Kinds of sources.

use anabranch_connectors::source::{
    CifarOptions, CsvOptions, FilesOptions, IdxOptions, JsonlOptions, MdsOptions, ParquetOptions,
    SampleOptions, TableOptions, TarOptions, TextOptions, UrlsOptions, WebDatasetOptions,
    ZipOptions,
};
use anabranch_pipelines::source::Source;

use super::{Component, mixture};
use crate::component;

/// All kinds of sources.
pub(super) fn all() -> Vec<Component<dyn Source>> {
    vec![
        component!("cifar", CifarOptions),
        component!("csv", CsvOptions),
        component!("files", FilesOptions),
        component!("idx", IdxOptions),
        component!("jsonl", JsonlOptions),
        component!("mds", MdsOptions),
        mixture::component(),
        component!("parquet", ParquetOptions),
        component!("sample", SampleOptions),
        component!("table", TableOptions),
        component!("tar", TarOptions),
        component!("text", TextOptions),
        component!("urls", UrlsOptions),
        component!("webdataset", WebDatasetOptions),
        component!("zip", ZipOptions),
    ]
}
