//! Operators in worker processes: the same rows, and a crash costs the record that makes it.
//!
//! The workers are this very test program: its test `a_worker` does nothing unless another test starts it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_pipelines::executor::isolated::{Isolated, Recipe, Worker, serve};
use anabranch_pipelines::graph::{Graph, Node, SchemaError, Work};
use anabranch_pipelines::log::DEAD_LETTERS;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Journaled, NoFetcher, Operator, OperatorError, Outcome, Resources,
    Tier,
};
use anabranch_pipelines::progress::Ending;
use anabranch_pipelines::source::BatchSize;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use support::*;

const ROLE: &str = "ANABRANCH_TEST_WORKER";

/// Adds `plus` to `value`; where `value` is one of these, things go wrong.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Plus {
    plus: Option<i64>,
    aborts: Option<i64>,
    panics: Option<i64>,
    refuses: Option<i64>,
    fails: Option<i64>,
    hangs: Option<i64>,
    hoards: Option<i64>,
}

impl Operator for Plus {
    fn kind(&self) -> &'static str {
        "plus"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap()
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
        let values = batch.column(at).as_primitive::<Int64Type>().clone();
        let has = |value: Option<i64>| value.is_some_and(|v| values.values().contains(&v));
        if has(self.aborts) {
            std::process::abort();
        }
        assert!(!has(self.panics), "{} is too much", self.panics.unwrap());
        if has(self.fails) {
            return Err(OperatorError::Failed("no more".to_owned()));
        }
        while has(self.hangs) {
            std::thread::sleep(Duration::from_secs(1));
        }
        if has(self.hoards) {
            std::hint::black_box(vec![1_u8; 1 << 28]);
        }
        let mut outcome = Outcome::keeping(&batch, |row| {
            let refused = Some(values.value(row)) == self.refuses;
            if refused { Err("refused".to_owned()) } else { Ok(()) }
        })?;
        let kept = outcome.records.column(at).as_primitive::<Int64Type>();
        let plus = self.plus.unwrap_or(0);
        let sums: Int64Array = kept.iter().map(|value| value.map(|v| v + plus)).collect();
        let mut columns: Vec<ArrayRef> = outcome.records.columns().to_vec();
        columns[at] = Arc::new(sums);
        outcome.records = RecordBatch::try_new(outcome.records.schema(), columns)?;
        Ok(outcome)
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        self.plus.is_none().then_some(self as &dyn Journaled)
    }
}

impl Journaled for Plus {
    fn sample(&self) -> BatchSize {
        BatchSize { records: 10, bytes: 1 << 20 }
    }

    fn decide(&self, _: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        Ok(vec![7])
    }

    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError> {
        Ok(Arc::new(Self { plus: Some(i64::from(decision[0])), ..self.clone() }))
    }
}

fn build(recipe: &Recipe) -> Result<Arc<dyn Operator>, String> {
    match recipe.kind.as_str() {
        "plus" => {
            let plus: Plus =
                serde_json::from_value(recipe.options.clone()).map_err(|e| e.to_string())?;
            Ok(Arc::new(plus))
        }
        kind => Err(format!("there is no kind `{kind}`")),
    }
}

/// No test by itself: a worker that another test starts.
#[test]
fn a_worker() {
    if std::env::var(ROLE).is_ok() {
        serve(&Worker::socket().unwrap(), build, &Context::plain()).unwrap();
        std::process::exit(0);
    }
}

fn in_processes(plus: Plus) -> Isolated {
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_worker", "--nocapture"]).env(ROLE, "1");
        Worker::in_process(command)
    };
    Isolated::new(Arc::new(plus), Arc::new(start)).unwrap()
}

fn values(values: &[i64]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("value", DataType::Int64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(values.to_vec()))])
        .unwrap()
}

fn invoke(operator: &dyn Operator, of: &[i64]) -> (Vec<i64>, Vec<(usize, String)>) {
    let outcome = operator.invoke(values(of), &Allocation::PLAIN, &Context::plain()).unwrap();
    let column = outcome.records.column(0).as_primitive::<Int64Type>();
    let refused = outcome.refused.into_iter().map(|r| (r.row, r.error)).collect();
    (column.values().to_vec(), refused)
}

#[test]
fn rows_and_refusals_cross_the_boundary() {
    let plus = Plus { plus: Some(1), refuses: Some(3), ..Plus::default() };
    let thread = Arc::new(|| Worker::in_thread(build, Context::plain()));
    let across = [in_processes(plus.clone()), Isolated::new(Arc::new(plus), thread).unwrap()];
    for operator in across {
        assert_eq!(operator.tier(), Tier::WorkerProcess);
        assert_eq!(invoke(&operator, &[]), (vec![], vec![]));
        for _ in 0..3 {
            let refused = vec![(1, "refused".to_owned())];
            assert_eq!(invoke(&operator, &[1, 3, 5]), (vec![2, 6], refused));
        }
    }
}

#[test]
fn the_record_that_kills_its_worker_is_refused_alone() {
    let operator = in_processes(Plus { plus: Some(1), aborts: Some(3), ..Plus::default() });
    let (rows, refused) = invoke(&operator, &[1, 2, 3, 4]);
    assert_eq!(rows, [2, 3, 5]);
    let error = "the worker process died: signal 6 (SIGABRT)".to_owned();
    assert_eq!(refused, [(2, error.clone())]);
    assert_eq!(invoke(&operator, &[3]), (vec![], vec![(0, error)]));
    assert_eq!(invoke(&operator, &[4, 5]), (vec![5, 6], vec![]));
}

#[test]
fn a_panic_and_a_failure_are_told_as_what_they_are() {
    let operator =
        in_processes(Plus { plus: Some(1), panics: Some(3), fails: Some(9), ..Plus::default() });
    let refused = vec![(1, "the operator panicked: 3 is too much".to_owned())];
    assert_eq!(invoke(&operator, &[2, 3]), (vec![3], refused));
    let failed = operator.invoke(values(&[9]), &Allocation::PLAIN, &Context::plain());
    assert_eq!(failed.unwrap_err().to_string(), "no more");
    assert_eq!(invoke(&operator, &[2]), (vec![3], vec![]));
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded_by_the_allocation() {
    let operator = in_processes(Plus { plus: Some(1), hoards: Some(3), ..Plus::default() });
    let little = Allocation { threads: 1, bytes: 1 << 20 };
    let outcome = operator.invoke(values(&[2, 3]), &little, &Context::plain()).unwrap();
    assert_eq!(outcome.records.num_rows(), 1);
    assert!(outcome.refused[0].error.contains("raise `memory`"), "{:?}", outcome.refused);
    let much = Allocation { threads: 1, bytes: 1 << 29 };
    let outcome = operator.invoke(values(&[2, 3]), &much, &Context::plain()).unwrap();
    assert_eq!(outcome.records.num_rows(), 2, "raised in the living process");
}

#[test]
fn a_decision_reaches_the_worker() {
    let operator = in_processes(Plus::default());
    let journaled = operator.journaled().unwrap();
    let decision = journaled.decide(&[]).unwrap();
    let decided = journaled.decided(&decision).unwrap();
    assert!(decided.journaled().is_none());
    assert_eq!(decided.tier(), Tier::WorkerProcess);
    assert_eq!(invoke(decided.as_ref(), &[1]), (vec![8], vec![]));
}

#[test]
fn cancelling_ends_a_worker_that_never_answers() {
    let operator = in_processes(Plus { plus: Some(1), hangs: Some(3), ..Plus::default() });
    let cancelled = Arc::new(AtomicBool::new(false));
    let context = Context::new(Arc::new(NoFetcher), Arc::clone(&cancelled));
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        cancelled.store(true, Ordering::Relaxed);
    });
    let ended = operator.invoke(values(&[3]), &Allocation::PLAIN, &context);
    assert!(matches!(ended, Err(OperatorError::Cancelled)));
    canceller.join().unwrap();
}

#[test]
fn an_unknown_kind_fails_the_invocation() {
    let start = || Worker::in_thread(|_| Err("there is no such kind".to_owned()), Context::plain());
    let operator = Isolated::new(Arc::new(Plus::default()), Arc::new(start)).unwrap();
    let failed = operator.invoke(values(&[1]), &Allocation::PLAIN, &Context::plain());
    let failed = failed.unwrap_err().to_string();
    assert!(failed.contains("cannot rebuild `plus`: there is no such kind"), "{failed}");
}

#[test]
fn in_a_run_a_crash_is_one_dead_letter_and_the_tier_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut graph = Graph::new("isolated");
    graph.source("words", Arc::new(Words::new(some_words(300))));
    let operator = in_processes(Plus { plus: Some(0), aborts: Some(123), ..Plus::default() });
    let resources = Resources { isolate: true, ..Resources::default() };
    graph.add(Node {
        name: "plus".to_owned(),
        inputs: vec!["words".to_owned()],
        work: Work::Operator { operator: Arc::new(operator), resources },
    });
    graph.add(Node {
        name: "out".to_owned(),
        inputs: vec!["plus".to_owned()],
        work: Work::Sink { sink: Arc::new(Lines { folder: folder.path().to_owned() }) },
    });
    graph.dead_letters(Arc::new(Lines { folder: folder.path().join("dead") }));
    let report = start(&plan(graph, settings())).unwrap().wait().unwrap();
    assert_eq!(report.ending, Ending::Complete);
    let plus = report.progress.nodes.iter().find(|node| node.name == "plus").unwrap();
    assert_eq!(
        (plus.tier.as_str(), plus.records_out, plus.dead_letters),
        ("worker process", 299, 1)
    );
    let dead: String = shards(folder.path(), DEAD_LETTERS).into_values().collect();
    assert!(dead.contains("the worker process died: signal 6"), "{dead}");
    assert_eq!(dead.lines().count(), 1);
}

#[test]
fn a_plan_wants_to_know_how_workers_are_started() {
    let mut graph = Graph::new("isolated");
    graph.source("words", Arc::new(Words::new(some_words(3))));
    let resources = Resources { isolate: true, ..Resources::default() };
    let work = Work::Operator { operator: Arc::new(Plus::default()), resources };
    graph.add(Node { name: "plus".to_owned(), inputs: vec!["words".to_owned()], work });
    let folder = tempfile::tempdir().unwrap();
    graph.add(Node {
        name: "out".to_owned(),
        inputs: vec!["plus".to_owned()],
        work: Work::Sink { sink: Arc::new(Lines { folder: folder.path().to_owned() }) },
    });
    let error = block_on(anabranch_pipelines::graph::Plan::new(graph, settings())).err().unwrap();
    assert!(error.to_string().contains("Isolated"), "{error}");
}
