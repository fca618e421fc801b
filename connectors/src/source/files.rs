//! Whole files as records: `kind = "files"`.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Modality, Reference, media};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange, Unreadable,
};
use arrow::array::{BinaryArray, StringArray, StructArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::glob::Objects;
use super::labels::{Labels, LabelsOptions};
use super::local;
use super::media::{self as named, MediaColumn};

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
    /// Columns from a table keyed by file name: `{ path = "labels.tsv", key = "file" }`.
    pub labels: Option<LabelsOptions>,
    /// Size of a file at most; a larger one is a dead letter, unless it is but referred to. Default `"256MiB"`.
    #[serde(default = "max_file")]
    #[schemars(with = "String")]
    pub max_file: ByteSize,
}

const fn max_file() -> ByteSize {
    ByteSize(256 << 20)
}

impl FilesOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path or the modality is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let objects = Arc::new(Objects::parse(&self.path)?);
        let media = MediaColumn::parse(self.modality.as_deref(), self.column.as_deref())?;
        Ok(Arc::new(Files { objects, media, columns: Arc::default(), options: self }))
    }
}

struct Files {
    objects: Arc<Objects>,
    media: MediaColumn,
    columns: Arc<OnceCell<Arc<Columns>>>,
    options: FilesOptions,
}

/// What the files hold.
struct Columns {
    schema: SchemaRef,
    labels: Option<Labels>,
    references: bool,
}

impl Files {
    /// A name tells the modality, and labels are read, once. Whether all names agree is seen by whoever lists
    /// them: listing millions of files twice takes time.
    async fn columns(&self) -> Result<Arc<Columns>, SourceError> {
        let columns = self.columns.get_or_try_init(|| async {
            let modality = match self.media.modality {
                Some(modality) => modality,
                None => match self.objects.first(named::modality).await? {
                    Some(modality) => modality,
                    None => self.agreed(&self.objects.list().await?)?,
                },
            };
            let labels = match self.options.labels.clone() {
                None => None,
                Some(labels) => Some(read_labels(labels, self.media.schema(modality, None)).await?),
            };
            let schema = self.media.schema(modality, labels.as_ref());
            Ok(Arc::new(Columns { schema, labels, references: self.options.references }))
        });
        columns.await.cloned()
    }

    fn agreed(&self, splits: &[Split]) -> Result<Modality, SourceError> {
        self.media.modality(&self.options.path, splits.iter().map(|split| &split.name))
    }
}

async fn read_labels(options: LabelsOptions, beside: SchemaRef) -> Result<Labels, SourceError> {
    let read = move || Labels::read(&options, |name| beside.field_with_name(name).is_ok());
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|e| SourceError::Options(format!("a reading thread was lost: {e}")))?
}

#[async_trait]
impl Source for Files {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn options(&self) -> serde_json::Value {
        // Where the files are does not change what is read: keys are relative to the root.
        let FilesOptions { modality, column, references, labels, max_file, .. } = &self.options;
        let labels = labels.as_ref().map(|labels| (&labels.key, &labels.types, labels.missing));
        serde_json::json!({
            "modality": modality, "column": column, "references": references, "labels": labels,
            "max_file": max_file,
            // Known once the schema was asked for, which a plan does first.
            "beside": self.columns.get().and_then(|c| c.labels.as_ref()).map(Labels::digest),
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: true, stable_offsets: true, grows: true }
    }

    fn whole(&self) -> bool {
        self.objects.are_whole()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(Arc::clone(&self.columns().await?.schema))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let splits = self.objects.list().await?;
        self.agreed(&splits)?;
        // Known once the schema was asked for, which a plan does first.
        if let Some(labels) = self.columns.get().and_then(|columns| columns.labels.as_ref()) {
            labels.look(splits.iter().map(|split| split.name.as_str()));
        }
        Ok(splits)
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let mark = (from == 0).then_some(Ok(Mark { range: 0..1, records: 1, bytes: split.bytes }));
        stream::iter(mark).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let files = Self {
            objects: Arc::clone(&self.objects),
            media: self.media.clone(),
            columns: Arc::clone(&self.columns),
            options: self.options.clone(),
        };
        // An offset into a batch's bytes is an `i32`.
        let most = self.options.max_file.0.min(i32::MAX as u64);
        let started = async move {
            let columns = match files.columns().await {
                Ok(columns) => columns,
                Err(error) => return stream::iter([Err(error)]).boxed(),
            };
            let splits = ranges
                .into_iter()
                .filter(|range| range.range.start == 0 && range.range.end > 0)
                .map(|range| range.split);
            stream::iter(batches(splits, size))
                .map(move |batch| {
                    read(Arc::clone(&files.objects), batch, Arc::clone(&columns), most)
                })
                // The next batch is read while this one waits for credit.
                .buffered(2)
                .boxed()
        };
        stream::once(started).flatten().boxed()
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
    columns: Arc<Columns>,
    most: u64,
) -> Result<SourceBatch, SourceError> {
    let lacks = |file: &Split| columns.labels.as_ref()?.lacks(&file.name);
    let mut refused = Vec::new();
    let mut refuse = |file: &Split, error| {
        let name = file.name.clone();
        refused.push(Unreadable {
            key: name.clone(),
            split: name,
            range: 0..1,
            error,
            bytes: None,
        });
    };
    let mut labelled = Vec::with_capacity(files.len());
    for file in files {
        match lacks(&file) {
            Some(error) => refuse(&file, error),
            None if file.bytes > most && !columns.references => {
                let (bytes, most) = (ByteSize(file.bytes), ByteSize(most));
                refuse(&file, format!("it has {bytes}, and `max_file` is {most}"));
            }
            None => labelled.push(file),
        }
    }
    let files = labelled;
    if columns.references {
        let paths = files.iter().map(|file| {
            let uri = objects.location(file).url;
            Some(Reference { uri, range: Some(0..file.bytes) }.to_string())
        });
        let paths: StringArray = paths.collect();
        let bytes = BinaryArray::from(vec![None::<&[u8]>; files.len()]);
        return assemble(&files, media::assemble(bytes, paths), &columns, refused);
    }
    let bodies = if objects.root.local_path().is_some() {
        let files = files.clone();
        let read = tokio::task::spawn_blocking(move || Bodies::read_local(&objects, &files));
        read.await
            .map_err(|e| SourceError::Options(format!("a reading thread was lost: {e}")))??
    } else {
        Bodies::fetch(&objects, &files).await?
    };
    let mut kept: Vec<Arc<Split>> = Vec::with_capacity(files.len());
    for (file, fault) in files.into_iter().zip(bodies.faults) {
        match fault {
            None => kept.push(file),
            Some(error) => refuse(&file, error),
        }
    }
    let paths: StringArray = kept.iter().map(|file| Some(file.name.as_str())).collect();
    let offsets = OffsetBuffer::new(ScalarBuffer::from(bodies.offsets));
    let bytes = BinaryArray::new(offsets, Buffer::from_vec(bodies.values), None);
    assemble(&kept, media::assemble(bytes, paths), &columns, refused)
}

fn assemble(
    files: &[Arc<Split>],
    media: StructArray,
    columns: &Columns,
    refused: Vec<Unreadable>,
) -> Result<SourceBatch, SourceError> {
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let keys = StringArray::from(names.clone());
    let records = named::rows(keys, &names, media, columns.labels.as_ref(), &columns.schema)?;
    Ok(SourceBatch { records, refused })
}

/// The contents of a batch of files, one after the other in one buffer.
struct Bodies {
    values: Vec<u8>,
    offsets: Vec<i32>,
    /// For each file why it could not be read, if so.
    faults: Vec<Option<String>>,
}

impl Bodies {
    fn with_capacity(files: &[Arc<Split>]) -> Self {
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        // A listing may lie; a lie costs growth of the buffer, not memory up front.
        let bytes = usize::try_from(bytes).unwrap_or(0).min(64 << 20);
        // One byte more: a read that finds the end of the last file asks for it, and must not grow the buffer.
        let bytes = bytes + 1;
        Self {
            values: Vec::with_capacity(bytes),
            offsets: vec![0],
            faults: Vec::with_capacity(files.len()),
        }
    }

    /// Reads all files on this thread, straight into the buffer.
    ///
    /// # Errors
    /// When the disk fails: a file that is gone, or that nobody may read, costs its record and no more.
    fn read_local(objects: &Objects, files: &[Arc<Split>]) -> Result<Self, SourceError> {
        let mut bodies = Self::with_capacity(files);
        let paths = objects.local_paths();
        for file in files {
            let start = bodies.values.len();
            let path = paths.as_ref().map(|path| path(file));
            let opened = path.as_ref().map_or(Err(ErrorKind::NotFound.into()), File::open);
            let read = match opened.and_then(|open| append(&open, file.bytes, &mut bodies.values)) {
                Ok(()) => Ok(()),
                Err(e) => match e.kind() {
                    ErrorKind::NotFound => Err(path
                        .as_deref()
                        .map_or("it is not there any more", local::gone)
                        .to_owned()),
                    ErrorKind::PermissionDenied => Err(e.to_string()),
                    _ => {
                        let source =
                            object_store::Error::Generic { store: "local", source: e.into() };
                        let location = objects.location(file).url;
                        return Err(SourceError::Store { location, source });
                    }
                },
            };
            bodies.finish(file, start, read);
        }
        Ok(bodies)
    }

    async fn fetch(objects: &Objects, files: &[Arc<Split>]) -> Result<Self, SourceError> {
        let locations: Vec<_> = files.iter().map(|file| objects.location(file)).collect();
        let reads = stream::iter(locations).map(|location| async move {
            let found = location.store.get(&location.path).await?;
            found.bytes().await
        });
        let read: Vec<_> = reads.buffered(16).collect().await;
        let mut bodies = Self::with_capacity(files);
        for (file, body) in files.iter().zip(read) {
            let start = bodies.values.len();
            let read = match body {
                Ok(body) => {
                    bodies.values.extend_from_slice(&body);
                    Ok(())
                }
                Err(object_store::Error::NotFound { .. }) => {
                    Err("it is not there any more".to_owned())
                }
                Err(source) => {
                    let location = objects.location(file).url;
                    return Err(SourceError::Store { location, source });
                }
            };
            bodies.finish(file, start, read);
        }
        Ok(bodies)
    }

    fn finish(&mut self, file: &Split, start: usize, read: Result<(), String>) {
        let length = (self.values.len() - start) as u64;
        let read = read.and_then(|()| match length == file.bytes {
            true => Ok(()),
            false if length > file.bytes => {
                Err(format!("it has more than the {} bytes that were listed", file.bytes))
            }
            false => {
                Err(format!("it has {length} bytes, but had {} when it was listed", file.bytes))
            }
        });
        let end = i32::try_from(self.values.len());
        match (read, end) {
            (Ok(()), Ok(end)) => {
                self.faults.push(None);
                self.offsets.push(end);
            }
            (result, _) => {
                self.values.truncate(start);
                let large = || "it is larger than 2 GiB".to_owned();
                self.faults.push(Some(result.err().unwrap_or_else(large)));
            }
        }
    }
}

/// Appends what a file holds: as much as was listed, and one byte more where it has grown since.
fn append(file: &File, listed: u64, to: &mut Vec<u8>) -> std::io::Result<()> {
    let more = usize::try_from(listed).map_err(std::io::Error::other)?;
    to.reserve(more + 1);
    file.take(listed + 1).read_to_end(to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_pipelines::source::Unreadable;
    use futures::TryStreamExt;

    use crate::conformance::source::references;
    use crate::source::testing::{block_on, conforming, folder, path};

    fn files(path: String, options: serde_json::Value) -> Arc<dyn Source> {
        let mut all = serde_json::json!({ "path": path });
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        serde_json::from_value::<FilesOptions>(all).unwrap().build().unwrap()
    }

    #[test]
    fn every_file_is_a_record() {
        let names = ["a.jpg", "b.jpg", "c.jpg", "notes.txt"];
        let folder = folder(&[(names[0], b"one"), (names[1], b""), (names[2], &[7; 30_000])]);
        std::fs::write(folder.path().join(names[3]), "no picture").unwrap();
        let seen = conforming(&files(path(&folder, "*.jpg"), serde_json::json!({})));
        assert!(seen.refused.is_empty(), "{:?}", seen.refused);
        let image = media::of(&seen.records, "image").unwrap();
        assert_eq!(media::bytes(image, 0), Some(b"one".as_slice()));
        assert_eq!(media::bytes(image, 1), Some(b"".as_slice()));
        assert_eq!(media::path(image, 2), Some("c.jpg"));
        let referring = files(path(&folder, "*.jpg"), serde_json::json!({ "references": true }));
        let reading = files(path(&folder, "*.jpg"), serde_json::json!({}));
        block_on(references(&referring, &reading, "image")).unwrap();
    }

    #[test]
    fn a_file_without_labels_is_refused() {
        let folder =
            folder(&[("a.wav", b"x"), ("b.wav", b"y"), ("labels.csv", b"file,word\na.wav,yes\n")]);
        let labels = serde_json::json!({ "labels": { "path": path(&folder, "labels.csv"), "key": "file", "missing": "refuse" } });
        let seen = conforming(&files(path(&folder, "*.wav"), labels));
        assert_eq!((seen.rows, seen.refused.len()), (1, 1));
        assert_eq!(seen.refused[0].key, "b.wav");
    }

    #[test]
    fn a_changed_or_vanished_file_costs_itself() {
        let folder = folder(&[("a.wav", b"1"), ("b.wav", b"2"), ("c.wav", b"3")]);
        let source = files(path(&folder, "*.wav"), serde_json::json!({}));
        let batches: Vec<SourceBatch> = block_on(async {
            let splits = source.splits().await.unwrap();
            std::fs::write(folder.path().join("a.wav"), "longer").unwrap();
            std::fs::remove_file(folder.path().join("b.wav")).unwrap();
            let whole = |split| SplitRange { split: Arc::new(split), range: 0..1 };
            let ranges = splits.into_iter().map(whole).collect();
            source
                .open(ranges, BatchSize { records: 10, bytes: 1 << 20 })
                .try_collect()
                .await
                .unwrap()
        });
        let rows: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
        let refused: Vec<Unreadable> =
            batches.into_iter().flat_map(|batch| batch.refused).collect();
        assert_eq!((rows, refused.len()), (1, 2), "{refused:?}");
        assert_eq!(refused[0].error, "it has more than the 1 bytes that were listed");
        assert_eq!(refused[1].error, "it is not there any more");
    }

    #[test]
    fn a_link_to_nothing_is_refused_and_not_passed_over() {
        let folder = folder(&[("a.wav", b"1")]);
        std::os::unix::fs::symlink("annex/b", folder.path().join("b.wav")).unwrap();
        let source = files(path(&folder, "*.wav"), serde_json::json!({}));
        let batches: Vec<SourceBatch> = block_on(async {
            let whole = |split| SplitRange { split: Arc::new(split), range: 0..1 };
            let ranges = source.splits().await.unwrap().into_iter().map(whole).collect();
            source
                .open(ranges, BatchSize { records: 10, bytes: 1 << 20 })
                .try_collect()
                .await
                .unwrap()
        });
        let rows: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
        let refused: Vec<Unreadable> =
            batches.into_iter().flat_map(|batch| batch.refused).collect();
        assert_eq!((rows, refused.len()), (1, 1), "{refused:?}");
        assert_eq!(refused[0].key, "b.wav");
        assert_eq!(refused[0].error, "it is a link to a file that is not there");
    }

    #[test]
    fn names_must_tell_one_modality() {
        let folder = folder(&[("a.wav", b"1"), ("b.png", b"2")]);
        let error =
            block_on(files(path(&folder, "*"), serde_json::json!({})).splits()).unwrap_err();
        assert!(error.to_string().contains("add `modality"), "{error}");
        let folder = self::folder(&[("notes", b"1")]);
        let error =
            block_on(files(path(&folder, "*"), serde_json::json!({})).schema()).unwrap_err();
        assert!(error.to_string().contains("add `modality"), "{error}");
    }

    #[test]
    fn names_with_characters_of_urls_are_read_as_they_are() {
        let names = ["50%.png", "a #1.png", "a%20b.png", "photo[1].png", "what?.png", "x~^|.png"];
        let folder = folder(&names.map(|name| (name, name.as_bytes())));
        for pattern in ["*.png", ""] {
            let seen = conforming(&files(path(&folder, pattern), serde_json::json!({})));
            assert_eq!(seen.refused, []);
            let image = media::of(&seen.records, "image").unwrap();
            let read: Vec<_> = (0..seen.rows).map(|row| media::bytes(image, row)).collect();
            assert_eq!(read, names.map(|name| Some(name.as_bytes())));
        }
        let referring = files(path(&folder, "*.png"), serde_json::json!({ "references": true }));
        let reading = files(path(&folder, "*.png"), serde_json::json!({}));
        block_on(references(&referring, &reading, "image")).unwrap();
    }

    #[test]
    fn a_file_above_the_limit_costs_itself() {
        let folder = folder(&[("a.wav", b"12345"), ("b.wav", b"1")]);
        let seen =
            conforming(&files(path(&folder, "*.wav"), serde_json::json!({ "max_file": "4B" })));
        assert_eq!((seen.rows, seen.refused.len()), (1, 1));
        assert_eq!(seen.refused[0].error, "it has 5 B, and `max_file` is 4 B");
    }

    #[test]
    fn a_store_that_fails_costs_no_record_but_the_run() {
        let folder = folder(&[("a.wav", b"1")]);
        let source = files(path(&folder, "*.wav"), serde_json::json!({}));
        let read = block_on(async {
            let mut splits = source.splits().await.unwrap();
            std::fs::remove_file(folder.path().join("a.wav")).unwrap();
            // A link to itself can be opened by nobody, and is there all the same.
            std::os::unix::fs::symlink("a.wav", folder.path().join("a.wav")).unwrap();
            let ranges = vec![SplitRange { split: Arc::new(splits.remove(0)), range: 0..1 }];
            let batches = source.open(ranges, BatchSize { records: 10, bytes: 1 << 20 });
            batches.try_collect::<Vec<SourceBatch>>().await
        });
        assert!(matches!(read, Err(SourceError::Store { .. })), "{read:?}");
    }
}
