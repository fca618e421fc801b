//! Dead letters: records that were refused, with the reason, kept so that nothing is dropped silently.
//!
//! They are rows of one schema, written to `_anabranch/runs/RUN/dead_letters/` by the sink that the job
//! configures (Parquet by default) and named in the run log like any shard. `record` is the row as it
//! stood before the operator that refused it, as an Arrow IPC stream, so a replay enters it there again.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

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

/// Rows of [`schema`] as dead letters. Ids may be plain binary, as tables hold them.
///
/// # Errors
/// When a column is missing or of another type.
pub fn from_batch(batch: &RecordBatch) -> Result<Vec<DeadLetter>, ArrowError> {
    let column = |name: &str, to: &DataType| {
        let column = batch.column_by_name(name).ok_or_else(|| {
            ArrowError::SchemaError(format!("these are no dead letters: no column `{name}`"))
        })?;
        cast(column, to)
    };
    let text =
        |name: &str| Ok::<_, ArrowError>(column(name, &DataType::Utf8)?.as_string::<i32>().clone());
    let bytes = |name: &str| {
        Ok::<_, ArrowError>(column(name, &DataType::Binary)?.as_binary::<i32>().clone())
    };
    let number = |name: &str| {
        let column = column(name, &DataType::Int64)?;
        Ok::<_, ArrowError>(column.as_primitive::<Int64Type>().clone())
    };
    let (ids, records, found) = (bytes("id")?, bytes("record")?, bytes("bytes")?);
    let (keys, operators, errors) = (text("key")?, text("operator")?, text("error")?);
    let (splits, from, to) = (text("split")?, number("from")?, number("to")?);
    let text =
        |column: &StringArray, row| column.is_valid(row).then(|| column.value(row).to_owned());
    let bytes =
        |column: &BinaryArray, row| column.is_valid(row).then(|| column.value(row).to_vec());
    let number = |column: &Int64Array, row: usize| {
        column.is_valid(row).then(|| u64::try_from(column.value(row)).ok()).flatten()
    };
    let letter = |row| {
        let id = ids.value(row).try_into();
        let id = id.map_err(|_| ArrowError::SchemaError("an id is not of 16 bytes".to_owned()))?;
        Ok(DeadLetter {
            id: RecordId(id),
            key: text(&keys, row).unwrap_or_default(),
            operator: text(&operators, row).unwrap_or_default(),
            error: text(&errors, row).unwrap_or_default(),
            record: bytes(&records, row),
            split: text(&splits, row),
            range: number(&from, row).zip(number(&to, row)).map(|(from, to)| from..to),
            bytes: bytes(&found, row),
        })
    };
    (0..batch.num_rows()).map(letter).collect()
}
