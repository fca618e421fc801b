//! Tools of other projects open our tables, and all of them see the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use anabranch_pipelines::record::media;
use anabranch_tests::program::root;
use anabranch_tests::table::Table;
use arrow::array::AsArray;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::{example, folder, table};

/// Python with the packages that `ci/setup` installs.
fn python() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let venv =
        std::env::var_os("ANABRANCH_VENV").map_or_else(|| target.join("venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(python.is_file(), "no Python packages at {}; run ci/setup", venv.display());
    python
}

/// What one tool sees of a table, ordered by id, and what it says beside.
fn seen_by(reader: &str, table: &Table) -> (Vec<Json>, String) {
    let script = root().join("tests/clients/read.py");
    let ran = Command::new(python())
        .arg(script)
        .arg(reader)
        .arg(&table.path)
        .env("HF_DATASETS_OFFLINE", "1")
        .output()
        .unwrap();
    let beside = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{reader}: {beside}");
    let text = String::from_utf8(ran.stdout).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), beside)
}

/// Every tool agrees with every other, and with what we wrote.
fn all_agree(folder: &Path, images: &[&str], sounds: &[&str]) {
    let table = table(folder);
    let written = table.rows("table");
    let (rows, _) = seen_by("deltalake", &table);
    assert_eq!(rows.len(), written.num_rows());
    for reader in ["polars", "duckdb"] {
        assert_eq!(seen_by(reader, &table).0, rows, "{reader} and deltalake");
    }
    let (found, told) = seen_by("datasets", &table);
    assert_eq!(found, rows, "datasets and deltalake");
    let told = told.lines().find_map(|line| serde_json::from_str::<Json>(line).ok()).unwrap();
    assert_eq!(told, serde_json::json!({ "images": images, "sounds": sounds }));
    let ids = written.column_by_name("id").unwrap().as_binary::<i32>();
    let keys = written.column_by_name("key").unwrap().as_string::<i32>();
    for row in 0..written.num_rows() {
        let id = hex(ids.value(row));
        let seen = rows.iter().find(|seen| seen["id"] == id.as_str()).unwrap();
        assert_eq!(seen["key"], keys.value(row));
        for column in images.iter().chain(sounds) {
            let bytes = media::bytes(media::of(&written, column).unwrap(), row).unwrap();
            assert_eq!(seen[column]["bytes"], hex(&Sha256::digest(bytes)).as_str(), "{column}");
        }
        for column in images {
            let size = ["width", "height"].map(|side| seen[format!("{column}_{side}")].to_string());
            let decoded = seen[column]["decoded"].as_str().unwrap();
            assert!(decoded.starts_with(&size.join("x")), "{decoded} is {size:?}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn client_tools_see_images_sound_and_text() {
    let folder = folder();
    example(folder.path(), "quickstart").set("records", 50).set("job.part.records", 20).succeed();
    all_agree(folder.path(), &["image"], &["audio"]);
}

#[test]
fn client_tools_see_photos() {
    let folder = folder();
    example(folder.path(), "photos").small_commits(4).succeed();
    all_agree(folder.path(), &["image"], &[]);
}

#[test]
fn client_tools_see_no_row_of_a_killed_run_twice() {
    let folder = folder();
    let job = example(folder.path(), "photos").small_commits(1);
    let table = table(folder.path());
    let mut running = job.start();
    while table.commits() < 2 && !running.has_ended() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    running.kill_all();
    // Whole commits, whatever the moment: readers see some of the photos, each once.
    let (rows, _) = seen_by("polars", &table);
    assert_eq!(rows.len(), table.visible_rows());
    job.succeed();
    assert_eq!(seen_by("polars", &table).0.len(), 15);
    all_agree(folder.path(), &["image"], &[]);
}
