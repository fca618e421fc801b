//! Rows of Parquet files: `kind = "parquet"`. Splits are files, offsets are numbers of rows.
//!
//! All files have the columns of the first one; a file with others, or a damaged one, is refused as a whole.
//! Structs of `bytes` and `path`, as Hugging Face writes images and sound, become media columns.

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

pub(super) mod rows;
#[cfg(test)]
mod tests;

use rows::{Footers, Rows};

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
    /// A fact of the media column before it: which one.
    Fact(usize),
}

#[async_trait]
impl Source for Parquet {
    fn kind(&self) -> &'static str {
        "parquet"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({ "key": self.0.options.key, "media": self.0.options.media })
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
                        Ok(footer) => return Files::of(&objects, &options, &footer).map(Arc::new),
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
        let features = huggingface(footer);
        let mut fields = vec![Field::new(KEY, DataType::Utf8, false)];
        let mut columns = Vec::new();
        for (at, field) in stored.iter().enumerate() {
            if field.name() == KEY && key == Some(at) {
                continue;
            }
            let taken = |name: &str| name == ID || fields.iter().any(|field| field.name() == name);
            let name = free_name(field.name(), taken);
            columns.push(Column::Stored(at));
            let declared = options.media.get(field.name()).and_then(|name| Modality::named(name));
            let modality = declared
                .or_else(|| Modality::of(field))
                .or_else(|| features.get(field.name()).copied())
                .or_else(|| Modality::named(field.name()))
                .filter(|_| media::is_media(field.data_type()));
            let Some(modality) = modality else {
                let plain = Field::new(&name, field.data_type().clone(), true);
                fields.push(plain.with_metadata(field.metadata().clone()));
                continue;
            };
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
            let column = match column {
                Column::Fact(at) => known.get(*at).cloned(),
                Column::Stored(at) => match batch.columns().get(*at) {
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

/// The facts of a media column that paths and first bytes tell, in the order of [`media::fact_fields`].
fn facts_of(field: &Field, media: &StructArray) -> Vec<ArrayRef> {
    let encoded = media::State::of(field) == Some(media::State::Encoded);
    let Some(modality) = Modality::of(field).filter(|_| encoded) else { return Vec::new() };
    let paths = (0..media.len()).map(|row| media::path(media, row));
    let encodings: StringArray = paths.map(|path| named::encoding(path?)).collect();
    let mut known: Vec<ArrayRef> = vec![Arc::new(encodings)];
    known.extend(facts::columns(modality, media));
    known
}

/// What Hugging Face `datasets` wrote into a footer about media columns.
fn huggingface(footer: &ArrowReaderMetadata) -> BTreeMap<String, Modality> {
    let entries = footer.metadata().file_metadata().key_value_metadata();
    let text = entries
        .and_then(|entries| entries.iter().find(|entry| entry.key == "huggingface"))
        .and_then(|entry| entry.value.as_deref());
    let info: serde_json::Value =
        text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let features = info.pointer("/info/features").and_then(serde_json::Value::as_object);
    let media = |(name, feature): (&String, &serde_json::Value)| {
        let modality = match feature.get("_type")?.as_str()? {
            "Image" => Modality::Image,
            "Audio" => Modality::Audio,
            _ => return None,
        };
        Some((name.clone(), modality))
    };
    features.into_iter().flatten().filter_map(media).collect()
}
