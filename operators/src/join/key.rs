//! The key of a row as bytes that are equal when the keys are, on every machine and for ever: snapshots are
//! kept by their hash.

use std::fmt;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::OperatorError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, UInt64Type};

/// Types whose values can be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    Bytes,
}

impl Kind {
    fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Self::Text),
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Some(Self::Bytes),
            DataType::Dictionary(_, values) => Self::of(values),
            other => other.is_integer().then_some(Self::Integer),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "of integers",
            Self::Text => "text",
            Self::Bytes => "bytes",
        })
    }
}

/// A key column and what it holds.
pub(super) struct KeyColumn {
    pub(super) column: String,
    pub(super) kind: Kind,
}

impl KeyColumn {
    pub(super) fn of(schema: &Schema, column: &str) -> Result<Self, SchemaError> {
        let field = SchemaError::require(schema, column)?;
        let kind = Kind::of(field.data_type()).ok_or_else(|| SchemaError::Unfit {
            column: column.to_owned(),
            found: format!("of type {}", field.data_type()),
            expected: "integers, text or bytes, as a key is".into(),
            hint: String::new(),
        })?;
        Ok(Self { column: column.to_owned(), kind })
    }
}

/// The keys of a batch's rows.
pub(super) struct Keys {
    columns: Vec<(Kind, ArrayRef)>,
}

impl Keys {
    /// Reads the key columns.
    ///
    /// # Errors
    /// When one is missing or of a type that is no key.
    pub(super) fn of(batch: &RecordBatch, columns: &[String]) -> Result<Self, OperatorError> {
        let schema = batch.schema();
        let read = |name: &String| {
            let kind = KeyColumn::of(&schema, name)?.kind;
            let column = batch.column(schema.index_of(name)?);
            // Widened to one type of each kind, so that widths do not matter.
            let to = match (kind, column.data_type()) {
                (Kind::Integer, DataType::UInt64) => DataType::UInt64,
                (Kind::Integer, _) => DataType::Int64,
                (Kind::Text, _) => DataType::LargeUtf8,
                (Kind::Bytes, _) => DataType::LargeBinary,
            };
            Ok((kind, cast(column, &to)?))
        };
        columns
            .iter()
            .map(read)
            .collect::<Result<_, OperatorError>>()
            .map(|columns| Self { columns })
    }

    /// The key of a row, unless a part of it is null.
    pub(super) fn key(&self, row: usize) -> Option<Box<[u8]>> {
        let mut key = Vec::new();
        for (kind, column) in &self.columns {
            if column.is_null(row) {
                return None;
            }
            let bytes: &[u8] = match kind {
                Kind::Integer => {
                    let integer = match column.data_type() {
                        DataType::UInt64 => {
                            i128::from(column.as_primitive::<UInt64Type>().value(row))
                        }
                        _ => i128::from(column.as_primitive::<Int64Type>().value(row)),
                    };
                    key.extend_from_slice(&integer.to_le_bytes());
                    continue;
                }
                Kind::Text => column.as_string::<i64>().value(row).as_bytes(),
                Kind::Bytes => column.as_binary::<i64>().value(row),
            };
            // The length tells ("a", "bc") from ("ab", "c").
            key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            key.extend_from_slice(bytes);
        }
        Some(key.into())
    }

    /// A well-mixed hash of the key of a row: FNV-1a, then the finish of SplitMix64. Rows without a key meet
    /// in shard 0 and are not kept there.
    pub(super) fn hash(&self, row: usize) -> u64 {
        let Some(key) = self.key(row) else { return 0 };
        let fnv = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int8Array, StringArray, UInt64Array};
    use std::sync::Arc;

    fn keys(columns: Vec<ArrayRef>) -> Keys {
        let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
        let batch = RecordBatch::try_from_iter(names.iter().zip(columns)).unwrap();
        Keys::of(&batch, &names).unwrap()
    }

    #[test]
    fn widths_do_not_matter_and_hashes_are_for_ever() {
        let narrow = keys(vec![Arc::new(Int8Array::from(vec![Some(7), Some(-7), None]))]);
        let wide = keys(vec![Arc::new(UInt64Array::from(vec![7, u64::MAX]))]);
        assert_eq!(narrow.key(0), wide.key(0));
        assert_ne!(narrow.key(1), wide.key(1));
        assert_eq!(narrow.key(2), None);
        let text = keys(vec![Arc::new(StringArray::from(vec!["6_theo_15.wav"]))]);
        // Snapshots are found by these: they must never change.
        assert_eq!(wide.hash(0), 0x1ba10d7bd19925e6);
        assert_eq!(text.hash(0), 0x8ca713fe1241134a);
    }

    #[test]
    fn columns_do_not_run_into_one_another() {
        let left: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["a"])), Arc::new(StringArray::from(vec!["bc"]))];
        let right: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["ab"])), Arc::new(StringArray::from(vec!["c"]))];
        assert_ne!(keys(left).key(0), keys(right).key(0));
    }
}
