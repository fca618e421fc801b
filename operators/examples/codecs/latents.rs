//! Training on latents: what a model learns from them, and what an epoch costs, against pixels and decoded JPEG.
//!
//! 12,000 pictures of CIFAR-10 train (10,000 of them were decoded from JPEG), 1,000 pixel-exact ones test. All models
//! see 16 tokens of a picture. Each run stores the pictures, and then reads every one of them back in every epoch, as a
//! training from a table does.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use anabranch_models::artifact::architecture::Inputs;
use anabranch_operators::codec::{self, Codec, Latent, Limits};
use anabranch_operators::evaluate::{Labelled, Proxy, SeedLoss, latent_samples, trained_accuracy};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::cifar::{self, POSITIONS, SIDE};
use crate::part::{Found, Part, Runs};

pub(crate) struct Latents;

/// Channels and step of the codec.
const CODEC: (usize, f64) = (24, 18.0);
const WAYS: [&str; 3] = ["pixels", "jpeg", "latents"];
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
/// Steps of the epochs whose time is taken.
const TIMED: u64 = 60;

fn seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// How pictures are stored and read back as what a model takes.
enum Store {
    Pixels,
    Jpeg(&'static dyn Codec),
    Latents(Box<Latent>),
}

impl Store {
    fn of(way: &str, train: &[Labelled]) -> Result<Self, Box<dyn Error>> {
        Ok(match way {
            "pixels" => Self::Pixels,
            "jpeg" => Self::Jpeg(codec::named("jpeg").ok_or("no jpeg")?),
            _ => Self::Latents(Box::new(cifar::latent(train, CODEC.0, CODEC.1)?.0)),
        })
    }

    fn stored(&self, record: &Labelled) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut bytes = Vec::new();
        match self {
            Self::Pixels => bytes.clone_from(&record.samples),
            Self::Jpeg(codec) => codec.encode(&cifar::media(record), Some(90), &mut bytes)?,
            Self::Latents(codec) => codec.encode(&cifar::media(record), None, &mut bytes)?,
        }
        Ok(bytes)
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut samples = Vec::new();
        match self {
            Self::Pixels => samples.extend_from_slice(bytes),
            Self::Jpeg(codec) => {
                codec.decode(bytes, &Limits::default(), &mut samples)?;
            }
            Self::Latents(codec) => {
                let (_, latents) = codec.latents(bytes, None, &Limits::default())?;
                samples = latent_samples(&latents.values, latents.channels);
            }
        }
        Ok(samples)
    }

    fn model(&self) -> Proxy {
        match self {
            Self::Latents(_) => cifar::model(POSITIONS, CODEC.0),
            _ => cifar::model(SIDE, 3),
        }
    }
}

impl Part for Latents {
    fn name(&self) -> &'static str {
        "latents"
    }

    fn runs(&self) -> Vec<String> {
        WAYS.map(str::to_owned).to_vec()
    }

    fn seeds(&self) -> Vec<u64> {
        SEEDS.to_vec()
    }

    fn run(&self, run: &str) -> Result<Value, Box<dyn Error>> {
        let [train, test] = cifar::exact()?;
        let mut all = train.clone();
        all.extend(cifar::lossy()?.into_iter().take(9_000));
        let store = Store::of(run, &train)?;
        let stored = all.iter().map(|record| store.stored(record));
        let stored = stored.collect::<Result<Vec<_>, _>>()?;
        let bytes = stored.iter().map(Vec::len).sum::<usize>() as f64 / stored.len() as f64;
        let start = seconds();
        let read = all.iter().zip(&stored).map(|(record, bytes)| {
            Ok(Labelled { samples: store.read(bytes)?, class: record.class })
        });
        let read = read.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        let reading = seconds() - start;
        let model = store.model();
        let timed = Proxy { steps: TIMED, ..model.clone() };
        let start = seconds();
        anabranch_operators::evaluate::trained(&timed, 1, &read)?;
        let step = (seconds() - start) / TIMED as f64;
        let learning = step * all.len() as f64 / model.batch as f64;
        // Tested as it is trained, but on originals where what is decoded are pictures.
        let test = match &store {
            Store::Latents(_) => test
                .iter()
                .map(|record| {
                    let samples = store.read(&store.stored(record)?)?;
                    Ok(Labelled { samples, class: record.class })
                })
                .collect::<Result<Vec<_>, Box<dyn Error>>>()?,
            _ => test,
        };
        let accuracies = SEEDS.map(|seed| trained_accuracy(&model, seed, &read, &test));
        let accuracies = accuracies.into_iter().collect::<Result<Vec<f64>, _>>()?;
        let Inputs::Image(inputs) = model.architecture.inputs else {
            return Err("it sees pictures".into());
        };
        Ok(json!({
            "bytes": bytes, "reading_seconds": reading, "learning_seconds": learning,
            "tokens": (inputs.height / inputs.patch) * (inputs.width / inputs.patch),
            "accuracies": accuracies,
        }))
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let (channels, step) = CODEC;
        let mut text = format!(
            "## Training on latents\n\n12,000 pictures of CIFAR-10 train, 1,000 pixel-exact ones test; a ViT of two \
             blocks that sees 16 tokens, {} steps, {} seeds. Seconds are of one processor and of one epoch: reading \
             every record (JPEG at quality 90; latents of {channels} channels at step {step}), and learning from it. \
             **Q_latent** is what the model on latents loses against the one on pixels, in points, paired, with its \
             95 % interval; Q_train that of the one on decoded JPEG.\n\n\
             | | bytes | seconds of reading | of learning | accuracy | loss |\n|---|---|---|---|---|---|\n",
            cifar::STEPS,
            SEEDS.len()
        );
        let mut figures = BTreeMap::new();
        let number = |way: &str, what: &str| {
            runs.get(way).and_then(|run| run[what].as_f64()).unwrap_or(f64::NAN)
        };
        let accuracies = |way: &str| -> Vec<f64> {
            let all = runs.get(way).and_then(|run| run["accuracies"].as_array());
            all.into_iter().flatten().filter_map(Value::as_f64).collect()
        };
        for way in WAYS {
            let found = accuracies(way);
            let mean = 100.0 * found.iter().sum::<f64>() / found.len() as f64;
            let pairs = accuracies("pixels").into_iter().zip(found).map(|(a, b)| [a, b]).collect();
            let loss = SeedLoss::of(pairs)?;
            let [low, high] = loss.interval.map(|end| 100.0 * end);
            let lost = match way {
                "pixels" => String::new(),
                _ => format!("{:+.2} ({low:+.2} to {high:+.2})", 100.0 * loss.mean),
            };
            let (reading, learning) =
                (number(way, "reading_seconds"), number(way, "learning_seconds"));
            writeln!(
                text,
                "| {way} | {:.0} | {reading:.2} | {learning:.2} | {mean:.1} % | {lost} |",
                number(way, "bytes")
            )?;
            figures.insert(format!("latents.{way}.seconds_per_epoch"), reading + learning);
            figures.insert(format!("latents.{way}.accuracy_percent"), mean);
            if way == "latents" {
                figures.insert("latents.q_latent_points".to_owned(), 100.0 * loss.mean);
            }
        }
        let epoch = |way: &str| number(way, "reading_seconds") + number(way, "learning_seconds");
        figures.insert("latents.vs_jpeg_epoch".to_owned(), epoch("jpeg") / epoch("latents"));
        figures.insert(
            "latents.vs_jpeg_reading".to_owned(),
            number("jpeg", "reading_seconds") / number("latents", "reading_seconds"),
        );
        Ok(Found { figures, text })
    }

    /// Times always differ, and trained models by a few records.
    fn near(&self, name: &str, recorded: f64, found: f64) -> bool {
        name.ends_with("seconds") || (recorded - found).abs() <= 0.03_f64.max(0.01 * recorded)
    }
}
