//! Typed columns from text, for delimited files.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

/// The type of a column of text values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// Whole numbers.
    Int64,
    /// Numbers.
    Float64,
    /// `true` or `false`, in any case.
    Bool,
    /// Text as it stands.
    String,
}

impl ValueType {
    /// From what fits least text to what fits all.
    const NARROW_FIRST: [Self; 4] = [Self::Bool, Self::Int64, Self::Float64, Self::String];

    /// The Arrow type.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::String => DataType::Utf8,
        }
    }

    /// The narrowest type that all these values have. Empty ones say nothing; without any other it is text.
    pub(super) fn infer<'a>(values: impl Iterator<Item = &'a str> + Clone) -> Self {
        let mut values = values.filter(|value| !value.is_empty()).peekable();
        if values.peek().is_none() {
            return Self::String;
        }
        let fits = |kind: &Self| values.clone().all(|value| kind.accepts(value));
        Self::NARROW_FIRST.into_iter().find(fits).unwrap_or(Self::String)
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            Self::Int64 => plain_number(value) && value.parse::<i64>().is_ok(),
            // A whole number that no `i64` holds is an identifier more often than not: text keeps its digits.
            Self::Float64 => {
                let whole = value.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
                let exact = !whole || value.parse::<i64>().is_ok();
                plain_number(value) && value.parse::<f64>().is_ok() && exact
            }
            Self::Bool => boolean(value).is_some(),
            Self::String => true,
        }
    }

    /// Whether this text is a value of the type or, being empty, null.
    pub(super) fn reads(self, value: &str) -> bool {
        value.is_empty()
            || match self {
                // What was declared may be written in any way; only guesses are careful.
                Self::Int64 => value.parse::<i64>().is_ok(),
                Self::Float64 => value.parse::<f64>().is_ok(),
                _ => self.accepts(value),
            }
    }

    /// A column of values that [`reads`](Self::reads) accepted; the others become null.
    pub(super) fn column<'a>(self, values: impl Iterator<Item = &'a str>) -> ArrayRef {
        match self {
            Self::Int64 => {
                let mut column = Int64Builder::new();
                values.for_each(|value| column.append_option(value.parse().ok()));
                Arc::new(column.finish())
            }
            Self::Float64 => {
                let mut column = Float64Builder::new();
                values.for_each(|value| column.append_option(value.parse().ok()));
                Arc::new(column.finish())
            }
            Self::Bool => {
                let mut column = BooleanBuilder::new();
                values.for_each(|value| column.append_option(boolean(value)));
                Arc::new(column.finish())
            }
            Self::String => {
                let mut column = StringBuilder::new();
                values.for_each(|value| column.append_value(value));
                Arc::new(column.finish())
            }
        }
    }
}

/// `007` is a name and no number, and so is `nan`.
fn plain_number(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    match digits.strip_prefix('0') {
        Some(rest) => rest.is_empty() || rest.starts_with(['.', 'e', 'E']),
        None => digits.starts_with(|first: char| first.is_ascii_digit() || first == '.'),
    }
}

fn boolean(value: &str) -> Option<bool> {
    let is = |word: &str| value.eq_ignore_ascii_case(word);
    (is("true") || is("false")).then(|| is("true"))
}

/// A name that is not taken yet: `id` becomes `id_` where the record's own id stands.
pub(super) fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut free = name.to_owned();
    while taken(&free) {
        free.push('_');
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;

    #[test]
    fn the_narrowest_type_is_inferred() {
        let infer = |values: &[&str]| ValueType::infer(values.iter().copied());
        assert_eq!(infer(&["1", "", "-20", "0"]), ValueType::Int64);
        assert_eq!(infer(&["1", "2.5", "1e-3"]), ValueType::Float64);
        assert_eq!(infer(&["TRUE", "false"]), ValueType::Bool);
        assert_eq!(infer(&["007", "8"]), ValueType::String);
        assert_eq!(infer(&["nan", "8"]), ValueType::String);
        assert_eq!(infer(&["0", "0.5", ".5"]), ValueType::Float64);
        assert_eq!(infer(&["1", "x"]), ValueType::String);
        assert_eq!(infer(&["", ""]), ValueType::String);
        assert_eq!(infer(&["9223372036854775807", "-9223372036854775808"]), ValueType::Int64);
        // As numbers with a fraction, both were the same one.
        assert_eq!(infer(&["12345678901234567890", "12345678901234567891"]), ValueType::String);
        assert_eq!(infer(&["0.5", "-9223372036854775809"]), ValueType::String);
        assert_eq!(infer(&["1e30", "12345678901234567890.5"]), ValueType::Float64);
    }

    #[test]
    fn empty_is_null_except_in_text() {
        let column = ValueType::Int64.column(["7", "", "9"].into_iter());
        assert_eq!(column.as_primitive::<Int64Type>().value(2), 9);
        assert!(column.is_null(1));
        assert!(!ValueType::Int64.reads("x") && ValueType::Int64.reads("+7"));
        let text = ValueType::String.column(["", "a"].into_iter());
        assert_eq!(text.null_count(), 0);
    }

    #[test]
    fn taken_names_get_an_underscore() {
        assert_eq!(free_name("id", |name| ["id", "id_"].contains(&name)), "id__");
        assert_eq!(free_name("label", |name| name == "id"), "label");
    }
}
