//! What goes wrong inside ends with a dead letter, or with one line that says where; nothing hangs.

use anabranch_tests::program::{Ended, Job};

use crate::{PROGRAM, folder, table};

/// The photos, through an operator that goes wrong at one of them.
const FAULTY: &str = r#"
[job]
name = "faulty"
part = { records = 2 }
commit = { parts = 2 }
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

fn faulty(folder: &std::path::Path, does: &str) -> Job {
    let job = Job::text(PROGRAM, folder, FAULTY).out("table");
    job.set("data", anabranch_tests::program::data().display())
        .set("operator.fault.does", does)
        .set("job.workers", 2)
}

/// Ends with exit code 1 and one line of error that names all of these.
fn fails_naming(ended: &Ended, names: &[&str]) {
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    let errors: Vec<&str> = ended.err.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(errors.len(), 1, "one line, not {errors:#?}");
    for name in names {
        assert!(errors[0].contains(name), "`{name}` in {:?}", errors[0]);
    }
}

#[test]
fn panic_of_an_operator_is_a_dead_letter() {
    let folder = folder();
    let ended = faulty(folder.path(), "panic").succeed();
    let table = table(folder.path());
    table.check("table");
    assert_eq!(table.rows("table").num_rows(), 11);
    let letters = table.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let (key, operator, error) = &letters[0];
    assert_eq!((key.as_str(), operator.as_str()), ("kodim07.png", "fault"));
    assert_eq!(error, "the operator panicked: a fault on purpose");
    assert!(ended.out.contains("kodim07.png"), "{}", ended.out);
}

#[test]
fn panic_of_an_operator_fails_a_run_that_allows_no_errors() {
    let folder = folder();
    let job = faulty(folder.path(), "panic").set("job.max_errors", 0);
    fails_naming(&job.run(), &["fault", "kodim07.png", "a fault on purpose", "max_errors"]);
    // What was committed before stays, whole.
    assert_eq!(table(folder.path()).visible_rows(), 4);
}

#[test]
fn panic_of_a_worker_ends_the_run() {
    for workers in [1, 2] {
        let folder = folder();
        let job = faulty(folder.path(), "panic_worker").set("job.workers", workers);
        fails_naming(&job.run(), &["fault", "a fault on purpose, in the worker"]);
        assert!(table(folder.path()).visible_rows() <= 4);
    }
}

#[test]
fn panic_or_not_an_operator_that_hangs_is_a_stall() {
    let folder = folder();
    let job = faulty(folder.path(), "hang");
    fails_naming(&job.run(), &["fault", "kodim07.png", "stall"]);
    // Without the fault the next start goes on. The fault is part of the plan, so it is the key that moves.
    assert_eq!(table(folder.path()).visible_rows(), 4);
}

#[test]
fn panic_or_not_an_operator_that_fails_names_its_record() {
    let folder = folder();
    fails_naming(&faulty(folder.path(), "fail").run(), &["fault", "kodim07.png", "on purpose"]);
}
