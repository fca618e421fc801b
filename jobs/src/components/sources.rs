//! Kinds of sources.

use anabranch_connectors::source::{FilesOptions, SampleOptions};
use anabranch_pipelines::source::Source;

use super::Component;
use crate::component;

/// All kinds of sources.
pub(super) fn all() -> Vec<Component<dyn Source>> {
    vec![component!("files", FilesOptions), component!("sample", SampleOptions)]
}
