//! Bytes in flight stay within the credit, however slow the sink is and however much the input grows.

use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_tests::program::Job;

use crate::{PROGRAM, folder, soak};

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

/// The peaks of the job's processes while the sink holds everything up. Without bounds, everything would be
/// read and decoded by the end of this time.
fn peaks_while_slow(job: &Job) -> Vec<u64> {
    let mut running = job.start();
    let time = Duration::from_secs(if soak() { 120 } else { 12 });
    let begun = Instant::now();
    let mut peaks = Vec::new();
    while begun.elapsed() < time && !running.has_ended() {
        peaks = running.peaks();
        std::thread::sleep(Duration::from_millis(20));
    }
    if running.has_ended() {
        let ended = running.wait();
        panic!("it was to be held up by its sink: {}{}", ended.out, ended.err);
    }
    running.kill_all();
    peaks
}

fn stays_within(job: &Job, credit: u64, processes: usize) {
    let peaks = peaks_while_slow(job);
    let mib: Vec<u64> = peaks.iter().map(|peak| peak / MIB).collect();
    println!("peaks of {mib:?} MiB with a credit of {credit} MiB");
    // The credit is shared by all processes of the run.
    let most = credit * MIB + processes as u64 * BEYOND;
    assert!(peaks.iter().sum::<u64>() <= most, "{mib:?} MiB with a credit of {credit} MiB");
    assert!(peaks.iter().max().is_some_and(|peak| *peak > 50 * MIB), "{mib:?} MiB: it did nothing");
}

#[test]
fn memory_is_bounded_by_the_credit() {
    let folder = folder();
    let jpegs = jpegs(folder.path(), 200);
    let files = std::fs::read_dir(&jpegs).unwrap();
    let stored: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(stored > 128 * MIB, "{stored} bytes are not larger than the credit");
    let job = Job::text(PROGRAM, folder.path(), SLOW).out("table").set("data", jpegs.display());
    stays_within(&job, 128, 1);
    let job = job.out("table-of-three").set("job.processes", 3).set("job.credit", "256MiB");
    stays_within(&job, 256, 3);
}

#[test]
fn memory_of_a_join_is_bounded_by_the_credit() {
    let folder = folder();
    let jpegs = jpegs(folder.path(), 200);
    let names = std::fs::read_dir(&jpegs).unwrap().map(|file| file.unwrap().file_name());
    let rows: String = names.map(|name| format!("{}\n", name.to_string_lossy())).collect();
    std::fs::write(folder.path().join("names.csv"), format!("name\n{rows}")).unwrap();
    let text = SLOW
        .replace("[operator.decode]", JOIN)
        .replace(r#"inputs = ["files"]"#, r#"inputs = ["join"]"#);
    let job = Job::text(PROGRAM, folder.path(), &text).out("table").set("data", jpegs.display());
    stays_within(&job.set("job.credit", "256MiB"), 256, 1);
}

#[test]
fn memory_of_a_decoding_reader_is_bounded_by_its_windows() {
    let folder = folder();
    // Texts that no codec makes smaller, 2 MiB each.
    std::fs::create_dir(folder.path().join("texts")).unwrap();
    let mut state = 1_u64;
    for file in 0..50 {
        let letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b' ' + (state >> 58) as u8
        };
        let text: Vec<u8> = (0..2 * MIB).map(letter).collect();
        std::fs::write(folder.path().join(format!("texts/{file}.txt")), text).unwrap();
    }
    let job = "[job]\nname = 'texts'\n[source.texts]\nkind = 'text'\npath = 'texts/*.txt'\n\
               split = 'files'\n[sink.table]\nkind = 'table'\npath = 'table'\ninputs = ['texts']\n";
    Job::text(PROGRAM, folder.path(), job).succeed();
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    for order in [&["--shuffle", "7"][..], &[]] {
        // A batch is as large as many windows: if each batch that waits held its own, they would be the most of it.
        let (window, batch) = (8 * MIB, 64);
        let mut command = std::process::Command::new(PROGRAM);
        command.current_dir(folder.path()).args(["--quiet", "read", "table", "--decode"]);
        command.args(["--window", "8MiB", "--passes", "1000", "--batch", &batch.to_string()]);
        let piped = std::process::Stdio::piped();
        let mut child = command.args(order).stdout(piped).spawn().unwrap();
        // Nobody reads on after the first bytes, and it fills what it may fill.
        let mut first = [0; 8];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        std::thread::sleep(Duration::from_secs(if soak() { 20 } else { 6 }));
        let peak = anabranch_tests::program::peak(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let made = batch * 2 * MIB;
        // Of each thread a batch that waits, and one in the making, which is put together from its windows; one that
        // is written. The windows of one batch and of a part of the next, unpacked.
        let most = (3 * threads + 2) * made + 2 * made * 4 / 3 + 3 * window + BEYOND;
        println!("{order:?}: a peak of {} MiB, {} MiB allowed", peak / MIB, most / MIB);
        assert!(peak <= most, "{order:?}: {} MiB, more than {} MiB", peak / MIB, most / MIB);
        assert!(peak > made, "{order:?}: {} MiB: it did nothing", peak / MIB);
    }
}

/// Every photo meets its name.
const JOIN: &str = r#"[source.names]
kind = "csv"
path = "names.csv"

[operator.join]
kind = "join"
left_on = "name"
right_on = "key"
memory = "32MiB"
inputs = ["names", "files"]

[operator.decode]"#;
