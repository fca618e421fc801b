//! What the framework costs: the run against a plain loop over the same work, in the same process.
//!
//! Both read the same JPEG files, decode, resize and encode them with the same codecs, and write the same
//! columns with the same Parquet settings to durable files. Runs alternate with loops, the order within a
//! pair alternates too, and the figures are medians over pairs, so that a busy machine disturbs both
//! alike.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

mod measure;
mod nothing;
mod pictures;
mod plain;
mod whole;

use measure::{Cost, cost, median, report, smoke};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Both sides have the allocator of the program, and its settings.
    anabranch::memory::keep_what_is_freed();
    let (pictures, pairs, records) = if smoke() { (100, 1, 20_000) } else { (4000, 9, 2_000_000) };
    let folder = tempfile::tempdir().unwrap();
    pictures::write(&folder.path().join("pictures"), pictures);

    // Page cache, lazy statics and thread pools are warm for both afterwards.
    plain::run(folder.path());
    whole::run(folder.path());
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let plain = || cost(|| plain::run(folder.path())).1;
        let whole = || cost(|| whole::run(folder.path())).1;
        let (plain, whole): (Cost, Cost) = if pair % 2 == 0 {
            let plain = plain();
            (plain, whole())
        } else {
            let whole = whole();
            (plain(), whole)
        };
        eprintln!("pair {pair}: plain {plain:.3?}, run {whole:.3?}");
        cpu.push(100.0 * (whole.cpu / plain.cpu - 1.0));
        wall.push(100.0 * (whole.wall / plain.wall - 1.0));
    }
    let noop: Vec<f64> = (0..pairs).map(|_| nothing::run(records)).collect();
    report(
        "overhead",
        &[
            ("slowdown_percent", median(cpu), "%"),
            ("wall_slowdown_percent", median(wall), "%"),
            ("noop_ns_per_record", median(noop), "ns"),
        ],
    );
}
