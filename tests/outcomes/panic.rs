//! What goes wrong inside ends with a dead letter, or with one line that says where; nothing hangs.

use std::path::Path;
use std::time::Duration;

use anabranch_tests::program::{Ended, Job, Running, data, signal_process};
use rustix::process::Signal;

use crate::{PROGRAM, folder, table};

/// The photos, through an operator that goes wrong at one of them.
const FAULTY: &str = r#"
[job]
name = "faulty"
part = { records = 2 }
commit = { parts = 2 }
credit = "1GiB"
stall = "2s"

[vars]
data = "data"
out = "table"

[source.files]
kind = "files"
path = "${data}/photos/kodim*.png"

[operator.fault]
kind = "fault"
does = "panic"
key = "kodim07.png"
inputs = ["files"]

[operator.decode]
kind = "decode"
column = "image"
inputs = ["fault"]

[operator.encode]
kind = "encode"
column = "image"
codec = "jpeg"
inputs = ["decode"]

[sink.table]
kind = "table"
path = "${out}"
inputs = ["encode"]
"#;

/// (Workers, processes): what goes wrong must be noticed in one process and in several.
const SHAPES: [(u64, u64); 2] = [(2, 1), (1, 3)];

fn faulty(folder: &Path, does: &str, (workers, processes): (u64, u64)) -> Job {
    Job::text(PROGRAM, folder, FAULTY)
        .out("table")
        .set("data", data().display())
        .set("operator.fault.does", does)
        .set("job.workers", workers)
        .set("job.processes", processes)
}

/// Ends with exit code 1 and one line of error that names all of these.
fn fails_naming(ended: &Ended, names: &[&str]) {
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    let errors: Vec<&str> = ended.err.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 1, "one error, not {}", ended.err);
    assert_eq!(ended.err.lines().last(), errors.last().copied(), "nothing after it");
    for name in names {
        assert!(errors[0].contains(name), "`{name}` in {:?}", errors[0]);
    }
}

/// The record at fault is the run's only dead letter, and everything else is there.
fn is_a_dead_letter(folder: &Path, ended: &Ended, says: &str) {
    let table = table(folder);
    table.check("table");
    assert_eq!(table.rows("table").num_rows(), 11);
    let letters = table.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let (key, operator, error) = &letters[0];
    assert_eq!((key.as_str(), operator.as_str()), ("kodim07.png", "fault"));
    assert!(error.contains(says), "{error}");
    assert!(ended.out.contains("kodim07.png"), "the report names it: {}", ended.out);
}

#[test]
fn panic_of_an_operator_is_a_dead_letter() {
    for shape in SHAPES {
        let folder = folder();
        let ended = faulty(folder.path(), "panic", shape).succeed();
        is_a_dead_letter(folder.path(), &ended, "the operator panicked: a fault on purpose");
    }
}

#[test]
fn panic_or_abort_of_an_isolated_operator_is_a_dead_letter() {
    for shape in SHAPES {
        let folder = folder();
        let job = faulty(folder.path(), "abort", shape);
        let ended = job.set("operator.fault.resources.isolate", true).succeed();
        is_a_dead_letter(folder.path(), &ended, "");
    }
}

#[test]
fn panic_of_an_operator_fails_a_run_that_allows_no_errors() {
    for shape in SHAPES {
        let folder = folder();
        let job = faulty(folder.path(), "panic", shape).set("job.max_errors", 0);
        fails_naming(&job.run(), &["fault", "kodim07.png", "a fault on purpose", "max_errors"]);
        // What was committed before stays, whole.
        assert_eq!(table(folder.path()).visible_rows(), 4);
    }
}

#[test]
fn panic_of_a_worker_ends_the_run() {
    for shape in SHAPES {
        let folder = folder();
        let job = faulty(folder.path(), "panic_worker", shape).set("job.restarts", 1);
        fails_naming(&job.run(), &["fault", "kodim07.png", "a fault on purpose, in the worker"]);
        assert!(table(folder.path()).visible_rows() <= 4);
    }
}

#[test]
fn panic_or_abort_of_a_process_ends_the_run() {
    let folder = folder();
    let job = faulty(folder.path(), "abort", (1, 3)).set("job.restarts", 1);
    fails_naming(&job.run(), &["fault", "kodim07.png"]);
    assert!(table(folder.path()).visible_rows() <= 4);
}

#[test]
fn panic_or_not_an_operator_that_hangs_is_a_stall() {
    for shape in SHAPES {
        let folder = folder();
        let job = faulty(folder.path(), "hang", shape).set("job.restarts", 1);
        fails_naming(&job.run(), &["fault", "kodim07.png", "stall"]);
        assert!(table(folder.path()).visible_rows() <= 4);
    }
}

#[test]
fn panic_or_not_an_operator_that_fails_names_its_record() {
    for shape in SHAPES {
        let folder = folder();
        let ended = faulty(folder.path(), "fail", shape).run();
        fails_naming(&ended, &["fault", "kodim07.png", "on purpose"]);
    }
}

/// Runs the job with a slow sink until its first commit.
fn first_commit(folder: &Path, shape: (u64, u64)) -> (Job, Running) {
    let job = faulty(folder, "panic", shape)
        .set("operator.fault.key", "none.png")
        .set("sink.table.kind", "slow_table")
        .set("sink.table.rate", "1MB")
        .set("job.heartbeat", "2s");
    let mut running = job.start();
    while table(folder).commits() < 1 {
        assert!(!running.has_ended(), "it ended before its first commit");
        std::thread::sleep(Duration::from_millis(1));
    }
    (job, running)
}

#[test]
fn panic_or_not_a_process_that_is_stopped_is_replaced() {
    let folder = folder();
    let (_, running) = first_commit(folder.path(), (1, 3));
    let stopped = running.started()[1];
    signal_process(stopped, Signal::STOP);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(
        ended.err.contains("starting again after commit"),
        "one line tells of it: {}",
        ended.err
    );
    table(folder.path()).check("table");
    assert_eq!(table(folder.path()).visible_rows(), 12);
    assert!(!Path::new(&format!("/proc/{stopped}")).exists(), "the stopped process is left behind");
}

#[test]
fn panic_or_not_a_run_that_was_stopped_goes_on() {
    let folder = folder();
    let (job, running) = first_commit(folder.path(), (2, 1));
    running.signal(Signal::STOP);
    // Longer than anything may stall.
    std::thread::sleep(Duration::from_secs(4));
    running.signal(Signal::CONT);
    let ended = running.wait();
    if ended.code != Some(0) {
        fails_naming(&ended, &["stall"]);
        job.succeed();
    }
    table(folder.path()).check("table");
    assert_eq!(table(folder.path()).visible_rows(), 12);
}
