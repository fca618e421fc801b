//! Media columns from named bytes, for sources of files and of archive members.

use anabranch_pipelines::record::{KEY, Modality, media};
use anabranch_pipelines::source::SourceError;
use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts;
use super::labels::Labels;

/// Extensions that a message counts one by one.
const KINDS: usize = 4;

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
        names: impl Iterator<Item = impl AsRef<str>> + Clone,
    ) -> Result<Modality, SourceError> {
        if let Some(modality) = self.modality {
            return Ok(modality);
        }
        let mut found: Vec<Modality> =
            names.clone().filter_map(|name| modality(name.as_ref())).collect();
        found.dedup();
        match found.as_slice() {
            [modality] => Ok(*modality),
            found => {
                let (there, add) = (kinds(names), "`modality = \"image\"` or \"audio\"");
                let say = match found {
                    [] => format!("tells no modality by its name; add {add}"),
                    _ => format!("is more than one modality; match one of them, or add {add}"),
                };
                Err(SourceError::Options(format!(
                    "`path = {path:?}`: what is there, {there}, {say}"
                )))
            }
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
    encoding_of(name.rsplit_once('.')?.1)
}

fn encoding_of(extension: &str) -> Option<&'static str> {
    Some(match extension.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "jpeg",
        "png" => "png",
        "webp" => "webp",
        "qoi" => "qoi",
        "wav" => "wav",
        "flac" => "flac",
        "opus" => "opus",
        "mp3" => "mp3",
        "ogg" | "oga" => "ogg",
        "aac" => "aac",
        "m4a" | "m4b" => "m4a",
        _ => return None,
    })
}

/// How many names there are of each extension, the most frequent ones first.
pub fn count_kinds(names: impl Iterator<Item = impl AsRef<str>>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        let name = name.as_ref();
        let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
        let kind = match file.rsplit_once('.') {
            Some((_, extension)) => format!(".{}", extension.to_ascii_lowercase()),
            None => "without an extension".to_owned(),
        };
        *counts.entry(kind).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// The same as part of a sentence: `2 .jpg and 1 .wav`.
fn kinds(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    let counts = count_kinds(names);
    let others: usize = counts.iter().skip(KINDS).map(|(_, count)| count).sum();
    let shown = counts.iter().take(KINDS).map(|(kind, count)| format!("{count} {kind}"));
    let mut shown: Vec<String> = shown.collect();
    if others > 0 {
        shown.push(format!("{others} others"));
    }
    match shown.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// The modality that a file's extension names.
pub(super) fn modality(name: &str) -> Option<Modality> {
    modality_of(name.rsplit_once('.')?.1)
}

/// The modality that an extension names.
pub(super) fn modality_of(extension: &str) -> Option<Modality> {
    match encoding_of(extension)? {
        "jpeg" | "png" | "webp" | "qoi" => Some(Modality::Image),
        "wav" | "flac" | "opus" | "mp3" | "ogg" | "aac" | "m4a" => Some(Modality::Audio),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_is_there_instead_of_one_modality() {
        let error = |names: &[&str]| {
            let column = MediaColumn { modality: None, column: None };
            column.modality("in", names.iter()).unwrap_err().to_string()
        };
        let mixed = error(&["a.wav", "x/b.JPG", "c.jpg", "notes"]);
        let there =
            "`path = \"in\"`: what is there, 2 .jpg, 1 .wav and 1 without an extension, is more";
        assert!(mixed.contains(there), "{mixed}");
        assert!(error(&["a.txt"]).contains("what is there, 1 .txt, tells no modality"));
        let many = error(&["1.a", "2.b", "3.c", "4.d", "5.e", "6.f"]);
        assert!(many.contains("1 .a, 1 .b, 1 .c, 1 .d and 2 others"), "{many}");
    }
}
