//! Lines of text in a store: a source and a sink.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::graph::SchemaError;
use crate::log::Commit;
use crate::record::{KEY, from_ipc, to_ipc};
use crate::replay::ReadLetters;
use crate::sink::{Compute, PartName, PartWriter, RunStart, Shard, Sink, SinkError, is_rubbish};
use crate::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange, Unreadable,
};
use crate::store::{Location, explain};

/// Every object of a folder is a split, every line of it a record of `key` and `text`; the line `bad` is
/// one that cannot be read. Offsets are numbers of lines.
pub(crate) struct Lines {
    folder: Location,
    whole: bool,
}

impl Lines {
    pub(crate) fn of(folder: &str) -> Arc<dyn Source> {
        Arc::new(Self { folder: Location::parse(folder).unwrap(), whole: true })
    }

    /// Whose listing does not tell whether a split is whole.
    pub(crate) fn growing(folder: &str) -> Arc<dyn Source> {
        Arc::new(Self { folder: Location::parse(folder).unwrap(), whole: false })
    }
}

fn schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![field(KEY), field("text")]))
}

async fn lines(folder: &Location, name: &str) -> Result<Vec<String>, SourceError> {
    let at = folder.join(name);
    let read = async { at.store.get(&at.path).await?.bytes().await };
    let bytes = read.await;
    let bytes = bytes.map_err(|source| SourceError::Store { location: at.url.clone(), source })?;
    Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
}

/// [`Lines`] whose text is said to be of another type, as a source says that looks into its data.
pub(crate) struct Retyped {
    lines: Arc<dyn Source>,
    text: DataType,
}

impl Retyped {
    pub(crate) fn of(lines: Arc<dyn Source>, text: DataType) -> Arc<dyn Source> {
        Arc::new(Self { lines, text })
    }
}

#[async_trait]
impl Source for Retyped {
    fn kind(&self) -> &'static str {
        self.lines.kind()
    }

    fn options(&self) -> serde_json::Value {
        self.lines.options()
    }

    fn abilities(&self) -> Abilities {
        self.lines.abilities()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        let key = Field::new(KEY, DataType::Utf8, false);
        Ok(Arc::new(Schema::new(vec![key, Field::new("text", self.text.clone(), false)])))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        self.lines.splits().await
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        self.lines.measure(split, from)
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        self.lines.open(ranges, size)
    }
}

#[async_trait]
impl Source for Lines {
    fn kind(&self) -> &'static str {
        "lines"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: false, stable_offsets: true, grows: true }
    }

    fn whole(&self) -> bool {
        self.whole
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(schema())
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let listed = self.folder.store.list(Some(&self.folder.path)).try_collect::<Vec<_>>().await;
        let location = self.folder.url.clone();
        let listed =
            listed.map_err(|source| SourceError::Store { location: location.clone(), source })?;
        if listed.is_empty() {
            return Err(SourceError::Nothing { location, hint: "put lines there".into() });
        }
        let mut splits: Vec<Split> = listed
            .iter()
            .map(|object| Split {
                name: object.location.filename().unwrap().to_owned(),
                bytes: object.size,
                version: object.e_tag.clone().unwrap_or_default(),
            })
            .collect();
        splits.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(splits)
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let folder = self.folder.clone();
        let marks = async move {
            let lines = lines(&folder, &split.name).await?;
            let marks = (0..).zip(lines).skip(from as usize).map(|(at, line)| Mark {
                range: at..at + 1,
                records: 1,
                bytes: line.len() as u64,
            });
            Ok(stream::iter(marks.map(Ok).collect::<Vec<_>>()))
        };
        stream::once(marks).try_flatten().boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let folder = self.folder.clone();
        let batches = async move {
            let (mut rows, mut refused) = (Vec::new(), Vec::new());
            for SplitRange { split, range } in ranges {
                let refuse = |at: u64, error: &str, bytes: Option<Vec<u8>>| Unreadable {
                    key: format!("{}:{at}", split.name),
                    split: split.name.clone(),
                    range: at..at + 1,
                    error: error.to_owned(),
                    bytes,
                };
                match lines(&folder, &split.name).await {
                    Err(SourceError::Store {
                        source: object_store::Error::NotFound { .. },
                        ..
                    }) => {
                        refused.extend(range.map(|at| refuse(at, "it is gone", None)));
                    }
                    Err(error) => return Err(error),
                    Ok(lines) => {
                        for at in range {
                            match lines.get(at as usize).map(String::as_str) {
                                Some("bad") => {
                                    refused.push(refuse(at, "bad", Some(b"bad".to_vec())));
                                }
                                Some(line) => {
                                    rows.push((format!("{}:{at}", split.name), line.to_owned()));
                                }
                                None => refused.push(refuse(at, "the line is gone", None)),
                            }
                        }
                    }
                }
            }
            let mut batches: Vec<_> =
                rows.chunks(size.records).map(|rows| (rows, vec![])).collect();
            match batches.last_mut() {
                Some(last) => last.1 = refused,
                None => batches.push((&[], refused)),
            }
            let batch = |(rows, refused): (&[(String, String)], Vec<Unreadable>)| {
                let keys: ArrayRef =
                    Arc::new(rows.iter().map(|row| Some(&row.0)).collect::<StringArray>());
                let texts: ArrayRef =
                    Arc::new(rows.iter().map(|row| Some(&row.1)).collect::<StringArray>());
                let records = RecordBatch::try_new(schema(), vec![keys, texts]).unwrap();
                Ok(SourceBatch { records, refused })
            };
            Ok(stream::iter(batches.into_iter().map(batch).collect::<Vec<_>>()))
        };
        stream::once(batches).try_flatten().boxed()
    }
}

/// Writes `text` of each row as a line of a shard; of a dead letter the error, a tab, and the whole row in
/// hexadecimal digits. What is visible is named in objects under `visible/`.
pub(crate) struct LinesSink {
    folder: Location,
}

impl LinesSink {
    pub(crate) fn at(folder: &str) -> Arc<dyn Sink> {
        Arc::new(Self { folder: Location::parse(folder).unwrap() })
    }
}

fn failed(folder: &Location, error: &object_store::Error) -> SinkError {
    SinkError::Store { location: folder.url.clone(), message: explain(error) }
}

#[async_trait]
impl Sink for LinesSink {
    fn kind(&self) -> &'static str {
        "lines"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn location(&self) -> String {
        self.folder.url.clone()
    }

    fn check(&self, _: &SchemaRef) -> Result<(), SchemaError> {
        Ok(())
    }

    fn reserve(&self) -> usize {
        1 << 20
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        let visible = self.folder.join("visible");
        let first = visible.store.list(Some(&visible.path)).try_next().await;
        Ok(first.map_err(|e| failed(&self.folder, &e))?.is_some())
    }

    async fn start(&self, _: &RunStart, _: &SchemaRef) -> Result<(), SinkError> {
        Ok(())
    }

    fn writer(
        &self,
        part: &PartName,
        _: &SchemaRef,
        _: &Compute,
    ) -> Result<Box<dyn PartWriter>, SinkError> {
        let shard = Shard {
            path: format!("data/{}.txt", part.stem()),
            epoch: part.epoch,
            lane: part.lane,
            rows: 0,
            bytes: 0,
            sha256: String::new(),
            statistics: serde_json::Value::Null,
        };
        Ok(Box::new(Writer { folder: self.folder.clone(), shard, text: String::new() }))
    }

    async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        let failed = |e: object_store::Error| failed(&self.folder, &e);
        let name = format!("{}-{}-{:06}", run.run, run.sink, commit.number);
        let mine = self.folder.join(&format!("visible/{name}"));
        if mine.store.head(&mine.path).await.is_ok() {
            return Ok(());
        }
        if run.overwrite && commit.number == 0 {
            let visible = self.folder.join("visible");
            let old: Vec<_> =
                visible.store.list(Some(&visible.path)).try_collect().await.map_err(failed)?;
            for object in old {
                visible.store.delete(&object.location).await.map_err(failed)?;
            }
        }
        let shards = commit.shards.get(&run.sink).into_iter().flatten();
        let paths: String = shards.map(|shard| format!("{}\n", shard.path)).collect();
        mine.store.put(&mine.path, paths.into()).await.map(|_| ()).map_err(failed)
    }

    async fn recover(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        for commit in committed {
            self.commit(run, commit).await?;
        }
        Ok(())
    }

    async fn clean(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        let data = self.folder.join("data");
        let failed = |e: object_store::Error| failed(&self.folder, &e);
        let listed: Vec<_> =
            data.store.list(Some(&data.path)).try_collect().await.map_err(failed)?;
        for object in listed {
            let name = object.location.filename().unwrap();
            if is_rubbish(name, run, committed) {
                data.store.delete(&object.location).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

struct Writer {
    folder: Location,
    shard: Shard,
    text: String,
}

#[async_trait]
impl PartWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        let column = |name| batch.column_by_name(name)?.as_any().downcast_ref::<StringArray>();
        let texts = column("text").or_else(|| column("error")).unwrap();
        self.shard.rows += texts.len() as u64;
        for row in 0..texts.len() {
            self.text.push_str(texts.value(row));
            if column("error").is_some() {
                let row = crate::record::compact(&batch.slice(row, 1)).unwrap();
                self.text.push('\t');
                self.text.push_str(&crate::hex(&to_ipc(&row).unwrap()));
            }
            self.text.push('\n');
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Option<Shard>, SinkError> {
        if self.shard.rows == 0 {
            return Ok(None);
        }
        self.shard.sha256 = crate::hex(&Sha256::digest(self.text.as_bytes()));
        self.shard.bytes = self.text.len() as u64;
        let at = self.folder.join(&self.shard.path);
        let put = at.store.put(&at.path, std::mem::take(&mut self.text).into()).await;
        put.map_err(|e| failed(&self.folder, &e))?;
        Ok(Some(self.shard))
    }
}

/// Reads the dead letters that a [`LinesSink`] wrote.
pub(crate) struct LinesReader;

#[async_trait]
impl ReadLetters for LinesReader {
    async fn read(&self, location: &str, shard: &Shard) -> Result<Vec<RecordBatch>, SourceError> {
        let rows = lines(&Location::parse(location).unwrap(), &shard.path).await?;
        let row = |line: &String| {
            let digits = line.split_once('\t').unwrap().1;
            let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
            from_ipc(&(0..digits.len() / 2).map(byte).collect::<Vec<_>>()).unwrap()
        };
        Ok(rows.iter().map(row).collect())
    }
}
