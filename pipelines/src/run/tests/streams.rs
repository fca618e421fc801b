use std::sync::atomic::{AtomicBool, Ordering};

use object_store::memory::InMemory;

use super::*;
use crate::graph::{Graph, Mode, Settings};
use crate::log::{Commit, Cut, Epoch, StreamPart};
use crate::source::Split;
use crate::store::{Patience, mount};
use crate::testing::{
    Fault, Faulty, Lines, LinesSink, copy, delete, lines_of, objects, put, put_lines, settings,
    until, visible, wait,
};

fn streaming() -> Settings {
    Settings { mode: Mode::Stream, ..settings() }
}

fn commits(root: &str) -> Vec<Commit> {
    let texts = objects(&format!("{root}/out"), "/commits/");
    texts.values().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[test]
fn a_stream_takes_up_what_comes_and_nothing_twice() {
    let root = "memory://stream-comes";
    let (input, out) = (format!("{root}/in"), format!("{root}/out"));
    let plan = copy(root, streaming());
    // Nothing is there: it waits.
    let stream = Run::start(Arc::clone(&plan), IfExists::Resume).unwrap();
    put_lines(&input, "b", 7);
    until("b", || visible(&out) == lines_of(&[("b", 7)]));
    put_lines(&input, "a", 3);
    until("a", || visible(&out).len() == 10);
    assert_eq!((stream.progress().waiting_splits, stream.progress().records_total), (0, None));
    let report = stop(stream);
    assert_eq!((report.progress.bytes_total, report.outputs["out"].rows), (None, 10));

    // What is committed may go at the source; a resumed stream goes on with what is new.
    delete(&input, "b");
    let stream = Run::start(Arc::clone(&plan), IfExists::Resume).unwrap();
    assert_eq!(stream.id(), report.run);
    put_lines(&input, "c", 4);
    let all = lines_of(&[("a", 3), ("b", 7), ("c", 4)]);
    until("c", || visible(&out) == all);
    // A name that was taken up is not taken up again.
    put_lines(&input, "c", 5);
    put_lines(&input, "d", 1);
    until("d", || visible(&out).contains(&"d-0".to_owned()));
    stop(stream);
    assert_eq!(visible(&out), lines_of(&[("a", 3), ("b", 7), ("c", 4), ("d", 1)]));
    assert!(objects(&out, "/cuts/").len() <= 1, "entries of durable epochs go");
}

#[test]
fn a_cancelled_stream_closes_its_commit_early() {
    let root = "memory://stream-cancel";
    let mut settings = streaming();
    settings.commit.interval = Duration::from_secs(3600);
    settings.commit.parts = 1000;
    let plan = copy(root, settings);
    let stream = Run::start(plan, IfExists::Resume).unwrap();
    put_lines(&format!("{root}/in"), "a", 12);
    let read = |n: u64| stream.progress().nodes.iter().any(|node| node.records_out >= n);
    until("reading", || read(12));
    assert_eq!(stream.progress().commits, 0);
    stop(stream);
    assert_eq!(visible(&format!("{root}/out")), lines_of(&[("a", 12)]));
    assert_eq!(commits(root).len(), 1);
}

#[test]
fn a_killed_stream_cuts_the_same_again() {
    let root = "stalls://stream-kill";
    let closed = Arc::new(AtomicBool::new(true));
    let door = Arc::clone(&closed);
    let stalls = Faulty::new(Arc::new(InMemory::new()), move |_, operation, path| {
        let commit = operation == "put" && path.as_ref().contains("/commits/");
        if commit && door.load(Ordering::Relaxed) { Fault::Stall } else { Fault::None }
    });
    mount(root, Arc::new(stalls), Patience::default()).unwrap();
    let (input, out) = (format!("{root}/in"), format!("{root}/out"));
    let plan = copy(root, streaming());
    put_lines(&input, "a", 8);
    put_lines(&input, "gone", 4);
    let stream = Run::start(Arc::clone(&plan), IfExists::Resume).unwrap();
    // Three parts of 5, 5 and 2 lines, and the interval closes the second commit; none is made.
    until("three shards", || objects(&out, "/data/").len() == 3);
    until("four epochs", || objects(&out, "/cuts/").len() == 4);
    kill(stream);
    let before = objects(&out, "/data/");
    let cuts = objects(&out, "/cuts/");
    assert!(visible(&out).is_empty());

    // Data that came since would fill the last part, and data that went would empty one.
    closed.store(false, Ordering::Relaxed);
    put_lines(&input, "b", 2);
    let stream = Run::start(Arc::clone(&plan), IfExists::Resume).unwrap();
    let all = lines_of(&[("a", 8), ("b", 2), ("gone", 4)]);
    until("all lines", || visible(&out) == all);
    stop(stream);
    let after = objects(&out, "/data/");
    for (path, text) in &before {
        assert_eq!(after.get(path), Some(text), "{path}");
    }
    let made: Vec<_> = commits(root).into_iter().flat_map(|commit| commit.cuts).collect();
    let epochs = cuts.values().map(|text| serde_json::from_str::<Epoch>(text).unwrap());
    let cut: Vec<_> = epochs.flat_map(|epoch| epoch.parts).map(|part| part.cut).collect();
    assert_eq!((cut.len(), &made[..3]), (3, cut.as_slice()));
}

#[test]
fn a_split_that_vanished_becomes_dead_letters() {
    let root = "stalls://stream-vanish";
    let closed = Arc::new(AtomicBool::new(true));
    let door = Arc::clone(&closed);
    let stalls = Faulty::new(Arc::new(InMemory::new()), move |_, operation, path| {
        let commit = operation == "put" && path.as_ref().contains("/commits/");
        if commit && door.load(Ordering::Relaxed) { Fault::Stall } else { Fault::None }
    });
    mount(root, Arc::new(stalls), Patience::default()).unwrap();
    let (input, out) = (format!("{root}/in"), format!("{root}/out"));
    let plan = copy(root, streaming());
    put_lines(&input, "a", 2);
    put_lines(&input, "b", 2);
    let stream = Run::start(Arc::clone(&plan), IfExists::Resume).unwrap();
    until("a cut", || !objects(&out, "/cuts/").is_empty());
    kill(stream);
    delete(&input, "a");
    closed.store(false, Ordering::Relaxed);
    let stream = Run::start(plan, IfExists::Resume).unwrap();
    until("what is left", || visible(&out) == lines_of(&[("b", 2)]));
    stop(stream);
    assert_eq!(visible(&format!("{root}/dead")), ["it is gone", "it is gone"]);
}

#[test]
fn what_may_still_be_written_is_waited_for() {
    let root = "memory://stream-settles";
    let (input, out) = (format!("{root}/in"), format!("{root}/out"));
    let mut graph = Graph::new("growing");
    let lines = graph.source("lines", Lines::growing(&input));
    graph.sink("out", LinesSink::at(&out), &[lines]);
    let settings = Settings { poll: Duration::from_millis(100), ..streaming() };
    let plan = wait(Plan::new(graph, settings)).unwrap();
    put(&input, "a", "one\n");
    let stream = Run::start(plan, IfExists::Resume).unwrap();
    until("a look", || stream.progress().waiting_splits == 1);
    put(&input, "a", "one\ntwo\n");
    until("both lines", || visible(&out).len() == 2);
    stop(stream);
    assert_eq!(visible(&out), ["one", "two"]);
}

#[test]
fn an_idle_stream_does_nothing_and_is_no_stall() {
    let root = "memory://stream-idle";
    let settings = Settings { stall: Duration::from_millis(150), ..streaming() };
    let stream = Run::start(copy(root, settings), IfExists::Resume).unwrap();
    put_lines(&format!("{root}/in"), "a", 3);
    until("a commit", || stream.progress().commits == 1);
    std::thread::sleep(Duration::from_millis(600));
    assert!(!stream.is_finished());
    stop(stream);
    assert_eq!(commits(root).len(), 1);
}

#[test]
fn an_epoch_that_an_older_start_cut_meanwhile_is_taken_as_it_cut_it() {
    let root = "memory://stream-older";
    let (input, out) = (format!("{root}/in"), format!("{root}/out"));
    put_lines(&input, "a", 4);
    let stream = Run::start(copy(root, streaming()), IfExists::Resume).unwrap();
    until("the first commit", || visible(&out).len() == 4);
    // An older start, which does not know yet that it is fenced, cuts the next epoch before its data is
    // found here: two of three lines.
    let last = commits(root).pop().unwrap();
    let epoch = last.epochs.end;
    let to = crate::log::Place { pass: 0, split: 1, name: "b".to_owned(), offset: 2 };
    let added = Split { name: "b".to_owned(), bytes: 12, version: String::new() };
    let cut = Cut {
        source: "lines".to_owned(),
        epoch,
        from: last.cuts.last().unwrap().to.clone(),
        to,
        records: 2,
        bytes: 6,
        added: vec![added],
    };
    let part = StreamPart { cut, ranges: vec![(1, 0, 2)] };
    let commit = last.number + 1;
    let older = Epoch { epoch, generation: 0, commit, parts: vec![part.clone()], closes: false };
    let log = objects(&out, "run.json").into_keys().next().unwrap();
    let log = log.strip_prefix("out/").unwrap().strip_suffix("run.json").unwrap();
    let path = format!("{log}cuts/{epoch:012}.json");
    put(&out, &path, &serde_json::to_string(&older).unwrap());
    put_lines(&input, "b", 3);
    put_lines(&input, "c", 2);
    let all = lines_of(&[("a", 4), ("b", 3), ("c", 2)]);
    until("all lines", || visible(&out) == all || stream.is_finished());
    stop(stream);
    assert_eq!(visible(&out), all);
    let cuts: Vec<_> = commits(root).into_iter().flat_map(|commit| commit.cuts).collect();
    assert!(cuts.contains(&part.cut), "{cuts:?}");
}
