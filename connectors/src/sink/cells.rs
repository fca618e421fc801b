//! Values of a column as the bytes of a file: bytes and texts as they are, all else as [JSON](super::json).

use anabranch_pipelines::record::{Reference, media};
use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, FieldRef};
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};

/// What is wrong with a medium that has no bytes to write because it is a reference that nothing has read.
pub(super) fn unread(column: &str, media: &StructArray, row: usize) -> Option<String> {
    let path = media::path(media, row).filter(|_| media::bytes(media, row).is_none())?;
    path.parse::<Reference>().is_ok().then(|| {
        format!(
            "`{column}` is a reference that nothing has read, and a sample without it would be no such sample; \
             leave `references` out at its source"
        )
    })
}

/// The values of one column of a batch.
pub(super) enum Cells<'a> {
    /// As they are.
    Plain(Box<dyn Fn(usize) -> Option<&'a [u8]> + 'a>),
    /// As JSON.
    Json(NullableEncoder<'a>),
}

impl<'a> Cells<'a> {
    /// Bytes, texts and the bytes of media as they are. `options` are those of [`super::json`].
    pub(super) fn of(
        field: &'a FieldRef,
        array: &'a ArrayRef,
        options: &'a EncoderOptions,
    ) -> Result<Self, String> {
        macro_rules! plain {
            ($values:expr, $bytes:expr) => {{
                let values = $values;
                Self::Plain(Box::new(move |row| {
                    values.is_valid(row).then(|| $bytes(values.value(row)))
                }))
            }};
        }
        Ok(match array.data_type() {
            media if media::is_media(media) => {
                let media = array.as_struct();
                Self::Plain(Box::new(move |row| media::bytes(media, row)))
            }
            DataType::Utf8 => plain!(array.as_string::<i32>(), str::as_bytes),
            DataType::LargeUtf8 => plain!(array.as_string::<i64>(), str::as_bytes),
            DataType::Utf8View => plain!(array.as_string_view(), str::as_bytes),
            DataType::Binary => plain!(array.as_binary::<i32>(), std::convert::identity),
            DataType::LargeBinary => plain!(array.as_binary::<i64>(), std::convert::identity),
            DataType::BinaryView => plain!(array.as_binary_view(), std::convert::identity),
            DataType::FixedSizeBinary(_) => {
                plain!(array.as_fixed_size_binary(), std::convert::identity)
            }
            _ => return Self::json(field, array, options),
        })
    }

    /// All of them as JSON.
    pub(super) fn json(
        field: &'a FieldRef,
        array: &'a ArrayRef,
        options: &'a EncoderOptions,
    ) -> Result<Self, String> {
        make_encoder(field, array, options).map(Self::Json).map_err(|e| e.to_string())
    }

    /// The value of a row, unless that misses it. `space` is empty.
    pub(super) fn bytes<'b>(&mut self, row: usize, space: &'b mut Vec<u8>) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        match self {
            Self::Plain(value) => value(row),
            Self::Json(values) => (!values.is_null(row)).then(|| {
                values.encode(row, space);
                space.as_slice()
            }),
        }
    }
}
