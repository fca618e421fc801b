//! The operator in a run: rows from memory, through the dataflow, into memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_pipelines::dead_letter;
use anabranch_pipelines::graph::{CommitSize, Graph, PartSize, Plan, SchemaError, Settings};
use anabranch_pipelines::log::Commit;
use anabranch_pipelines::operator::{Operator, Refused};
use anabranch_pipelines::record::{ID, KEY};
use anabranch_pipelines::run::{IfExists, Run};
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Shard, Sink, SinkError};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange,
};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt};

use super::Failure;

/// Records of a part: several parts, and so several epochs, for any input worth its name.
pub(super) const PART: u64 = 32;

/// Rows as a source brings them into a run: an id, a key, and what else there is.
pub(super) fn entering(input: &RecordBatch) -> Result<RecordBatch, Failure> {
    let keys: StringArray = (0..input.num_rows()).map(|row| Some(format!("{row:06}"))).collect();
    let mut fields = vec![Arc::new(Field::new(KEY, DataType::Utf8, false))];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(keys)];
    for (field, column) in input.schema().fields().iter().zip(input.columns()) {
        let at = if field.name() == ID { 0 } else { fields.len() };
        fields.insert(at, Arc::clone(field));
        columns.insert(at, Arc::clone(column));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| Failure(e.to_string()))
}

/// What a run delivers, in order, and what it refuses, by the row's number.
pub(crate) struct Delivered {
    pub(crate) records: RecordBatch,
    pub(crate) refused: Vec<Refused>,
}

/// Runs `operator` over the rows of [`entering`].
pub(crate) fn run(
    operator: &Arc<dyn Operator>,
    input: &RecordBatch,
    schema: &SchemaRef,
    (workers, batch): (usize, usize),
) -> Result<Delivered, Failure> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let place = format!("memory://conformance-{}-{number}", std::process::id());
    let (kept, letters) = (Arc::<Kept>::default(), Arc::<Kept>::default());
    let mut graph = Graph::new("conformance");
    let source = graph.source("rows", Arc::new(Rows(input.clone())));
    let through = graph.operator("operator", Arc::clone(operator), &[source]);
    let memory = |name: &str, kept: &Arc<Kept>| {
        Arc::new(Memory { location: format!("{place}/{name}"), kept: Arc::clone(kept) })
    };
    graph.sink("memory", memory("rows", &kept), &[through]);
    graph.dead_letters(memory("letters", &letters));
    let settings = Settings {
        // Rows on their way may be as large as the worst that operators declare.
        credit: 4 << 30,
        batch: BatchSize { records: batch, bytes: 64 << 20 },
        part: PartSize { records: PART, bytes: 64 << 20 },
        commit: CommitSize { parts: 2, ..Settings::default().commit },
        workers,
        threads: 2,
        ..Settings::default()
    };
    let failed = |e: &dyn std::fmt::Display| Failure(format!("in a run: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let plan = runtime.map_err(|e| failed(&e))?.block_on(Plan::new(graph, settings));
    let run = Run::start(plan.map_err(|e| failed(&e))?, IfExists::Error);
    run.and_then(Run::wait).map_err(|e| failed(&e))?;
    let arrow = |e: arrow::error::ArrowError| failed(&e);
    let records = concat_batches(schema, &kept.rows()).map_err(arrow)?;
    let mut refused = Vec::new();
    for batch in letters.rows() {
        for letter in dead_letter::from_batch(&batch).map_err(arrow)? {
            let row = row_of(letter.id, input);
            let row = row.ok_or_else(|| failed(&format!("a dead letter of {}", letter.id)))?;
            refused.push(Refused { row, error: letter.error });
        }
    }
    refused.sort_by_key(|refused| refused.row);
    Ok(Delivered { records, refused })
}

fn row_of(id: anabranch_pipelines::record::RecordId, input: &RecordBatch) -> Option<usize> {
    let ids = input.column_by_name(ID)?.as_fixed_size_binary_opt()?;
    ids.iter().position(|there| there == Some(id.0.as_slice()))
}

/// Rows of a batch, each a record.
struct Rows(RecordBatch);

#[async_trait]
impl Source for Rows {
    fn kind(&self) -> &'static str {
        "rows"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(self.0.schema())
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let bytes = self.0.num_rows() as u64;
        Ok(vec![Split { name: "rows".to_owned(), bytes, version: String::new() }])
    }

    fn measure(&self, _: Arc<Split>, from: u64) -> Marks {
        let marks = (from..self.0.num_rows() as u64)
            .map(|row| Ok(Mark { range: row..row + 1, records: 1, bytes: 1 }));
        stream::iter(marks).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let rows = self.0.clone();
        let batches = ranges.into_iter().flat_map(move |SplitRange { range, .. }| {
            let rows = rows.clone();
            let (from, to) = (range.start as usize, range.end as usize);
            (from..to).step_by(size.records).map(move |at| {
                let records = rows.slice(at, size.records.min(to - at));
                Ok(SourceBatch { records, refused: Vec::new() })
            })
        });
        stream::iter(batches).boxed()
    }
}

/// Batches by epoch and lane, in the order in which they were written.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<(u64, u32), Vec<RecordBatch>>>);

impl Kept {
    fn rows(&self) -> Vec<RecordBatch> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().flatten().cloned().collect()
    }
}

struct Memory {
    location: String,
    kept: Arc<Kept>,
}

#[async_trait]
impl Sink for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn check(&self, _: &SchemaRef) -> Result<(), SchemaError> {
        Ok(())
    }

    fn reserve(&self) -> usize {
        1 << 20
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
        let PartName { epoch, lane, .. } = *part;
        let (path, sha256, statistics) = (part.stem(), String::new(), serde_json::Value::Null);
        let shard = Shard { path, epoch, lane, rows: 0, bytes: 0, sha256, statistics };
        Ok(Box::new(Writer { shard, batches: Vec::new(), kept: Arc::clone(&self.kept) }))
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

struct Writer {
    shard: Shard,
    batches: Vec<RecordBatch>,
    kept: Arc<Kept>,
}

#[async_trait]
impl PartWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.shard.rows += batch.num_rows() as u64;
        self.batches.push(batch);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Option<Shard>, SinkError> {
        let part = (self.shard.epoch, self.shard.lane);
        self.kept.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part, self.batches);
        Ok((self.shard.rows > 0).then_some(self.shard))
    }
}
