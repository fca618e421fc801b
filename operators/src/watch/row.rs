//! What comes out of a watch: rows of how it stands.

use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::{ID, KEY, RecordId};
use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Bytes of a row at most, but for the name of the column, which is in its key.
pub(super) const BYTES: usize = 512;

/// How a watch stands after some records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    /// Losses that were watched.
    pub(super) records: u64,
    /// Their mean.
    pub(super) loss: f64,
    /// The mean of those since the last row.
    pub(super) recent_loss: f64,
    /// What a stake of 1 became.
    pub(super) evidence: f64,
    /// Whether it was enough, now or before.
    pub(super) alarm: bool,
}

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(ID, DataType::FixedSizeBinary(16), false),
        Field::new(KEY, DataType::Utf8, false),
        Field::new("records", DataType::Int64, false),
        Field::new("loss", DataType::Float64, false),
        Field::new("recent_loss", DataType::Float64, false),
        Field::new("evidence", DataType::Float64, false),
        Field::new("max_loss", DataType::Float64, false),
        Field::new("alarm", DataType::Boolean, false),
    ]))
}

/// Rows as a batch.
pub(super) fn batch(
    column: &str,
    max_loss: f64,
    rows: &[Row],
) -> Result<RecordBatch, OperatorError> {
    let keys: Vec<String> =
        rows.iter().map(|row| format!("{column}-{:012}", row.records)).collect();
    let ids = keys.iter().map(|key| RecordId::new("watch", key).0);
    let number = |of: fn(&Row) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows.iter().map(of)))
    };
    let records = rows.iter().map(|row| i64::try_from(row.records).unwrap_or(i64::MAX));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(ids)?),
        Arc::new(StringArray::from(keys.clone())),
        Arc::new(Int64Array::from_iter_values(records)),
        number(|row| row.loss),
        number(|row| row.recent_loss),
        number(|row| row.evidence),
        Arc::new(Float64Array::from(vec![max_loss; rows.len()])),
        Arc::new(rows.iter().map(|row| Some(row.alarm)).collect::<BooleanArray>()),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
