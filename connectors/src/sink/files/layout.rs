//! Which columns become files.

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::record::{ID, Modality, media};
use arrow::datatypes::{DataType, Field, Schema};

use super::names;
use crate::sink::json;

/// The columns that are written, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// The column that records are called by.
    pub(super) name: usize,
    /// Columns that become files.
    pub(super) columns: Vec<usize>,
}

impl Layout {
    pub(super) fn of(schema: &Schema, name: &str, named: &[String]) -> Result<Self, SchemaError> {
        is_name(SchemaError::require(schema, name)?)?;
        for column in named {
            SchemaError::require(schema, column)?;
        }
        let facts = facts(schema);
        let is_file = |field: &Field| match named.is_empty() {
            true => ![ID, name].contains(&field.name().as_str()) && !facts.contains(field.name()),
            false => named.contains(field.name()),
        };
        let fields = schema.fields().iter().enumerate();
        let fields: Vec<_> = fields.filter(|(_, field)| is_file(field)).collect();
        if fields.is_empty() {
            return Err(SchemaError::Mismatch(format!(
                "no column beside `{name}` could become a file; name one with `columns`"
            )));
        }
        for (_, field) in &fields {
            if media::State::of(field) == Some(media::State::Decoded) {
                return Err(SchemaError::Unfit {
                    column: field.name().clone(),
                    found: "decoded".to_owned(),
                    expected: "a file".to_owned(),
                    hint: "put an `encode` before this sink".to_owned(),
                });
            }
            if fields.len() > 1 {
                names::check(field.name()).map_err(|fault| SchemaError::Name {
                    column: field.name().clone(),
                    fault: format!("cannot be the name of a file: {fault}"),
                    hint: "rename it with a `select`".to_owned(),
                })?;
            }
            if !media::is_media(field.data_type()) {
                json::check(field)?;
            }
        }
        let columns = fields.into_iter().map(|(at, _)| at).collect();
        Ok(Self { name: schema.index_of(name).unwrap_or_default(), columns })
    }
}

/// Names of the columns that are facts of media.
fn facts(schema: &Schema) -> Vec<String> {
    let media = schema.fields().iter().filter(|field| media::is_media(field.data_type()));
    let facts =
        media.filter_map(|field| Some(media::fact_fields(field.name(), Modality::of(field)?)));
    facts.flatten().map(|field| field.name().clone()).collect()
}

fn is_name(field: &Field) -> Result<(), SchemaError> {
    let data_type = field.data_type();
    if matches!(data_type, DataType::Utf8 | DataType::FixedSizeBinary(_)) || data_type.is_integer()
    {
        return Ok(());
    }
    Err(SchemaError::Unfit {
        column: field.name().clone(),
        found: format!("of type {data_type}"),
        expected: "a text, a whole number or an id, as records are called by".to_owned(),
        hint: "name another column with `name`".to_owned(),
    })
}
