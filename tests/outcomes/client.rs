//! Tools of other projects open our tables, and all of them see the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use anabranch_pipelines::record::media;
use anabranch_tests::program::{python, root};
use anabranch_tests::table::Table;
use arrow::array::AsArray;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::{example, folder, table};

/// What a script prints of a folder, a row on each line, and what it says beside.
fn printed(python: &Path, script: &str, reader: &str, folder: &Path) -> (Vec<Json>, String) {
    let ran = Command::new(python)
        .arg(root().join("tests/clients").join(script))
        .arg(reader)
        .arg(folder)
        .env("HF_DATASETS_OFFLINE", "1")
        .output()
        .unwrap();
    let beside = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{reader}: {beside}");
    let text = String::from_utf8(ran.stdout).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), beside)
}

/// What one tool sees of a table, ordered by id, and what it says beside.
fn seen_by(reader: &str, table: &Table) -> (Vec<Json>, String) {
    printed(&python(), "read.py", reader, &table.path)
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

/// The quickstart job with a sink of this kind and these settings, in a folder of that name.
fn quickstart(folder: &Path, kind: &str, sets: &[(&str, &str)]) -> PathBuf {
    let job = example(folder, "quickstart").set("records", 50).set("job.part.records", 20);
    sets.iter().fold(job.sink(kind).out(kind), |job, (key, value)| job.set(key, value)).succeed();
    folder.join(kind)
}

/// What training loops want of the rows that Polars sees in a table of the same job, ordered by key.
fn expected(folder: &Path) -> Vec<Json> {
    let table = Table::at(quickstart(folder, "table", &[]));
    let mut rows = seen_by("polars", &table).0;
    rows.sort_by_key(|row| row["key"].as_str().unwrap().to_owned());
    assert_eq!(rows.len(), 50);
    let row = |row: &Json| {
        let (image, audio) = (&row["image"]["decoded"], &row["audio"]["decoded"]);
        serde_json::json!({
            "key": row["key"], "image": image, "audio": audio, "caption": row["caption"],
            "label": row["label"], "image_width": row["image_width"],
        })
    };
    rows.iter().map(row).collect()
}

#[test]
fn client_libraries_iterate_webdataset_shards() {
    let folder = folder();
    let expected = expected(folder.path());
    let written = quickstart(folder.path(), "webdataset", &[]);
    assert_eq!(printed(&python(), "iterate.py", "webdataset", &written).0, expected);
    // Without torch, `datasets` takes no sound from archives: here it is bytes.
    std::fs::remove_dir_all(&written).unwrap();
    let sets = [("sink.table.members.audio", "sound")];
    let written = quickstart(folder.path(), "webdataset", &sets);
    assert_eq!(printed(&python(), "iterate.py", "datasets", &written).0, expected);
}

#[test]
fn client_datasets_loads_a_folder_of_parquet() {
    let folder = folder();
    let expected = expected(folder.path());
    let written = quickstart(folder.path(), "parquet", &[]);
    assert_eq!(printed(&python(), "iterate.py", "datasets", &written).0, expected);
}

/// Python with the libraries of training loops, several gigabytes that only `ci/soak` installs.
fn training_python() -> PathBuf {
    let venv =
        std::env::var_os("ANABRANCH_SOAK_VENV").expect("ANABRANCH_SOAK_VENV, which ci/soak sets");
    PathBuf::from(venv).join("bin/python")
}

#[test]
#[ignore = "needs PyTorch, which ci/soak installs"]
fn client_training_loops_iterate_webdataset_shards() {
    let folder = folder();
    let expected = expected(folder.path());
    let written = quickstart(folder.path(), "webdataset", &[]);
    for reader in ["wids", "torch_webdataset"] {
        let found = printed(&training_python(), "iterate.py", reader, &written).0;
        assert_eq!(found, expected, "{reader}");
    }
}

#[test]
#[ignore = "needs mosaicml-streaming and PyTorch, which ci/soak installs"]
fn client_training_loops_iterate_mds_shards() {
    for compression in ["none", "zstd"] {
        let folder = folder();
        let expected = expected(folder.path());
        let sets = [
            ("sink.table.compression", compression),
            ("sink.table.encodings", r#"{ image = "jpeg", label = "int" }"#),
        ];
        let written = quickstart(folder.path(), "mds", &sets);
        for reader in ["streaming", "torch_streaming"] {
            let found = printed(&training_python(), "iterate.py", reader, &written).0;
            assert_eq!(found, expected, "{reader}, {compression}");
        }
    }
}
