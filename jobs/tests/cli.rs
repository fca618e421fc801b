//! Commands, flags and exit codes, on the quickstart.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart.toml");

fn anabranch(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    command.current_dir(folder).args(args).stdin(Stdio::null()).output().unwrap()
}

fn run(folder: &Path, more: &[&str]) -> Output {
    anabranch(folder, &[&["run", QUICKSTART, "--set", "records=40"], more].concat())
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn run_writes_a_table_and_a_second_run_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &[]);
    assert_eq!(first.status.code(), Some(0), "{}", err(&first));
    assert!(out(&first).contains("quickstart is complete"), "{}", out(&first));
    assert!(out(&first).contains("40 records"), "{}", out(&first));
    assert!(folder.path().join("quickstart-table/_delta_log").is_dir());
    let second = run(folder.path(), &[]);
    assert_eq!(second.status.code(), Some(0));
    assert!(out(&second).contains("already complete"), "{}", out(&second));
    assert!(out(&second).contains("--if-exists overwrite"));
}

#[test]
fn if_exists_decides_about_a_second_run() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &[]).status.code(), Some(0));
    assert_eq!(run(folder.path(), &["--if-exists", "error"]).status.code(), Some(1));
    for choice in ["overwrite", "append"] {
        let again = run(folder.path(), &["--if-exists", choice]);
        assert_eq!(again.status.code(), Some(0), "{choice}: {}", err(&again));
        assert!(out(&again).contains("quickstart is complete"), "{choice}: {}", out(&again));
    }
}

#[test]
fn report_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(folder.path(), &["--report", "report.json", "--workers", "2"]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let text = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ending"], "complete");
    assert_eq!(report["outputs"]["table"]["rows"], 40);
}

#[test]
fn a_run_whose_records_were_all_refused_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let job = "job.name = 'broken'\n\
               [source.photos]\nkind = 'files'\npath = 'in/*.png'\n\
               [operator.decode]\nkind = 'decode'\ncolumn = 'image'\ninputs = ['photos']\n\
               [sink.table]\nkind = 'table'\npath = 'out'\ninputs = ['decode']\n";
    std::fs::write(folder.path().join("job.toml"), job).unwrap();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for name in ["a", "b"] {
        std::fs::write(folder.path().join(format!("in/{name}.png")), "no picture").unwrap();
    }
    let done = anabranch(folder.path(), &["run", "job.toml"]);
    assert_eq!(done.status.code(), Some(1), "{}", err(&done));
    assert!(
        err(&done).contains("nothing was written: every record was refused (2)"),
        "{}",
        err(&done)
    );
    assert!(out(&done).contains("every record was refused"), "{}", out(&done));
}

#[test]
fn quiet_prints_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(folder.path(), &["--quiet"]);
    assert_eq!(
        (done.status.code(), out(&done), err(&done)),
        (Some(0), String::new(), String::new())
    );
}

#[test]
fn json_logs_are_one_object_per_line() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(folder.path(), &["--log-format", "json"]);
    let lines: Vec<serde_json::Value> =
        err(&done).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["event"], "report");
}

#[test]
fn a_dash_reads_the_job_from_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_anabranch"))
        .current_dir(folder.path())
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"[job]\nnme = 'x'\n").unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(err(&done).contains("--> stdin:2:1"), "{}", err(&done));
}

#[test]
fn check_and_plan_tell_classes_and_memory_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let check = anabranch(folder.path(), &["check", QUICKSTART]);
    assert!(out(&check).contains("as a whole it is pure"), "{}{}", out(&check), err(&check));
    let plan = anabranch(folder.path(), &["plan", QUICKSTART]);
    assert!(out(&plan).contains("batches in flight"), "{}", out(&plan));
    let json = anabranch(folder.path(), &["plan", QUICKSTART, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out(&json)).unwrap();
    assert_eq!(json["class"], "pure");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_sample_is_measured_and_predicts_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let text = anabranch(folder.path(), &["plan", QUICKSTART, "--sample", "70"]);
    assert_eq!(text.status.code(), Some(0), "{}", err(&text));
    assert!(out(&text).contains("a sample of 70 records was run"), "{}", out(&text));
    assert!(out(&text).contains("600 records (counted)"), "{}", out(&text));
    let args = ["plan", QUICKSTART, "--sample", "60", "--json", "--set", "records=6000"];
    let json = anabranch(folder.path(), &args);
    let json: serde_json::Value = serde_json::from_str(&out(&json)).unwrap();
    let measured = json["measured"]["outputs"]["table"]["bytes"].as_f64().unwrap();
    let predicted = json["predicted"]["outputs"][0][2].as_f64().unwrap();
    assert_eq!(json["measured"]["outputs"]["table"]["rows"], 60);
    assert!((predicted / measured - 100.0).abs() < 1e-6, "{measured} {predicted}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a sample keeps nothing");
}

#[test]
fn an_interrupted_run_commits_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let many = [
        "run",
        QUICKSTART,
        "--set",
        "records=3000",
        "--set",
        "job.part.records=64",
        "--set",
        "job.commit.parts=1",
    ];
    let child = Command::new(env!("CARGO_BIN_EXE_anabranch"))
        .current_dir(folder.path())
        .args(many)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let runs = folder.path().join("quickstart-table/_anabranch/runs");
    let committed = || {
        let mut entries = std::fs::read_dir(&runs).into_iter().flatten().flatten();
        entries.any(|run| run.path().join("commits/00000000.json").exists())
    };
    while !committed() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130), "{}{}", out(&stopped), err(&stopped));
    assert!(out(&stopped).contains("Run the same command again"), "{}", out(&stopped));
    let again = anabranch(folder.path(), &many);
    assert_eq!(again.status.code(), Some(0), "{}", err(&again));
    assert!(err(&again).contains("goes on after commit"), "{}", err(&again));
    assert!(out(&again).contains("3,000 rows"), "{}", out(&again));
}

#[test]
fn inspect_shows_columns_runs_and_rows() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &[]).status.code(), Some(0));
    let text = anabranch(folder.path(), &["inspect", "quickstart-table", "--rows", "1"]);
    assert_eq!(text.status.code(), Some(0), "{}", err(&text));
    for part in ["40 rows in 1 shard", "  image", "of quickstart, 1 commit, complete", "row 1"] {
        assert!(out(&text).contains(part), "{part}: {}", out(&text));
    }
    let json = anabranch(folder.path(), &["inspect", "quickstart-table", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out(&json)).unwrap();
    assert_eq!((json["rows"].as_u64(), json["first"].as_array().unwrap().len()), (Some(40), 3));
    assert_eq!(json["runs"][0]["dead_letters"], 0);
    let missing = anabranch(folder.path(), &["inspect", "nothing-here"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(err(&missing).contains("nothing-here"), "{}", err(&missing));
}

#[test]
fn compressed_texts_are_shown_and_read_again_without_naming_their_dictionary() {
    let folder = tempfile::tempdir().unwrap();
    let texts = (0..3000).map(|at| {
        let place = ["harbour", "meadow", "kitchen", "orchard"][at * 7 % 4];
        format!("{{\"text\": \"A photograph of the {place} in the afternoon, number {at}.\"}}\n")
    });
    std::fs::write(folder.path().join("texts.jsonl"), texts.collect::<String>()).unwrap();
    let job = |name: &str, source: &str, operator: &str| {
        let job = format!(
            "[job]\nname = \"{name}\"\n[source.in]\n{source}\n\
             [operator.text]\n{operator}\ncolumn = \"text\"\ninputs = [\"in\"]\n\
             [sink.out]\nkind = \"table\"\npath = \"{name}\"\ninputs = [\"text\"]\n"
        );
        let file = format!("{name}.toml");
        std::fs::write(folder.path().join(&file), job).unwrap();
        let run = anabranch(folder.path(), &["run", &file]);
        assert_eq!(run.status.code(), Some(0), "{}", err(&run));
        let table = anabranch(folder.path(), &["inspect", name, "--json"]);
        let table: serde_json::Value = serde_json::from_str(&out(&table)).unwrap();
        assert_eq!((&table["rows"], &table["runs"][0]["dead_letters"]), (&3000.into(), &0.into()));
        let value = |pair: &serde_json::Value| (pair[0] == "text").then(|| pair[1].to_string());
        table["first"][1].as_array().unwrap().iter().find_map(value).unwrap()
    };
    let compress = "kind = \"encode\"\ncodec = \"zstd\"";
    let source = "kind = \"jsonl\"\npath = \"texts.jsonl\"";
    let second = "\"A photograph of the orchard in the afternoon, number 1.\"";
    assert_eq!(job("small", source, compress), second);
    let decisions = folder.path().join("small/_anabranch/runs");
    let run = std::fs::read_dir(decisions).unwrap().next().unwrap().unwrap().path();
    assert!(run.join("decisions/text").metadata().unwrap().len() > 0);
    assert_eq!(job("again", "kind = \"table\"\npath = \"small\"", "kind = \"decode\""), second);
}

#[test]
fn schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let schema: serde_json::Value =
        serde_json::from_str(&out(&anabranch(folder.path(), &["schema"]))).unwrap();
    assert_eq!(schema["properties"]["job"]["type"], "object");
}

#[test]
fn wrong_usage_and_missing_files_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for args in
        [&["rum"][..], &["run"], &["run", "missing.toml"], &["run", QUICKSTART, "--workers", "0"]]
    {
        assert_eq!(anabranch(folder.path(), args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(anabranch(folder.path(), &["--help"]).status.code(), Some(0));
}

#[test]
fn an_impossible_graph_names_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let small = anabranch(folder.path(), &["check", QUICKSTART, "--set", "job.credit=1KiB"]);
    assert_eq!(small.status.code(), Some(2));
    assert!(err(&small).contains("is too small"), "{}", err(&small));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("set -o pipefail; {} schema | head -c 1", env!("CARGO_BIN_EXE_anabranch"));
    let done =
        Command::new("bash").current_dir(folder.path()).args(["-c", &script]).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
}
