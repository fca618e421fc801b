//! Columns of plain pixels, for sources that store them: nothing needs to be decoded.

use std::sync::Arc;

use anabranch_pipelines::record::{KEY, Modality, media};
use arrow::array::{ArrayRef, BinaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field};

/// Width, height and channels of all images of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) channels: u32,
}

/// The key, the image with its facts, and the record's number.
pub(super) fn fields(column: &str) -> Vec<Field> {
    let mut fields = vec![
        Field::new(KEY, DataType::Utf8, false),
        media::field(column, Modality::Image, media::State::Decoded),
    ];
    fields.extend(media::fact_fields(column, Modality::Image));
    fields
}

/// The image column and its facts.
pub(super) fn columns(pixels: Vec<&[u8]>, shape: Shape) -> Vec<ArrayRef> {
    let rows = pixels.len();
    let paths = StringArray::new_null(rows);
    let fact = |value: u32| -> ArrayRef {
        Arc::new(Int32Array::from_value(i32::try_from(value).unwrap_or(i32::MAX), rows))
    };
    vec![
        Arc::new(media::assemble(BinaryArray::from_vec(pixels), paths)),
        Arc::new(StringArray::from(vec!["raw"; rows])),
        fact(shape.width),
        fact(shape.height),
        fact(shape.channels),
    ]
}
