//! Rows of Parquet files: `kind = "parquet"`. Splits are files, offsets are numbers of rows.
//!
//! All files have the columns of the first one; a file with others, or a damaged one, is refused as a whole.
//! Structs of `bytes` and `path`, as Hugging Face writes images and sound, become media columns; what they hold
//! is told by the options, the footer, the column's name, or the first values. Classes are numbers whose names
//! stand in the field's metadata, or are the names themselves; a number without a name is a dead letter.
//!
//! ```
//! use anabranch_connectors::source::ParquetOptions;
//!
//! let options = serde_json::json!({ "path": "mnist/train-*.parquet", "classes": "names" });
//! let source = serde_json::from_value::<ParquetOptions>(options)?.build()?;
//! assert_eq!(source.kind(), "parquet");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use anabranch_pipelines::record::{ID, KEY, Modality, media};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Marks, Source, SourceBatches, SourceError, Split, SplitRange,
};
use anabranch_pipelines::store::Location;
use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::facts;
use super::glob::Objects;
use super::media as named;
use super::object::Failure;
use super::scan::key;
use super::values::free_name;

mod huggingface;
pub(crate) mod rows;
#[cfg(test)]
mod tests;

use huggingface::Feature;
pub use huggingface::{Classes, NAMES_KEY};
use rows::{Footers, Rows};

/// Rows whose first bytes are looked at, where nothing else says what a media column holds.
const SNIFFED: u64 = 16;

/// Options of `kind = "parquet"`: every row of every file that matches is a record.
///
/// Columns keep their names, but `id` becomes `id_`, because every record has an id of its own. Media
/// columns get their facts beside them, as far as paths and first bytes tell (null where they do not).
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetOptions {
    /// A file, a folder or a glob, as a path or URL: `"train-*.parquet"`.
    pub path: String,
    /// The text column whose values are the records' keys. Default: a column called `key`, or `FILE@ROW`.
    pub key: Option<String>,
    /// What media columns hold, by name: `{ picture = "image" }`. Default: what the files or the names say.
    #[serde(default)]
    pub media: BTreeMap<String, String>,
    /// What columns of classes become, where the files name the classes: `"numbers"`, which is the default, or
    /// `"names"`.
    #[serde(default)]
    pub classes: Classes,
}

impl ParquetOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path or a modality is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        for (column, name) in &self.media {
            if !matches!(Modality::named(name), Some(Modality::Image | Modality::Audio)) {
                let message = format!("`media.{column} = {name:?}`: it is \"image\" or \"audio\"");
                return Err(SourceError::Options(message));
            }
        }
        let objects = Arc::new(Objects::parse(&self.path)?);
        let (files, footers) = (OnceCell::new(), Arc::default());
        Ok(Arc::new(Parquet(Arc::new(Inner { objects, options: self, files, footers }))))
    }
}

struct Parquet(Arc<Inner>);

struct Inner {
    objects: Arc<Objects>,
    options: ParquetOptions,
    files: OnceCell<Arc<Files>>,
    footers: Arc<Footers>,
}

/// What the files hold.
struct Files {
    objects: Arc<Objects>,
    /// As the files have them.
    stored: Option<Fields>,
    /// The columns of the rows behind the key.
    columns: Vec<Column>,
    key: Option<usize>,
    schema: SchemaRef,
}

/// Where a column comes from.
enum Column {
    /// A stored one.
    Stored(usize),
    /// A struct of `bytes` and `path`.
    Media(usize),
    /// A stored one of numbers that stand for names.
    Classes(usize, Arc<[String]>),
    /// A fact of the media column before it: which one.
    Fact(usize),
}

#[async_trait]
impl Source for Parquet {
    fn kind(&self) -> &'static str {
        "parquet"
    }

    fn options(&self) -> serde_json::Value {
        let ParquetOptions { key, media, classes, .. } = &self.0.options;
        serde_json::json!({ "key": key, "media": media, "classes": classes })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: false, stable_offsets: true, grows: true }
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(Arc::clone(&self.0.files().await?.schema))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        self.0.objects.list().await
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let inner = Arc::clone(&self.0);
        let footers = Arc::clone(&inner.footers);
        let marks = async move { Ok(rows::measure(inner.files().await?, footers, split, from)) };
        stream::once(marks).try_flatten().boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let inner = Arc::clone(&self.0);
        let footers = Arc::clone(&inner.footers);
        let rows = async move { Ok(rows::open(inner.files().await?, footers, ranges, size)) };
        stream::once(rows).try_flatten().boxed()
    }
}

impl Inner {
    /// What the first readable file says of all.
    async fn files(&self) -> Result<Arc<Files>, SourceError> {
        let files = self.files.get_or_try_init(|| async {
            let splits = self.objects.list().await?;
            let (objects, options) = (Arc::clone(&self.objects), self.options.clone());
            let look = move || {
                let mut why = None;
                for split in &splits {
                    // Nothing is expected of the columns yet.
                    let unknown = Files::unknown(&objects);
                    match Footers::default().of(&unknown, split) {
                        Ok(footer) => {
                            let sniffed = sniff(&unknown, split, &footer, &options)?;
                            return Files::of(&objects, &options, &footer, &sniffed).map(Arc::new);
                        }
                        Err(Failure::Store(error)) => return Err(error),
                        Err(Failure::Damaged(error)) => {
                            why.get_or_insert((split.name.clone(), error));
                        }
                    }
                }
                let (location, message) = why.unwrap_or_default();
                Err(SourceError::Format { location, message })
            };
            let looked = tokio::task::spawn_blocking(look).await;
            looked.map_err(|e| SourceError::Options(format!("a thread that read was lost: {e}")))?
        });
        files.await.cloned()
    }
}

impl Files {
    fn unknown(objects: &Arc<Objects>) -> Self {
        Self {
            objects: Arc::clone(objects),
            stored: None,
            columns: Vec::new(),
            key: None,
            schema: Arc::new(Schema::empty()),
        }
    }

    fn of(
        objects: &Arc<Objects>,
        options: &ParquetOptions,
        footer: &ArrowReaderMetadata,
        sniffed: &BTreeMap<String, Modality>,
    ) -> Result<Self, SourceError> {
        let stored = footer.schema().fields();
        let named = options.key.as_deref().unwrap_or(KEY);
        let text = |field: &Field| {
            matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        };
        let key = stored.iter().position(|field| field.name() == named && text(field));
        let names = || stored.iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        let unknown = options.media.keys().find(|name| stored.find(name).is_none());
        if let Some(unknown) = options.key.as_ref().filter(|_| key.is_none()).or(unknown) {
            return Err(SourceError::Options(format!(
                "there is no column `{unknown}` that could be that; the columns are {}",
                names()
            )));
        }
        let features = huggingface::features(footer);
        let mut fields = vec![Field::new(KEY, DataType::Utf8, false)];
        let mut columns = Vec::new();
        for (at, field) in stored.iter().enumerate() {
            if field.name() == KEY && key == Some(at) {
                continue;
            }
            let taken = |name: &str| name == ID || fields.iter().any(|field| field.name() == name);
            let name = free_name(field.name(), taken);
            if let Some(Feature::Classes(names)) = features.get(field.name())
                && field.data_type().is_integer()
            {
                fields.push(classes(&name, field, names, options.classes));
                columns.push(Column::Classes(at, Arc::clone(names)));
                continue;
            }
            let modality = told(field, options, &features)
                .or_else(|| sniffed.get(field.name()).copied())
                .filter(|_| huggingface::is_media(field.data_type()));
            let Some(modality) = modality else {
                let plain = Field::new(&name, field.data_type().clone(), true);
                fields.push(plain.with_metadata(field.metadata().clone()));
                columns.push(Column::Stored(at));
                continue;
            };
            columns.push(Column::Media(at));
            let state = media::State::of(field).unwrap_or(media::State::Encoded);
            fields.push(media::field(&name, modality, state));
            for (at, fact) in media::fact_fields(&name, modality).into_iter().enumerate() {
                if stored.find(fact.name()).is_none() {
                    fields.push(fact);
                    columns.push(Column::Fact(at));
                }
            }
        }
        let (objects, schema) = (Arc::clone(objects), Arc::new(Schema::new(fields)));
        Ok(Self { objects, stored: Some(stored.clone()), columns, key, schema })
    }
}

impl Rows for Files {
    fn location(&self, split: &Split) -> Location {
        self.objects.location(split)
    }

    fn verify(&self) -> bool {
        true
    }

    fn fault(&self, footer: &ArrowReaderMetadata) -> Option<String> {
        let stored = self.stored.as_ref()?;
        let describe = |fields: &Fields| -> Vec<String> {
            fields.iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect()
        };
        let (here, first) = (describe(footer.schema().fields()), describe(stored));
        (here != first).then(|| {
            let (here, first) = (here.join(", "), first.join(", "));
            format!("its columns are ({here}), those of the first file ({first})")
        })
    }

    fn faults(&self, batch: &RecordBatch) -> Vec<(usize, String)> {
        let mut faults = Vec::new();
        for column in &self.columns {
            let Column::Classes(at, names) = column else { continue };
            let numbers = batch.columns().get(*at).map(huggingface::numbers);
            let Some(Ok(numbers)) = numbers else { continue };
            let name = batch.schema().field(*at).name().clone();
            let wrong = |(row, number): (usize, Option<i64>)| {
                Some((row, format!("`{name}`: {}", huggingface::fault(names, number?)?)))
            };
            faults.extend(numbers.iter().enumerate().filter_map(wrong));
        }
        faults
    }

    fn adapt(
        &self,
        split: &Split,
        rows: &[u64],
        batch: &RecordBatch,
    ) -> Result<RecordBatch, SourceError> {
        let error = |e: arrow::error::ArrowError| SourceError::Format {
            location: split.name.clone(),
            message: e.to_string(),
        };
        let named = match self.key.filter(|_| !rows.is_empty()) {
            Some(at) => Some(cast(batch.column(at), &DataType::Utf8).map_err(error)?),
            None => None,
        };
        let named = named.as_ref().map(|named| named.as_string::<i32>());
        let keys = rows.iter().enumerate().map(|(at, row)| {
            let named = named.filter(|named| named.is_valid(at)).map(|named| named.value(at));
            named.map_or_else(|| key(split, *row), str::to_owned)
        });
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(keys))];
        let mut known: Vec<ArrayRef> = Vec::new();
        for (column, field) in self.columns.iter().zip(self.schema.fields().iter().skip(1)) {
            let stored = |at: &usize| batch.columns().get(*at);
            let column = match column {
                Column::Fact(at) => known.get(*at).cloned(),
                Column::Media(at) => {
                    stored(at).map(huggingface::media_column).transpose().map_err(error)?
                }
                Column::Classes(at, names) => {
                    let numbers =
                        stored(at).map(huggingface::numbers).transpose().map_err(error)?;
                    numbers.map(|numbers| -> ArrayRef {
                        match field.data_type() {
                            DataType::Utf8 => Arc::new(huggingface::names(names, &numbers)),
                            _ => Arc::new(numbers),
                        }
                    })
                }
                Column::Stored(at) => match stored(at) {
                    Some(column) if column.data_type() != field.data_type() => {
                        Some(cast(column, field.data_type()).map_err(error)?)
                    }
                    column => column.cloned(),
                },
            };
            let column = column.unwrap_or_else(|| new_null_array(field.data_type(), rows.len()));
            if let Some(media) = column.as_struct_opt() {
                known = facts_of(field, media);
            }
            columns.push(column);
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(error)
    }
}

/// What says by name what a media column holds: the options, the field, the footer, or its own name.
fn told(
    field: &Field,
    options: &ParquetOptions,
    features: &BTreeMap<String, Feature>,
) -> Option<Modality> {
    let declared = options.media.get(field.name()).and_then(|name| Modality::named(name));
    let feature = || match features.get(field.name()) {
        Some(Feature::Media(modality)) => Some(*modality),
        _ => None,
    };
    declared
        .or_else(|| Modality::of(field))
        .or_else(feature)
        .or_else(|| Modality::named(field.name()))
}

/// What the first values of media columns are, where nothing tells by name. Blocks.
fn sniff(
    files: &Files,
    split: &Split,
    footer: &ArrowReaderMetadata,
    options: &ParquetOptions,
) -> Result<BTreeMap<String, Modality>, SourceError> {
    let features = huggingface::features(footer);
    let fields = footer.schema().fields().iter().enumerate();
    let unknown: Vec<usize> = fields
        .filter(|(_, field)| huggingface::is_media(field.data_type()))
        .filter(|(_, field)| told(field, options, &features).is_none())
        .map(|(at, _)| at)
        .collect();
    let mut found = BTreeMap::new();
    if unknown.is_empty() {
        return Ok(found);
    }
    let batch = match rows::first(&files.location(split), split, footer, &unknown, SNIFFED) {
        Ok(batch) => batch,
        // Whatever is wrong is told of each record when it is read.
        Err(Failure::Damaged(_)) => return Ok(found),
        Err(Failure::Store(error)) => return Err(error),
    };
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let Ok(media) = huggingface::media_column(column) else { continue };
        let media = media.as_struct();
        let modality = |row| {
            let named = media::path(media, row).and_then(named::modality);
            named.or_else(|| facts::sniff(media::bytes(media, row)?).map(|(modality, _)| modality))
        };
        if let Some(modality) = (0..media.len()).find_map(modality) {
            found.insert(field.name().clone(), modality);
        }
    }
    Ok(found)
}

/// The field of a column of classes.
fn classes(name: &str, stored: &Field, names: &[String], as_what: Classes) -> Field {
    let data_type = match as_what {
        Classes::Numbers => DataType::Int64,
        Classes::Names => DataType::Utf8,
    };
    let mut metadata = stored.metadata().clone();
    metadata.insert(NAMES_KEY.to_owned(), serde_json::json!(names).to_string());
    Field::new(name, data_type, true).with_metadata(metadata)
}

/// The facts of a media column that paths and first bytes tell, in the order of [`media::fact_fields`].
fn facts_of(field: &Field, media: &StructArray) -> Vec<ArrayRef> {
    let encoded = media::State::of(field) == Some(media::State::Encoded);
    let Some(modality) = Modality::of(field).filter(|_| encoded) else { return Vec::new() };
    let encoding = |row| {
        let named = media::path(media, row).and_then(named::encoding);
        named.or_else(|| facts::sniff(media::bytes(media, row)?).map(|(_, encoding)| encoding))
    };
    let encodings: StringArray = (0..media.len()).map(encoding).collect();
    let mut known: Vec<ArrayRef> = vec![Arc::new(encodings)];
    known.extend(facts::columns(modality, media));
    known
}
