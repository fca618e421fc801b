//! Voices in music.

use std::error::Error;
use std::path::Path;

use anabranch_models::artifact::architecture::{
    Architecture, AudioTokens, FeedForward, Head, Inputs,
};
use anabranch_models::random::Random;
use anabranch_operators::metric::si_sdr;
use anabranch_operators::task::{Right, Spectra, TaskOptions, lesson};
use serde_json::{Value, json};

use super::mixtures::{self, FACTS, FRAMES, HOP, Mixture, RATE, Sounds, WINDOW};
use super::{RUN, SEED, Size};
use crate::network::Network;
use crate::part::{Found, Part, Runs};

pub(crate) struct Separate;

pub(crate) const FULL: Size = Size { steps: 1500, records: usize::MAX };
pub(crate) const WIDTH: usize = 64;
pub(crate) const SPECTRA: Spectra = Spectra { rate: RATE, window: WINDOW, hop: HOP };
const CODECS: [&str; 4] = ["wav", "flac", "opus", "opus_packets"];

/// A network that finds the voice.
pub(crate) fn network(seed: u64, width: usize, steps: u64) -> Network {
    let audio = AudioTokens { bands: WINDOW / 4, frames: FRAMES, frames_per_token: 1 };
    let architecture = Architecture {
        width,
        heads: 4,
        layers: 3,
        inputs: Inputs::Modalities { image: None, audio: Some(audio), text: None },
        head: Head::Masks(WINDOW / 2 + 1),
        feed_forward: FeedForward::Mlp { hidden: 2 * width },
    };
    Network { name: "voices", architecture, batch: 32, rate: 2e-3, steps, seed }
}

/// Trains a network on mixtures of these, other ones in every step, and saves it into a folder. Gives its last loss.
pub(crate) fn train_on(
    sounds: &Sounds,
    network: &Network,
    folder: &Path,
) -> Result<f64, Box<dyn Error>> {
    network.train(folder, |random| {
        let mixture = sounds.mixture(random.below(sounds.voices.len()), random)?;
        let (media, right) = (mixture.media(), mixture.right());
        let lesson = lesson(&network.architecture, Some(SPECTRA), &media, &right)?;
        Ok((lesson.values, lesson.bits))
    })
}

/// A score as decibels.
fn decibels(score: f64) -> f64 {
    10.0 * (score / (1.0 - score)).log10()
}

fn run(size: Size) -> Result<Value, Box<dyn Error>> {
    let [train, test] = mixtures::all()?;
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("model");
    let loss = train_on(&train, &network(SEED, WIDTH, size.steps), &model)?;
    let random = &mut Random::new(SEED);
    let voices = 0..test.voices.len().min(size.records);
    let mixtures = voices.map(|voice| test.mixture(voice, random));
    let mixtures = mixtures.collect::<Result<Vec<_>, _>>()?;
    let task = json!({
        "kind": "separate", "model": model, "label": "voice", "spectrum": SPECTRA,
    });
    let judge = serde_json::from_value::<TaskOptions>(task.clone())?.build()?;
    let media: Vec<_> = mixtures.iter().map(Mixture::media).collect();
    let right: Vec<_> = mixtures.iter().map(Mixture::right).collect();
    let known: Vec<_> = right.iter().map(|right| Some(Right::Media(*right))).collect();
    let outcomes = judge.outcomes(&media, &known).into_iter();
    let scores =
        outcomes.map(|outcome| Ok(outcome?.score)).collect::<Result<Vec<f64>, String>>()?;
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let untouched = right.iter().zip(&media).map(|(voice, mixture)| si_sdr(voice, mixture));
    let untouched = untouched.collect::<Result<Vec<f64>, _>>()?;
    let separated: Vec<f64> = scores.iter().map(|score| decibels(*score)).collect();
    let mut found = super::sweep(&task, &CODECS, media, right)?;
    found.insert("trained".to_owned(), json!(train.voices.len()));
    found.insert("raw".to_owned(), json!(FACTS.bytes()));
    found.insert("training_loss".to_owned(), json!(loss));
    found.insert("score".to_owned(), json!(mean(&scores)));
    found.insert("score_decibels".to_owned(), json!(mean(&separated)));
    found.insert("mixture_decibels".to_owned(), json!(mean(&untouched)));
    Ok(found.into())
}

impl Part for Separate {
    fn name(&self) -> &'static str {
        "separate"
    }

    fn runs(&self) -> Vec<String> {
        vec![RUN.to_owned()]
    }

    fn seeds(&self) -> Vec<u64> {
        vec![SEED]
    }

    fn run(&self, _: &str) -> Result<Value, Box<dyn Error>> {
        run(FULL)
    }

    fn tiny(&self) -> Option<Result<Value, Box<dyn Error>>> {
        Some(run(Size::TINY))
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let of = |name: &str| {
            runs.get(RUN).map_or(f64::NAN, |run| run[name].as_f64().unwrap_or(f64::NAN))
        };
        let intro = format!(
            "## Source separation\n\nSpoken digits of FSDD over two clips of music, half a second at {RATE} Hz, within \
             5 dB of each other; {} recordings of four speakers train, {} of two others test, over parts of the clips that \
             were not trained on. A transformer of three blocks, 64 wide, says for each of {} frequencies of {FRAMES} \
             frames how likely the voice is louder there ({} steps on originals). The score is the share of the power of \
             its estimate that is voice, {:.3} on originals; in decibels, the mean SI-SDR of its estimates is {:.1}, where \
             that of the mixtures is {:.1}.",
            of("trained"),
            of("records"),
            WINDOW / 2 + 1,
            FULL.steps,
            of("score"),
            of("score_decibels"),
            of("mixture_decibels"),
        );
        let mut found = super::found("separate", "share of voice", &intro, runs)?;
        found.figures.insert("separate.si_sdr_db".to_owned(), of("score_decibels"));
        found.figures.insert("separate.mixture_si_sdr_db".to_owned(), of("mixture_decibels"));
        Ok(found)
    }

    fn near(&self, name: &str, recorded: f64, found: f64) -> bool {
        match name {
            "/score_decibels" => (recorded - found).abs() < 0.5,
            _ => super::near(name, recorded, found),
        }
    }
}
