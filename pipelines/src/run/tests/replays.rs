//! Dead letters that are fed back in.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::*;
use crate::graph::{Graph, SchemaError};
use crate::operator::{Allocation, Context, Growth, Operator, OperatorError, Outcome};
use crate::progress::Chosen;
use crate::replay::{Replay, ReplayError};
use crate::testing::{Lines, LinesReader, LinesSink, delete, put, settings, visible, wait};

/// Refuses texts that contain a word.
struct Censor(&'static str);

impl Operator for Censor {
    fn kind(&self) -> &'static str {
        "censor"
    }

    fn options(&self) -> serde_json::Value {
        self.0.into()
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
        let texts = batch.column_by_name("text").unwrap().as_string::<i32>();
        Outcome::keeping(&batch, |row| match texts.value(row).contains(self.0) {
            true => Err(format!("it says {}", self.0)),
            false => Ok(()),
        })
    }
}

/// Lines through two censors, each with a sink.
fn job(root: &str, words: [&'static str; 2]) -> Graph {
    let mut graph = Graph::new("censored");
    let lines = graph.source("lines", Lines::of(&format!("{root}/in")));
    let first = graph.operator("first", Arc::new(Censor(words[0])), &[lines]);
    let second = graph.operator("second", Arc::new(Censor(words[1])), &[first]);
    graph.sink("out", LinesSink::at(&format!("{root}/out")), &[second]);
    graph.sink("raw", LinesSink::at(&format!("{root}/raw")), &[lines]);
    graph.dead_letters(LinesSink::at(&format!("{root}/dead")));
    graph
}

fn start(graph: Graph) -> Result<Report, RunError> {
    run(&wait(Plan::new(graph, settings())).unwrap(), IfExists::Resume)
}

fn replay(graph: Graph) -> Result<Replay, ReplayError> {
    wait(Replay::of(graph, settings(), Arc::new(LinesReader)))
}

/// Every line and how often it is visible.
fn told(lines: &[String]) -> String {
    lines.join(" ")
}

#[test]
fn what_was_refused_goes_in_where_it_was_refused() {
    let root = "memory://replay-in";
    let (input, out, raw) = (format!("{root}/in"), format!("{root}/out"), format!("{root}/raw"));
    put(&input, "a", "one\nfoo\nbad\ntwo\nbar\nfoo bar\nqux\nbad\n");
    let report = start(job(root, ["foo", "bar"])).unwrap();
    assert_eq!((report.refused, told(&visible(&out))), (5, "one qux two".to_owned()));
    assert_eq!(visible(&raw).len(), 6);

    // The file was mended, and the first operator now refuses less.
    put(&input, "a", "one\nfoo\nmended\ntwo\nbar\nfoo bar\nqux\nbad\n");
    let again = replay(job(root, ["foo bar", "bar"])).unwrap();
    assert_eq!((again.records(), &again.of), (5, &report.run));
    let letters: Vec<_> = again.letters.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(letters, [("first", 2), ("lines", 2), ("second", 1)]);
    assert!(again.left.is_empty());
    let plan = again.plan.unwrap();
    let second = run(&plan, IfExists::Resume).unwrap();
    assert_eq!((second.chosen, second.ending), (Chosen::Replayed, Ending::Complete));
    // `bad`, `bar` and `foo bar` are refused again.
    assert_eq!((second.refused, told(&visible(&out))), (3, "foo mended one qux two".to_owned()));
    // A sink that had its rows does not get those that entered behind it.
    assert_eq!((visible(&raw).len(), visible(&raw).contains(&"mended".to_owned())), (7, true));

    // The same job has nothing to do; a job that was mended once more takes up what is left.
    let none = replay(job(root, ["foo bar", "bar"])).unwrap();
    assert!(none.plan.is_none() && none.letters.is_empty());
    let last = replay(job(root, ["nothing", "at all"])).unwrap();
    assert_eq!((last.records(), &last.of), (3, &second.run));
    let third = run(&last.plan.unwrap(), IfExists::Resume).unwrap();
    assert_eq!(third.refused, 1);
    assert_eq!(told(&visible(&out)), "bar foo foo bar mended one qux two");

    // A replay does not hide the run whose dead letters it fed back in.
    put(&input, "a", "one\nfoo\nbad\ntwo\nbar\nfoo bar\nqux\nbad\n");
    assert!(start(job(root, ["foo", "bar"])).unwrap_err().to_string().contains("r1-"));
}

#[test]
fn ids_are_kept() {
    let root = "memory://replay-ids";
    put(&format!("{root}/in"), "a", "foo\nbad\n");
    start(job(root, ["foo", "bar"])).unwrap();
    let again = replay(job(root, ["foo", "bar"])).unwrap();
    run(&again.plan.unwrap(), IfExists::Resume).unwrap();
    // Both refused both, and said the same of the same records.
    let dead = crate::testing::objects(&format!("{root}/dead"), "/data/");
    let ids = |run: &str| {
        let shards = dead.iter().filter(|(path, _)| path.contains(run));
        let rows = shards.flat_map(|(_, text)| text.lines());
        let mut ids: Vec<String> = rows
            .map(|row| {
                let digits = row.split_once('\t').unwrap().1;
                let bytes: Vec<u8> = (0..digits.len() / 2)
                    .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
                    .collect();
                let letter = crate::record::from_ipc(&bytes).unwrap();
                let letter = crate::dead_letter::from_batch(&letter).unwrap().remove(0);
                format!("{} {} {}", letter.id, letter.key, letter.operator)
            })
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(ids("r1-").len(), 2);
    assert_eq!(ids("r1-"), ids("r2-"));
}

#[test]
fn a_replay_that_was_killed_goes_on() {
    let root = "memory://replay-killed";
    put(&format!("{root}/in"), "a", &"foo\n".repeat(30));
    start(job(root, ["foo", "bar"])).unwrap();
    let begin = || replay(job(root, ["nothing", "bar"])).unwrap().plan.unwrap();
    let first = Run::start(begin(), IfExists::Resume).unwrap();
    let id = first.id().to_owned();
    kill(first);
    let report = run(&begin(), IfExists::Resume).unwrap();
    assert_eq!((report.run, report.ending), (id, Ending::Complete));
    assert_eq!(visible(&format!("{root}/out")).len(), 30);
}

#[test]
fn what_is_gone_is_refused_again_and_what_has_no_node_is_left() {
    let root = "memory://replay-gone";
    put(&format!("{root}/in"), "a", "bad\nfoo\n");
    put(&format!("{root}/in"), "b", "one\n");
    start(job(root, ["foo", "bar"])).unwrap();
    delete(&format!("{root}/in"), "a");
    let mut graph = Graph::new("censored");
    let lines = graph.source("lines", Lines::of(&format!("{root}/in")));
    graph.sink("out", LinesSink::at(&format!("{root}/out")), &[lines]);
    graph.dead_letters(LinesSink::at(&format!("{root}/dead")));
    let again = replay(graph).unwrap();
    assert_eq!((again.records(), again.left.len()), (1, 1));
    assert!(again.left[0].why.contains("no `first` any more"), "{:?}", again.left);
    assert_eq!(run(&again.plan.unwrap(), IfExists::Resume).unwrap().refused, 1);
    assert!(visible(&format!("{root}/dead")).contains(&"it is gone".to_owned()));
}

#[test]
fn nothing_is_replayed_of_no_run_or_an_unfinished_one() {
    let root = "memory://replay-none";
    put(&format!("{root}/in"), "a", "foo\n");
    let none = replay(job(root, ["foo", "bar"])).err().unwrap().to_string();
    assert!(none.contains("holds no run of `censored`"), "{none}");
    let report = start(job(root, ["foo", "bar"])).unwrap();
    let commits = crate::testing::objects(&format!("{root}/out"), "/commits/");
    let last = commits.keys().next_back().unwrap().strip_prefix("out/").unwrap().to_owned();
    delete(&format!("{root}/out"), &last);
    let error = replay(job(root, ["foo", "bar"])).err().unwrap().to_string();
    assert!(error.contains(&format!("run {} is unfinished", report.run)), "{error}");
}
