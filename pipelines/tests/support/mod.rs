//! A source of made-up rows, a sink of text files and an operator with state, small enough to reason about.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch_pipelines::graph::{CommitSize, Graph, PartSize, Plan, SchemaError, Settings};
use anabranch_pipelines::log::{Commit, DEAD_LETTERS, Registry};
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Keyed, Operator, OperatorError, Outcome, Shard, Yield,
};
use anabranch_pipelines::record::{KEY, compact};
use anabranch_pipelines::run::{IfExists, Run, RunError};
use anabranch_pipelines::sink::{self, Compute, PartName, PartWriter, RunStart, Sink, SinkError};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange,
};
use anabranch_pipelines::store::Location;
use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use futures::{StreamExt, stream};

/// Rows `(key of the record, word, value)` in splits of so many.
pub struct Words {
    pub rows: Vec<(String, i64)>,
    pub per_split: usize,
    /// Reading waits for ever from this row on while it is set: a run that is stuck.
    pub stuck: Option<(usize, Arc<AtomicBool>)>,
}

impl Words {
    pub fn new(rows: Vec<(String, i64)>) -> Self {
        Self { rows, per_split: 100, stuck: None }
    }
}

pub fn words_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(KEY, DataType::Utf8, false),
        Field::new("word", DataType::Utf8, false),
        Field::new("value", DataType::Int64, false),
    ]))
}

#[async_trait]
impl Source for Words {
    fn kind(&self) -> &'static str {
        "words"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(words_schema())
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let split = |at: usize| Split { name: at.to_string(), bytes: 10, version: "1".into() };
        Ok((0..self.rows.len().div_ceil(self.per_split)).map(split).collect())
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let first = split.name.parse::<usize>().unwrap() * self.per_split;
        let rows = self.per_split.min(self.rows.len() - first) as u64;
        let mark = |at: u64| Ok(Mark { range: at..at + 1, records: 1, bytes: 10 });
        stream::iter((from..rows).map(mark)).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let mut rows = Vec::new();
        for SplitRange { split, range } in ranges {
            let first = split.name.parse::<usize>().unwrap() * self.per_split;
            rows.extend((range.start..range.end).map(|at| first + at as usize));
        }
        let rows: Vec<(usize, String, i64)> =
            rows.into_iter().map(|at| (at, self.rows[at].0.clone(), self.rows[at].1)).collect();
        let chunks: Vec<Vec<_>> = rows.chunks(size.records).map(<[_]>::to_vec).collect();
        let stuck = self.stuck.clone();
        let batch = move |rows: Vec<(usize, String, i64)>| {
            let stuck = stuck.clone();
            async move {
                if let Some((at, stuck)) = stuck
                    && rows.iter().any(|(row, ..)| *row >= at)
                {
                    while stuck.load(Ordering::Relaxed) {
                        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    }
                }
                Ok(SourceBatch { records: words(&rows), refused: Vec::new() })
            }
        };
        stream::iter(chunks).then(batch).boxed()
    }
}

fn words(rows: &[(usize, String, i64)]) -> RecordBatch {
    let key = StringArray::from_iter_values(rows.iter().map(|(at, ..)| at.to_string()));
    let word = StringArray::from_iter_values(rows.iter().map(|(_, word, _)| word));
    let value = Int64Array::from_iter_values(rows.iter().map(|(.., value)| *value));
    RecordBatch::try_new(words_schema(), vec![Arc::new(key), Arc::new(word), Arc::new(value)])
        .unwrap()
}

/// Adds to each row the sum of the values of its word so far, and at the end one row per word; refuses
/// words that begin with `!`, at once, and `?`, at the end.
pub struct Sums {
    pub memory: usize,
}

impl Operator for Sums {
    fn kind(&self) -> &'static str {
        "sums"
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        SchemaError::require(&inputs[0], "word")?;
        Ok(Arc::clone(&inputs[0]))
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        unreachable!("an operator with state is fed")
    }

    fn keyed(&self) -> Option<&dyn Keyed> {
        Some(self)
    }
}

impl Keyed for Sums {
    fn inputs(&self) -> usize {
        1
    }

    fn memory(&self) -> usize {
        self.memory
    }

    fn hashes(&self, _: usize, batch: &RecordBatch) -> Result<UInt64Array, OperatorError> {
        let words = batch.column_by_name("word").unwrap().as_string::<i32>();
        let hash = |word: &str| word.bytes().fold(17u64, |h, b| h.wrapping_mul(31) + u64::from(b));
        Ok(words.iter().map(|word| hash(word.unwrap())).collect::<Vec<u64>>().into())
    }

    fn shard(&self, _: &[SchemaRef]) -> Result<Box<dyn Shard>, OperatorError> {
        Ok(Box::new(SumShard::default()))
    }
}

#[derive(Default)]
struct SumShard {
    sums: BTreeMap<String, (i64, RecordBatchRow)>,
}

/// A row that is kept, as its columns.
type RecordBatchRow = Option<RecordBatch>;

impl SumShard {
    fn with_value(row: &RecordBatch, value: i64) -> RecordBatch {
        let mut columns = row.columns().to_vec();
        let at = row.schema().index_of("value").unwrap();
        columns[at] = Arc::new(Int64Array::from(vec![value]));
        RecordBatch::try_new(row.schema(), columns).unwrap()
    }
}

impl Shard for SumShard {
    fn absorb(&mut self, _: usize, batch: &RecordBatch) -> Result<Yield, OperatorError> {
        let words = batch.column_by_name("word").unwrap().as_string::<i32>();
        let values = batch.column_by_name("value").unwrap().as_primitive::<Int64Type>();
        let mut made = Yield::default();
        for row in 0..batch.num_rows() {
            let word = words.value(row);
            let record = batch.slice(row, 1);
            if word.starts_with('!') {
                made.refused.push((record, "the word is loud".into()));
                continue;
            }
            let sum = self.sums.entry(word.to_owned()).or_default();
            sum.0 += values.value(row);
            sum.1 = Some(compact(&record)?);
            made.records.push(Self::with_value(&record, sum.0));
        }
        Ok(made)
    }

    fn finish(&mut self) -> Result<Yield, OperatorError> {
        let mut made = Yield::default();
        for (word, (sum, row)) in std::mem::take(&mut self.sums) {
            let Some(row) = row else { continue };
            if word.starts_with('?') {
                made.refused.push((row, "the word is in doubt".into()));
            } else {
                made.records.push(Self::with_value(&row, -sum));
            }
        }
        Ok(made)
    }

    fn bytes(&self) -> usize {
        self.sums.keys().map(|word| word.len() + 100).sum()
    }

    fn snapshot(&self) -> Result<Vec<u8>, OperatorError> {
        let rows: HashMap<&String, (i64, Vec<u8>)> = self
            .sums
            .iter()
            .map(|(word, (sum, row))| {
                let row = row.as_ref().unwrap();
                (word, (*sum, anabranch_pipelines::record::to_ipc(row).unwrap()))
            })
            .collect();
        Ok(serde_json::to_vec(&rows).unwrap())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), OperatorError> {
        let rows: HashMap<String, (i64, Vec<u8>)> = serde_json::from_slice(snapshot)
            .map_err(|error| OperatorError::Failed(error.to_string()))?;
        self.sums = rows
            .into_iter()
            .map(|(word, (sum, row))| {
                (word, (sum, Some(anabranch_pipelines::record::from_ipc(&row).unwrap())))
            })
            .collect();
        Ok(())
    }
}

/// Shards as text files, a row per line.
pub struct Lines {
    pub folder: PathBuf,
}

struct LinesWriter {
    folder: PathBuf,
    part: PartName,
    text: String,
    rows: u64,
}

#[async_trait]
impl PartWriter for LinesWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        let options = FormatOptions::default().with_null("null");
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> =
                columns.iter().map(|column| column.value(row).to_string()).collect();
            self.text.push_str(&cells.join(" "));
            self.text.push('\n');
            self.rows += 1;
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Option<sink::Shard>, SinkError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let path = format!("{}.txt", self.part.stem());
        std::fs::create_dir_all(&self.folder).unwrap();
        std::fs::write(self.folder.join(&path), &self.text).unwrap();
        Ok(Some(sink::Shard {
            path,
            epoch: self.part.epoch,
            lane: self.part.lane,
            rows: self.rows,
            bytes: self.text.len() as u64,
            sha256: String::new(),
            statistics: serde_json::Value::Null,
        }))
    }
}

#[async_trait]
impl Sink for Lines {
    fn kind(&self) -> &'static str {
        "lines"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn location(&self) -> String {
        self.folder.display().to_string()
    }

    fn check(&self, _: &SchemaRef) -> Result<(), SchemaError> {
        Ok(())
    }

    fn reserve(&self) -> usize {
        1 << 16
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        Ok(false)
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
        let (folder, part) = (self.folder.clone(), part.clone());
        Ok(Box::new(LinesWriter { folder, part, text: String::new(), rows: 0 }))
    }

    async fn commit(&self, _: &RunStart, _: &Commit) -> Result<(), SinkError> {
        Ok(())
    }

    async fn recover(&self, _: &RunStart, _: &[Commit]) -> Result<(), SinkError> {
        Ok(())
    }

    async fn clean(&self, _: &RunStart, _: &[Commit]) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Small parts, small commits, and a snapshot with every second one.
pub fn settings() -> Settings {
    Settings {
        part: PartSize { records: 50, bytes: 1 << 20 },
        commit: CommitSize { parts: 2, ..Settings::default().commit },
        snapshot_every: 2,
        credit: 64 << 20,
        threads: 2,
        ..Settings::default()
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn plan(graph: Graph, settings: Settings) -> Arc<Plan> {
    block_on(Plan::new(graph, settings)).unwrap()
}

pub fn start(plan: &Arc<Plan>) -> Result<Run, RunError> {
    Run::start(Arc::clone(plan), IfExists::Resume)
}

/// All commits of the only run below a folder.
pub fn commits(folder: &Path) -> Vec<Commit> {
    let location = Location::parse(&folder.display().to_string()).unwrap();
    let runs = block_on(Registry::new(&location).runs()).unwrap();
    assert_eq!(runs.len(), 1, "one run");
    runs.into_iter().next().unwrap().commits
}

/// The texts of all shards that commits name for a sink, by epoch and lane.
pub fn shards(folder: &Path, sink: &str) -> BTreeMap<(u64, u32), String> {
    let within = if sink == DEAD_LETTERS { folder.join("dead") } else { folder.to_owned() };
    let commits = commits(folder);
    let shards = commits.iter().filter_map(|commit| commit.shards.get(sink)).flatten();
    shards
        .map(|shard| {
            let text = std::fs::read_to_string(within.join(&shard.path)).unwrap();
            ((shard.epoch, shard.lane), text)
        })
        .collect()
}

/// Words with few distinct values, so that sums and their order matter.
pub fn some_words(rows: usize) -> Vec<(String, i64)> {
    (0..rows)
        .map(|at| {
            let word = (at * 7919 + at / 3) % 61;
            let mark = match word {
                3 => "!",
                5 => "?",
                _ => "",
            };
            (format!("{mark}word{word}"), at as i64)
        })
        .collect()
}
