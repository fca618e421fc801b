//! Every job in `jobs/examples` does on real data what its first lines say.

use std::process::Command;

use anabranch_operators::codec::{self, Limits};
use anabranch_tests::dataset::Dataset;
use anabranch_tests::program::{Job, data};
use anabranch_tests::table::Table;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;

use crate::{example, folder, table};

/// Runs an example; every record must come out, and none may be refused.
fn rows(job: impl FnOnce(Job) -> Job, name: &str) -> (RecordBatch, Table, tempfile::TempDir) {
    let folder = folder();
    job(example(folder.path(), name)).succeed();
    let table = table(folder.path());
    table.check("table");
    assert_eq!(table.dead_letters(), []);
    (table.rows("table"), table, folder)
}

/// The encodings in a column of facts, each once.
fn encodings(rows: &RecordBatch, column: &str) -> Vec<String> {
    let names = rows.column_by_name(column).unwrap().as_string::<i32>();
    let mut names: Vec<String> = names.iter().flatten().map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn example_photos_have_one_size() {
    let (rows, ..) = rows(|job| job, "photos");
    assert_eq!(rows.num_rows(), 15);
    assert_eq!(encodings(&rows, "image_encoding"), ["jpeg"]);
    let widths = rows.column_by_name("image_width").unwrap().as_primitive::<Int32Type>();
    assert!(widths.iter().all(|width| width == Some(256)), "{widths:?}");
}

#[test]
fn example_in_rust_equals_the_job_file() {
    let from_file = rows(|job| job, "photos");
    let folder = folder();
    let place = folder.path().join("table");
    let photos = data().join("photos");
    let mut command = Command::new(env!("CARGO"));
    // As the tests are built, so that little is compiled again.
    command.args(["run", "--quiet", "--offline", "--profile", "test", "-p", "anabranch"]);
    command.args(["--example", "photos", "--"]);
    let output = command.arg(photos).arg(&place).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Table::at(&place).hashes("table"), from_file.1.hashes("table"));
}

#[test]
fn example_spoken_digits_are_flac_and_smaller() {
    let (rows, table, _folder) = rows(|job| job, "spoken-digits");
    assert_eq!(rows.num_rows(), 2700);
    assert_eq!(encodings(&rows, "audio_encoding"), ["flac"]);
    let archive = std::fs::metadata(data().join("fsdd/fsdd_train_idx5-49.tar")).unwrap().len();
    let bytes: u64 = table.shards("table").iter().map(|shard| shard.bytes).sum();
    assert!(bytes < archive * 3 / 4, "{bytes} of {archive}");
}

#[test]
fn example_speech_is_one_channel_at_one_rate_and_small() {
    let (rows, table, _folder) = rows(|job| job, "speech");
    assert_eq!(rows.num_rows(), 3);
    assert_eq!(encodings(&rows, "audio_encoding"), ["opus"]);
    for (fact, expected) in [("audio_sample_rate", 16_000), ("audio_channels", 1)] {
        let facts = rows.column_by_name(fact).unwrap().as_primitive::<Int32Type>();
        assert!(facts.iter().all(|fact| fact == Some(expected)), "{fact}: {facts:?}");
    }
    let clips = std::fs::read_dir(data().join("audio_clips")).unwrap();
    let before: u64 = clips.map(|clip| clip.unwrap().metadata().unwrap().len()).sum();
    let after: u64 = table.shards("table").iter().map(|shard| shard.bytes).sum();
    assert!(after * 15 < before, "{after} of {before}");
}

#[test]
fn example_fashion_has_pictures_titles_and_labels() {
    let (rows, ..) = rows(|job| job, "fashion");
    assert_eq!(rows.num_rows(), 6000);
    assert_eq!(encodings(&rows, "image_encoding"), ["webp"]);
    for column in ["text", "masterCategory", "split"] {
        assert_eq!(rows.column_by_name(column).unwrap().null_count(), 0, "{column}");
    }
}

#[test]
fn example_cifar10_is_lossless() {
    let (rows, ..) = rows(|job| job, "cifar10");
    assert_eq!(rows.num_rows(), 4000);
    assert_eq!(encodings(&rows, "image_encoding"), ["png"]);
    // The first picture of the file, pixel by pixel: planes there, interleaved here.
    let stored = std::fs::read(data().join("cifar10/exact_train_0000-3999.bin")).unwrap();
    let media = rows.column_by_name("image").unwrap().as_struct();
    let png = media.column_by_name("bytes").unwrap().as_binary::<i32>().value(0);
    let mut pixels = Vec::new();
    codec::sniff(png).unwrap().decode(png, &Limits::default(), &mut pixels).unwrap();
    let plane = |channel: usize, at: usize| stored[1 + channel * 1024 + at];
    let planes: Vec<u8> = (0..3072).map(|at| plane(at % 3, at / 3)).collect();
    assert_eq!(pixels, planes);
}

#[test]
fn example_avmnist_joins_every_pair() {
    let (rows, ..) = rows(|job| job, "avmnist");
    let pairs = std::fs::read_to_string(data().join("avmnist/pairs.tsv")).unwrap();
    assert_eq!(rows.num_rows(), pairs.lines().count() - 1);
    for column in ["image", "audio"] {
        assert_eq!(rows.column_by_name(column).unwrap().null_count(), 0, "{column}");
    }
    assert_eq!(encodings(&rows, "audio_encoding"), ["flac"]);
}

#[test]
fn example_text_is_smaller_paragraph_by_paragraph() {
    let (rows, ..) = rows(|job| job, "text");
    let text = std::fs::read_to_string(data().join("text/tinyshakespeare.txt")).unwrap();
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).count();
    assert_eq!(rows.num_rows(), paragraphs);
    let compressed = rows.column_by_name("text").unwrap().as_struct();
    let compressed = compressed.column_by_name("bytes").unwrap().as_binary::<i32>();
    let bytes: usize = compressed.iter().flatten().map(<[u8]>::len).sum();
    assert!(bytes * 3 < text.len() * 2, "{bytes} of {}", text.len());
}

#[test]
fn example_shards_are_the_same_records_in_three_formats() {
    let folder = folder();
    example(folder.path(), "shards").set("records", 450).succeed();
    let out = folder.path().join("table");
    let kinds = ["webdataset", "mds", "parquet"];
    let logged = kinds.into_iter().find(|kind| out.join(kind).join("_anabranch").is_dir());
    let log = Table::at(out.join(logged.expect("a run log below the first sink")));
    assert_eq!(log.dead_letters(), []);
    for kind in kinds {
        assert_eq!(Dataset::at(kind, out.join(kind)).visible().len(), 3, "{kind}");
        assert_eq!(log.shards(kind).iter().map(|shard| shard.rows).sum::<u64>(), 450, "{kind}");
    }
}

#[test]
fn example_tokens_are_of_each_text_once() {
    let (rows, table, _folder) = rows(|job| job, "tokens");
    let texts = rows.column_by_name("text").unwrap().as_string::<i32>();
    let mut seen = std::collections::HashSet::new();
    assert!(texts.iter().all(|text| seen.insert(text.unwrap())), "a text is there twice");
    let all = std::fs::read_to_string(data().join("text/tinyshakespeare.txt")).unwrap();
    // Which are kept, by the job's own words: 30 characters, most of them letters, the first of each.
    let words = |paragraph: &str| {
        let lines =
            paragraph.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    let kept = |text: &String| {
        let characters = text.chars().filter(|c| !c.is_whitespace()).count();
        let letters = text.chars().filter(|c| c.is_alphanumeric()).count();
        characters >= 30 && letters as f64 >= characters as f64 * 0.6
    };
    let expected: std::collections::HashSet<String> =
        all.split("\n\n").map(words).filter(kept).collect();
    assert_eq!(seen.len(), expected.len());
    let tokens = rows.column_by_name("tokens").unwrap().as_list::<i32>();
    assert!(tokens.iter().all(|tokens| !tokens.unwrap().is_empty()));
    let ids = tokens.values().as_primitive::<Int32Type>();
    assert!(ids.values().iter().all(|id| (1..1024).contains(id)));
    let run = table.path.join("_anabranch/runs").read_dir().unwrap().next().unwrap().unwrap();
    assert!(run.path().join("decisions/tokens").is_file());
}
