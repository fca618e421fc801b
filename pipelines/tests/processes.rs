//! A run of several processes: the same shards, whatever is killed, stopped or goes wrong in between.
//!
//! The processes are this very test program: its tests `a_process_of_a_run` and `a_supervisor` do nothing
//! unless they are started by another test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anabranch_pipelines::graph::{Graph, Plan, Settings};
use anabranch_pipelines::log::DEAD_LETTERS;
use anabranch_pipelines::operator::{
    Allocation, Context, Features, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::progress::{Ending, Report};
use anabranch_pipelines::record::KEY;
use anabranch_pipelines::run::cluster::{Launch, Member};
use anabranch_pipelines::run::{IfExists, Run, RunError};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use rustix::process::{Pid, Signal, getpid, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use support::*;

/// Tells a test that it is a process of another one.
const ROLE: &str = "ANABRANCH_TEST_ROLE";

/// A job of these tests, as it travels to processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    folder: PathBuf,
    name: String,
    processes: usize,
    workers: usize,
    keyed: bool,
    trap: Option<(Trap, usize)>,
    stall: u64,
}

/// What happens at a record.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Trap {
    /// The process gets this signal, once.
    Once(i32),
    /// The process aborts, every time.
    Abort,
    Fail,
    /// The invocation panics.
    Panic,
    /// The timely worker panics.
    PanicWorker,
    /// Never returns.
    Hang,
}

impl Job {
    fn new(folder: &Path, processes: usize) -> Self {
        let (folder, name) = (folder.to_owned(), "words".to_owned());
        Self { folder, name, processes, workers: 1, keyed: false, trap: None, stall: 300 }
    }

    fn trap(self, trap: Trap, at: usize) -> Self {
        Self { trap: Some((trap, at)), ..self }
    }

    fn plan(&self) -> Arc<Plan> {
        let mut graph = Graph::new(self.name.as_str());
        let source = graph.source("words", Arc::new(Words::new(some_words(1500))));
        let trap = Arc::new(Trapped { job: self.clone() });
        let mut last = graph.operator("trap", trap, &[source]);
        if self.keyed {
            last = graph.operator("sums", Arc::new(Sums { memory: 4 << 20 }), &[last]);
        }
        graph.sink("out", Arc::new(Lines { folder: self.folder.clone() }), &[last]);
        graph.dead_letters(Arc::new(Lines { folder: self.folder.join("dead") }));
        let settings = Settings {
            processes: self.processes,
            workers: self.workers,
            heartbeat: Duration::from_secs(2),
            stall: Duration::from_secs(self.stall),
            restarts: 2,
            ..settings()
        };
        plan(graph, settings)
    }

    fn start(&self) -> Run {
        let job = serde_json::to_value(self).unwrap();
        self.start_as(job).unwrap()
    }

    fn start_as(&self, job: serde_json::Value) -> Result<Run, RunError> {
        let command = Box::new(|| role("a_process_of_a_run"));
        Run::start_processes(self.plan(), IfExists::Resume, Launch { command, job })
    }

    fn run(&self) -> Result<Report, RunError> {
        self.start().wait()
    }

    fn shards(&self) -> BTreeMap<(u64, u32), String> {
        shards(&self.folder, "out")
    }
}

/// This program as another process, which runs one of its tests.
fn role(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(ROLE, test);
    command
}

struct Trapped {
    job: Job,
}

impl Trapped {
    fn springs(&self, batch: &RecordBatch) -> Option<Trap> {
        let (trap, at) = self.job.trap?;
        let keys = batch.column_by_name(KEY)?.as_string::<i32>();
        let here = keys.iter().flatten().any(|key| key == at.to_string());
        here.then_some(trap)
    }
}

impl Operator for Trapped {
    fn kind(&self) -> &'static str {
        "trap"
    }

    fn output(
        &self,
        inputs: &[SchemaRef],
    ) -> Result<SchemaRef, anabranch_pipelines::graph::SchemaError> {
        Ok(Arc::clone(&inputs[0]))
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn features(&self, batch: &RecordBatch) -> Features {
        assert!(self.springs(batch) != Some(Trap::PanicWorker), "a trap in the worker");
        Features::default()
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        match self.springs(&batch) {
            Some(Trap::Once(signal)) => {
                if std::fs::File::create_new(self.job.folder.join("sprung")).is_ok() {
                    let signal = Signal::from_named_raw(signal).unwrap();
                    kill_process(getpid(), signal).unwrap();
                }
            }
            Some(Trap::Abort) => std::process::abort(),
            Some(Trap::Fail) => return Err(OperatorError::Failed("a trap".to_owned())),
            Some(Trap::Panic) => panic!("a trap"),
            Some(Trap::Hang) => loop {
                std::fs::write(self.job.folder.join("hangs"), "").unwrap();
                std::thread::sleep(Duration::from_millis(20));
            },
            Some(Trap::PanicWorker) | None => {}
        }
        Ok(Outcome::all(batch))
    }
}

/// No test by itself: a process of a run that another test supervises.
#[test]
fn a_process_of_a_run() {
    if std::env::var(ROLE).as_deref() != Ok("a_process_of_a_run") {
        return;
    }
    let member = Member::join().unwrap();
    let job: Job = serde_json::from_value(member.job().clone()).unwrap();
    let well = member.run(Ok(job.plan()));
    std::process::exit(i32::from(!well));
}

/// No test by itself: a supervisor that another test kills.
#[test]
fn a_supervisor() {
    if std::env::var(ROLE).as_deref() != Ok("a_supervisor") {
        return;
    }
    let job: Job = serde_json::from_str(&std::env::var("JOB").unwrap()).unwrap();
    let _ = job.run();
}

fn reference(keyed: bool) -> BTreeMap<(u64, u32), String> {
    let folder = tempfile::tempdir().unwrap();
    let job = Job { keyed, ..Job::new(folder.path(), 1) };
    let report = start(&job.plan()).unwrap().wait().unwrap();
    assert_eq!(report.ending, Ending::Complete);
    job.shards()
}

#[test]
fn three_processes_write_the_shards_of_one() {
    for keyed in [false, true] {
        let reference = reference(keyed);
        for (processes, workers) in [(3, 1), (2, 2)] {
            let folder = tempfile::tempdir().unwrap();
            let job = Job { keyed, workers, ..Job::new(folder.path(), processes) };
            let report = job.run().unwrap();
            assert_eq!(report.ending, Ending::Complete);
            assert_eq!((report.processes, report.restarts), (processes as u64, 0));
            let node = |name: &str| report.progress.nodes.iter().find(|n| n.name == name).unwrap();
            assert_eq!(node("words").records_out, 1500, "all processes are counted");
            assert_eq!(node("out").records_out as usize, lines(&reference));
            assert!(job.shards() == reference, "{processes} processes, {workers} workers, {keyed}");
        }
    }
}

fn lines(shards: &BTreeMap<(u64, u32), String>) -> usize {
    shards.values().map(|text| text.lines().count()).sum()
}

#[test]
fn a_killed_and_a_stopped_process_cost_a_restart() {
    for keyed in [false, true] {
        let reference = reference(keyed);
        for signal in [Signal::KILL, Signal::STOP] {
            let folder = tempfile::tempdir().unwrap();
            let job = Job { keyed, ..Job::new(folder.path(), 3) };
            let job = job.trap(Trap::Once(signal.as_raw()), 800);
            let report = job.run().unwrap();
            assert_eq!((report.ending, report.restarts), (Ending::Complete, 1));
            assert!(job.shards() == reference, "{signal:?}, {keyed}");
        }
    }
}

#[test]
fn a_process_that_dies_again_and_again_ends_the_run_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let error = Job::new(folder.path(), 3).trap(Trap::Abort, 800).run().unwrap_err();
    assert!(matches!(error, RunError::Lost { restarts: 2, .. }), "{error}");
    let line = error.to_string();
    assert!(line.contains("of 3 (pid "), "{line}");
    assert!(line.contains("SIGABRT"), "{line}");
    assert!(line.contains("operator `trap` at record "), "{line}");
    assert!(!line.contains('\n'), "{line}");
    let made = commits(folder.path());
    assert!(!made.is_empty() && !made.last().unwrap().last, "{} commits", made.len());
}

#[test]
fn a_failure_in_any_process_ends_the_run_with_its_own_line() {
    for (trap, says) in [(Trap::Fail, "a trap"), (Trap::PanicWorker, "a trap in the worker")] {
        for processes in [1, 3] {
            let folder = tempfile::tempdir().unwrap();
            let job = Job { workers: 2, ..Job::new(folder.path(), processes) }.trap(trap, 800);
            let run = if processes == 1 { start(&job.plan()).unwrap() } else { job.start() };
            let line = run.wait().unwrap_err().to_string();
            assert!(line.starts_with("operator `trap`, record "), "{line}");
            assert!(line.ends_with(says), "{line}");
        }
    }
}

#[test]
fn a_panic_in_any_process_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::new(folder.path(), 3).trap(Trap::Panic, 800);
    let report = job.run().unwrap();
    assert_eq!((report.ending, report.restarts), (Ending::Complete, 0));
    let dead: String = shards(folder.path(), DEAD_LETTERS).into_values().collect();
    assert_eq!(dead.lines().count(), 1, "{dead}");
    assert!(dead.contains(" 800 trap the operator panicked: a trap"), "{dead}");
    assert_eq!(report.dead_letter_examples, ["trap: 800: the operator panicked: a trap"]);
}

#[test]
fn an_operator_that_never_returns_is_named_and_does_not_hold_up_the_end() {
    for processes in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let job = Job { stall: 1, ..Job::new(folder.path(), processes) }.trap(Trap::Hang, 800);
        let run = if processes == 1 { start(&job.plan()).unwrap() } else { job.start() };
        let line = run.wait().unwrap_err().to_string();
        assert!(
            line.starts_with("nothing progressed for 1 s; operator `trap` at record "),
            "{line}"
        );
    }
}

#[test]
fn a_process_with_another_plan_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::new(folder.path(), 2);
    let other = Job { name: "another".to_owned(), ..job.clone() };
    let run = job.start_as(serde_json::to_value(&other).unwrap()).unwrap();
    let line = run.wait().unwrap_err().to_string();
    assert!(line.contains("came to another plan"), "{line}");
    assert!(commits(folder.path()).is_empty());
}

#[test]
fn a_cancelled_run_keeps_whole_commits_and_can_go_on() {
    let reference = reference(true);
    let folder = tempfile::tempdir().unwrap();
    let job = Job { keyed: true, ..Job::new(folder.path(), 3) };
    let run = job.start();
    while run.progress().commits < 2 {
        assert!(!run.is_finished());
        std::thread::sleep(Duration::from_millis(1));
    }
    run.cancel();
    let report = run.wait().unwrap();
    if report.ending == Ending::Cancelled {
        let report = Job { processes: 2, ..job.clone() }.run().unwrap();
        assert_eq!((report.ending, report.resumed), (Ending::Complete, true));
    }
    assert!(job.shards() == reference);
}

/// Kills a child process that a test leaves behind.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_process_outlives_its_supervisor() {
    let reference = reference(false);
    let folder = tempfile::tempdir().unwrap();
    let job = Job::new(folder.path(), 3).trap(Trap::Hang, 800);
    let mut supervisor = role("a_supervisor");
    supervisor.env("JOB", serde_json::to_string(&job).unwrap()).stdout(Stdio::null());
    let mut supervisor = Kill(supervisor.spawn().unwrap());
    while !folder.path().join("hangs").exists() {
        assert!(supervisor.0.try_wait().unwrap().is_none(), "the supervisor ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let children = children_of(supervisor.0.id());
    assert_eq!(children.len(), 3);
    supervisor.0.kill().unwrap();
    supervisor.0.wait().unwrap();
    for child in children {
        while is_alive(child) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let report = Job { trap: None, ..job.clone() }.run().unwrap();
    assert_eq!(report.ending, Ending::Complete);
    assert!(job.shards() == reference);
}

fn children_of(parent: u32) -> Vec<u32> {
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent_of = |pid: u32| -> Option<u32> {
        stat(pid)?.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Whether a process exists and is no zombie, which nobody here can wait for.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    let pid = Pid::from_raw(pid as i32).unwrap();
    test_kill_process(pid).is_ok() && !matches!(state, Some("Z") | None)
}
