//! Decisions of journaled operators: taken once, from the same records whatever the batches, and replayed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_pipelines::graph::{Graph, Plan, SchemaError, Settings};
use anabranch_pipelines::operator::{
    Allocation, Class, Context, Growth, Journaled, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::source::BatchSize;
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use support::*;

/// Adds to every value the sum of the first 70 values, and `bias`, which stands for another program version.
struct AddFirst {
    bias: i64,
}

impl Operator for AddFirst {
    fn kind(&self) -> &'static str {
        "add_first"
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
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
        Err(OperatorError::Failed("it was invoked without its decision".into()))
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        Some(self)
    }
}

impl Journaled for AddFirst {
    fn sample(&self) -> BatchSize {
        BatchSize { records: 70, bytes: 1 << 20 }
    }

    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        let values = sample.iter().flat_map(|batch| {
            batch.column_by_name("value").unwrap().as_primitive::<Int64Type>().values().to_vec()
        });
        Ok((values.sum::<i64>() + self.bias).to_string().into_bytes())
    }

    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError> {
        let text = std::str::from_utf8(decision).ok().and_then(|text| text.parse().ok());
        let add = text.ok_or_else(|| OperatorError::Failed("that is no number".into()))?;
        Ok(Arc::new(Add { add }))
    }
}

struct Add {
    add: i64,
}

impl Operator for Add {
    fn kind(&self) -> &'static str {
        "add"
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
        let at = batch.schema().index_of("value")?;
        let mut columns = batch.columns().to_vec();
        let values = columns[at].as_primitive::<Int64Type>();
        columns[at] =
            Arc::new(values.unary::<_, Int64Type>(|value| value + self.add) as Int64Array);
        Ok(Outcome::all(RecordBatch::try_new(batch.schema(), columns)?))
    }
}

/// Two sources side by side, a decision, a decision behind it, state, a sink.
fn graph(folder: &Path, bias: i64, stuck: Option<(usize, Arc<AtomicBool>)>) -> Graph {
    let mut graph = Graph::new("journaled");
    let words = Words { stuck, ..Words::new(some_words(400)) };
    let first = graph.source("words", Arc::new(words));
    let more = graph.source("more", Arc::new(Words::new(some_words(130))));
    let add = graph.operator("add", Arc::new(AddFirst { bias }), &[first, more]);
    let again = graph.operator("again", Arc::new(AddFirst { bias }), &[add]);
    let sums = graph.operator("sums", Arc::new(Sums { memory: 4 << 20 }), &[again]);
    graph.sink("out", Arc::new(Lines { folder: folder.to_owned() }), &[sums]);
    graph.dead_letters(Arc::new(Lines { folder: folder.join("dead") }));
    graph
}

fn run_all(workers: usize, batch: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let batch = BatchSize { records: batch, bytes: 1 << 20 };
    let settings = Settings { workers, batch, ..settings() };
    start(&plan(graph(folder.path(), 0, None), settings)).unwrap().wait().unwrap();
    folder
}

fn run_folder(folder: &Path) -> PathBuf {
    let mut runs = std::fs::read_dir(folder.join("_anabranch/runs")).unwrap();
    runs.next().unwrap().unwrap().path()
}

fn decision(folder: &Path, operator: &str) -> i64 {
    let path = run_folder(folder).join("decisions").join(operator);
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn a_decision_looks_at_the_same_records_for_any_workers_and_batches() {
    let whole = run_all(1, 64);
    // Part 0 of the first source has 50 records; the other 20 are the first of the second source.
    let first: i64 = (0..50).sum::<i64>() + (0..20).sum::<i64>();
    assert_eq!(decision(whole.path(), "add"), first);
    assert_eq!(decision(whole.path(), "again"), first + 70 * first);
    let out = shards(whole.path(), "out");
    for (workers, batch) in [(3, 64), (1, 7), (2, 1000)] {
        let other = run_all(workers, batch);
        assert!(shards(other.path(), "out") == out, "{workers} workers, batches of {batch}");
    }
    for commit in commits(whole.path()) {
        assert!(commit.decisions.keys().eq(["add", "again"].iter()), "commit {}", commit.number);
        assert_eq!(commit.decisions["add"].len(), 64);
    }
}

/// A run that was dropped when two commits were made.
fn dropped() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Arc::new(AtomicBool::new(true));
    let graph = graph(folder.path(), 0, Some((260, Arc::clone(&stuck))));
    let run = start(&plan(graph, settings())).unwrap();
    while run.progress().commits < 2 {
        assert!(!run.is_finished(), "ended early: {:?}", run.wait().err());
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(run);
    stuck.store(false, Ordering::Relaxed);
    folder
}

#[test]
fn a_resumed_run_replays_what_was_decided() {
    let folder = dropped();
    // It would decide otherwise by now.
    start(&plan(graph(folder.path(), 1_000_000, None), settings())).unwrap().wait().unwrap();
    assert!(shards(folder.path(), "out") == shards(run_all(2, 64).path(), "out"));
}

#[test]
fn a_decision_that_is_gone_or_another_one_is_an_error() {
    let folder = dropped();
    let again = || {
        let run = start(&plan(graph(folder.path(), 0, None), settings()));
        run.and_then(|run| run.wait()).unwrap_err().to_string()
    };
    let path = run_folder(folder.path()).join("decisions/add");
    std::fs::write(&path, "77").unwrap();
    let changed = again();
    assert!(changed.contains("decisions/add") && changed.contains("its hash"), "{changed}");
    std::fs::remove_file(&path).unwrap();
    let gone = again();
    assert!(gone.contains("decisions/add") && gone.contains("it is gone"), "{gone}");
}

#[test]
fn a_decision_cannot_stand_behind_state() {
    let folder = tempfile::tempdir().unwrap();
    let mut graph = Graph::new("journaled");
    let source = graph.source("words", Arc::new(Words::new(some_words(10))));
    let sums = graph.operator("sums", Arc::new(Sums { memory: 4 << 20 }), &[source]);
    let add = graph.operator("add", Arc::new(AddFirst { bias: 0 }), &[sums]);
    graph.sink("out", Arc::new(Lines { folder: folder.path().to_owned() }), &[add]);
    let error = block_on(Plan::new(graph, settings())).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("add: `add_first` takes a decision"), "{error}");
    assert!(error.contains("put it before `sums`"), "{error}");
}

#[test]
fn a_run_with_decisions_is_journaled() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(plan(graph(folder.path(), 0, None), settings()).class(), Class::Journaled);
}
