//! Whole files as records: `kind = "files"`.

use std::io::Read;
use std::sync::Arc;

use anabranch_pipelines::record::{KEY, Modality, Reference, media};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange, Unreadable,
};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray, new_null_array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use super::glob::Objects;

/// Options of `kind = "files"`: every file that matches is a record.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesOptions {
    /// A file, a folder or a glob, as a path or URL: `"photos/**/*.jpg"`.
    pub path: String,
    /// `"image"` or `"audio"`; by default what the names' extensions say.
    pub modality: Option<String>,
    /// Name of the media column; by default the modality.
    pub column: Option<String>,
    /// Emit references: files are read by the operator that needs their bytes, or never.
    #[serde(default)]
    pub references: bool,
}

impl FilesOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path or the modality is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let objects = Objects::parse(&self.path)?;
        let modality = match &self.modality {
            None => None,
            Some(name) => match Modality::named(name) {
                Some(modality @ (Modality::Image | Modality::Audio)) => Some(modality),
                _ => {
                    let message = format!("`modality = {name:?}`: it is \"image\" or \"audio\"");
                    return Err(SourceError::Options(message));
                }
            },
        };
        Ok(Arc::new(Files { objects: Arc::new(objects), modality, options: self }))
    }
}

struct Files {
    objects: Arc<Objects>,
    modality: Option<Modality>,
    options: FilesOptions,
}

impl Files {
    fn schema_of(&self, modality: Modality) -> SchemaRef {
        let column = self.options.column.as_deref().unwrap_or(modality.name());
        let mut fields = vec![
            Field::new(KEY, DataType::Utf8, false),
            media::field(column, modality, media::State::Encoded),
        ];
        fields.extend(media::fact_fields(column, modality));
        Arc::new(Schema::new(fields))
    }

    fn modality(
        &self,
        names: impl Iterator<Item = impl AsRef<str>>,
    ) -> Result<Modality, SourceError> {
        if let Some(modality) = self.modality {
            return Ok(modality);
        }
        let mut found: Vec<Modality> =
            names.filter_map(|name| guess(encoding(name.as_ref())?)).collect();
        found.dedup();
        match found.as_slice() {
            [modality] => Ok(*modality),
            _ => Err(SourceError::Options(format!(
                "`path = {:?}`: the names do not tell one modality; add `modality = \"image\"` or \"audio\"",
                self.options.path
            ))),
        }
    }
}

#[async_trait]
impl Source for Files {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn options(&self) -> serde_json::Value {
        // Where the files are does not change what is read: keys are relative to the root.
        serde_json::json!({
            "modality": self.options.modality,
            "column": self.options.column,
            "references": self.options.references,
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: true, grows: true }
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        let modality = match self.modality {
            Some(modality) => modality,
            None => self.modality(self.objects.list().await?.iter().map(|split| &split.name))?,
        };
        Ok(self.schema_of(modality))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        self.objects.list().await
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let mark = (from == 0).then_some(Ok(Mark { range: 0..1, records: 1, bytes: split.bytes }));
        stream::iter(mark).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let names = ranges.iter().map(|range| &range.split.name);
        let schema = match self.modality(names) {
            Ok(modality) => self.schema_of(modality),
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let files =
            ranges.into_iter().filter(|range| range.range.start == 0 && range.range.end > 0);
        let batches = batches(files.map(|range| range.split), size);
        let (objects, references) = (Arc::clone(&self.objects), self.options.references);
        stream::iter(batches)
            .map(move |files| read(Arc::clone(&objects), files, Arc::clone(&schema), references))
            // The next batch is read while this one waits for credit.
            .buffered(2)
            .boxed()
    }
}

/// Groups files by listed size.
fn batches(files: impl Iterator<Item = Arc<Split>>, size: BatchSize) -> Vec<Vec<Arc<Split>>> {
    let mut batches: Vec<Vec<Arc<Split>>> = Vec::new();
    let mut bytes = usize::MAX;
    for file in files {
        let more = usize::try_from(file.bytes).unwrap_or(usize::MAX);
        match batches.last_mut() {
            Some(batch)
                if batch.len() < size.records && bytes.saturating_add(more) <= size.bytes =>
            {
                bytes += more;
                batch.push(file);
            }
            _ => {
                bytes = more;
                batches.push(vec![file]);
            }
        }
    }
    batches
}

async fn read(
    objects: Arc<Objects>,
    files: Vec<Arc<Split>>,
    schema: SchemaRef,
    references: bool,
) -> Result<SourceBatch, SourceError> {
    if references {
        let paths = files.iter().map(|file| {
            let uri = objects.location(file).url;
            Some(Reference { uri, range: Some(0..file.bytes) }.to_string())
        });
        let paths: StringArray = paths.collect();
        let bytes = BinaryArray::from(vec![None::<&[u8]>; files.len()]);
        return assemble(&files, media::assemble(bytes, paths), &schema, Vec::new());
    }
    let bodies = if objects.root.local_path().is_some() {
        let files = files.clone();
        let read = tokio::task::spawn_blocking(move || Bodies::read_local(&objects, &files));
        read.await.map_err(|e| SourceError::Options(format!("a reading thread was lost: {e}")))?
    } else {
        Bodies::fetch(&objects, &files).await
    };
    let kept: Vec<Arc<Split>> = files
        .iter()
        .zip(&bodies.good)
        .filter(|(_, good)| **good)
        .map(|(file, _)| Arc::clone(file))
        .collect();
    let paths: StringArray = kept.iter().map(|file| Some(file.name.as_str())).collect();
    let refused = files
        .iter()
        .zip(&bodies.good)
        .filter(|(_, good)| !**good)
        .zip(bodies.errors)
        .map(|((file, _), error)| Unreadable {
            key: file.name.clone(),
            split: file.name.clone(),
            range: 0..1,
            error,
            bytes: None,
        })
        .collect();
    let offsets = OffsetBuffer::new(ScalarBuffer::from(bodies.offsets));
    let bytes = BinaryArray::new(offsets, Buffer::from_vec(bodies.values), None);
    assemble(&kept, media::assemble(bytes, paths), &schema, refused)
}

fn assemble(
    files: &[Arc<Split>],
    media: arrow::array::StructArray,
    schema: &SchemaRef,
    refused: Vec<Unreadable>,
) -> Result<SourceBatch, SourceError> {
    let keys: StringArray = files.iter().map(|file| Some(file.name.as_str())).collect();
    let encodings: StringArray = files.iter().map(|file| encoding(&file.name)).collect();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(media), Arc::new(encodings)];
    let facts = schema.fields().iter().skip(columns.len());
    columns.extend(facts.map(|field| new_null_array(field.data_type(), files.len())));
    let records = RecordBatch::try_new(Arc::clone(schema), columns);
    let records = records.map_err(|e| SourceError::Options(e.to_string()))?;
    Ok(SourceBatch { records, refused })
}

/// The contents of a batch of files, one after the other in one buffer.
struct Bodies {
    values: Vec<u8>,
    offsets: Vec<i32>,
    /// For each file, whether it could be read.
    good: Vec<bool>,
    /// Why not, for those that could not.
    errors: Vec<String>,
}

impl Bodies {
    fn with_capacity(files: &[Arc<Split>]) -> Self {
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        // A listing may lie; a lie costs growth of the buffer, not memory up front.
        let bytes = usize::try_from(bytes).unwrap_or(0).min(64 << 20);
        Self {
            values: Vec::with_capacity(bytes),
            offsets: vec![0],
            good: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Reads all files on this thread, straight into the buffer.
    fn read_local(objects: &Objects, files: &[Arc<Split>]) -> Self {
        let mut bodies = Self::with_capacity(files);
        for file in files {
            let start = bodies.values.len();
            let read =
                objects.location(file).local_path().ok_or_else(|| "it is no local file".to_owned());
            let read = read.and_then(|path| {
                let mut open = std::fs::File::open(path).map_err(|e| e.to_string())?;
                open.read_to_end(&mut bodies.values).map_err(|e| e.to_string())
            });
            bodies.finish(file, start, read.map(|_| ()));
        }
        bodies
    }

    async fn fetch(objects: &Objects, files: &[Arc<Split>]) -> Self {
        let locations: Vec<_> = files.iter().map(|file| objects.location(file)).collect();
        let reads = stream::iter(locations).map(|location| async move {
            let found = location.store.get(&location.path).await?;
            found.bytes().await
        });
        let read: Vec<_> = reads.buffered(16).collect().await;
        let mut bodies = Self::with_capacity(files);
        for (file, body) in files.iter().zip(read) {
            let start = bodies.values.len();
            let body =
                body.map(|body| bodies.values.extend_from_slice(&body)).map_err(|e| e.to_string());
            bodies.finish(file, start, body);
        }
        bodies
    }

    fn finish(&mut self, file: &Split, start: usize, read: Result<(), String>) {
        let length = (self.values.len() - start) as u64;
        let read = read.and_then(|()| match length == file.bytes {
            true => Ok(()),
            false => {
                Err(format!("it has {length} bytes, but had {} when it was listed", file.bytes))
            }
        });
        let end = i32::try_from(self.values.len());
        match (read, end) {
            (Ok(()), Ok(end)) => {
                self.good.push(true);
                self.offsets.push(end);
            }
            (result, _) => {
                self.values.truncate(start);
                self.good.push(false);
                self.errors
                    .push(result.err().unwrap_or_else(|| "it is larger than 2 GiB".to_owned()));
            }
        }
    }
}

/// The encoding that a file's extension names, as a hint: `decode` looks at the bytes.
fn encoding(name: &str) -> Option<&'static str> {
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

fn guess(encoding: &str) -> Option<Modality> {
    match encoding {
        "jpeg" | "png" | "webp" => Some(Modality::Image),
        "wav" | "flac" => Some(Modality::Audio),
        _ => None,
    }
}
