//! Whether a line has the shape of the others: one pass over its bytes that keeps nothing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Unknown;
use super::shape::Shape;

/// What is wrong with a line, if anything is.
pub(super) fn fault(line: &[u8], shape: &Shape, unknown: Unknown) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_slice(line);
    let top = Check { shape, unknown, at: &At::Top };
    let error = top.deserialize(&mut reader).and_then(|()| reader.end()).err()?;
    let message = error.to_string();
    // There is one line only: its column says where.
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    Some(format!("{message} (byte {} of the line)", error.column()))
}

/// The path of a value, for messages.
enum At<'a> {
    Top,
    In(&'a At<'a>, &'a str),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::In(Self::Top, name) => f.write_str(name),
            Self::In(above, name) => write!(f, "{above}.{name}"),
        }
    }
}

#[derive(Clone, Copy)]
struct Check<'a> {
    shape: &'a Shape,
    unknown: Unknown,
    at: &'a At<'a>,
}

impl Check<'_> {
    /// The value is `found`, whose type in `types` would be `kind`.
    fn unfit<E: Error>(&self, found: impl fmt::Display, kind: &str) -> E {
        let at = self.at;
        if matches!(at, At::Top) {
            return E::custom(format_args!("it is {found} and no object"));
        }
        let (expected, hint) = match self.shape {
            Shape::Null => ("null", kind),
            Shape::Bool => ("a truth value", "string"),
            Shape::Int64 if kind == "float64" => ("a whole number", kind),
            Shape::Int64 => ("a whole number of 64 bits", "string"),
            Shape::Float64 => ("a number", "string"),
            Shape::List(_) => ("a list", "ignore"),
            Shape::Object(_) => ("an object", "ignore"),
            _ => ("text", "string"),
        };
        let hint = if kind == "ignore" { kind } else { hint };
        E::custom(format_args!(
            "`{at}` is {found} and not {expected}; if it may be, say `types = {{ \"{at}\" = \"{hint}\" }}`"
        ))
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.shape {
            Shape::Ignored => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.shape {
            Shape::Bool | Shape::Written => Ok(()),
            _ => Err(self.unfit(value, "bool")),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match self.shape {
            Shape::Int64 | Shape::Float64 | Shape::Written => Ok(()),
            _ => Err(self.unfit(value, "int64")),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match (i64::try_from(value), self.shape) {
            (Ok(value), _) => self.visit_i64(value),
            (Err(_), Shape::Int64) => Err(self.unfit(value, "string")),
            (Err(_), _) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.shape {
            Shape::Float64 | Shape::Written => Ok(()),
            // Its digits are not known here: the last ones of a long number are lost.
            Shape::Int64 if value.abs() >= i64::MAX as f64 => {
                Err(self.unfit("beyond 64 bits", "string"))
            }
            _ => Err(self.unfit(value, "float64")),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match self.shape {
            Shape::Text | Shape::Written => Ok(()),
            _ => {
                let start: String = value.chars().take(40).collect();
                Err(self.unfit(format_args!("{start:?}"), "string"))
            }
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.at {
            At::Top => Err(self.unfit("null", "ignore")),
            At::In(..) => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Shape::List(item) = self.shape else { return Err(self.unfit("a list", "ignore")) };
        while items.next_element_seed(Check { shape: item, ..self })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Shape::Object(fields) = self.shape else {
            return Err(self.unfit("an object", "ignore"));
        };
        let mut next = 0;
        while let Some(known) = members.next_key_seed(Name { fields, next })? {
            match known.as_ref().map(|known| (*known, fields.get(*known))) {
                Ok((known, Some((name, shape)))) => {
                    next = known + 1;
                    let at = At::In(self.at, name);
                    members.next_value_seed(Check { shape, at: &at, ..self })?;
                }
                Err(name) if self.unknown == Unknown::Refuse => {
                    let at = At::In(self.at, name);
                    return Err(A::Error::custom(format_args!(
                        "`{at}` is in none of the first lines; say what it is, like \
                         `types = {{ \"{at}\" = \"string\" }}`, or `unknown = \"ignore\"`"
                    )));
                }
                _ => members.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

/// Finds a name among fields: most lines have theirs in the order of the first one, so `next` goes first.
struct Name<'a> {
    fields: &'a [(String, Shape)],
    next: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        if self.fields.get(self.next).is_some_and(|(next, _)| next == name) {
            return Ok(Ok(self.next));
        }
        let found = self.fields.iter().position(|(other, _)| other == name);
        Ok(found.ok_or_else(|| name.to_owned()))
    }
}
