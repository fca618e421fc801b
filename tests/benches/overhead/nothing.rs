//! A run whose operators do nothing: what is left is the framework.

use std::sync::Arc;

use anabranch_pipelines::graph::{Graph, Plan, SchemaError, Settings};
use anabranch_pipelines::log::Commit;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::KEY;
use anabranch_pipelines::run::{IfExists, Run};
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Shard, Sink, SinkError};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange,
};
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;

use crate::measure::cost;

const BATCH: u64 = 64;

/// CPU nanoseconds per record through a source, two operators and a sink, in batches of 64.
pub(crate) fn run(records: u64) -> f64 {
    let mut graph = Graph::new("nothing");
    let source = graph.source("source", Arc::new(Rows { records }));
    let first = graph.operator("first", Arc::new(Nothing), &[source]);
    let second = graph.operator("second", Arc::new(Nothing), &[first]);
    graph.sink("sink", Arc::new(Nowhere), &[second]);
    let settings = Settings {
        // The state of a run that is measured again and again stands at a new place each time.
        state: Some(format!("memory://overhead/{}", std::process::id())),
        ..Settings::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let plan = runtime.block_on(Plan::new(graph, settings)).unwrap();
    let (report, cost) = cost(|| Run::start(plan, IfExists::Append).unwrap().wait().unwrap());
    assert_eq!(report.outputs["sink"].rows, records);
    cost.cpu * 1e9 / records as f64
}

struct Rows {
    records: u64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(KEY, DataType::Utf8, false)]))
}

#[async_trait]
impl Source for Rows {
    fn kind(&self) -> &'static str {
        "rows"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({ "records": self.records })
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(schema())
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        Ok(vec![Split { name: "rows".into(), bytes: self.records * 8, version: String::new() }])
    }

    fn measure(&self, _: Arc<Split>, from: u64) -> Marks {
        let starts = (from..self.records).step_by(BATCH as usize);
        let records = self.records;
        let marks = starts.map(move |start| {
            let end = (start + BATCH).min(records);
            Ok(Mark { range: start..end, records: end - start, bytes: 8 * (end - start) })
        });
        stream::iter(marks).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, _: BatchSize) -> SourceBatches {
        let starts = ranges.into_iter().flat_map(|split| {
            let end = split.range.end;
            split.range.step_by(BATCH as usize).map(move |start| start..end.min(start + BATCH))
        });
        let batches = starts.map(|rows| {
            let keys = StringArray::from_iter_values(rows.map(|row| format!("{row:08}")));
            let records = RecordBatch::try_new(schema(), vec![Arc::new(keys)]).unwrap();
            Ok(SourceBatch { records, refused: Vec::new() })
        });
        stream::iter(batches).boxed()
    }
}

struct Nothing;

impl Operator for Nothing {
    fn kind(&self) -> &'static str {
        "nothing"
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        Ok(Arc::clone(&inputs[0]))
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Ok(Outcome::all(batch))
    }
}

struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    fn kind(&self) -> &'static str {
        "nowhere"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn location(&self) -> String {
        "memory://overhead/nowhere".to_owned()
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
        let (epoch, lane) = (part.epoch, part.lane);
        let (path, sha256) = (part.stem(), String::new());
        let statistics = serde_json::Value::Null;
        Ok(Box::new(Count(Shard { path, epoch, lane, rows: 0, bytes: 0, sha256, statistics })))
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

struct Count(Shard);

#[async_trait]
impl PartWriter for Count {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.0.rows += batch.num_rows() as u64;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Option<Shard>, SinkError> {
        Ok(Some(self.0))
    }
}
