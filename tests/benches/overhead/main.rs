//! What the framework costs: the run against a plain loop over the same work, in the same process.
//!
//! Both read the same JPEG files, decode, resize and encode them with the same codecs, and write the same
//! columns with the same Parquet settings to durable files. Runs alternate with loops, the order within a
//! pair alternates too, and the figures are medians over pairs, so that a busy machine disturbs both
//! alike. What a run takes to start and to end, whatever its length, is told apart, from runs of one batch.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

mod measure;
mod nothing;
mod pictures;
mod plain;
mod whole;

use std::path::Path;

use measure::{Cost, cost, median, report, smoke};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Both sides have the allocator of the program, and its settings.
    anabranch::memory::keep_what_is_freed();
    let (pictures, pairs, records) =
        if smoke() { (100, 1, 20_000) } else { (16_000, 7, 2_000_000) };
    let (many, few) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    pictures::write(&many.path().join("pictures"), pictures);
    pictures::write(&few.path().join("pictures"), 64);

    // Page cache, lazy statics and thread pools are warm for both afterwards.
    plain::run(few.path());
    whole::run(few.path());
    let long: Vec<(Cost, Cost)> = (0..pairs).map(|pair| both(pair, many.path())).collect();
    let short: Vec<(Cost, Cost)> = (0..3 * pairs).map(|pair| both(pair, few.path())).collect();
    let noop: Vec<f64> = (0..pairs).map(|_| nothing::run(records)).collect();
    report(
        "overhead",
        &[
            ("slowdown_percent", over(&long, |(plain, run)| percent(plain.cpu, run.cpu)), "%"),
            (
                "wall_slowdown_percent",
                over(&long, |(plain, run)| percent(plain.wall, run.wall)),
                "%",
            ),
            ("start_and_end_ms", over(&short, |(plain, run)| 1e3 * (run.wall - plain.wall)), "ms"),
            ("noop_ns_per_record", median(noop), "ns"),
        ],
    );
}

/// The loop and the run, one after the other.
fn both(pair: usize, folder: &Path) -> (Cost, Cost) {
    let plain = || cost(|| plain::run(folder)).1;
    let whole = || cost(|| whole::run(folder)).1;
    let (plain, whole) = if pair.is_multiple_of(2) {
        let plain = plain();
        (plain, whole())
    } else {
        let whole = whole();
        (plain(), whole)
    };
    eprintln!("pair {pair}: plain {plain:.3?}, run {whole:.3?}");
    (plain, whole)
}

fn percent(plain: f64, run: f64) -> f64 {
    100.0 * (run / plain - 1.0)
}

fn over(pairs: &[(Cost, Cost)], figure: impl Fn(&(Cost, Cost)) -> f64) -> f64 {
    median(pairs.iter().map(figure).collect())
}
