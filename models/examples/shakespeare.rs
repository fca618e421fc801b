//! Trains one contender of the comparison on tinyshakespeare, in nanoGPT's CPU configuration: 4
//! layers, 4 heads, 128 wide, context 64, batches of 12.
//!
//! ```sh
//! cargo run --release -p anabranch-models --example shakespeare -- \
//!     --feed-forward rows:64x6:projected --rate 2e-3 --steps 2000 --seed 1
//! ```
//!
//! `--feed-forward` is `mlp`, `none`, `rows:NODESxINPUTS:axis`, `rows:NODESxINPUTS:projected`, or
//! `bits:MULTIPLE` (one layer of 6-input 1-bit tables, so many times as many as the model is wide).
//! Further: `--damping 0.5` (tables of rows in the Walsh-Hadamard basis), `--choices 8` (learned
//! wiring), `--table-rate 2`, `--context 64`, `--batch 12`. `--teacher 1000 --fit 300` warm-starts tables:
//! so many steps train an MLP model first, so many fit the tables to its blocks, then `--steps` train
//! the whole; all of them count. The data stand in `$ANABRANCH_DATA` or in
//! `../shared/data` beside the workspace. The last line is JSON.

#![allow(clippy::print_stdout, reason = "a program that reports to a person")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anabranch_models::artifact::architecture::{
    Architecture, Bits, FeedForward, Head, Inputs, Rows, Wires,
};
use anabranch_models::random::Random;
use anabranch_models::train::export::{Precision, export, forward_on_grid};
use anabranch_models::train::{Batch, Options, Trainer, Windows, evaluate};
use anabranch_models::transformer::{Input, Start, Transformer, cross_entropy};
use burn::tensor::Device;

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has the allocator keep freed memory for ten seconds, as the program does: the next step wants what
/// the last one had, and fresh pages are a sixth of its time.
fn keep_what_is_freed() {
    // SAFETY: it stores a number in a table of options that allocations read; 15 is the purge delay.
    unsafe { libmimalloc_sys::mi_option_set(15, 10_000) };
}

fn main() -> Result<(), Box<dyn Error>> {
    keep_what_is_freed();
    let settings = Settings::read(std::env::args().skip(1))?;
    let text = std::fs::read(data().join("text/tinyshakespeare.txt"))?;
    let (tokens, vocabulary) = characters(&text);
    let (training, validation) = tokens.split_at(tokens.len() * 9 / 10);
    let architecture = settings.architecture(vocabulary)?;
    let start = Start { damping: settings.damping, choices: settings.choices };
    let device = Device::flex().autodiff();
    let mut rates = Options {
        rate: settings.rate,
        steps: settings.steps,
        table_rate: settings.table_rate,
        seed: settings.seed,
        ..Options::default()
    };
    // Batches have a seed of their own, so that every contender sees the same ones.
    let mut draws = Random::new(settings.seed ^ 0xbade);
    let windows = Windows { text: training, length: settings.context };
    let mut draw = || windows.draw(settings.batch, &mut draws).ok_or("the text is too short");
    let held_out = held_out(validation, settings.context).ok_or("the text is too short")?;
    let model = if settings.teacher == 0 {
        Transformer::new(&architecture, &start, settings.seed, &device)?
    } else {
        let mlp = architecture.with_mlp();
        let model = Transformer::new(&mlp, &start, settings.seed, &device)?;
        let mut teacher = Trainer::new(model, Options { steps: settings.teacher, ..rates.clone() });
        for _ in 0..settings.teacher {
            teacher.step(&draw()?)?;
        }
        println!("teacher     validation {:.4}", evaluate(teacher.model(), &held_out)?.loss);
        let teacher = teacher.into_model();
        let tables = architecture.feed_forward.clone();
        let student = teacher.clone().with_feed_forward(tables, &start, settings.seed)?;
        let mut student = Trainer::new(student, Options { steps: settings.fit, ..rates.clone() });
        for _ in 0..settings.fit {
            let apart = student.distil(&teacher, &draw()?.input)?.loss;
            if student.steps() % 100 == 0 {
                println!("fit {:5}   relative error {apart:.4}", student.steps());
            }
        }
        println!("fitted      validation {:.4}", evaluate(student.model(), &held_out)?.loss);
        student.into_model()
    };
    rates.warm_up = rates.warm_up.min(settings.steps / 4);
    let mut trainer = Trainer::new(model, rates);
    let mut busy = Duration::ZERO;
    let mut losses = Vec::new();
    for step in 0..settings.steps {
        let batch = draw()?;
        let begin = Instant::now();
        let metrics = trainer.step(&batch)?;
        busy += begin.elapsed();
        let last = step + 1 == settings.steps;
        if (step + 1) % 250 == 0 || last {
            let score = evaluate(&trainer.trained(), &held_out)?;
            println!(
                "step {:5}  training {:.4}  validation {:.4}  {:.1} ms per step",
                step + 1,
                metrics.loss,
                score.loss,
                busy.as_secs_f64() * 1e3 / (step + 1) as f64
            );
            losses.push(format!("[{},{:.5}]", step + 1, score.loss));
        }
    }
    let model = trainer.trained();
    let exported = exported_loss(&model, &held_out)?;
    println!(
        "{{\"feed_forward\":\"{}\",\"rate\":{},\"table_rate\":{},\"damping\":{},\"choices\":{},\"seed\":{},\"teacher\":{},\"fit\":{},\"steps\":{},\
         \"parameters\":{},\"validation\":[{}],\"exported_int8\":{:.5},\"milliseconds_per_step\":{:.2}}}",
        settings.feed_forward,
        settings.rate,
        settings.table_rate,
        settings.damping.unwrap_or(0.0),
        settings.choices,
        settings.seed,
        settings.teacher,
        settings.fit,
        settings.steps,
        architecture.parameters(),
        losses.join(","),
        exported,
        busy.as_secs_f64() * 1e3 / settings.steps.max(1) as f64
    );
    Ok(())
}

/// The validation loss of the exported integers.
fn exported_loss(model: &Transformer, batches: &[Batch]) -> Result<f64, Box<dyn Error>> {
    let tensors = export(model, Precision::Int8);
    let mut sum = 0.0;
    for batch in batches {
        let pass = forward_on_grid(model, &tensors, &batch.input)?;
        sum += f64::from(cross_entropy(pass.logits, &batch.targets).into_scalar::<f32>());
    }
    Ok(sum / batches.len() as f64)
}

/// 20 batches of 48 evenly spaced windows, the same for every run.
fn held_out(validation: &[u32], context: usize) -> Option<Vec<Batch>> {
    let all = Windows { text: validation, length: context }.evenly(960)?;
    let Input::Tokens { ids, length } = all.input else { return None };
    let parts = ids.chunks(48 * length).zip(all.targets.chunks(48 * length));
    Some(
        parts
            .map(|(ids, targets)| Batch {
                input: Input::Tokens { ids: ids.to_vec(), length },
                targets: targets.to_vec(),
            })
            .collect(),
    )
}

/// A token per distinct byte, in the order of bytes.
fn characters(text: &[u8]) -> (Vec<u32>, usize) {
    let mut known: BTreeMap<u8, u32> = text.iter().map(|byte| (*byte, 0)).collect();
    for (token, (_, slot)) in known.iter_mut().enumerate() {
        *slot = token as u32;
    }
    (text.iter().filter_map(|byte| known.get(byte).copied()).collect(), known.len())
}

fn data() -> PathBuf {
    std::env::var_os("ANABRANCH_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    )
}

struct Settings {
    feed_forward: String,
    rate: f32,
    table_rate: f32,
    damping: Option<f32>,
    choices: usize,
    seed: u64,
    steps: u64,
    context: usize,
    batch: usize,
    teacher: u64,
    fit: u64,
}

impl Settings {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut settings = Self {
            feed_forward: "mlp".to_owned(),
            rate: 2e-3,
            table_rate: 2.0,
            damping: None,
            choices: 1,
            seed: 1,
            steps: 2_000,
            context: 64,
            batch: 12,
            teacher: 0,
            fit: 0,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--feed-forward" => settings.feed_forward = value,
                "--rate" => settings.rate = value.parse()?,
                "--table-rate" => settings.table_rate = value.parse()?,
                "--damping" => settings.damping = Some(value.parse()?),
                "--choices" => settings.choices = value.parse()?,
                "--seed" => settings.seed = value.parse()?,
                "--steps" => settings.steps = value.parse()?,
                "--context" => settings.context = value.parse()?,
                "--batch" => settings.batch = value.parse()?,
                "--teacher" => settings.teacher = value.parse()?,
                "--fit" => settings.fit = value.parse()?,
                _ => return Err(format!("{name} is no option of this program").into()),
            }
        }
        Ok(settings)
    }

    fn architecture(&self, vocabulary: usize) -> Result<Architecture, Box<dyn Error>> {
        let width = 128;
        let parts: Vec<&str> = self.feed_forward.split(':').collect();
        let feed_forward = match parts.as_slice() {
            ["mlp"] => FeedForward::Mlp { hidden: 4 * width },
            ["none"] => FeedForward::None,
            ["rows", sizes, wires] => {
                let (nodes, inputs) = sizes.split_once('x').ok_or("rows:NODESxINPUTS:axis")?;
                let wires = match *wires {
                    "axis" => Wires::Axis,
                    "projected" => Wires::Projected,
                    other => return Err(format!("{other} is neither axis nor projected").into()),
                };
                let (nodes, inputs) = (nodes.parse()?, inputs.parse()?);
                FeedForward::Rows(Rows { nodes, inputs, wires })
            }
            ["bits", multiple] => {
                let nodes = vec![multiple.parse::<usize>()? * width];
                FeedForward::Bits(Bits { levels: 8, nodes, inputs: 6 })
            }
            _ => return Err(format!("{} is no feed-forward", self.feed_forward).into()),
        };
        Ok(Architecture {
            width,
            heads: 4,
            layers: 4,
            inputs: Inputs::Tokens { vocabulary, context: self.context },
            head: Head::NextToken,
            feed_forward,
        })
    }
}
