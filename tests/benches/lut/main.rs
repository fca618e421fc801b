//! What tables in the place of MLPs are worth on a processor: one thread, one run.
//!
//! Contenders take turns, each figure is the least of its repeats, and the feed-forwards of all layers take turns
//! as they do when a model runs: no weights stay in a cache that would not. Norm and residual are part of a
//! feed-forward. Tables are of random content, which costs what trained content costs; `--artifact PATH` measures a
//! trained one, against MLPs of four times its width, and `--digits FOLDER` a trained network of digits. `--smoke` shows that it runs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

mod blocks;
mod digits;
#[path = "../overhead/measure.rs"]
#[allow(dead_code)]
mod measure;
mod models;
mod products;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::{
    Architecture, Bits, FeedForward, Head, Inputs, Rows, Wires,
};
use anabranch_models::engine::{Level, example};
use measure::{report, smoke};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let artifact = argument("--artifact").map(|path| {
        let path = PathBuf::from(path);
        Artifact::open(&path).unwrap_or_else(|error| panic!("{error}"))
    });
    eprintln!("instructions: {}", Level::detect());
    // nanoGPT's configuration for processors.
    let inputs = Inputs::Tokens { vocabulary: 65, context: 64 };
    let (head, feed_forward) = (Head::NextToken, FeedForward::None);
    let base = Architecture { width: 128, heads: 4, layers: 4, inputs, head, feed_forward };
    let base = artifact.as_ref().map_or(base, |artifact| artifact.architecture().clone());
    let (judged_name, judged) = match &artifact {
        Some(artifact) => (format!("artifact {}", artifact.card().name), artifact.clone()),
        None => ("axis_64x6".to_owned(), random(&base, rows(64, 6, Wires::Axis))),
    };
    let mlp = random(&base, FeedForward::Mlp { hidden: 4 * base.width });

    let mut contenders = vec![
        blocks::Contender::new("mlp_f32", &mlp, false),
        blocks::Contender::new("mlp_int8", &mlp, true),
        blocks::Contender::new("judged", &judged, false),
    ];
    contenders.extend(frontier(base.width).into_iter().map(|(name, bits, feed_forward)| {
        let architecture = base.with_feed_forward(feed_forward);
        let artifact = example::random_of_bits(&architecture, bits).unwrap();
        blocks::Contender::new(name, &artifact, false)
    }));
    let times = blocks::measure(&contenders);
    let mut figures = Vec::new();
    for (contender, [batch, single]) in contenders.iter().zip(&times) {
        let name = contender.name;
        figures.push((format!("{name}_ffn_b512_ns"), *batch, "ns"));
        figures.push((format!("{name}_ffn_b1_ns"), *single, "ns"));
    }
    figures.push(("f32_products_of_gemm_b512_ns".to_owned(), products::of_gemm(base.width), "ns"));
    eprintln!("judged: {judged_name}");
    let [f32_times, int8_times, judged_times] = [times[0], times[1], times[2]];
    for (what, baseline) in [("f32", f32_times), ("int8", int8_times)] {
        for (batch, index) in [("b512", 0), ("b1", 1)] {
            let ratio = baseline[index] / judged_times[index];
            figures.push((format!("ffn_vs_{what}_{batch}"), ratio, "x"));
        }
    }
    figures.extend(models::measure(&judged, &mlp));
    let network = argument("--digits").map(|folder| digits::trained(&PathBuf::from(folder)));
    if let Some(network) = &network {
        figures.push(("mnist_accuracy_percent".to_owned(), 100.0 * digits::accuracy(network), "%"));
    }
    let speed = digits::images_per_second(&network.unwrap_or_else(digits::random));
    figures.push(("mnist_images_per_second".to_owned(), speed, "images/s"));
    let lines: Vec<_> =
        figures.iter().map(|(name, value, unit)| (name.as_str(), *value, *unit)).collect();
    report("lut", &lines);
}

/// Blocks of several sizes and kinds, and the bits of their tables' values.
fn frontier(width: usize) -> Vec<(&'static str, u8, FeedForward)> {
    let bits =
        |times: usize| FeedForward::Bits(Bits { levels: 8, nodes: vec![times * width], inputs: 6 });
    vec![
        ("axis_64x4", 8, rows(64, 4, Wires::Axis)),
        ("axis_128x4", 8, rows(128, 4, Wires::Axis)),
        ("axis_64x6", 8, rows(64, 6, Wires::Axis)),
        ("axis_64x6_of_6_bits", 6, rows(64, 6, Wires::Axis)),
        ("axis_64x6_of_4_bits", 4, rows(64, 6, Wires::Axis)),
        ("axis_128x6", 8, rows(128, 6, Wires::Axis)),
        ("axis_128x6_of_4_bits", 4, rows(128, 6, Wires::Axis)),
        ("projected_64x4", 8, rows(64, 4, Wires::Projected)),
        ("projected_64x6", 8, rows(64, 6, Wires::Projected)),
        ("bits_4d", 8, bits(4)),
        ("bits_8d", 8, bits(8)),
    ]
}

fn rows(nodes: usize, inputs: usize, wires: Wires) -> FeedForward {
    FeedForward::Rows(Rows { nodes, inputs, wires })
}

fn random(base: &Architecture, feed_forward: FeedForward) -> Artifact {
    example::random(&base.with_feed_forward(feed_forward)).unwrap()
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// Rounds in which contenders take turns.
fn rounds() -> usize {
    if smoke() { 1 } else { 15 }
}

/// The least seconds that `work` takes, in repeats that fill a twentieth of a second.
fn least(mut work: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    let start = Instant::now();
    loop {
        let before = Instant::now();
        work();
        least = least.min(before.elapsed().as_secs_f64());
        if smoke() || start.elapsed().as_secs_f64() > 0.05 {
            return black_box(least);
        }
    }
}

/// Numbers that look random, from -2 to 2.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..count).map(|_| next()).collect()
}
