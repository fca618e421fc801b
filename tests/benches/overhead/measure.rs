//! What benchmarks have in common: CPU clocks, medians, and figures on stdout and in a JSON file.

use std::path::PathBuf;
use std::time::Instant;

/// Whether this is the quick look that `ci/test` takes: everything runs, no figure means anything.
pub(crate) fn smoke() -> bool {
    std::env::args().any(|argument| argument == "--smoke")
}

/// CPU and wall seconds of one measured section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

/// Runs `work` and measures this process meanwhile, all its threads included.
pub(crate) fn cost<R>(work: impl FnOnce() -> R) -> (R, Cost) {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    let result = work();
    (result, Cost { wall: wall.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu })
}

/// User and system seconds of this process: fields 14 and 15 of its stat, counted after the name.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The middle one of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints `BENCH.figure value unit` lines and writes them to the file that `ci/bench` names.
pub(crate) fn report(bench: &str, figures: &[(&str, f64, &str)]) {
    let mut json = serde_json::Map::new();
    for (figure, value, unit) in figures {
        println!("{bench}.{figure} {value:.2} {unit}");
        json.insert((*figure).to_owned(), serde_json::json!(value));
    }
    let path = PathBuf::from(std::env::var("ANABRANCH_BENCH_OUT").unwrap());
    let text = serde_json::to_string_pretty(&json).unwrap();
    std::fs::write(path, text + "\n").unwrap();
}
