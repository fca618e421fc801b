//! What is wrong with the columns that reach a node.

use arrow::datatypes::{Field, Schema};
use thiserror::Error;

use super::nearest;
use crate::record::{Modality, media};

/// A column is missing or unfit. Operators and sinks return this at plan time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// No such column.
    #[error("there is no column `{column}`{}; the columns are {available}", did_you_mean(.nearest))]
    Missing {
        /// The column asked for.
        column: String,
        /// The most similar column there is.
        nearest: Option<String>,
        /// All columns there are.
        available: String,
    },
    /// The column is of another kind.
    #[error("column `{column}` is {found}, not {expected}{}", then(.hint))]
    Unfit {
        /// The column.
        column: String,
        /// What it is.
        found: String,
        /// What was needed.
        expected: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// The column has a name that cannot stand.
    #[error("column {column:?} {fault}{}", then(.hint))]
    Name {
        /// The column, or the path of a field in it.
        column: String,
        /// What is wrong with its name.
        fault: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// Two inputs that are read beside one another differ.
    #[error("{0}")]
    Mismatch(String),
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

fn then(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("; {hint}") }
}

impl SchemaError {
    /// The field called `name`, or [`SchemaError::Missing`].
    ///
    /// # Errors
    /// When there is no such column.
    pub fn require<'a>(schema: &'a Schema, name: &str) -> Result<&'a Field, Self> {
        schema.field_with_name(name).map_err(|_| {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            Self::Missing {
                column: name.to_owned(),
                nearest: nearest(name, names.iter().copied()).map(str::to_owned),
                available: names.join(", "),
            }
        })
    }

    /// The media field called `name`, of this modality and, if given, state.
    ///
    /// # Errors
    /// When it is missing, of another type, or in the other state.
    pub fn require_media<'a>(
        schema: &'a Schema,
        name: &str,
        modality: Modality,
        state: Option<media::State>,
    ) -> Result<&'a Field, Self> {
        let field = Self::require(schema, name)?;
        let unfit = |found: String, expected: String, hint: &str| Self::Unfit {
            column: name.to_owned(),
            found,
            expected,
            hint: hint.to_owned(),
        };
        if Modality::of(field) != Some(modality) || !media::is_media(field.data_type()) {
            let found = Modality::of(field)
                .map_or_else(|| format!("of type {}", field.data_type()), |m| format!("{m} media"));
            return Err(unfit(found, format!("{modality} media"), ""));
        }
        match (state, media::State::of(field)) {
            (Some(media::State::Decoded), Some(media::State::Encoded)) => Err(unfit(
                "encoded".into(),
                "decoded".into(),
                "put an operator of kind `decode` before this one",
            )),
            (Some(media::State::Encoded), Some(media::State::Decoded)) => {
                Err(unfit("already decoded".into(), "encoded".into(), "leave the `decode` out"))
            }
            _ => Ok(field),
        }
    }
}
