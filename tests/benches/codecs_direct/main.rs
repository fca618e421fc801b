//! What a codec costs as an operator: batches through `encode` and `decode`, against a loop that calls the
//! codec's crate over the same records, in the same process and on one thread.
//!
//! What both make is compared once, byte by byte. Then they alternate, the order within a pair alternates too,
//! and each figure is the median over pairs of how much more processor time the operator took.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

mod direct;
#[path = "../overhead/measure.rs"]
#[allow(dead_code)]
mod measure;
mod records;

use std::hint::black_box;
use std::sync::Arc;

use anabranch_operators::{DecodeOptions, EncodeOptions};
use anabranch_pipelines::operator::{Allocation, Context, Operator};
use anabranch_pipelines::record::media;
use arrow::array::RecordBatch;
use direct::Direct;
use measure::{median, report, smoke};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Both sides have the allocator of the program, and its settings.
    anabranch::memory::keep_what_is_freed();
    let (records, pairs, seconds) = if smoke() { (2, 1, 0.0) } else { (64, 21, 0.1) };
    let mut figures: Vec<(String, f64)> = Vec::new();
    for direct in direct::all() {
        let name = direct.name();
        let decoded = records::of(name, records);
        let encode = encode(&direct);
        let encoded = invoke(&encode, &decoded);
        let plain: Vec<Vec<u8>> = direct.encode(&decoded);
        assert!(plain.iter().eq(&bytes_of(&encoded)), "{name} is encoded otherwise");
        let decode: DecodeOptions = serde_json::from_value(json!({ "column": "x" })).unwrap();
        let decode = decode.build().unwrap();
        // What comes back from text and numbers are columns of their own, no bytes to compare.
        let again = invoke(&decode, &encoded);
        if media::of(&again, "x").is_some() {
            let plain = direct.decode(&encoded);
            assert!(plain.iter().eq(&bytes_of(&again)), "{name} is decoded otherwise");
        }
        let mut compare = |what: &str, operator: &dyn Fn(), crates: &dyn Fn()| {
            let figure = median(more(operator, crates, pairs, seconds));
            eprintln!("{name} {what}: {figure:+.1} %");
            figures.push((format!("{name}_{what}_percent"), figure));
        };
        compare("encode", &|| drop(black_box(invoke(&encode, &decoded))), &|| {
            drop(black_box(direct.encode(&decoded)))
        });
        compare("decode", &|| drop(black_box(invoke(&decode, &encoded))), &|| {
            drop(black_box(direct.decode(&encoded)))
        });
    }
    let worst = figures.iter().map(|(_, figure)| *figure).fold(f64::MIN, f64::max);
    figures.push(("worst_percent".to_owned(), worst));
    let lines: Vec<_> = figures.iter().map(|(name, value)| (name.as_str(), *value, "%")).collect();
    report("codecs_direct", &lines);
}

fn encode(direct: &Direct) -> Arc<dyn Operator> {
    let mut options = json!({ "column": "x", "codec": direct.name() });
    if direct.name() == "zstd" {
        // Without a dictionary, which is a decision of the whole run.
        options["dictionary"] = json!("0B");
    }
    serde_json::from_value::<EncodeOptions>(options).unwrap().build().unwrap()
}

fn invoke(operator: &Arc<dyn Operator>, batch: &RecordBatch) -> RecordBatch {
    let outcome = operator.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.refused, []);
    outcome.records
}

fn bytes_of(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let column = media::of(batch, "x").unwrap();
    (0..batch.num_rows()).map(|row| media::bytes(column, row).unwrap().to_vec()).collect()
}

/// How many per cent more the one takes than the other, in each of these pairs.
fn more(one: &dyn Fn(), other: &dyn Fn(), pairs: usize, seconds: f64) -> Vec<f64> {
    one();
    let once = cost(other, 1);
    // So often that the clock's steps do not show.
    let times = (seconds / once.max(1e-6)).ceil().max(1.0) as usize;
    let pair = |pair: usize| {
        let (one, other) = if pair.is_multiple_of(2) {
            let other = cost(other, times);
            (cost(one, times), other)
        } else {
            (cost(one, times), cost(other, times))
        };
        100.0 * (one / other.max(1e-9) - 1.0)
    };
    (0..pairs).map(pair).collect()
}

/// Processor seconds of this thread for so many calls.
fn cost(work: &dyn Fn(), times: usize) -> f64 {
    let before = thread_seconds();
    (0..times).for_each(|_| work());
    thread_seconds() - before
}

/// What the scheduler has counted, in nanoseconds. It counts when it is asked to let others run, and else at its
/// ticks only.
fn thread_seconds() -> f64 {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<u64>().unwrap() as f64 / 1e9
}
