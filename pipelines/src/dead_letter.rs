//! Dead letters: records that were refused, with the reason, kept so that nothing is dropped silently.
//!
//! They are rows of one schema, written by the sink that the job configures (by default a table at
//! `_anabranch/dead_letters` below the first sink) and named in the run log like any shard. `record` is the row as it
//! stood before the operator that refused it, as an Arrow IPC stream, so a replay enters it there again.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch,
    StringArray,
};
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

/// Bytes at which a batch of dead letters ends: far below what the offsets of a column can count.
const BATCH_BYTES: usize = 64 << 20;

/// Dead letters as rows of [`schema`], in batches of a bounded size unless one letter is larger.
///
/// # Errors
/// When one letter is larger than a column can hold.
pub(crate) fn to_batches(letters: &[DeadLetter]) -> Result<Vec<RecordBatch>, ArrowError> {
    in_batches(letters, BATCH_BYTES)
}

fn in_batches(letters: &[DeadLetter], most: usize) -> Result<Vec<RecordBatch>, ArrowError> {
    let size = |letter: &DeadLetter| {
        let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        bytes(&letter.record) + bytes(&letter.bytes) + letter.error.len() + letter.key.len()
    };
    let (mut batches, mut from, mut held) = (Vec::new(), 0, 0);
    for (at, letter) in letters.iter().enumerate() {
        let own = size(letter);
        if at > from && held + own > most {
            batches.push(to_batch(letters.get(from..at).unwrap_or_default())?);
            (from, held) = (at, 0);
        }
        held += own;
    }
    if from < letters.len() {
        batches.push(to_batch(letters.get(from..).unwrap_or_default())?);
    }
    Ok(batches)
}

fn to_batch(letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
    let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    let ids = FixedSizeBinaryArray::try_from_iter(letters.iter().map(|letter| letter.id.0))?;
    let text = |of: fn(&DeadLetter) -> Option<&str>| -> ArrayRef {
        Arc::new(letters.iter().map(of).collect::<StringArray>())
    };
    let bytes = |of: fn(&DeadLetter) -> Option<&[u8]>| -> Result<ArrayRef, ArrowError> {
        let total: usize = letters.iter().filter_map(of).map(<[u8]>::len).sum();
        if i32::try_from(total).is_err() {
            let message = format!("{total} bytes of a dead letter are more than a column holds");
            return Err(ArrowError::InvalidArgumentError(message));
        }
        Ok(Arc::new(letters.iter().map(of).collect::<BinaryArray>()))
    };
    let range = |of: fn(&std::ops::Range<u64>) -> u64| -> ArrayRef {
        let ends = letters.iter().map(|letter| number(letter.range.as_ref().map(of)));
        Arc::new(ends.collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        text(|letter| Some(&letter.key)),
        text(|letter| Some(&letter.operator)),
        text(|letter| Some(&letter.error)),
        bytes(|letter| letter.record.as_deref())?,
        text(|letter| letter.split.as_deref()),
        range(|range| range.start),
        range(|range| range.end),
        bytes(|letter| letter.bytes.as_deref())?,
    ];
    RecordBatch::try_new(schema(), columns)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_come_in_batches_of_a_bounded_size_and_are_read_as_they_were() {
        let letter = |number: u8| DeadLetter {
            id: RecordId([number; 16]),
            key: format!("k{number}"),
            operator: "decode".to_owned(),
            error: "broken".to_owned(),
            record: number.is_multiple_of(2).then(|| vec![number; 30]),
            split: Some("a".to_owned()),
            range: Some(0..u64::from(number)),
            bytes: None,
        };
        let letters: Vec<_> = (0..10).map(letter).collect();
        let batches = in_batches(&letters, 100).unwrap();
        assert!(batches.len() > 2 && batches.iter().all(|batch| batch.num_rows() > 0));
        let back = batches.iter().flat_map(|batch| from_batch(batch).unwrap());
        assert_eq!(back.collect::<Vec<_>>(), letters);
        // A letter that is larger than a batch is one of its own.
        assert_eq!(in_batches(&letters, 1).unwrap().len(), 10);
        assert!(in_batches(&[], 1).unwrap().is_empty());
    }
}
