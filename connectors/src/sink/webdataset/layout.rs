//! Which column becomes which member of a sample.

use std::collections::BTreeMap;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::record::{KEY, Modality, media};
use arrow::datatypes::{DataType, Field, Schema};

use crate::sink::json;

/// The member of everything that has none of its own.
const JSON: &str = "json";
/// Whole numbers of these names are the sample's class.
const CLASSES: [&str; 3] = ["label", "class", "cls"];

/// What stands behind a sample's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Suffix {
    /// Always the same.
    Fixed(String),
    /// As the record's encoding says.
    Encoded {
        /// What stands before it: nothing, or `left.` of several pictures.
        prefix: String,
        /// The column that names the encoding.
        encoding: Option<usize>,
        /// What an unknown encoding is called.
        unknown: String,
    },
}

/// The members of every sample, by column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// The column that names samples.
    pub(super) name: usize,
    /// Columns with a member of their own.
    pub(super) members: Vec<(usize, Suffix)>,
    /// The columns of the object in `NAME.json`.
    pub(super) rest: Vec<usize>,
}

impl Layout {
    /// The members for rows of this schema, where the job names the column of names and some extensions.
    pub(super) fn of(
        schema: &Schema,
        name: &str,
        named: &BTreeMap<String, String>,
    ) -> Result<Self, SchemaError> {
        for column in named.keys() {
            SchemaError::require(schema, column)?;
        }
        SchemaError::require(schema, name)?;
        let mut layout = Self { name: 0, members: Vec::new(), rest: Vec::new() };
        let facts = facts(schema);
        for (at, field) in schema.fields().iter().enumerate() {
            if field.name() == name {
                layout.name = at;
                is_name(field)?;
            }
            let default = default(schema, field, &facts);
            let suffix = match named.get(field.name()) {
                Some(extension) if extension == JSON => None,
                Some(extension) => Some(Suffix::Fixed(extension.clone())),
                None => default,
            };
            if media::State::of(field) == Some(media::State::Decoded) {
                return Err(SchemaError::Unfit {
                    column: field.name().clone(),
                    found: "decoded".to_owned(),
                    expected: "a file".to_owned(),
                    hint: "put an `encode` before this sink".to_owned(),
                });
            }
            match suffix {
                Some(suffix) => {
                    distinct(schema, &layout.members, field, &suffix)?;
                    layout.members.push((at, suffix));
                }
                None => layout.rest.push(at),
            }
            if !media::is_media(field.data_type()) {
                json::check(field)?;
            }
        }
        // A sample of which all else is missing is still there, and every sample knows its whole key.
        if !layout.rest.contains(&layout.name) {
            layout.rest.insert(0, layout.name);
        }
        Ok(layout)
    }
}

/// Names of the columns that are facts of media.
fn facts(schema: &Schema) -> Vec<String> {
    let media = schema.fields().iter().filter(|field| media::is_media(field.data_type()));
    let facts =
        media.filter_map(|field| Some(media::fact_fields(field.name(), Modality::of(field)?)));
    facts.flatten().map(|field| field.name().clone()).collect()
}

/// What a field is, if such fields have a member of their own.
fn kind(field: &Field, facts: &[String]) -> Option<&'static str> {
    if field.name() == KEY || facts.contains(field.name()) {
        return None;
    }
    match field.data_type() {
        media if media::is_media(media) => Some(Modality::of(field).map_or("bin", Modality::name)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some("text"),
        number if number.is_integer() && CLASSES.contains(&field.name().as_str()) => Some("class"),
        _ => None,
    }
}

/// The member of a field of which the job says nothing: alone of its kind it is called by its kind, else also by
/// its name.
fn default(schema: &Schema, field: &Field, facts: &[String]) -> Option<Suffix> {
    let kind = kind(field, facts)?;
    let alone = schema.fields().iter().filter(|f| self::kind(f, facts) == Some(kind)).count() == 1;
    let own = spelled(field.name());
    let prefix = if alone { String::new() } else { format!("{own}.") };
    Some(match kind {
        "class" => Suffix::Fixed(format!("{prefix}cls")),
        _ if !media::is_media(field.data_type()) => Suffix::Fixed(format!("{prefix}txt")),
        _ => {
            let encoding = schema.index_of(&format!("{}_encoding", field.name())).ok();
            let encoding = encoding.filter(|at| {
                schema.fields().get(*at).is_some_and(|f| *f.data_type() == DataType::Utf8)
            });
            let unknown = if kind == "text" { "txt".to_owned() } else { format!("{own}.bin") };
            Suffix::Encoded { prefix, encoding, unknown }
        }
    })
}

/// A column's name as part of a suffix, which readers lower.
fn spelled(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "_-".contains(c) { c } else { '_' };
    name.chars().map(plain).flat_map(char::to_lowercase).collect()
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
        expected: "a text, a whole number or an id, as samples are named by".to_owned(),
        hint: "name another column with `name`".to_owned(),
    })
}

fn distinct(
    schema: &Schema,
    members: &[(usize, Suffix)],
    field: &Field,
    suffix: &Suffix,
) -> Result<(), SchemaError> {
    let Some((other, _)) = members.iter().find(|(_, other)| other == suffix) else {
        return Ok(());
    };
    let other = schema.fields().get(*other).map_or("", |field| field.name());
    Err(SchemaError::Name {
        column: field.name().clone(),
        fault: format!("would be the same member of a sample as {other:?}"),
        hint: format!(
            "give one an extension of its own: `members = {{ {:?} = \"second\" }}`",
            field.name()
        ),
    })
}

/// The extension of files of this encoding.
pub(super) fn extension(encoding: &str) -> &str {
    match encoding {
        "jpeg" => "jpg",
        "zstd" => "txt.zst",
        other => other,
    }
}
