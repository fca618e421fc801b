//! Photos: what training by gradient and decoders that are not linear bring over principal components, at equal bytes.
//!
//! Codecs are learned from the first six photos of Kodak's set and measured on the other six. JPEG and WebP stand beside
//! them. Photos have no labels: how far apart they are for networks that learned from CIFAR-10, which look at them in
//! pieces, stands in the place of a task.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::OnceLock;

use anabranch_models::artifact::Artifact as Model;
use anabranch_models::latent::{Artifact, Decoder, Fit, Media as Samples, Options, Training};
use anabranch_operators::codec::{self, Codec, Facts, Latent, Limits, Media};
use anabranch_operators::evaluate::bd_rate;
use anabranch_operators::metric::{FeatureDistance, psnr, ssimulacra2};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::part::{Found, Part, Runs};
use crate::{cifar, data};

pub(crate) struct Photos;

/// Of how many photos codecs are learned, and how many there are.
const LEARNED: usize = 6;
const ALL: usize = 12;
/// What a latent of 1 stands for: from many bytes to few.
const STEPS: [u16; 4] = [10, 16, 26, 42];
const GRADIENT_STEPS: u64 = 400;
const CHANNELS: usize = 48;
/// Qualities of what stands beside.
const QUALITIES: [u16; 6] = [10, 25, 40, 60, 75, 90];
/// Of the networks whose features are compared.
const NETWORKS: [u64; 2] = [11, 12];
/// What quality is measured by.
const METRICS: [&str; 3] = ["psnr", "ssimulacra2", "deep_similarity_db"];
/// The codecs of a run.
const WAYS: [&str; 4] = ["klt", "trained", "residual", "adversarial"];

/// A photo as it is.
struct Photo {
    samples: Vec<u8>,
    facts: Facts,
}

impl Photo {
    fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: self.facts }
    }
}

fn photos(range: std::ops::Range<usize>) -> Result<Vec<Photo>, Box<dyn Error>> {
    let png = codec::named("png").ok_or("no png")?;
    range
        .map(|at| {
            let bytes = std::fs::read(data().join(format!("photos/kodim{:02}.png", at + 1)))?;
            let mut samples = Vec::new();
            let facts = png.decode(&bytes, &Limits::default(), &mut samples)?;
            Ok(Photo { samples, facts })
        })
        .collect()
}

/// Processor seconds of this thread.
fn seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn fit(step: u16, training: Training, photos: &[Photo]) -> Result<Artifact, Box<dyn Error>> {
    let step = Some(f64::from(step));
    let mut fit = Fit::new(Options { channels: CHANNELS, step, levels: Some(3), training });
    for Photo { samples, facts } in photos {
        let Facts::Image { width, height, .. } = *facts else { return Err("no picture".into()) };
        fit.add(&Samples::Picture { width, height, channels: 3, samples })?;
    }
    Ok(fit.finish()?)
}

/// The same codec without what only decodes.
fn linear(artifact: &Artifact) -> Result<Artifact, Box<dyn Error>> {
    let mut card = artifact.card().clone();
    card.decoder = Decoder::Linear;
    let (analysis, synthesis) = (artifact.analysis().clone(), artifact.synthesis().clone());
    Ok(Artifact::new(card, analysis, synthesis, artifact.distributions().clone(), None)?)
}

/// The networks, trained when they are first asked for.
fn networks() -> Result<&'static FeatureDistance, Box<dyn Error>> {
    static TRAINED: OnceLock<FeatureDistance> = OnceLock::new();
    if let Some(networks) = TRAINED.get() {
        return Ok(networks);
    }
    let [mut pictures, more] = cifar::exact()?;
    pictures.extend(more);
    pictures.extend(cifar::lossy()?);
    let folder = tempfile::tempdir()?;
    let trained = NETWORKS.map(|seed| {
        let folder = folder.path().join(seed.to_string());
        cifar::train_on(&pictures, seed, cifar::JUDGED, &folder)?;
        Ok((Model::open(&folder)?, None))
    });
    let trained = trained.into_iter().collect::<Result<_, Box<dyn Error>>>()?;
    let networks = FeatureDistance::new(trained)?;
    Ok(TRAINED.get_or_init(|| networks))
}

/// Bits per pixel, quality and speed of a setting on photos.
fn measured(
    codec: &dyn Codec,
    step: Option<u16>,
    photos: &[Photo],
) -> Result<Value, Box<dyn Error>> {
    let networks = networks()?;
    let (mut bytes, mut raw, mut distance) = (0, 0, 0.0);
    let (mut likeness, mut seen, mut encode, mut decode) = (0.0, 0.0, 0.0, 0.0);
    for photo in photos {
        let (mut record, mut back) = (Vec::new(), Vec::new());
        let start = seconds();
        codec.encode(&photo.media(), step, &mut record)?;
        encode += seconds() - start;
        let start = seconds();
        let facts = codec.decode(&record, &Limits::default(), &mut back)?;
        decode += seconds() - start;
        let back = Media { samples: &back, facts };
        likeness += psnr(&photo.media(), &back)? / photos.len() as f64;
        distance += networks.to(&networks.seen(&photo.media())?, &back)? / photos.len() as f64;
        seen += ssimulacra2(&photo.media(), &back)? / photos.len() as f64;
        bytes += record.len();
        raw += photo.samples.len();
    }
    let megabytes = raw as f64 / 1e6;
    Ok(json!({
        "bytes": bytes, "raw": raw, "psnr": likeness, "ssimulacra2": seen,
        "deep_similarity_db": -10.0 * distance.log10(),
        "encode_mb_s": megabytes / encode, "decode_mb_s": megabytes / decode,
    }))
}

impl Part for Photos {
    fn name(&self) -> &'static str {
        "photos"
    }

    fn runs(&self) -> Vec<String> {
        let steps = STEPS.iter().map(|step| format!("latent-{step}"));
        steps.chain(["jpeg", "webp"].map(str::to_owned)).collect()
    }

    fn seeds(&self) -> Vec<u64> {
        NETWORKS.into_iter().chain([1]).collect()
    }

    fn run(&self, run: &str) -> Result<Value, Box<dyn Error>> {
        let unseen = photos(LEARNED..ALL)?;
        let Some(step) = run.strip_prefix("latent-") else {
            let codec = codec::named(run).ok_or("no such codec")?;
            let points = QUALITIES.iter().map(|quality| measured(codec, Some(*quality), &unseen));
            return Ok(json!({ "points": points.collect::<Result<Vec<_>, _>>()? }));
        };
        let (step, seen) = (step.parse()?, photos(0..LEARNED)?);
        let of = |decoder| Training { steps: GRADIENT_STEPS, decoder, seed: 1 };
        let start = seconds();
        let residual = fit(step, of(Decoder::Residual), &seen)?;
        let learned = seconds() - start;
        let all = [
            fit(step, Training::default(), &seen)?,
            linear(&residual)?,
            residual,
            fit(step, of(Decoder::Adversarial), &seen)?,
        ];
        let mut found = serde_json::Map::new();
        for (way, artifact) in WAYS.iter().zip(all) {
            let codec = Latent::from_bytes(&artifact.to_bytes()?)?;
            found.insert((*way).to_owned(), measured(&codec, None, &unseen)?);
        }
        found.insert("learning_seconds".to_owned(), learned.into());
        Ok(found.into())
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let mut text = format!(
            "## Photos\n\nLearned from kodim01 to kodim0{LEARNED} ({CHANNELS} channels, {GRADIENT_STEPS} gradient \
             steps, as many again of a decoder that is not linear), measured on the other {}. MB/s are of raw RGB on \
             one core. `trained`, `residual` and `adversarial` store the same bytes. \
             Deep similarity is -10 log10 of the mean distance of features of two networks that learned from CIFAR-10.\n\n\
             | codec | bits per pixel | PSNR | SSIMULACRA2 | deep similarity | encode MB/s | decode MB/s |\n\
             |---|---|---|---|---|---|---|\n",
            ALL - LEARNED
        );
        let number = |value: &Value, name: &str| value[name].as_f64().unwrap_or(f64::NAN);
        let mut curves: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for way in WAYS {
            let of = STEPS.iter().filter_map(|step| runs.get(&format!("latent-{step}")));
            curves.insert(way, of.map(|run| &run[way]).collect());
        }
        for codec in ["jpeg", "webp"] {
            let points = runs.get(codec).and_then(|run| run["points"].as_array());
            curves.insert(codec, points.into_iter().flatten().collect());
        }
        for (name, points) in &curves {
            for point in points {
                writeln!(
                    text,
                    "| {name} | {:.3} | {:.2} | {:.1} | {:.2} | {:.0} | {:.0} |",
                    24.0 * number(point, "bytes") / number(point, "raw"),
                    number(point, "psnr"),
                    number(point, "ssimulacra2"),
                    number(point, "deep_similarity_db"),
                    number(point, "encode_mb_s"),
                    number(point, "decode_mb_s"),
                )?;
            }
        }
        writeln!(
            text,
            "\nBytes more (or fewer) than principal components for the same quality, on average over the quality that \
             both reach:\n\n| codec | at equal PSNR | at equal SSIMULACRA2 | at equal deep similarity |\n|---|---|---|---|"
        )?;
        let mut figures = BTreeMap::new();
        let curve = |name: &str, metric: &str| -> Vec<(f64, f64)> {
            let points = curves.get(name).into_iter().flatten();
            points.map(|point| (number(point, "bytes"), number(point, metric))).collect()
        };
        for name in curves.keys().filter(|name| **name != "klt") {
            let mut cells = Vec::new();
            for metric in METRICS {
                let rate = bd_rate(&curve("klt", metric), &curve(name, metric));
                if let Some(rate) = rate {
                    figures.insert(format!("photos.{name}.bd_rate_{metric}_percent"), 100.0 * rate);
                }
                cells
                    .push(rate.map_or("none".to_owned(), |rate| format!("{:+.1} %", 100.0 * rate)));
            }
            writeln!(text, "| {name} | {} |", cells.join(" | "))?;
        }
        Ok(Found { figures, text })
    }

    /// Floats of a training differ between processors, and times always do.
    fn near(&self, name: &str, recorded: f64, found: f64) -> bool {
        let part = name.rsplit('/').next().unwrap_or(name);
        match part {
            "encode_mb_s" | "decode_mb_s" | "learning_seconds" => true,
            "psnr" => (recorded - found).abs() < 0.1,
            "ssimulacra2" | "deep_similarity_db" => (recorded - found).abs() < 1.0,
            _ => (recorded / found - 1.0).abs() < 0.02,
        }
    }
}
