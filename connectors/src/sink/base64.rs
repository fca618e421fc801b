//! Bytes as base64, where Arrow's JSON writer has hexadecimal digits: a third longer instead of twice.

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder};

/// Encodes columns of bytes of any length. Those of a fixed size are ids, and stay hexadecimal.
#[derive(Debug)]
pub(super) struct Base64;

impl EncoderFactory for Base64 {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                Box::new(Quoted(move |row| array.value(row)))
            }
            DataType::LargeBinary => {
                let array = array.as_binary::<i64>();
                Box::new(Quoted(move |row| array.value(row)))
            }
            DataType::BinaryView => {
                let array = array.as_binary_view();
                Box::new(Quoted(move |row| array.value(row)))
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// The bytes of a row as a JSON string.
struct Quoted<F>(F);

impl<'a, F: Fn(usize) -> &'a [u8]> Encoder for Quoted<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        let bytes = (self.0)(row);
        let start = out.len();
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        if let Some(into) = out.get_mut(start..) {
            // There is room for all of it.
            let written = STANDARD.encode_slice(bytes, into).unwrap_or(0);
            out.truncate(start + written);
        }
        out.push(b'"');
    }
}
