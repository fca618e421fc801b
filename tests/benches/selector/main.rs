//! How often the selector's statistics are wrong, and how many records they need, over simulated streams of records.
//!
//! `false_accept`: streams whose mean loss is just what is allowed, of which so many are ever accepted although one
//! looks after every record. `samples`: records until a harmless setting is accepted at a loss of 1 %, where 2 % of
//! the answers change. `power`: the share that is accepted within 4,096 records, harmless and at half of what is
//! allowed. `false_alarm`: watches that raise an alarm though nothing drifts; `drift_delay`: records until a loss of
//! 5 % is noticed after 10,000 good ones.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../overhead/measure.rs"]
#[allow(dead_code)]
mod measure;

use anabranch_models::random::Random;
use anabranch_operators::choose::{Drift, Losses};
use measure::{report, smoke};

const ALPHA: f64 = 0.05;
const MAX_LOSS: f64 = 0.01;
/// Answers that change.
const DISCORDANCE: f64 = 0.02;
/// Records at which a stream is given up.
const LONGEST: usize = 8_192;

fn main() {
    let streams = if smoke() { 10 } else { 1_000 };
    let boundary = records(streams, MAX_LOSS);
    let (harmless, half) = (records(streams, 0.0), records(streams, MAX_LOSS / 2.0));
    let within = |needed: &[usize], most: usize| {
        needed.iter().filter(|n| **n <= most).count() as f64 / needed.len() as f64
    };
    let (alarms, delays) = watches(streams);
    let percent = |share: f64| 100.0 * share;
    report(
        "selector",
        &[
            ("false_accept", percent(within(&boundary, LONGEST)), "% of streams"),
            ("samples", harmless[streams / 2] as f64, "records, median"),
            ("samples_p90", harmless[streams * 9 / 10] as f64, "records"),
            ("power", percent(within(&harmless, 4_096)), "% of streams"),
            ("power_half", percent(within(&half, 4_096)), "% of streams"),
            ("false_alarm", percent(alarms), "% of streams"),
            ("drift_delay", delays[delays.len() / 2] as f64, "records, median"),
        ],
    );
}

/// The loss of a record.
fn loss(random: &mut Random, discordance: f64, mean: f64) -> f64 {
    let roll = f64::from(random.uniform());
    if roll < f64::midpoint(discordance, mean) {
        1.0
    } else if roll < discordance {
        -1.0
    } else {
        0.0
    }
}

/// How many records each stream needs to be accepted, sorted; more than the longest when it never is.
fn records(streams: usize, mean: f64) -> Vec<usize> {
    let needed = |seed: usize| {
        let (mut random, mut losses) = (Random::new(seed as u64), Losses::default());
        let mut shown = |_: &usize| {
            losses.add(loss(&mut random, DISCORDANCE, mean));
            losses.below(MAX_LOSS, ALPHA)
        };
        (1..=LONGEST).find(|record| shown(record)).unwrap_or(usize::MAX)
    };
    let mut all: Vec<usize> = (0..streams).map(needed).collect();
    all.sort_unstable();
    all
}

/// The share of false alarms, and the sorted delays of those that were none.
fn watches(streams: usize) -> (f64, Vec<usize>) {
    let mut delays = Vec::new();
    let mut alarms = 0;
    for seed in 0..streams {
        let mut random = Random::new((streams + seed) as u64);
        let mut quiet = Drift::new(MAX_LOSS, ALPHA);
        if (0..20_000).any(|_| quiet.add(loss(&mut random, DISCORDANCE, MAX_LOSS))) {
            alarms += 1;
        }
        let mut watch = Drift::new(MAX_LOSS, ALPHA);
        if !(0..10_000).any(|_| watch.add(loss(&mut random, DISCORDANCE, 0.0))) {
            delays.push((1..).find(|_| watch.add(loss(&mut random, 0.06, 0.05))).unwrap());
        }
    }
    delays.sort_unstable();
    (alarms as f64 / streams as f64, delays)
}
