//! Dead letters: records that were refused, with the reason, kept so that nothing is dropped silently.
//!
//! They are rows of one schema, written to `_anabranch/runs/RUN/dead_letters/` by the sink that the job
//! configures (Parquet by default) and named in the run log like any shard. `record` is the row as it
//! stood before the operator that refused it, as an Arrow IPC stream, so a replay enters it there again.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::record::RecordId;

/// One refused record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record's id.
    pub id: RecordId,
    /// Its key, relative to its source's root, when it has one.
    pub key: String,
    /// The node that refused it: a source or an operator.
    pub operator: String,
    /// What is wrong with it.
    pub error: String,
    /// The row as an Arrow IPC stream, for an operator's refusal.
    pub record: Option<Vec<u8>>,
    /// Name of the split, for a source's refusal.
    pub split: Option<String>,
    /// Offsets in the split, for a source's refusal.
    pub range: Option<std::ops::Range<u64>>,
    /// Original bytes, for a source's refusal, when there are any and they are small.
    pub bytes: Option<Vec<u8>>,
}

/// The schema of the dead-letter table.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::FixedSizeBinary(16), false),
        Field::new("key", DataType::Utf8, false),
        Field::new("operator", DataType::Utf8, false),
        Field::new("error", DataType::Utf8, false),
        Field::new("record", DataType::Binary, true),
        Field::new("split", DataType::Utf8, true),
        Field::new("from", DataType::Int64, true),
        Field::new("to", DataType::Int64, true),
        Field::new("bytes", DataType::Binary, true),
    ]))
}
