//! Columns of samples: which members they take, and what becomes of their bytes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anabranch_pipelines::record::{ID, KEY, Modality, media};
use anabranch_pipelines::source::{SourceBatch, SourceError};
use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::WebDatasetType;
use super::name::Name;
use super::samples::Sample;
use super::value::{Value, media_columns};
use crate::source::jsonl::Unknown;
use crate::source::media as named;
use crate::source::member::Body;
use crate::source::values::free_name;

/// A column before it has a field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Column {
    name: String,
    kind: WebDatasetType,
    endings: Vec<String>,
    /// Whether the endings stand in order of preference.
    preferred: bool,
}

/// The columns of a source.
#[derive(Clone)]
pub(super) struct Columns {
    pub(super) schema: SchemaRef,
    pub(super) unknown: Unknown,
    all: Arc<[Column]>,
}

/// The columns that options name.
pub(super) fn declared(
    columns: &BTreeMap<String, String>,
    types: &BTreeMap<String, WebDatasetType>,
) -> Result<Vec<Column>, SourceError> {
    let mut taken = HashSet::new();
    let mut all = Vec::with_capacity(columns.len());
    for (name, endings) in columns {
        let error =
            |message| SourceError::Options(format!("`columns.{name} = {endings:?}`: {message}"));
        let endings: Vec<String> = endings
            .split(';')
            .map(|ending| ending.trim().trim_start_matches('.').to_lowercase())
            .filter(|ending| !ending.is_empty())
            .collect();
        let Some(first) = endings.first() else {
            return Err(error("it names no ending, such as \"jpg;png\"".to_owned()));
        };
        if let Some(twice) = endings.iter().find(|ending| !taken.insert((*ending).clone())) {
            return Err(error(format!("another column takes `{twice}` already")));
        }
        let kind = types.get(name).copied().unwrap_or_else(|| kind(first));
        all.push(Column { name: name.clone(), kind, endings, preferred: true });
    }
    match types.keys().find(|name| !columns.is_empty() && !columns.contains_key(*name)) {
        None => Ok(all),
        Some(name) => {
            Err(SourceError::Options(format!("`types.{name}`: `columns` names no such column")))
        }
    }
}

/// The columns that members' names tell, in order of appearance.
pub(super) fn found(
    names: &[String],
    types: &BTreeMap<String, WebDatasetType>,
) -> Result<Vec<Column>, SourceError> {
    // Images, or sounds, of several formats are one column unless a sample has two of them.
    let mut apart = HashSet::new();
    let mut seen = HashSet::new();
    let mut endings: Vec<String> = Vec::new();
    for name in names {
        let Name::Of { key, ending } = Name::of(name) else { continue };
        if let Some(modality) = named::modality_of(&ending)
            && !seen.insert((key, modality))
        {
            apart.insert(modality);
        }
        if !endings.contains(&ending) {
            endings.push(ending);
        }
    }
    let mut all: Vec<Column> = Vec::new();
    for ending in endings {
        let name = match named::modality_of(&ending).filter(|modality| !apart.contains(modality)) {
            Some(modality) => modality.name().to_owned(),
            None => match ending.rsplit_once('.') {
                // `seg.png` is a column of images called `seg`.
                Some((name, last)) if named::modality_of(last).is_some() => name.replace('.', "_"),
                _ => ending.replace('.', "_"),
            },
        };
        match all.iter_mut().find(|column| column.name == name) {
            Some(column) => column.endings.push(ending),
            None => {
                let kind = types.get(&name).copied().unwrap_or_else(|| kind(&ending));
                all.push(Column { name, kind, endings: vec![ending], preferred: false });
            }
        }
    }
    let names = || all.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    match types.keys().find(|name| all.iter().all(|column| column.name != **name)) {
        None => Ok(all),
        Some(name) => Err(SourceError::Options(format!(
            "`types.{name}`: there is no such column; the columns are {}",
            names()
        ))),
    }
}

/// What an ending says of the bytes, as readers of WebDataset understand it.
fn kind(ending: &str) -> WebDatasetType {
    let last = ending.rsplit('.').next().unwrap_or(ending);
    match (named::modality_of(last), last) {
        (Some(Modality::Image), _) => WebDatasetType::Image,
        (Some(_), _) => WebDatasetType::Audio,
        (None, "txt" | "text" | "transcript" | "caption") => WebDatasetType::Text,
        (None, "cls" | "cls2" | "class" | "count" | "index" | "inx" | "id") => {
            WebDatasetType::Int64
        }
        (None, "json" | "jsn") => WebDatasetType::Json,
        _ => WebDatasetType::Bytes,
    }
}

impl Columns {
    pub(super) fn new(all: Vec<Column>, unknown: Unknown) -> Self {
        let mut fields = vec![Field::new(KEY, DataType::Utf8, false)];
        for Column { name, kind, .. } in &all {
            let taken = |name: &str| name == ID || fields.iter().any(|field| field.name() == name);
            let name = free_name(name, taken);
            let plain = |data_type| Field::new(&name, data_type, true);
            let field = match kind {
                WebDatasetType::Image | WebDatasetType::Audio => {
                    let modality = kind.modality().unwrap_or(Modality::Image);
                    fields.push(media::field(&name, modality, media::State::Encoded));
                    fields.extend(media::fact_fields(&name, modality));
                    continue;
                }
                WebDatasetType::Text => Modality::Text.mark(plain(DataType::Utf8)),
                WebDatasetType::Json => plain(DataType::Utf8),
                WebDatasetType::Int64 => plain(DataType::Int64),
                WebDatasetType::Float64 => plain(DataType::Float64),
                WebDatasetType::Bytes => plain(DataType::Binary),
            };
            fields.push(field);
        }
        Self { schema: Arc::new(Schema::new(fields)), unknown, all: all.into() }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// The column that takes members of this ending, and how many endings it prefers to that.
    pub(super) fn of(&self, ending: &str) -> Option<(usize, usize)> {
        self.all.iter().enumerate().find_map(|(at, column)| {
            let rank = column.endings.iter().position(|other| other == ending)?;
            Some((at, if column.preferred { rank } else { 0 }))
        })
    }

    pub(super) fn name(&self, column: usize) -> &str {
        self.all.get(column).map_or("", |column| &column.name)
    }

    pub(super) fn is_media(&self, column: usize) -> bool {
        self.all.get(column).is_some_and(|column| column.kind.modality().is_some())
    }

    /// A member's bytes as a value of its column.
    pub(super) fn value(&self, column: usize, name: &str, body: Body) -> Result<Value, String> {
        let kind = self.all.get(column).map_or(WebDatasetType::Bytes, |column| column.kind);
        Value::of(kind, name, body)
    }

    /// Samples as rows.
    pub(super) fn batch(&self, samples: Vec<Sample>) -> Result<SourceBatch, SourceError> {
        let keys = samples.iter().map(|sample| Some(sample.key.as_str()));
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(keys.collect::<StringArray>())];
        for (at, column) in self.all.iter().enumerate() {
            let values = || samples.iter().map(|sample| sample.values.get(at)?.as_ref());
            arrays.push(match column.kind {
                WebDatasetType::Image | WebDatasetType::Audio => {
                    let modality = column.kind.modality().unwrap_or(Modality::Image);
                    arrays.extend(media_columns(modality, values()));
                    continue;
                }
                WebDatasetType::Text | WebDatasetType::Json => {
                    Arc::new(values().map(|value| value?.text()).collect::<StringArray>())
                }
                WebDatasetType::Int64 => {
                    Arc::new(values().map(|value| value?.int64()).collect::<Int64Array>())
                }
                WebDatasetType::Float64 => {
                    Arc::new(values().map(|value| value?.float64()).collect::<Float64Array>())
                }
                WebDatasetType::Bytes => {
                    Arc::new(values().map(|value| value?.bytes()).collect::<BinaryArray>())
                }
            });
        }
        let records = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|e| SourceError::Options(e.to_string()))?;
        Ok(SourceBatch { records, refused: Vec::new() })
    }
}
