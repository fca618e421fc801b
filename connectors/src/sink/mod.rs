//! Sinks: what records are written to.

mod base64;
mod card;
mod cells;
mod columns;
mod files;
mod index;
mod json;
mod jsonl;
mod mds;
mod parquet;
mod piece;
mod publish;
#[cfg(test)]
mod recovery;
mod shard;
pub(crate) mod statistics;
mod table;
mod webdataset;

pub use files::FilesOptions;
pub use jsonl::{JsonlCompression, JsonlOptions};
pub use mds::{MdsCompression, MdsEncoding, MdsOptions};
pub use parquet::ParquetOptions;
pub use table::TableOptions;
pub use webdataset::WebdatasetOptions;
