//! The 128-bit identity of a record.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use sha2::{Digest, Sha256};

use super::{ID, KEY};

/// A record's identity: the first 128 bits of SHA-256 over the source's name and the record's key.
///
/// The key is relative to the source's root, so the id survives a move of the data and is the same on
/// every machine. It is printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub [u8; 16]);

impl RecordId {
    /// The id of the record `key` of the source called `source`.
    pub fn new(source: &str, key: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((source.len() as u64).to_le_bytes());
        hash.update(source.as_bytes());
        hash.update(key.as_bytes());
        Self::truncate(&hash.finalize())
    }

    /// The id of a record made from two others, as a join makes it.
    pub fn of_pair(left: &[u8], right: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update((left.len() as u64).to_le_bytes());
        hash.update(left);
        hash.update(right);
        Self::truncate(&hash.finalize())
    }

    fn truncate(digest: &[u8]) -> Self {
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
        Self(id)
    }

    /// The id in row `row` of a batch, if the batch has an [`ID`] column and such a row.
    pub fn of_row(batch: &RecordBatch, row: usize) -> Option<Self> {
        let ids = ids(batch)?;
        (row < ids.len() && ids.is_valid(row)).then(|| Self::truncate(ids.value(row)))
    }
}

/// What people know the record in row `row` by: its key, else its id.
pub(crate) fn name_of_row(batch: &RecordBatch, row: usize) -> Option<String> {
    let keys = batch.column_by_name(KEY).and_then(|c| c.as_any().downcast_ref::<StringArray>());
    let key =
        keys.filter(|keys| row < keys.len() && keys.is_valid(row)).map(|keys| keys.value(row));
    let key = key.filter(|key| !key.is_empty()).map(str::to_owned);
    key.or_else(|| RecordId::of_row(batch, row).map(|id| id.to_string()))
}

/// The [`ID`] column of a batch, if it has one of the right type.
pub fn ids(batch: &RecordBatch) -> Option<&FixedSizeBinaryArray> {
    batch.column_by_name(ID)?.as_any().downcast_ref()
}

/// Puts the [`ID`] column in front of a batch whose [`KEY`] column is there.
///
/// A batch that begins with ids already (of a table, of dead letters) keeps them: a record read again is
/// the same record.
///
/// # Errors
/// When the batch has no `key` column of strings.
pub fn with_ids(source: &str, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if has_ids(&batch.schema()) {
        return Ok(batch.clone());
    }
    let keys = batch
        .column_by_name(KEY)
        .and_then(|column| column.as_any().downcast_ref::<StringArray>())
        .ok_or_else(|| ArrowError::SchemaError("a source's batch has no `key` column".into()))?;
    let ids: Vec<[u8; 16]> =
        keys.iter().map(|key| RecordId::new(source, key.unwrap_or_default()).0).collect();
    let ids: ArrayRef = if ids.is_empty() {
        arrow::array::new_empty_array(&DataType::FixedSizeBinary(16))
    } else {
        Arc::new(FixedSizeBinaryArray::try_from_iter(ids.iter())?)
    };
    let columns = std::iter::once(ids).chain(batch.columns().iter().cloned()).collect();
    RecordBatch::try_new(with_id_field(&batch.schema()), columns)
}

/// The schema of [`with_ids`]'s result.
pub(crate) fn with_id_field(schema: &Schema) -> SchemaRef {
    if has_ids(schema) {
        return Arc::new(schema.clone());
    }
    let id = Arc::new(Field::new(ID, DataType::FixedSizeBinary(16), false));
    let fields: Vec<_> = std::iter::once(id).chain(schema.fields().iter().cloned()).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Whether a source's rows come with ids of their own.
fn has_ids(schema: &Schema) -> bool {
    schema.fields().first().is_some_and(|first| {
        first.name() == ID && first.data_type() == &DataType::FixedSizeBinary(16)
    })
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_from_keys_once_and_then_kept() {
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let batch = RecordBatch::try_from_iter([(KEY, keys)]).unwrap();
        let first = with_ids("one", &batch).unwrap();
        assert_eq!(first.schema(), with_id_field(&batch.schema()));
        assert_eq!(RecordId::of_row(&first, 1), Some(RecordId::new("one", "b")));
        let again = with_ids("another", &first).unwrap();
        assert_eq!(again, first);
        assert_eq!(with_id_field(&first.schema()), first.schema());
    }
}
