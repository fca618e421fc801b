//! A job that is kept running: what is added appears, and nothing is lost or doubled by kills.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_tests::program::{HUNG, Job, Running, data};
use anabranch_tests::table::Table;
use arrow::array::AsArray;
use rustix::process::Signal;

use crate::{PROGRAM, folder, table};

const WATCH: &str = r#"
[job]
name = "watch"
mode = "stream"
poll = "50ms"
part = { records = 3 }
commit = { interval = "100ms" }

[vars]
out = "table"

[source.files]
kind = "files"
path = "inbox/*.png"

[operator.decode]
kind = "decode"
column = "image"
inputs = ["files"]

[operator.encode]
kind = "encode"
column = "image"
codec = "webp"
inputs = ["decode"]

[sink.table]
kind = "table"
path = "${out}"
inputs = ["encode"]
"#;

/// Puts a photo into the inbox in one step, as a careful writer does.
fn add(folder: &Path, photo: usize) {
    let name = format!("kodim{photo:02}.png");
    let from = data().join("photos").join(&name);
    std::fs::copy(from, folder.join(format!("{name}.part"))).unwrap();
    std::fs::rename(folder.join(format!("{name}.part")), folder.join("inbox").join(name)).unwrap();
}

/// Waits until readers see so many rows.
fn wait_for(table: &Table, rows: usize, running: &mut Running) {
    let begun = Instant::now();
    while table.visible_rows() < rows {
        assert!(!running.has_ended(), "the stream ended by itself");
        assert!(begun.elapsed() < HUNG, "{} rows, not {rows}", table.visible_rows());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// (Key, image) of all visible rows, in order of keys.
fn content(table: &Table) -> Vec<(String, Vec<u8>)> {
    let rows = table.rows("table");
    let keys = rows.column_by_name("key").unwrap().as_string::<i32>();
    let images = anabranch_pipelines::record::media::of(&rows, "image").unwrap();
    let bytes = |row| anabranch_pipelines::record::media::bytes(images, row).unwrap().to_vec();
    let mut rows: Vec<(String, Vec<u8>)> =
        (0..rows.num_rows()).map(|row| (keys.value(row).to_owned(), bytes(row))).collect();
    rows.sort();
    rows
}

#[test]
fn stream_of_a_watched_folder_equals_the_batch() {
    let folder = folder();
    let job = Job::text(PROGRAM, folder.path(), WATCH);
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    let table = table(folder.path());
    let mut running = job.clone().out("table").start();
    (1..=3).for_each(|photo| add(folder.path(), photo));
    wait_for(&table, 3, &mut running);
    (4..=5).for_each(|photo| add(folder.path(), photo));
    wait_for(&table, 5, &mut running);
    // Killed with files on their way.
    (6..=9).for_each(|photo| add(folder.path(), photo));
    running.kill();
    let seen = table.visible();
    (10..=12).for_each(|photo| add(folder.path(), photo));
    let mut running = job.clone().out("table").set("job.workers", 2).start();
    wait_for(&table, 12, &mut running);
    assert!(seen.is_subset(&table.visible()), "what was visible stays");
    // Ctrl-C commits what is in flight and says so.
    running.signal(Signal::INT);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("was stopped"), "{}", ended.out);
    let found = content(&table);
    let keys: BTreeSet<&String> = found.iter().map(|(key, _)| key).collect();
    assert_eq!((keys.len(), found.len()), (12, 12), "each file once");
    job.out("batch").set("job.mode", "batch").succeed();
    assert!(found == content(&Table::at(folder.path().join("batch"))), "the batch has other rows");
}

#[test]
fn stream_that_is_interrupted_commits_what_it_has() {
    let folder = folder();
    let job =
        Job::text(PROGRAM, folder.path(), WATCH).out("table").set("job.commit.interval", "10m");
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    let table = table(folder.path());
    (1..=4).for_each(|photo| add(folder.path(), photo));
    let running = job.start();
    // Shards stand in the table's folder before any commit does.
    let begun = Instant::now();
    while std::fs::read_dir(table.path.join("data")).map_or(0, Iterator::count) < 1 {
        assert!(begun.elapsed() < HUNG, "no shard came");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(table.visible_rows(), 0, "nothing is visible before its commit");
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code, Some(130));
    assert!(table.visible_rows() > 0, "what was in flight is committed");
    // One photo more, to see that the second start is under way before it is interrupted.
    add(folder.path(), 5);
    let mut running = job.set("job.commit.interval", "100ms").start();
    wait_for(&table, 5, &mut running);
    running.signal(Signal::INT);
    assert_eq!(running.wait().code, Some(130));
    assert_eq!(content(&table).len(), 5);
}
