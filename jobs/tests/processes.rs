//! `--processes` and `isolate = true` on the quickstart: the same shards, and signals that reach every process.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart.toml");

/// The quickstart in parts so small that it has many commits.
fn quickstart(folder: &Path, out: &str, records: u32, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    command.current_dir(folder).args(["run", QUICKSTART, "--set", "job.part.records=10"]);
    command.args(["--set", "job.commit.parts=1", "--set", "job.credit=1GiB"]);
    command.args(["--set", &format!("records={records}"), "--set", &format!("out={out}")]);
    command.args(more).stdin(Stdio::null());
    command
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    output
}

fn shards(table: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(table.join("data")).unwrap().map(|file| file.unwrap());
    // Two runs have all of a name in common but the run's id, `r1-5f0c9a12-`.
    let name = |file: &std::fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        name.splitn(3, '-').nth(2).unwrap().to_owned()
    };
    files.map(|file| (name(&file), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn processes_and_isolation_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    succeed(quickstart(folder.path(), "plain", 60, &[]));
    let plain = shards(&folder.path().join("plain"));
    assert_eq!(plain.len(), 6);
    succeed(quickstart(folder.path(), "three", 60, &["--processes", "3"]));
    assert!(shards(&folder.path().join("three")) == plain, "3 processes");
    let isolate = ["--set", "operator.webp.resources.isolate=true", "--report", "report.json"];
    succeed(quickstart(folder.path(), "isolated", 60, &isolate));
    assert!(shards(&folder.path().join("isolated")) == plain, "isolated");
    let report = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let nodes = report["progress"]["nodes"].as_array().unwrap();
    let tiers: Vec<&str> = nodes.iter().map(|node| node["tier"].as_str().unwrap()).collect();
    assert_eq!(tiers, ["", "worker process", "in process", ""]);
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ctrl_c_stops_all_processes_and_a_resume_completes() {
    let folder = tempfile::tempdir().unwrap();
    succeed(quickstart(folder.path(), "plain", 600, &[]));
    let plain = shards(&folder.path().join("plain"));
    let mut command = quickstart(folder.path(), "three", 600, &["--processes", "3"]);
    let running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut running = Kill(running);
    let log = folder.path().join("three/_delta_log/00000000000000000002.json");
    while !log.exists() {
        assert!(running.0.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_process(Pid::from_child(&running.0), Signal::INT).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(130));
    let kept = shards(&folder.path().join("three"));
    assert!(kept.len() < plain.len(), "{} shards", kept.len());
    succeed(quickstart(folder.path(), "three", 600, &["--processes", "2"]));
    assert!(shards(&folder.path().join("three")) == plain);
}

#[test]
fn the_commands_of_processes_are_not_for_people() {
    for command in ["worker", "invoke"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_anabranch"));
        let output = program.arg(command).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("anabranch run") && told.lines().count() == 1, "{told}");
    }
}
