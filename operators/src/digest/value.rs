//! Values as bytes that are equal when the values are, on every machine and for ever: snapshots and tables hold
//! what is made of them.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::{Reference, media};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, LargeBinaryArray,
    LargeListArray, LargeStringArray, RecordBatch, StructArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, UInt64Type};
use sha2::{Digest, Sha256};

/// The first half of a SHA-256: no two values that differ have the same one, by accident or on purpose.
pub(crate) type Hash = [u8; 16];

/// What a record is told from others by.
pub(crate) enum Identity {
    Is(Hash),
    /// All of its values are missing.
    Missing,
    /// The column of this number is a reference, and its bytes were not given.
    Unread(usize),
}

/// Columns of a batch whose values tell records apart.
pub(crate) struct Identities {
    columns: Vec<Values>,
}

/// Values of one type, widened so that widths do not matter.
enum Values {
    Bool(BooleanArray),
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Text(LargeStringArray),
    Bytes(LargeBinaryArray),
    /// The bytes of a media column; where they came from does not count.
    Media(StructArray),
    Struct(ArrayRef, Vec<Self>),
    List(LargeListArray, Box<Self>),
}

/// That a column may tell records apart.
///
/// # Errors
/// When it is missing or of a type that is never equal.
pub(crate) fn require(schema: &Schema, column: &str) -> Result<(), SchemaError> {
    let field = SchemaError::require(schema, column)?;
    match has_values(field.data_type()) {
        true => Ok(()),
        false => Err(SchemaError::Unfit {
            column: column.to_owned(),
            found: format!("of type {}", field.data_type()),
            expected: "media, texts, bytes, numbers, truth values, or lists or structs of them"
                .to_owned(),
            hint: String::new(),
        }),
    }
}

fn has_values(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| has_values(field.data_type())),
        DataType::List(child) | DataType::LargeList(child) | DataType::FixedSizeList(child, _) => {
            has_values(child.data_type())
        }
        DataType::Dictionary(_, values) => has_values(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::FixedSizeBinary(_) | DataType::Boolean => true,
        other => other.is_integer() || other.is_floating(),
    }
}

impl Values {
    fn of(array: &ArrayRef) -> Result<Self, OperatorError> {
        let data_type = array.data_type();
        let to = |data_type: DataType| cast(array, &data_type);
        Ok(match data_type {
            media if media::is_media(media) => Self::Media(array.as_struct().clone()),
            DataType::Struct(_) => {
                let fields = array.as_struct().columns().iter().map(Self::of);
                Self::Struct(Arc::clone(array), fields.collect::<Result<_, _>>()?)
            }
            DataType::List(child)
            | DataType::LargeList(child)
            | DataType::FixedSizeList(child, _) => {
                let lists = to(DataType::LargeList(Arc::clone(child)))?.as_list::<i64>().clone();
                let values = Self::of(lists.values())?;
                Self::List(lists, Box::new(values))
            }
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::UInt64 => Self::Unsigned(array.as_primitive::<UInt64Type>().clone()),
            DataType::Dictionary(_, values) => Self::of(&to(values.as_ref().clone())?)?,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(to(DataType::LargeUtf8)?.as_string::<i64>().clone())
            }
            other if other.is_integer() => {
                Self::Signed(to(DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            other if other.is_floating() => {
                Self::Float(to(DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            _ => Self::Bytes(to(DataType::LargeBinary)?.as_binary::<i64>().clone()),
        })
    }

    fn is_missing(&self, row: usize) -> bool {
        match self {
            Self::Media(media) => media::bytes(media, row).is_none(),
            Self::Bool(values) => values.is_null(row),
            Self::Signed(values) => values.is_null(row),
            Self::Unsigned(values) => values.is_null(row),
            Self::Float(values) => values.is_null(row),
            Self::Text(values) => values.is_null(row),
            Self::Bytes(values) => values.is_null(row),
            Self::Struct(values, _) => values.is_null(row),
            Self::List(values, _) => values.is_null(row),
        }
    }

    /// Whether the value is one that was not read yet.
    fn is_unread(&self, row: usize) -> bool {
        let Self::Media(media) = self else { return false };
        let path = || media::path(media, row).and_then(|path| path.parse::<Reference>().ok());
        media::bytes(media, row).is_none() && path().is_some()
    }

    /// A letter for the type, then the value; lengths tell ("a", "bc") from ("ab", "c").
    fn write(&self, row: usize, hash: &mut Sha256) {
        if self.is_missing(row) {
            return hash.update(b"0");
        }
        match self {
            Self::Bool(values) => hash.update([b't', u8::from(values.value(row))]),
            Self::Signed(values) => integer(values.value(row).into(), hash),
            Self::Unsigned(values) => integer(values.value(row).into(), hash),
            Self::Float(values) => {
                // The two zeros are equal, and so is everything that is no number.
                let value = values.value(row);
                let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
                hash.update(b"f");
                hash.update(value.to_bits().to_le_bytes());
            }
            Self::Text(values) => string(b"s", values.value(row).as_bytes(), hash),
            Self::Bytes(values) => string(b"b", values.value(row), hash),
            Self::Media(values) => {
                string(b"b", media::bytes(values, row).unwrap_or_default(), hash);
            }
            Self::Struct(_, fields) => {
                hash.update(b"{");
                fields.iter().for_each(|field| field.write(row, hash));
            }
            Self::List(lists, values) => {
                let bounds = lists.value_offsets().get(row).zip(lists.value_offsets().get(row + 1));
                let (from, to) = bounds.map_or((0, 0), |(from, to)| (*from, *to));
                hash.update(b"[");
                hash.update((to - from).to_le_bytes());
                (from..to).for_each(|at| values.write(at as usize, hash));
            }
        }
    }
}

fn integer(value: i128, hash: &mut Sha256) {
    hash.update(b"i");
    hash.update(value.to_le_bytes());
}

fn string(letter: &[u8], bytes: &[u8], hash: &mut Sha256) {
    hash.update(letter);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

impl Identities {
    /// Reads the columns.
    ///
    /// # Errors
    /// When one is missing or of a type that was not promised.
    pub(crate) fn of(batch: &RecordBatch, columns: &[String]) -> Result<Self, OperatorError> {
        let schema = batch.schema();
        let read = |name: &String| {
            require(&schema, name)?;
            Values::of(batch.column(schema.index_of(name)?))
        };
        Ok(Self { columns: columns.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// What tells a row from others.
    pub(crate) fn identity(&self, row: usize) -> Identity {
        self.identity_with(row, |_| None)
    }

    /// The same, where the bytes of references were read: those of the column of each number.
    pub(crate) fn identity_with<'a>(
        &self,
        row: usize,
        read: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> Identity {
        let mut hash = Sha256::new();
        let mut missing = true;
        for (at, column) in self.columns.iter().enumerate() {
            match read(at) {
                Some(bytes) => string(b"b", bytes, &mut hash),
                None if column.is_unread(row) => return Identity::Unread(at),
                None if column.is_missing(row) => {
                    hash.update(b"0");
                    continue;
                }
                None => column.write(row, &mut hash),
            }
            missing = false;
        }
        match hash.finalize().first_chunk() {
            Some(half) if !missing => Identity::Is(*half),
            _ => Identity::Missing,
        }
    }
}

/// The field of a column of hashes.
pub(crate) fn field(name: &str) -> Field {
    Field::new(name, DataType::FixedSizeBinary(16), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, Float32Array, Int8Array, ListArray, StringArray, UInt16Array};
    use arrow::datatypes::Int32Type;

    fn hash(column: impl Array + 'static, row: usize) -> Option<Hash> {
        let batch = RecordBatch::try_from_iter([("c", Arc::new(column) as ArrayRef)]).unwrap();
        match Identities::of(&batch, &["c".to_owned()]).unwrap().identity(row) {
            Identity::Is(hash) => Some(hash),
            Identity::Missing => None,
            Identity::Unread(_) => panic!(),
        }
    }

    #[test]
    fn equal_values_have_equal_hashes_whatever_their_width() {
        let seven = hash(Int8Array::from(vec![7]), 0);
        assert_eq!(seven, hash(UInt64Array::from(vec![7]), 0));
        assert_eq!(seven, hash(UInt16Array::from(vec![0, 7]), 1));
        assert_ne!(seven, hash(Int8Array::from(vec![-7]), 0));
        assert_ne!(seven, hash(Float32Array::from(vec![7.0]), 0));
        assert_eq!(hash(Float32Array::from(vec![-0.0]), 0), hash(Float64Array::from(vec![0.0]), 0));
        assert_eq!(
            hash(Float64Array::from(vec![f64::NAN]), 0),
            hash(Float64Array::from(vec![-f64::NAN]), 0)
        );
        assert_ne!(
            hash(StringArray::from(vec!["a"]), 0),
            hash(BinaryArray::from(vec![b"a".as_slice()]), 0)
        );
        assert_eq!(hash(Int8Array::from(vec![None::<i8>]), 0), None);
        let list = |numbers: Vec<Option<i32>>| {
            hash(
                ListArray::from_iter_primitive::<Int32Type, _, _>([
                    Some(vec![Some(9)]),
                    Some(numbers),
                ]),
                1,
            )
        };
        assert_eq!(list(vec![Some(1), None]), list(vec![Some(1), None]));
        assert_ne!(list(vec![Some(1), None]), list(vec![Some(1)]));
        assert!(list(vec![]).is_some());
    }

    #[test]
    fn hashes_are_for_ever() {
        // SHA-256 of letter, length and value. Snapshots and tables hold these: they must never change.
        let text = hash(StringArray::from(vec!["anabranch"]), 0).unwrap();
        assert_eq!(u128::from_be_bytes(text), TEXT);
        let number = hash(Int64Array::from(vec![-1]), 0).unwrap();
        assert_eq!(u128::from_be_bytes(number), NUMBER);
    }

    const TEXT: u128 = 0xe832_3db4_4d98_6487_98d8_16db_8e65_b88c;
    const NUMBER: u128 = 0xaed0_645b_a34f_c953_8e66_23c5_c6f2_9871;
}
