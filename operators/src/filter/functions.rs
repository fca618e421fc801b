//! Functions of texts and conversions between kinds.

use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringViewArray,
    StringViewBuilder,
};
use arrow::compute::cast;
use arrow::compute::kernels::length;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use regex::Regex;

use super::evaluate::{Fault, Value, extent, fallible, strict};
use super::typed::{Kind, TextChange};

/// Whether the pattern is found anywhere in a text.
pub(super) fn matches(text: &Value, pattern: &Regex) -> Result<Value, OperatorError> {
    let texts = text.array.as_string_view().iter();
    let found = texts.map(|text| text.map(|text| pattern.is_match(text)));
    strict(&[text], || Ok(Arc::new(found.collect::<BooleanArray>())))
}

pub(super) fn change(text: &Value, change: TextChange) -> Result<Value, OperatorError> {
    let mut changed = StringViewBuilder::new();
    for text in text.array.as_string_view() {
        match (text, change) {
            (None, _) => changed.append_null(),
            (Some(text), TextChange::LowerAscii) => changed.append_value(text.to_ascii_lowercase()),
            (Some(text), TextChange::UpperAscii) => changed.append_value(text.to_ascii_uppercase()),
            (Some(text), TextChange::Trim) => changed.append_value(text.trim()),
        }
    }
    strict(&[text], || Ok(Arc::new(changed.finish())))
}

pub(super) fn concatenate([a, b]: &[Value; 2]) -> Result<Value, OperatorError> {
    let (left, right) = (a.array.as_string_view(), b.array.as_string_view());
    let both = |row: usize| {
        let (one, other) = (a.at(row), b.at(row));
        let present = left.is_valid(one) && right.is_valid(other);
        present.then(|| [left.value(one), right.value(other)].concat())
    };
    let rows = 0..extent(&[a, b]).0;
    strict(&[a, b], || Ok(Arc::new(rows.map(both).collect::<StringViewArray>())))
}

/// To integers (towards zero), doubles or texts.
pub(super) fn convert(operand: &Value, to: &Kind) -> Result<Value, OperatorError> {
    let array = &operand.array;
    match (array.data_type(), to) {
        (DataType::Int64, Kind::Int)
        | (DataType::Float64, Kind::Double)
        | (DataType::Utf8View, Kind::Text) => strict(&[operand], || Ok(Arc::clone(array))),
        (DataType::Int64, Kind::Double) => strict(&[operand], || cast(array, &DataType::Float64)),
        (DataType::Float64, Kind::Int) => {
            let values = array.as_primitive::<Float64Type>();
            let converted = values.iter().map(|value| value.map(whole).transpose());
            Ok(fallible::<Int64Array, _>(&[operand], converted))
        }
        (DataType::Utf8View, Kind::Int) => {
            let parsed = array
                .as_string_view()
                .iter()
                .map(|text| text.map(|text| text.parse().map_err(|_| Fault::NoNumber)).transpose());
            Ok(fallible::<Int64Array, _>(&[operand], parsed))
        }
        (DataType::Utf8View, _) => {
            let parsed = array
                .as_string_view()
                .iter()
                .map(|text| text.map(|text| text.parse().map_err(|_| Fault::NoNumber)).transpose());
            Ok(fallible::<Float64Array, _>(&[operand], parsed))
        }
        (DataType::Boolean, _) => {
            let texts = array.as_boolean().iter().map(|value| value.map(|value| value.to_string()));
            strict(&[operand], || Ok(Arc::new(texts.collect::<StringViewArray>())))
        }
        (DataType::Float64, _) => {
            let values = array.as_primitive::<Float64Type>().iter();
            let texts = values.map(|value| value.map(|value| value.to_string()));
            strict(&[operand], || Ok(Arc::new(texts.collect::<StringViewArray>())))
        }
        _ => {
            let values = array.as_primitive::<Int64Type>().iter();
            let texts = values.map(|value| value.map(|value| value.to_string()));
            strict(&[operand], || Ok(Arc::new(texts.collect::<StringViewArray>())))
        }
    }
}

fn whole(value: f64) -> Result<i64, Fault> {
    // 2^63 is the first double above the range, -2^63 is the last within it.
    match (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        true => Ok(value as i64),
        false => Err(Fault::Overflow),
    }
}

/// Characters of texts, bytes of bytes, elements of lists.
pub(super) fn size(array: &ArrayRef, kind: &Kind) -> Result<ArrayRef, ArrowError> {
    match (kind, array.data_type()) {
        (Kind::Text, _) => {
            let texts = array.as_string_view().iter();
            let sizes = texts.map(|text| text.map(|text| text.chars().count() as i64));
            Ok(Arc::new(sizes.collect::<Int64Array>()))
        }
        (_, DataType::FixedSizeBinary(size)) => {
            let sizes = (0..array.len()).map(|row| array.is_valid(row).then_some(i64::from(*size)));
            Ok(Arc::new(sizes.collect::<Int64Array>()))
        }
        _ => cast(&length::length(array)?, &DataType::Int64),
    }
}
