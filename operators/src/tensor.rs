//! Lists of numbers compressed one by one with pco, without loss.
//!
//! What the numbers are stands in the field's metadata, so that `decode` gives back a column of the same type:
//! [`ELEMENT_KEY`] names it, and [`LENGTH_KEY`] says how many there are where all lists are as long.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, ListArray, PrimitiveArray,
    RecordBatch,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use pco::ChunkConfig;
use pco::data_types::{Number, NumberType};
use pco::standalone::{DecompressorItem, FileDecompressor, simple_compress_into};

use crate::EncodeOptions;
use crate::codec::Limits;
use crate::derived::Derived;
use crate::rewrite::{self, Column, Expected, Rewritten};

/// The codec's name.
pub(crate) const PCO: &str = "pco";
/// Field metadata key that names the numbers of a compressed column, e.g. `Float32`.
const ELEMENT_KEY: &str = "anabranch:element";
/// Field metadata key that says how many numbers each record has, where that is fixed.
const LENGTH_KEY: &str = "anabranch:length";

/// The operator for these options.
pub(crate) fn compress(options: EncodeOptions) -> Arc<dyn Operator> {
    Arc::new(Compress { options, schema: Derived::default(), bytes: Expected::default() })
}

/// Evaluates `$body` with `$number` as the Arrow type of these numbers, else `$other`.
macro_rules! for_numbers {
    ($data_type:expr, $number:ident => $body:expr, $other:expr) => {
        for_numbers!(@ $data_type, $number, $body, $other,
            Int8 Int8Type, Int16 Int16Type, Int32 Int32Type, Int64 Int64Type,
            UInt8 UInt8Type, UInt16 UInt16Type, UInt32 UInt32Type, UInt64 UInt64Type,
            Float16 Float16Type, Float32 Float32Type, Float64 Float64Type)
    };
    (@ $data_type:expr, $number:ident, $body:expr, $other:expr, $($name:ident $type:ident),*) => {
        match $data_type {
            $(DataType::$name => { type $number = $type; $body })*
            _ => $other,
        }
    };
}

const NUMBERS: [DataType; 11] = [
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::UInt8,
    DataType::UInt16,
    DataType::UInt32,
    DataType::UInt64,
    DataType::Float16,
    DataType::Float32,
    DataType::Float64,
];

struct Compress {
    options: EncodeOptions,
    schema: Derived<SchemaRef>,
    bytes: Expected,
}

impl Operator for Compress {
    fn kind(&self) -> &'static str {
        "encode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("encode reads one input".into()));
        };
        let column = &self.options.column;
        let field = SchemaError::require(input, column)?;
        let (element, length) = match field.data_type() {
            DataType::List(child) | DataType::LargeList(child) => (child.data_type(), None),
            DataType::FixedSizeList(child, length) => (child.data_type(), Some(*length)),
            other => (other, None),
        };
        if !NUMBERS.contains(element) || element == field.data_type() {
            return Err(SchemaError::Unfit {
                column: column.clone(),
                found: format!("of type {}", field.data_type()),
                expected: "lists of numbers".to_owned(),
                hint: "`pco` compresses lists of integers or floats".to_owned(),
            });
        }
        let schema = rewrite::schema(input, column, Modality::Tensor, media::State::Encoded);
        let mut facts = field.metadata().clone();
        facts.insert(ELEMENT_KEY.to_owned(), element.to_string());
        facts.extend(length.map(|length| (LENGTH_KEY.to_owned(), length.to_string())));
        let fields = schema.fields().iter().map(|field| match field.name() == column {
            true => {
                facts.extend(field.metadata().clone());
                Arc::new(field.as_ref().clone().with_metadata(facts.clone()))
            }
            false => Arc::clone(field),
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn growth(&self) -> Growth {
        // Noise is stored as it is, behind a header.
        Growth { factor: 1.05, per_record: 512 }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let name = &self.options.column;
        let lists = batch
            .column_by_name(name)
            .ok_or_else(|| OperatorError::Failed(format!("no column `{name}`")))?;
        rewrite::column(&batch, name, Modality::Tensor, &schema, &self.bytes, |row, bytes| {
            if lists.is_null(row) {
                return Ok(None);
            }
            let numbers = match lists.data_type() {
                DataType::List(_) => lists.as_list::<i32>().value(row),
                DataType::LargeList(_) => lists.as_list::<i64>().value(row),
                _ => lists.as_fixed_size_list().value(row),
            };
            if numbers.null_count() > 0 {
                return Err("some of its numbers are missing, which `pco` cannot store".to_owned());
            }
            for_numbers!(numbers.data_type(), T => write(numbers.as_primitive::<T>().values(), bytes),
                Err(format!("{} are no numbers", numbers.data_type())))?;
            Ok(Some(Rewritten { encoding: PCO, facts: None }))
        })
    }
}

fn write<T: Number>(numbers: &[T], bytes: &mut Vec<u8>) -> Result<(), String> {
    let written = simple_compress_into(numbers, &ChunkConfig::default(), bytes);
    written.map(|_| ()).map_err(|e| format!("pco: {e}"))
}

/// The numbers that a compressed field holds, and how many each record has if that is fixed.
fn numbers(schema: &Schema, column: &str) -> Result<(DataType, Option<i32>), SchemaError> {
    let field = SchemaError::require(schema, column)?;
    let element = field.metadata().get(ELEMENT_KEY);
    let element = element.and_then(|name| NUMBERS.into_iter().find(|t| &t.to_string() == name));
    let length = field.metadata().get(LENGTH_KEY).and_then(|length| length.parse().ok());
    element.map(|element| (element, length)).ok_or_else(|| SchemaError::Unfit {
        column: column.to_owned(),
        found: "a tensor of unknown numbers".to_owned(),
        expected: "one whose metadata names them".to_owned(),
        hint: format!("`encode` writes them under `{ELEMENT_KEY}`"),
    })
}

/// The schema with the column as lists again, without the column that named its encoding.
pub(crate) fn decoded_schema(input: &SchemaRef, column: &str) -> Result<SchemaRef, SchemaError> {
    let (element, length) = numbers(input, column)?;
    let encoding = format!("{column}_encoding");
    let child = Arc::new(Field::new("element", element, true));
    let list = match length {
        Some(length) => DataType::FixedSizeList(child, length),
        None => DataType::List(child),
    };
    let fields = input.fields().iter().filter(|field| field.name() != &encoding);
    let fields: Vec<Arc<Field>> = fields
        .map(|field| {
            if field.name() != column {
                return Arc::clone(field);
            }
            let mut metadata = field.metadata().clone();
            for key in [ELEMENT_KEY, LENGTH_KEY, media::STATE_KEY] {
                metadata.remove(key);
            }
            Arc::new(Field::new(column, list.clone(), true).with_metadata(metadata))
        })
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The numbers of a compressed column.
pub(crate) fn decode(
    batch: &RecordBatch,
    name: &str,
    schema: &SchemaRef,
    limits: &Limits,
) -> Result<Outcome, OperatorError> {
    let (element, length) = numbers(&batch.schema(), name)?;
    for_numbers!(element, T => read_all::<T>(batch, name, schema, length, limits),
        Err(OperatorError::Failed(format!("{element} are no numbers"))))
}

fn read_all<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
    schema: &SchemaRef,
    length: Option<i32>,
    limits: &Limits,
) -> Result<Outcome, OperatorError>
where
    T::Native: Number,
{
    let column = Column::of(batch, name, Modality::Tensor);
    let fixed = length.map(|length| usize::try_from(length).unwrap_or(0));
    let mut numbers: Vec<T::Native> = Vec::new();
    let mut ends: Vec<i32> = vec![0];
    let mut valid = Vec::with_capacity(batch.num_rows());
    let mut outcome = Outcome::keeping(batch, |row| {
        let start = numbers.len();
        let read = match column.bytes(row) {
            Some(bytes) => {
                read(bytes, fixed, limits, batch.num_rows(), &mut numbers).map(|()| true)
            }
            None => {
                numbers.resize(start + fixed.unwrap_or(0), T::Native::default());
                Ok(false)
            }
        };
        let there = read.inspect_err(|_| numbers.truncate(start))?;
        let end = i32::try_from(numbers.len()).map_err(|_| {
            numbers.truncate(start);
            "the records of its batch hold too many numbers together; cut smaller parts".to_owned()
        })?;
        ends.push(end);
        valid.push(there);
        Ok(())
    })?;
    let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
    let values: ArrayRef = Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(numbers), None));
    let child = Arc::new(Field::new("element", T::DATA_TYPE, true));
    let rows = outcome.records.num_rows();
    let lists: ArrayRef = match length {
        Some(length) => {
            Arc::new(FixedSizeListArray::try_new_with_length(child, length, values, nulls, rows)?)
        }
        None => {
            let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
            Arc::new(ListArray::try_new(child, offsets, values, nulls)?)
        }
    };
    outcome.records =
        rewrite::replace(&outcome.records, schema, &HashMap::from([(name.to_owned(), lists)]))?;
    Ok(outcome)
}

/// Appends the numbers of one record, of so many.
fn read<T: Number + Default>(
    bytes: &[u8],
    fixed: Option<usize>,
    limits: &Limits,
    records: usize,
    numbers: &mut Vec<T>,
) -> Result<(), String> {
    let corrupt = |e: &dyn std::fmt::Display| format!("not a whole pco file: {e}");
    let (file, mut rest) = FileDecompressor::new(bytes).map_err(|e| corrupt(&e))?;
    if file.uniform_type() != Some(NumberType::new::<T>()) {
        return Err(format!(
            "its numbers are {:?}, not what the column holds",
            file.uniform_type()
        ));
    }
    let check = |count: usize| {
        let size = (count as u64).saturating_mul(size_of::<T>() as u64);
        match fixed {
            Some(fixed) if count != fixed => {
                Err(format!("it holds {count} numbers, not {fixed} as the column's others"))
            }
            _ if size > limits.bytes.0 => Err(format!(
                "it declares {count} numbers, more than the limit of {}; raise `limits` if that is no mistake",
                limits.bytes
            )),
            _ => Ok(()),
        }
    };
    let start = numbers.len();
    let declared = file.n_hint();
    check(declared)?;
    if numbers.is_empty() {
        // Records of a batch are mostly of one size, and growing copies what is there.
        numbers.reserve(declared.saturating_mul(records).min(rewrite::RESERVE / size_of::<T>()));
    }
    while let DecompressorItem::Chunk(mut chunk) =
        file.chunk_decompressor::<T, _>(rest).map_err(|e| corrupt(&e))?
    {
        let from = numbers.len();
        // The header may lie about the whole; a chunk's own count is only believed within it.
        if chunk.n() > declared.saturating_sub(from - start) {
            return Err(corrupt(&"it holds more numbers than it declares"));
        }
        numbers.resize(from + chunk.n(), T::default());
        let into = numbers.get_mut(from..).unwrap_or_default();
        let progress = chunk.read(into).map_err(|e| corrupt(&e))?;
        if !progress.finished {
            return Err(corrupt(&"a chunk does not end"));
        }
        rest = chunk.into_src();
    }
    match numbers.len() - start {
        held if held == declared => Ok(()),
        held => Err(corrupt(&format!("it declares {declared} numbers and holds {held}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_pipelines::quantity::ByteSize;
    use arrow::array::Int64Array;
    use proptest::prelude::*;

    fn lists(rows: Vec<Option<Vec<f32>>>) -> RecordBatch {
        let rows = rows.into_iter().map(|row| row.map(|row| row.into_iter().map(Some)));
        let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(rows);
        RecordBatch::try_from_iter_with_nullable([("x", Arc::new(lists) as ArrayRef, true)])
            .unwrap()
    }

    fn there_and_back(batch: &RecordBatch) -> RecordBatch {
        let options = EncodeOptions {
            column: "x".into(),
            codec: PCO.into(),
            quality: None,
            bitrate: None,
            level: None,
            dictionary: None,
            artifact: None,
            sha256: None,
            channels: None,
            learn: None,
        };
        let plain = Context::plain();
        let encoded = compress(options).invoke(batch.clone(), &Allocation::PLAIN, &plain).unwrap();
        assert_eq!(encoded.refused, []);
        let decode = serde_json::from_str::<crate::DecodeOptions>(r#"{"column": "x"}"#).unwrap();
        let decoded = decode.build().unwrap();
        let decoded = decoded.invoke(encoded.records, &Allocation::PLAIN, &plain).unwrap();
        assert_eq!(decoded.refused, []);
        decoded.records
    }

    proptest! {
        #[test]
        fn lists_of_any_length_come_back(
            rows in prop::collection::vec(
                prop::option::of(prop::collection::vec(any::<f32>(), 0..300)), 0..8)
        ) {
            let batch = lists(rows);
            let back = there_and_back(&batch);
            let bits = |batch: &RecordBatch| -> Vec<Option<Vec<u32>>> {
                let lists = batch.column(0).as_list::<i32>().iter();
                let of = |row: ArrayRef| {
                    row.as_primitive::<Float32Type>().values().iter().map(|x| x.to_bits()).collect()
                };
                lists.map(|row| row.map(of)).collect()
            };
            prop_assert_eq!(bits(&back), bits(&batch));
        }

        #[test]
        fn damage_is_refused_or_gives_other_numbers_but_never_more(
            at in 0usize..400, bit in 0u8..8, keep in 0usize..400,
        ) {
            let whole: Vec<i64> = (0..200).map(|n| n * n % 977).collect();
            let mut bytes = Vec::new();
            write(&whole, &mut bytes).unwrap();
            let limits = Limits { bytes: ByteSize(1 << 20), ..Limits::default() };
            let mut numbers: Vec<i64> = Vec::new();
            if keep < bytes.len() {
                prop_assert!(read(&bytes[..keep], None, &limits, 1, &mut numbers).is_err());
            }
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            numbers.clear();
            if read(&bytes, None, &limits, 1, &mut numbers).is_ok() {
                prop_assert!(numbers.len() * 8 <= 1 << 20);
            }
        }
    }

    #[test]
    fn fixed_lists_keep_their_length_and_missing_ones_stay_missing() {
        let values = Int64Array::from_iter_values(0..12);
        let child = Arc::new(Field::new("element", DataType::Int64, true));
        let nulls = NullBuffer::from(vec![true, false, true]);
        let lists = FixedSizeListArray::new(child, 4, Arc::new(values), Some(nulls));
        let batch =
            RecordBatch::try_from_iter_with_nullable([("x", Arc::new(lists) as ArrayRef, true)])
                .unwrap();
        let back = there_and_back(&batch);
        assert_eq!(back.schema().field(0).data_type(), batch.schema().field(0).data_type());
        let (back, lists) = (back.column(0).as_fixed_size_list(), batch.column(0));
        assert!(back.is_null(1) && back.is_valid(0));
        assert_eq!(&back.value(2), &lists.as_fixed_size_list().value(2));
    }

    #[test]
    fn a_list_beyond_the_limits_is_refused() {
        let mut bytes = Vec::new();
        write(&vec![0.5f32; 10_000], &mut bytes).unwrap();
        assert!(bytes.len() < 1000);
        let limits = Limits { bytes: ByteSize(1000), ..Limits::default() };
        let error = read::<f32>(&bytes, None, &limits, 1, &mut Vec::new()).unwrap_err();
        assert!(error.contains("limit"), "{error}");
    }
}
