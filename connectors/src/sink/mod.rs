//! Sinks: what records are written to.

mod columns;
mod jsonl;
mod piece;
#[cfg(test)]
mod recovery;
mod shard;
pub(crate) mod statistics;
mod table;

pub use jsonl::{JsonlCompression, JsonlOptions};
pub use table::TableOptions;
