//! Trains a classifier of 1-bit tables on MNIST: thermometer, LUT layers, group sum (DWN's network).
//!
//! ```sh
//! cargo run --release -p anabranch-models --example digits -- --nodes 2000,1000 --choices 8 --epochs 10
//! ```
//!
//! 50,000 images train, the other 10,000 of the training file are held out. Further: `--levels 3`,
//! `--batch 100`, `--rate 1e-2`, `--temperature 3.3`, `--shift 1` (training images are moved by up to so many pixels),
//! `--seed 1`, `--save FOLDER` (thresholds, wires and tables as `network.safetensors`). The data stand in `$ANABRANCH_DATA` or in `../shared/data` beside
//! the workspace. The last line is JSON.

#![allow(clippy::print_stdout, reason = "a program that reports to a person")]

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anabranch_models::lut::{ByteNetwork, Classifier, ClassifierOptions, Spacing, thresholds};
use anabranch_models::random::Random;
use anabranch_models::train::{Options, Trainer};
use anabranch_models::transformer::cross_entropy;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, tensor::TensorView};

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has the allocator keep freed memory for ten seconds, as the program does: the next step wants what
/// the last one had, and fresh pages are a sixth of its time.
fn keep_what_is_freed() {
    // SAFETY: it stores a number in a table of options that allocations read; 15 is the purge delay.
    unsafe { libmimalloc_sys::mi_option_set(15, 10_000) };
}

const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;

fn main() -> Result<(), Box<dyn Error>> {
    keep_what_is_freed();
    let settings = Settings::read(std::env::args().skip(1))?;
    let images = unpack("train-images-idx3-ubyte.gz", 16)?;
    let labels = unpack("train-labels-idx1-ubyte.gz", 8)?;
    let (training, held_out) = (50_000, 60_000);
    let sample: Vec<f32> =
        images.iter().take(10_000 * PIXELS).map(|byte| f32::from(*byte)).collect();
    let random = &mut Random::new(settings.seed);
    let device = Device::flex().autodiff();
    let options = ClassifierOptions {
        features: PIXELS,
        classes: 10,
        levels: settings.levels,
        nodes: settings.nodes.clone(),
        inputs: 6,
        choices: settings.choices,
        temperature: settings.temperature,
    };
    let fitted = thresholds(Spacing::Distributive, &sample, PIXELS, settings.levels);
    let model = Classifier::new(&options, fitted, random, &device)?;
    let steps = (settings.epochs * training / settings.batch) as u64;
    let rates = Options {
        rate: settings.rate,
        steps,
        warm_up: 20,
        table_rate: 1.0,
        // Thresholds are bytes of pixels here, not of a normalised layer: they stay where data put them.
        threshold_rate: 0.0,
        seed: settings.seed,
        ..Options::default()
    };
    let mut trainer = Trainer::new(model, rates);
    let mut order: Vec<usize> = (0..training).collect();
    let begin = Instant::now();
    let mut accuracy = 0.0;
    for epoch in 0..settings.epochs {
        trainer.random().shuffle(&mut order);
        for batch in order.chunks_exact(settings.batch) {
            let shift = settings.shift;
            let (x, targets) = gather(&images, &labels, batch, &device, |image, pixels| {
                let random = trainer.random();
                let mut by = || random.below(2 * shift + 1) as isize - shift as isize;
                move_by(image, by(), by(), pixels);
            });
            trainer.step_with(|model, _| Ok(cross_entropy(model.forward(x), &targets)))?;
        }
        accuracy = score(trainer.model(), &images, &labels, training..held_out)?;
        println!(
            "epoch {:3}  accuracy {:.2} %  {:.0} s",
            epoch + 1,
            100.0 * accuracy,
            begin.elapsed().as_secs_f64()
        );
    }
    if let Some(folder) = &settings.save {
        let network = trainer.model().on_bytes().ok_or("tables of more than 6 inputs")?;
        save(&network, folder)?;
    }
    println!(
        "{{\"nodes\":{:?},\"levels\":{},\"choices\":{},\"epochs\":{},\"seed\":{},\"accuracy\":{:.5}}}",
        settings.nodes, settings.levels, settings.choices, settings.epochs, settings.seed, accuracy
    );
    Ok(())
}

fn gather(
    images: &[u8],
    labels: &[u8],
    places: &[usize],
    device: &Device,
    mut put: impl FnMut(&[u8], &mut Vec<f32>),
) -> (Tensor<2>, Vec<u32>) {
    let mut pixels = Vec::with_capacity(places.len() * PIXELS);
    for place in places {
        let image = images.get(place * PIXELS..(place + 1) * PIXELS).unwrap_or_default();
        put(image, &mut pixels);
    }
    let targets = places.iter().filter_map(|place| labels.get(*place)).map(|l| u32::from(*l));
    let x = Tensor::from_data(TensorData::new(pixels, [places.len(), PIXELS]), device);
    (x, targets.collect())
}

/// Adds an image whose pixels are moved down and across; what comes in from outside is black.
fn move_by(image: &[u8], down: isize, across: isize, pixels: &mut Vec<f32>) {
    for row in 0..SIDE {
        for column in 0..SIDE {
            let from = (row.checked_add_signed(-down), column.checked_add_signed(-across));
            let (y, x) = (from.0.unwrap_or(SIDE), from.1.unwrap_or(SIDE));
            let inside = y < SIDE && x < SIDE;
            let pixel = image.get(y * SIDE + x).filter(|_| inside).copied().unwrap_or(0);
            pixels.push(f32::from(pixel));
        }
    }
}

fn score(
    model: &Classifier,
    images: &[u8],
    labels: &[u8],
    places: std::ops::Range<usize>,
) -> Result<f64, Box<dyn Error>> {
    let model = model.valid();
    let places: Vec<usize> = places.collect();
    let mut right = 0;
    for places in places.chunks(500) {
        let (x, targets) = gather(images, labels, places, &Device::flex(), |image, pixels| {
            pixels.extend(image.iter().map(|byte| f32::from(*byte)));
        });
        let best = model.forward(x).argmax(1).into_data().convert::<i64>();
        let best = best.try_into_vec::<i64>().map_err(|error| format!("{error:?}"))?;
        right += best.iter().zip(&targets).filter(|(a, b)| **a == i64::from(**b)).count();
    }
    Ok(right as f64 / places.len() as f64)
}

fn save(network: &ByteNetwork, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut tensors = vec![(
        "thresholds".to_owned(),
        Dtype::U8,
        vec![network.thresholds.len()],
        network.thresholds.clone(),
    )];
    for (i, (wires, tables)) in network.layers.iter().enumerate() {
        let bytes = wires.iter().flat_map(|wire| wire.to_le_bytes()).collect();
        tensors.push((format!("{i}.wires"), Dtype::U32, vec![wires.len()], bytes));
        let bytes = tables.iter().flat_map(|table| table.to_le_bytes()).collect();
        tensors.push((format!("{i}.table"), Dtype::U64, vec![tables.len()], bytes));
    }
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes)?));
    }
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("network.safetensors"), safetensors::serialize(views, None)?)?;
    Ok(())
}

/// A gzipped IDX file behind its header.
fn unpack(name: &str, header: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = std::env::var_os("ANABRANCH_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let file = std::fs::File::open(folder.join("mnist").join(name))?;
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes)?;
    Ok(bytes.split_off(header.min(bytes.len())))
}

struct Settings {
    nodes: Vec<usize>,
    levels: usize,
    choices: usize,
    epochs: usize,
    batch: usize,
    rate: f32,
    temperature: f32,
    shift: usize,
    seed: u64,
    save: Option<PathBuf>,
}

impl Settings {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut settings = Self {
            nodes: vec![2_000, 1_000],
            levels: 3,
            choices: 8,
            epochs: 10,
            batch: 100,
            rate: 1e-2,
            temperature: 3.3,
            shift: 0,
            seed: 1,
            save: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--nodes" => {
                    settings.nodes =
                        value.split(',').map(str::parse).collect::<Result<Vec<_>, _>>()?;
                }
                "--levels" => settings.levels = value.parse()?,
                "--choices" => settings.choices = value.parse()?,
                "--epochs" => settings.epochs = value.parse()?,
                "--batch" => settings.batch = value.parse::<usize>()?.max(1),
                "--rate" => settings.rate = value.parse()?,
                "--temperature" => settings.temperature = value.parse()?,
                "--shift" => settings.shift = value.parse()?,
                "--seed" => settings.seed = value.parse()?,
                "--save" => settings.save = Some(value.into()),
                _ => return Err(format!("{name} is no option of this program").into()),
            }
        }
        Ok(settings)
    }
}
