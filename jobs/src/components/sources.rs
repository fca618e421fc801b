//! Kinds of sources.

use anabranch_connectors::source::{
    CifarOptions, CsvOptions, FilesOptions, IdxOptions, SampleOptions, TarOptions,
};
use anabranch_pipelines::source::Source;

use super::Component;
use crate::component;

/// All kinds of sources.
pub(super) fn all() -> Vec<Component<dyn Source>> {
    vec![
        component!("cifar", CifarOptions),
        component!("csv", CsvOptions),
        component!("files", FilesOptions),
        component!("idx", IdxOptions),
        component!("sample", SampleOptions),
        component!("tar", TarOptions),
    ]
}
