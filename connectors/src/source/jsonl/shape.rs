//! What values of a column look like, learnt from some of them.

use std::fmt;

use arrow::datatypes::{DataType, Field, Fields};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::sync::Arc;

use super::{JsonlType, nullable};

/// The first number that no `i64` holds.
const BEYOND: &[u8] = b"9223372036854775808";

/// What a value may be. Any may be null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Only null was seen.
    Null,
    Bool,
    Int64,
    Float64,
    Text,
    /// Declared as text, or numbers of which some have too many digits: numbers and truth values are taken as
    /// they are written.
    Written,
    List(Box<Shape>),
    /// Names in order of appearance.
    Object(Vec<(String, Shape)>),
    /// Values of types that have no type in common.
    Mixed,
    /// Anything; it becomes no column.
    Ignored,
}

impl Shape {
    /// Of a line of JSON.
    ///
    /// Whole numbers beyond 64 bits reach a visitor as numbers with a fraction, their last digits gone. So that
    /// they are seen for what they are, every number of that kind is read as the first one that no `i64` holds.
    pub(super) fn of(line: &[u8]) -> serde_json::Result<Self> {
        let mut seen = Vec::with_capacity(line.len());
        let (mut rest, mut quoted) = (line, false);
        while let Some((&byte, after)) = rest.split_first() {
            let length = match byte {
                b'\\' if quoted => after.len().min(1) + 1,
                b'-' | b'0'..=b'9' if !quoted => {
                    let number = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                    1 + after.iter().take_while(|byte| number(byte)).count()
                }
                _ => 1,
            };
            let (token, behind) = rest.split_at(length);
            quoted ^= token == b"\"";
            rest = behind;
            let digits = token.strip_prefix(b"-").unwrap_or(token);
            let whole = digits.len() >= 19 && digits.iter().all(u8::is_ascii_digit);
            let held = || str::from_utf8(token).is_ok_and(|token| token.parse::<i64>().is_ok());
            let plain = !digits.starts_with(b"0");
            seen.extend_from_slice(if whole && plain && !held() { BEYOND } else { token });
        }
        serde_json::from_slice(&seen)
    }

    /// Makes room for another value.
    pub(super) fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (_, Self::Null) | (Self::Float64, Self::Int64) => {}
            (Self::Null, other) => *self = other,
            (Self::Int64, Self::Float64) => *self = Self::Float64,
            (Self::Written, Self::Int64 | Self::Float64) => {}
            (Self::Int64 | Self::Float64, Self::Written) => *self = Self::Written,
            (Self::List(item), Self::List(other)) => item.merge(*other),
            (Self::Object(fields), Self::Object(others)) => {
                for (name, shape) in others {
                    member(fields, name).merge(shape);
                }
            }
            (same, other) if *same == other => {}
            _ => *self = Self::Mixed,
        }
    }

    /// Sets the type of what `path` names, making the objects that lead to it.
    pub(super) fn declare(&mut self, path: &str, kind: JsonlType) -> Result<(), String> {
        match self {
            // The items of a list are named like the list, but a list is ignored as a whole.
            Self::List(item) if !(path.is_empty() && kind == JsonlType::Ignore) => {
                item.declare(path, kind)
            }
            _ if path.is_empty() => {
                *self = match kind {
                    JsonlType::Int64 => Self::Int64,
                    JsonlType::Float64 => Self::Float64,
                    JsonlType::Bool => Self::Bool,
                    JsonlType::String => Self::Written,
                    JsonlType::Ignore => Self::Ignored,
                };
                Ok(())
            }
            Self::Object(fields) => {
                // A name may have dots of its own.
                let whole = fields.iter().any(|(name, _)| name == path);
                let (name, below) = match path.split_once('.') {
                    Some((name, below)) if !whole => (name, below),
                    _ => (path, ""),
                };
                member(fields, name.to_owned()).declare(below, kind)
            }
            Self::Null => {
                *self = Self::Object(Vec::new());
                self.declare(path, kind)
            }
            _ => Err(format!("there is no object that holds `{path}`")),
        }
    }

    /// The fields of an object, or the path of one whose values have no type in common.
    pub(super) fn fields(&self) -> Result<Fields, String> {
        let Self::Object(members) = self else { return Ok(Fields::empty()) };
        let mut fields = Vec::with_capacity(members.len());
        for (name, shape) in members {
            let kind = shape.data_type().map_err(|below| match below.as_str() {
                "" => name.clone(),
                below => format!("{name}.{below}"),
            })?;
            fields.extend(kind.map(|kind| (name.clone(), kind)));
        }
        Ok(nullable(fields))
    }

    /// The type, if it makes a column.
    fn data_type(&self) -> Result<Option<DataType>, String> {
        Ok(Some(match self {
            Self::Null | Self::Text | Self::Written => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::List(item) => match item.data_type()? {
                Some(item) => DataType::List(Arc::new(Field::new("element", item, true))),
                None => return Ok(None),
            },
            // An object in which nothing was ever seen has nothing to hold.
            Self::Object(_) => match self.fields()? {
                fields if fields.is_empty() => return Ok(None),
                fields => DataType::Struct(fields),
            },
            Self::Mixed => return Err(String::new()),
            Self::Ignored => return Ok(None),
        }))
    }
}

fn member(fields: &mut Vec<(String, Shape)>, name: String) -> &mut Shape {
    let at = fields.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
        fields.push((name, Shape::Null));
        fields.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "found or pushed above")]
    &mut fields[at].1
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Int64)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(if i64::try_from(value).is_ok() { Shape::Int64 } else { Shape::Written })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Float64)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::Null;
        while let Some(item) = items.next_element()? {
            shape.merge(item);
        }
        Ok(Shape::List(Box::new(shape)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Shape, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, shape)) = members.next_entry::<String, Shape>()? {
            member(&mut fields, name).merge(shape);
        }
        Ok(Shape::Object(fields))
    }
}
