//! What a training step costs: a GPT of nanoGPT's CPU configuration (4 layers, 4 heads, 128 wide, context
//! 64, batches of 12) with an MLP, with look-up tables, and in PyTorch.
//!
//! A step is forward, backward, clipping and AdamW. Contenders take turns in short rounds, so that a busy
//! machine disturbs all alike; a figure is the ratio of medians over rounds. PyTorch takes part when
//! `ANABRANCH_TORCH` names a Python that has it; every contender uses as many threads as
//! `RAYON_NUM_THREADS` says, by default all cores.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

mod torch;

use std::time::Instant;

use anabranch_models::artifact::architecture::{
    Architecture, Bits, FeedForward, Head, Inputs, Rows, Wires,
};
use anabranch_models::random::Random;
use anabranch_models::train::{Options, Trainer, Windows};
use anabranch_models::transformer::{Start, Transformer};
use burn::tensor::Device;
use torch::Torch;

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VOCABULARY: usize = 65;
const CONTEXT: usize = 64;
const BATCH: usize = 12;

fn main() {
    // As the program does (`anabranch::memory`): the next step wants what the last one had.
    // SAFETY: it stores a number in a table of options that allocations read; 15 is the purge delay.
    unsafe { libmimalloc_sys::mi_option_set(15, 10_000) };
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let (rounds, steps) = if smoke { (1, 1) } else { (11, 8) };
    let rows = |wires| FeedForward::Rows(Rows { nodes: 64, inputs: 6, wires });
    let mut contenders = vec![
        Contender::new("mlp", FeedForward::Mlp { hidden: 512 }, None),
        Contender::new("none", FeedForward::None, None),
        Contender::new("axis", rows(Wires::Axis), None),
        Contender::new("projected", rows(Wires::Projected), Some(0.5)),
        Contender::new(
            "bits",
            FeedForward::Bits(Bits { levels: 8, nodes: vec![1024], inputs: 6 }),
            None,
        ),
    ];
    let mut torch = std::env::var_os("ANABRANCH_TORCH").map(|python| Torch::start(&python));
    let mut peer = Vec::new();
    // The first round warms caches and allocators and is not counted.
    for round in 0..=rounds {
        for contender in &mut contenders {
            let seconds = contender.take(steps);
            if round > 0 {
                contender.seconds.push(seconds / steps as f64);
            }
        }
        if let Some(torch) = &mut torch {
            let seconds = torch.take(steps);
            if round > 0 {
                peer.push(seconds / steps as f64);
            }
        }
    }
    let mut figures: Vec<(String, f64, &str)> = contenders
        .iter()
        .map(|c| (format!("{}_milliseconds", c.name), 1e3 * median(&c.seconds), "ms"))
        .collect();
    let of = |name: &str| {
        median(&contenders.iter().find(|contender| contender.name == name).unwrap().seconds)
    };
    if !peer.is_empty() {
        figures.push(("pytorch_milliseconds".into(), 1e3 * median(&peer), "ms"));
        figures.push(("mlp_vs_pytorch".into(), of("mlp") / median(&peer), "times"));
    }
    figures.push(("lut_vs_mlp".into(), of("projected") / of("mlp"), "times"));
    figures.push(("axis_vs_mlp".into(), of("axis") / of("mlp"), "times"));
    figures.push(("bits_vs_mlp".into(), of("bits") / of("mlp"), "times"));
    report(&figures);
}

struct Contender {
    name: &'static str,
    trainer: Trainer<Transformer>,
    text: Vec<u32>,
    seconds: Vec<f64>,
}

impl Contender {
    fn new(name: &'static str, feed_forward: FeedForward, damping: Option<f32>) -> Self {
        let architecture = Architecture {
            width: 128,
            heads: 4,
            layers: 4,
            inputs: Inputs::Tokens { vocabulary: VOCABULARY, context: CONTEXT },
            head: Head::NextToken,
            feed_forward,
        };
        let start = Start { damping, choices: 1, ..Start::default() };
        let device = Device::flex().autodiff();
        let model = Transformer::new(&architecture, &start, 1, &device).unwrap();
        let mut random = Random::new(1);
        let text = (0..100_000).map(|_| random.below(VOCABULARY) as u32).collect();
        let trainer = Trainer::new(model, Options::default());
        Self { name, trainer, text, seconds: Vec::new() }
    }

    fn take(&mut self, steps: usize) -> f64 {
        let windows = Windows { text: &self.text, length: CONTEXT };
        let begin = Instant::now();
        for _ in 0..steps {
            let batch = windows.draw(BATCH, self.trainer.random()).unwrap();
            self.trainer.step(&batch).unwrap();
        }
        begin.elapsed().as_secs_f64()
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints `train.figure value unit` lines and writes them to the file that `ci/bench` names.
fn report(figures: &[(String, f64, &str)]) {
    let mut json = serde_json::Map::new();
    for (figure, value, unit) in figures {
        println!("train.{figure} {value:.3} {unit}");
        json.insert(figure.clone(), serde_json::json!(value));
    }
    if let Some(path) = std::env::var_os("ANABRANCH_BENCH_OUT") {
        std::fs::write(path, serde_json::to_string_pretty(&json).unwrap() + "\n").unwrap();
    }
}
