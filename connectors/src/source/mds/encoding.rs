//! Encodings of values: what their bytes must be, and which arrays they become.

use std::sync::Arc;

use anabranch_pipelines::record::{Modality, media};
use arrow::array::{
    ArrayData, ArrayRef, BinaryArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
    make_array,
};
use arrow::buffer::{MutableBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use serde::de::IgnoredAny;

use super::ndarray::{self, Layout};
use crate::source::facts;

/// How the values of a column are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Encoding {
    Bytes,
    Text,
    Json,
    /// Digits.
    Int,
    /// A number, as text.
    Float,
    Number(DataType),
    Array(Layout),
    /// A file of this format, which `None` leaves to its first bytes.
    Media(Modality, Option<&'static str>),
    /// Width, height and mode, and then plain pixels.
    Pixels,
}

impl Encoding {
    /// Understands what an index says.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
        Ok(match name {
            "bytes" | "pkl" => Self::Bytes,
            "str" | "str_decimal" => Self::Text,
            "json" => Self::Json,
            "str_int" => Self::Int,
            "str_float" => Self::Float,
            "int" => Self::Number(DataType::Int64),
            "ndarray" => Self::Array(Layout::parse(arguments)?),
            "jpeg" => Self::Media(Modality::Image, Some("jpeg")),
            "png" => Self::Media(Modality::Image, Some("png")),
            "pil" => Self::Pixels,
            other => match ndarray::number(other) {
                Some(number) => Self::Number(number),
                None => return Err(format!("the encoding `{text}` is not known")),
            },
        })
    }

    /// The bytes of every value, where that is fixed.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.primitive_width().map(|width| width as u64),
            Self::Array(layout) => layout.size(),
            _ => None,
        }
    }

    /// The fields that a column of this name becomes.
    pub(super) fn fields(&self, name: &str) -> Vec<Field> {
        let plain = |data_type| Field::new(name, data_type, true);
        let media = |modality, state| {
            let mut fields = vec![media::field(name, modality, state)];
            fields.extend(media::fact_fields(name, modality));
            fields
        };
        match self {
            Self::Bytes => vec![plain(DataType::Binary)],
            Self::Text => vec![Modality::Text.mark(plain(DataType::Utf8))],
            Self::Json => vec![plain(DataType::Utf8)],
            Self::Int => vec![plain(DataType::Int64)],
            Self::Float => vec![plain(DataType::Float64)],
            Self::Number(number) => vec![plain(number.clone())],
            Self::Array(layout) => layout.fields(name),
            Self::Media(modality, _) => media(*modality, media::State::Encoded),
            Self::Pixels => media(Modality::Image, media::State::Decoded),
        }
    }

    /// What is wrong with a value, if anything is.
    pub(super) fn fault(&self, value: &[u8]) -> Option<String> {
        let text = || str::from_utf8(value).map_err(|_| "it is no text in UTF-8".to_owned());
        let number = |fits: fn(&str) -> bool, what: &str| match text() {
            Ok(text) if fits(text.trim()) => None,
            Ok(text) => {
                Some(format!("`{}` is no {what}", text.chars().take(40).collect::<String>()))
            }
            Err(fault) => Some(fault),
        };
        match self {
            Self::Bytes | Self::Media(..) => None,
            Self::Text => text().err(),
            Self::Json => match serde_json::from_slice::<IgnoredAny>(value) {
                Ok(_) => None,
                Err(error) => Some(format!("it is no JSON: {error}")),
            },
            Self::Int => number(|text| text.parse::<i64>().is_ok(), "whole number of 64 bits"),
            Self::Float => number(|text| text.parse::<f64>().is_ok(), "number"),
            Self::Number(_) => {
                let (size, here) = (self.size().unwrap_or_default(), value.len());
                (size != here as u64).then(|| format!("it has {here} bytes instead of {size}"))
            }
            Self::Array(layout) => layout.read(value).err(),
            Self::Pixels => Pixels::read(value).err(),
        }
    }

    /// The columns of values that have no [`fault`](Self::fault), in the order of [`fields`](Self::fields).
    pub(super) fn columns(&self, values: &[&[u8]]) -> Result<Vec<ArrayRef>, ArrowError> {
        let texts = || values.iter().map(|value| str::from_utf8(value).ok());
        Ok(match self {
            Self::Bytes => vec![Arc::new(BinaryArray::from_iter_values(values))],
            Self::Text | Self::Json => vec![Arc::new(texts().collect::<StringArray>())],
            Self::Int => {
                let numbers = texts().map(|text| text?.trim().parse().ok());
                vec![Arc::new(numbers.collect::<Int64Array>())]
            }
            Self::Float => {
                let numbers = texts().map(|text| text?.trim().parse().ok());
                vec![Arc::new(numbers.collect::<Float64Array>())]
            }
            Self::Number(number) => vec![numbers(number, values.iter().copied())?],
            Self::Array(layout) => {
                let arrays = values.iter().map(|value| layout.read(value));
                let arrays: Vec<_> =
                    arrays.collect::<Result<_, _>>().map_err(ArrowError::ParseError)?;
                let of = layout.number.clone().unwrap_or(DataType::UInt8);
                let items = numbers(&of, arrays.iter().map(|array| array.values))?;
                let lengths = arrays.iter().map(|array| array.count());
                let mut columns: Vec<ArrayRef> = vec![lists(lengths, items)?];
                if layout.shape.is_none() {
                    let shapes = arrays.iter().flat_map(|array| array.shape.iter().copied());
                    let shapes: Int64Array = shapes.map(Some).collect();
                    let ranks = arrays.iter().map(|array| array.shape.len());
                    columns.push(lists(ranks, Arc::new(shapes))?);
                }
                columns
            }
            Self::Media(modality, encoding) => {
                let bytes = BinaryArray::from_iter_values(values);
                let column = media::assemble(bytes, StringArray::new_null(values.len()));
                let encodings = StringArray::from(vec![*encoding; values.len()]);
                let facts = facts::columns(*modality, &column);
                let mut columns: Vec<ArrayRef> = vec![Arc::new(column), Arc::new(encodings)];
                columns.extend(facts);
                columns
            }
            Self::Pixels => {
                let images: Vec<Option<Pixels<'_>>> =
                    values.iter().map(|value| Pixels::read(value).ok()).collect();
                let bytes = images.iter().map(|image| image.as_ref().map(|image| image.bytes));
                let bytes: BinaryArray = bytes.collect();
                let column = media::assemble(bytes, StringArray::new_null(values.len()));
                let fact = |of: fn(&Pixels<'_>) -> i32| -> ArrayRef {
                    Arc::new(images.iter().map(|i| i.as_ref().map(of)).collect::<Int32Array>())
                };
                vec![
                    Arc::new(column),
                    Arc::new(StringArray::from(vec!["raw"; values.len()])),
                    fact(|image| image.width),
                    fact(|image| image.height),
                    fact(|image| image.channels),
                ]
            }
        })
    }
}

/// Numbers whose bytes stand one behind the other, little end first as on every machine that this runs on.
fn numbers<'a>(
    data_type: &DataType,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<ArrayRef, ArrowError> {
    let mut buffer = MutableBuffer::new(0);
    pieces.for_each(|piece| buffer.extend_from_slice(piece));
    let count = buffer.len() / data_type.primitive_width().unwrap_or(1);
    let data = ArrayData::builder(data_type.clone()).len(count).add_buffer(buffer.into());
    Ok(make_array(data.build()?))
}

fn lists(lengths: impl Iterator<Item = usize>, items: ArrayRef) -> Result<ArrayRef, ArrowError> {
    let item = Arc::new(Field::new("element", items.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(item, offsets, items, None)?))
}

/// An image of plain pixels.
struct Pixels<'a> {
    width: i32,
    height: i32,
    channels: i32,
    bytes: &'a [u8],
}

impl<'a> Pixels<'a> {
    fn read(value: &'a [u8]) -> Result<Self, String> {
        let short = || "it ends before its pixels do".to_owned();
        let (head, rest) = value.split_at_checked(12).ok_or_else(short)?;
        let mut numbers = head.chunks_exact(4).map(|number| {
            number.iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
        });
        let mut number = || numbers.next().unwrap_or_default();
        let (width, height, mode) = (number(), number(), number());
        let (mode, bytes) = rest.split_at_checked(mode as usize).ok_or_else(short)?;
        let channels = match mode {
            b"L" => 1,
            b"LA" => 2,
            b"RGB" => 3,
            b"RGBA" => 4,
            other => {
                let mode: String = String::from_utf8_lossy(other).chars().take(16).collect();
                return Err(format!("its pixels are `{mode}`; L, LA, RGB and RGBA are read"));
            }
        };
        let (Ok(width), Ok(height)) = (i32::try_from(width), i32::try_from(height)) else {
            return Err(format!("it has {width} x {height} pixels"));
        };
        let expected = i128::from(width) * i128::from(height) * i128::from(channels);
        if bytes.len() as i128 != expected {
            let here = bytes.len();
            return Err(format!("it has {here} bytes of pixels instead of {expected}"));
        }
        Ok(Self { width, height, channels, bytes })
    }
}
