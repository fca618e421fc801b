//! Commands beside `run`, through the program, on real data.

use std::path::Path;
use std::process::{Command, Output};

use anabranch_tests::program::data;

use crate::{PROGRAM, example, folder, table};

fn anabranch(folder: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).current_dir(folder).output().unwrap()
}

/// What a command prints that must end well.
fn prints(folder: &Path, args: &[&str]) -> String {
    let output = anabranch(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn command_init_writes_jobs_that_run() {
    let folder = folder();
    let cases = [
        ("photos", 15, "codec = \"webp\""),
        ("audio_clips", 3, "codec = \"flac\""),
        ("fashion", 6000, "labels = { path = "),
        ("avmnist", 12_000, "kind = \"csv\""),
    ];
    for (name, rows, guessed) in cases {
        let (path, job) = (data().join(name).display().to_string(), format!("{name}.toml"));
        prints(folder.path(), &["init", &path, "--to", &job]);
        let text = std::fs::read_to_string(folder.path().join(&job)).unwrap();
        assert!(text.contains(guessed), "{text}");
        prints(folder.path(), &["run", "--quiet", &job]);
        let seen = prints(folder.path(), &["inspect", &format!("{name}-table"), "--json"]);
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["rows"], rows, "{name}");
        // A file that is there is not written over by accident.
        assert_eq!(anabranch(folder.path(), &["init", &path, "--to", &job]).status.code(), Some(1));
    }
}

#[test]
fn command_diff_tells_what_changed() {
    let folder = folder();
    example(folder.path(), "photos").succeed();
    let same = prints(folder.path(), &["diff", "table", "table", "--exit-code"]);
    assert_eq!(same, "same: 15 records: the tables hold the same records\n");
    let worse = example(folder.path(), "photos").set("operator.encode.quality", 30);
    worse.arg("--if-exists").arg("overwrite").succeed();
    let args = ["diff", "table", "--old-version", "0", "--json", "--exit-code"];
    let output = anabranch(folder.path(), &args);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["same"], &found["changed"]["records"]), (&0.into(), &15.into()), "{found}");
    assert_eq!(found["columns"], serde_json::json!({ "image": 15 }));
    // Three photos fewer, in another table.
    let fewer = example(folder.path(), "photos").out("fewer");
    fewer.set("source.files.path", data().join("photos/kodim*.png").display()).succeed();
    let found = prints(folder.path(), &["diff", "table", "fewer", "--show", "1"]);
    assert!(found.starts_with("gone: 3 records: wiki001.png, ...\n"), "{found}");
    assert_eq!(table(folder.path()).rows("table").num_rows(), 15);
}

#[test]
fn command_inspect_draws_pictures_and_sounds() {
    let folder = folder();
    example(folder.path(), "quickstart").set("records", 5).succeed();
    let seen = prints(folder.path(), &["inspect", "table", "--show", "4", "--to", "drawn"]);
    for column in ["image", "audio"] {
        assert!(seen.contains(&format!("drawn/{column}.png: the first 4 records")), "{seen}");
        let png = std::fs::read(folder.path().join("drawn").join(format!("{column}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
    }
}
