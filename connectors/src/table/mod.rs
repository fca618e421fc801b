//! Tables: Parquet shards under a Delta log.

mod delta;

pub(crate) use delta::{Added, DeltaError, DeltaLog};
