//! Bytes in flight stay within the credit, however slow the sink is and however much the input grows.

use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_tests::program::{Job, Running, data};

use crate::{PROGRAM, folder, soak, table};

const MIB: u64 = 1 << 20;
/// What a process may hold beyond its credit.
const BEYOND: u64 = 150 * MIB;

/// Photos as JPEG, decoded to about twenty times their size, into a sink that takes 1 MB per second.
const SLOW: &str = r#"
[job]
name = "slow"
credit = "128MiB"
part = { records = 256 }
threads = 2

[vars]
data = "data"
out = "table"

[source.files]
kind = "files"
path = "${data}/*.jpg"

[operator.decode]
kind = "decode"
column = "image"
inputs = ["files"]

[sink.table]
kind = "slow_table"
path = "${out}"
rate = "1MB"
row_group = "4MiB"
inputs = ["decode"]
"#;

/// The photos as JPEG files, under so many names each.
fn jpegs(folder: &Path, names: usize) -> std::path::PathBuf {
    let place = folder.join("jpegs");
    std::fs::create_dir_all(&place).unwrap();
    let job = Job::example(PROGRAM, folder, "photos").out("photos");
    // The size that was asked for is the one that the photos have.
    job.set("operator.resize.width", 768).set("operator.resize.height", 512).succeed();
    let rows = anabranch_tests::table::Table::at(folder.join("photos")).rows("table");
    let images = anabranch_pipelines::record::media::of(&rows, "image").unwrap();
    for row in 0..rows.num_rows() {
        let bytes = anabranch_pipelines::record::media::bytes(images, row).unwrap();
        let grows = 768 * 512 * 3 / bytes.len();
        assert!(grows >= 10, "photo {row} grows {grows}-fold");
        let first = place.join(format!("{row}-0.jpg"));
        std::fs::write(&first, bytes).unwrap();
        for name in 1..names {
            std::fs::hard_link(&first, place.join(format!("{row}-{name}.jpg"))).unwrap();
        }
    }
    place
}

/// The peak of the job while the sink holds everything up. Without bounds, everything would be read and
/// decoded by the end of this time.
fn peak_while_slow(mut running: Running, time: Duration) -> u64 {
    let begun = Instant::now();
    let mut peak = 0;
    while begun.elapsed() < time && !running.has_ended() {
        peak = peak.max(running.peak_rss());
        std::thread::sleep(Duration::from_millis(20));
    }
    if running.has_ended() {
        let ended = running.wait();
        panic!("it was to be held up by its sink: {}{}", ended.out, ended.err);
    }
    running.kill();
    peak
}

#[test]
fn memory_is_bounded_by_the_credit() {
    let folder = folder();
    let jpegs = jpegs(folder.path(), 200);
    let stored: u64 =
        std::fs::read_dir(&jpegs).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(stored > 128 * MIB, "{stored} bytes are not larger than the credit");
    let job = Job::text(PROGRAM, folder.path(), SLOW).out("table").set("data", jpegs.display());
    let time = Duration::from_secs(if soak() { 120 } else { 15 });
    let peak = peak_while_slow(job.start(), time);
    println!("peak {} MiB with a credit of 128 MiB", peak / MIB);
    assert!(peak <= 128 * MIB + BEYOND, "{} MiB", peak / MIB);
    assert!(peak > 50 * MIB, "{} MiB: it did not do anything", peak / MIB);
    let _ = (table(folder.path()), data());
}
