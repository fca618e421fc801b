//! Media columns from named bytes, for sources of files and of archive members.

use anabranch_pipelines::record::{KEY, Modality, media};
use anabranch_pipelines::source::SourceError;
use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

use super::facts;
use super::labels::Labels;

/// What a source of named media makes of its names.
#[derive(Debug, Clone)]
pub(super) struct MediaColumn {
    pub(super) modality: Option<Modality>,
    pub(super) column: Option<String>,
}

impl MediaColumn {
    /// Understands `modality = "..."`.
    pub(super) fn parse(modality: Option<&str>, column: Option<&str>) -> Result<Self, SourceError> {
        let modality = match modality.map(|name| (name, Modality::named(name))) {
            None => None,
            Some((_, Some(modality @ (Modality::Image | Modality::Audio)))) => Some(modality),
            Some((name, _)) => {
                let message = format!("`modality = {name:?}`: it is \"image\" or \"audio\"");
                return Err(SourceError::Options(message));
            }
        };
        Ok(Self { modality, column: column.map(str::to_owned) })
    }

    /// The modality as declared, or else as all names' extensions tell it.
    pub(super) fn modality(
        &self,
        path: &str,
        names: impl Iterator<Item = impl AsRef<str>>,
    ) -> Result<Modality, SourceError> {
        if let Some(modality) = self.modality {
            return Ok(modality);
        }
        let mut found: Vec<Modality> = names.filter_map(|name| modality(name.as_ref())).collect();
        found.dedup();
        match found.as_slice() {
            [modality] => Ok(*modality),
            _ => Err(SourceError::Options(format!(
                "`path = {path:?}`: the names do not tell one modality; add `modality = \"image\"` or \"audio\""
            ))),
        }
    }

    /// Key, media struct, its facts, and the labels' columns.
    pub(super) fn schema(&self, modality: Modality, labels: Option<&Labels>) -> SchemaRef {
        let column = self.column.as_deref().unwrap_or(modality.name());
        let mut fields = vec![
            Arc::new(Field::new(KEY, DataType::Utf8, false)),
            Arc::new(media::field(column, modality, media::State::Encoded)),
        ];
        fields.extend(media::fact_fields(column, modality).into_iter().map(Arc::new));
        fields.extend(labels.into_iter().flat_map(|labels| labels.fields().iter().cloned()));
        Arc::new(Schema::new(fields))
    }
}

/// Rows of [`MediaColumn::schema`]; `names` are what extensions and labels are looked up by.
pub(super) fn rows(
    keys: StringArray,
    names: &[&str],
    media: StructArray,
    labels: Option<&Labels>,
    schema: &SchemaRef,
) -> Result<RecordBatch, SourceError> {
    let encodings: StringArray = names.iter().map(|name| encoding(name)).collect();
    let modality = schema.fields().get(1).and_then(|field| Modality::of(field));
    let facts = modality.map(|modality| facts::columns(modality, &media)).unwrap_or_default();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(media), Arc::new(encodings)];
    columns.extend(facts);
    if let Some(labels) = labels {
        columns.extend(labels.columns(names)?);
    }
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|e| SourceError::Options(e.to_string()))
}

/// The encoding that a file's extension names, as a hint: `decode` looks at the bytes.
pub(super) fn encoding(name: &str) -> Option<&'static str> {
    let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
    Some(match extension.as_str() {
        "jpg" | "jpeg" => "jpeg",
        "png" => "png",
        "webp" => "webp",
        "wav" => "wav",
        "flac" => "flac",
        _ => return None,
    })
}

/// The modality that a file's extension names.
pub(super) fn modality(name: &str) -> Option<Modality> {
    match encoding(name)? {
        "jpeg" | "png" | "webp" => Some(Modality::Image),
        "wav" | "flac" => Some(Modality::Audio),
        _ => None,
    }
}
