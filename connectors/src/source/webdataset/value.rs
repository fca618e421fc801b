//! A member's contents as a value of its column.

use std::sync::Arc;

use anabranch_pipelines::record::{Modality, Reference, media};
use arrow::array::{ArrayRef, BinaryBuilder, StringArray};
use serde::de::IgnoredAny;

use super::WebDatasetType;
use crate::source::facts;
use crate::source::media as named;
use crate::source::member::Body;

/// A member's contents.
pub(super) enum Value {
    Media(Media),
    Text(String),
    Int64(i64),
    Float64(f64),
    Bytes(Vec<u8>),
}

/// An image or a sound, under the name of its member.
pub(super) struct Media {
    name: String,
    body: Body,
}

impl Value {
    /// From the bytes of the member `name`.
    pub(super) fn of(kind: WebDatasetType, name: &str, body: Body) -> Result<Self, String> {
        let bytes = match (kind.modality(), body) {
            (None, Body::Bytes(bytes)) => bytes,
            (_, body) => return Ok(Self::Media(Media { name: name.to_owned(), body })),
        };
        if kind == WebDatasetType::Bytes {
            return Ok(Self::Bytes(bytes));
        }
        let text = String::from_utf8(bytes).map_err(|_| "it is no text in UTF-8".to_owned())?;
        let number = |what: &str| {
            let start: String = text.chars().take(40).collect();
            format!("`{start}` is no {what}")
        };
        match kind {
            WebDatasetType::Int64 => match text.trim().parse() {
                Ok(value) => Ok(Self::Int64(value)),
                Err(_) => Err(number("whole number of 64 bits")),
            },
            WebDatasetType::Float64 => match text.trim().parse() {
                Ok(value) => Ok(Self::Float64(value)),
                Err(_) => Err(number("number")),
            },
            WebDatasetType::Json => match serde_json::from_str::<IgnoredAny>(&text) {
                Ok(_) => Ok(Self::Text(text)),
                Err(error) => Err(format!("it is no JSON: {error}")),
            },
            _ => Ok(Self::Text(text)),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn int64(&self) -> Option<i64> {
        if let Self::Int64(number) = self { Some(*number) } else { None }
    }

    pub(super) fn float64(&self) -> Option<f64> {
        if let Self::Float64(number) = self { Some(*number) } else { None }
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// A media column and its facts.
pub(super) fn media_columns<'a>(
    modality: Modality,
    values: impl Iterator<Item = Option<&'a Value>>,
) -> Vec<ArrayRef> {
    let (mut bytes, mut paths, mut encodings) = (BinaryBuilder::new(), Vec::new(), Vec::new());
    for value in values {
        let Some(Value::Media(Media { name, body })) = value else {
            bytes.append_null();
            paths.push(None);
            encodings.push(None);
            continue;
        };
        encodings.push(named::encoding(name));
        match body {
            Body::Bytes(body) => {
                bytes.append_value(body);
                paths.push(Some(name.clone()));
            }
            Body::At { uri, range } => {
                bytes.append_null();
                let (uri, range) = (uri.to_string(), Some(range.clone()));
                paths.push(Some(Reference { uri, range }.to_string()));
            }
        }
    }
    let column = media::assemble(bytes.finish(), StringArray::from(paths));
    let facts = facts::columns(modality, &column);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(column), Arc::new(StringArray::from(encodings))];
    columns.extend(facts);
    columns
}
