//! Sources: what records are read from.

mod braces;
mod cifar;
mod csv;
mod facts;
mod files;
mod fixed;
mod glob;
mod idx;
mod jsonl;
mod labels;
mod lines;
mod local;
mod mds;
mod media;
mod member;
pub(crate) mod object;
pub(crate) mod parquet;
mod pixels;
mod sample;
mod scan;
mod sound;
pub(crate) mod table;
mod tar;
#[cfg(test)]
pub(crate) mod testing;
mod text;
mod values;
mod wav;
mod webdataset;
mod zip;

pub use cifar::CifarOptions;
pub use csv::CsvOptions;
pub use files::FilesOptions;
pub use idx::IdxOptions;
pub use jsonl::{JsonlOptions, JsonlType, Unknown};
pub use labels::{LabelsOptions, Missing};
pub use mds::MdsOptions;
pub use parquet::{Classes, NAMES_KEY, ParquetOptions};
pub use sample::SampleOptions;
pub use table::TableOptions;
pub use tar::TarOptions;
pub use text::{TextOptions, TextSplit};
pub use values::ValueType;
pub use webdataset::{WebDatasetOptions, WebDatasetType};
pub use zip::ZipOptions;
