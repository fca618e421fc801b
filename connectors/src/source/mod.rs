//! Sources: what records are read from.

mod cifar;
mod csv;
mod files;
mod fixed;
mod glob;
mod idx;
mod labels;
mod lines;
mod media;
mod object;
mod pixels;
mod sample;
mod scan;
mod tar;
#[cfg(test)]
mod testing;
mod values;

pub use cifar::CifarOptions;
pub use csv::CsvOptions;
pub use files::FilesOptions;
pub use idx::IdxOptions;
pub use labels::{LabelsOptions, Missing};
pub use sample::SampleOptions;
pub use tar::TarOptions;
pub use values::ValueType;
