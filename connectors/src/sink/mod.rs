//! Sinks: what records are written to.

mod base64;
mod card;
mod columns;
mod index;
mod json;
mod jsonl;
mod parquet;
mod piece;
mod publish;
#[cfg(test)]
mod recovery;
mod shard;
pub(crate) mod statistics;
mod table;
mod webdataset;

pub use jsonl::{JsonlCompression, JsonlOptions};
pub use parquet::ParquetOptions;
pub use table::TableOptions;
pub use webdataset::WebdatasetOptions;
