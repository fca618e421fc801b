//! How MDS stores columns.

use std::collections::BTreeMap;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::record::media;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Int64Type, Schema};
use arrow::json::writer::EncoderOptions;
use serde::{Deserialize, Serialize};

use crate::sink::cells::{Cells, unread};
use crate::sink::json;

/// How a column's values are stored, by the names that MosaicML Streaming gives them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MdsEncoding {
    /// Bytes; none where there is no value.
    Bytes,
    /// A text; an empty one where there is no value.
    Str,
    /// A whole number of 64 bits. A row without a value fails the run.
    Int,
    /// A number of 32 bits; NaN where there is no value.
    Float32,
    /// A number of 64 bits; NaN where there is no value.
    Float64,
    /// JSON; null where there is no value.
    Json,
    /// A picture's file, stored as it is, which readers decode. A row without one fails the run.
    Jpeg,
    /// A picture's file, stored as it is, which readers decode. A row without one fails the run.
    Png,
}

impl MdsEncoding {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Str => "str",
            Self::Int => "int",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Json => "json",
            Self::Jpeg => "jpeg",
            Self::Png => "png",
        }
    }

    /// Bytes of every value, if all have as many.
    pub(super) const fn size(self) -> Option<u32> {
        match self {
            Self::Int | Self::Float64 => Some(8),
            Self::Float32 => Some(4),
            _ => None,
        }
    }

    /// What a field's values can be stored as, the default first.
    fn of(field: &Field) -> Vec<Self> {
        match field.data_type() {
            media if media::is_media(media) => match media::State::of(field) {
                Some(media::State::Decoded) => vec![Self::Bytes],
                _ => vec![Self::Bytes, Self::Jpeg, Self::Png],
            },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                vec![Self::Str, Self::Bytes, Self::Json]
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => {
                vec![Self::Bytes, Self::Json, Self::Jpeg, Self::Png]
            }
            DataType::Float16 | DataType::Float32 => vec![Self::Float32, Self::Float64, Self::Json],
            DataType::Float64 => vec![Self::Float64, Self::Json],
            DataType::UInt64 => vec![Self::Json],
            // Only JSON has a word for a number that is not there.
            number if number.is_integer() && field.is_nullable() => vec![Self::Json, Self::Int],
            number if number.is_integer() => vec![Self::Int, Self::Json],
            _ => vec![Self::Json],
        }
    }
}

/// A column of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) encoding: MdsEncoding,
    /// Where it stands in rows.
    at: usize,
}

/// The columns for rows of this schema, by name, where the job names some encodings.
pub(super) fn of(
    schema: &Schema,
    named: &BTreeMap<String, MdsEncoding>,
) -> Result<Vec<Column>, SchemaError> {
    for column in named.keys() {
        SchemaError::require(schema, column)?;
    }
    let mut columns = Vec::new();
    for (at, field) in schema.fields().iter().enumerate() {
        let fitting = MdsEncoding::of(field);
        let default = fitting.first().copied().unwrap_or(MdsEncoding::Json);
        let encoding = named.get(field.name()).copied().unwrap_or(default);
        if !fitting.contains(&encoding) {
            let names: Vec<&str> = fitting.iter().map(|encoding| encoding.name()).collect();
            return Err(SchemaError::Unfit {
                column: field.name().clone(),
                found: format!("of type {}", field.data_type()),
                expected: format!("one that `{}` stores", encoding.name()),
                hint: format!("its `encodings` may be {}", names.join(", ")),
            });
        }
        if encoding == MdsEncoding::Json {
            json::check(field)?;
        }
        columns.push(Column { name: field.name().clone(), encoding, at });
    }
    columns.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(columns)
}

/// Appends the value of a row. The error is a sentence without the row.
pub(super) type Write<'a> = Box<dyn FnMut(usize, &mut Vec<u8>) -> Result<(), String> + 'a>;

impl Column {
    /// Where it stands in rows of these fields.
    pub(super) fn field<'a>(
        &self,
        fields: &'a [FieldRef],
        arrays: &'a [ArrayRef],
    ) -> Result<(&'a FieldRef, &'a ArrayRef), String> {
        let found = fields.get(self.at).zip(arrays.get(self.at));
        found.ok_or_else(|| "rows have fewer columns than the plan says".to_owned())
    }

    /// What writes the values of these rows.
    pub(super) fn writer<'a>(
        &'a self,
        field: &'a FieldRef,
        array: &'a ArrayRef,
        options: &'a EncoderOptions,
    ) -> Result<Write<'a>, String> {
        let casted = |to: DataType| cast(array, &to).map_err(|e| e.to_string());
        Ok(match self.encoding {
            MdsEncoding::Int => {
                let values = casted(DataType::Int64)?.as_primitive::<Int64Type>().clone();
                Box::new(move |row, out| {
                    if values.is_null(row) {
                        return Err(self.missing());
                    }
                    out.extend(values.value(row).to_le_bytes());
                    Ok(())
                })
            }
            MdsEncoding::Float32 => {
                let values = casted(DataType::Float32)?.as_primitive::<Float32Type>().clone();
                Box::new(move |row, out| {
                    let value = if values.is_null(row) { f32::NAN } else { values.value(row) };
                    out.extend(value.to_le_bytes());
                    Ok(())
                })
            }
            MdsEncoding::Float64 => {
                let values = casted(DataType::Float64)?.as_primitive::<Float64Type>().clone();
                Box::new(move |row, out| {
                    let value = if values.is_null(row) { f64::NAN } else { values.value(row) };
                    out.extend(value.to_le_bytes());
                    Ok(())
                })
            }
            MdsEncoding::Json => {
                let mut cells = Cells::json(field, array, options)?;
                let mut space = Vec::new();
                Box::new(move |row, out| {
                    space.clear();
                    out.extend_from_slice(cells.bytes(row, &mut space).unwrap_or(b"null"));
                    Ok(())
                })
            }
            MdsEncoding::Bytes | MdsEncoding::Str | MdsEncoding::Jpeg | MdsEncoding::Png => {
                let mut cells = Cells::of(field, array, options)?;
                let mut space = Vec::new();
                let needed = matches!(self.encoding, MdsEncoding::Jpeg | MdsEncoding::Png);
                let media = array.as_struct_opt().filter(|_| media::is_media(array.data_type()));
                Box::new(move |row, out| {
                    space.clear();
                    if let Some(why) = media.and_then(|media| unread(&self.name, media, row)) {
                        return Err(why);
                    }
                    match cells.bytes(row, &mut space) {
                        Some(bytes) => out.extend_from_slice(bytes),
                        None if needed => return Err(self.missing()),
                        None => {}
                    }
                    Ok(())
                })
            }
        })
    }

    fn missing(&self) -> String {
        let (name, encoding) = (&self.name, self.encoding.name());
        let other = if self.encoding == MdsEncoding::Int { "json" } else { "bytes" };
        format!(
            "`{name}` has no value, and `{encoding}` none for that; say `encodings = {{ {name} = \"{other}\" }}`, or \
             leave such rows out with a `filter`"
        )
    }
}
