//! Values as JSON: what sinks whose formats hold texts have in common.
//!
//! Nested types are objects and arrays, bytes are base64, ids hexadecimal, and what JSON has no word for (NaN and
//! the infinities) is null.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use arrow::array::new_empty_array;
use arrow::datatypes::FieldRef;
use arrow::json::writer::{EncoderOptions, make_encoder};

use super::base64::Base64;

/// How values are written.
pub(super) fn options() -> EncoderOptions {
    EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Base64))
}

/// Whether JSON can say what a column holds.
pub(super) fn check(field: &FieldRef) -> Result<(), SchemaError> {
    let none = new_empty_array(field.data_type());
    make_encoder(field, &none, &options()).map(|_| ()).map_err(|_| SchemaError::Unfit {
        column: field.name().clone(),
        found: format!("of type {}", field.data_type()),
        expected: "a type that JSON can say".to_owned(),
        hint: "convert it, or leave it out with a `select`".to_owned(),
    })
}
