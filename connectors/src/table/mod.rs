//! Tables: Parquet shards under a Delta log.

mod delta;
mod letters;

pub(crate) use delta::{Added, DeltaError, DeltaLog};
pub use letters::TableLetters;
