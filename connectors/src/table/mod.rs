//! Tables: Parquet shards under a Delta log.

pub(crate) mod checksums;
mod delta;
pub(crate) mod dictionaries;
mod letters;
pub mod read;

/// Field metadata key under which a table keeps a column's Arrow type where Delta has no word for it.
pub(crate) const ORIGINAL_TYPE: &str = "anabranch:arrow";

pub(crate) use delta::{Added, DeltaError, DeltaLog, Visible};
pub use letters::TableLetters;
