//! Sources: what records are read from.

mod files;
mod glob;
mod sample;

pub use files::FilesOptions;
pub use sample::SampleOptions;
