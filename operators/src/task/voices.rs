//! A task for tests: a low tone that comes and goes under a high one, and a small model that tells the low one.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anabranch_models::artifact::architecture::{
    Architecture, AudioTokens, FeedForward, Head, Inputs,
};
use anabranch_models::random::Random;
use anabranch_models::train::{Batch, Options, Trainer};
use anabranch_models::transformer::{Input, Start, Transformer};

use super::{Spectra, TaskOptions, lesson};
use crate::codec::{Facts, Media, Pcm};

pub(crate) const RATE: u32 = 8000;
pub(crate) const SPECTRA: Spectra = Spectra { rate: RATE, window: 64, hop: 32 };
const FRAMES: usize = 16;
/// Samples of a mixture: as many as the model hears.
pub(crate) const LENGTH: usize = (FRAMES - 1) * 32 + 64;
const STEPS: usize = 80;
const BATCH: usize = 16;

/// A mixture, and the voice in it.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    pub(crate) samples: Vec<u8>,
    pub(crate) voice: Vec<u8>,
}

pub(crate) fn facts(samples: &[u8]) -> Facts {
    Facts::Audio { format: Pcm::S16, rate: RATE, channels: 1, frames: samples.len() as u64 / 2 }
}

impl Voice {
    pub(crate) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: facts(&self.samples) }
    }

    pub(crate) fn right(&self) -> Media<'_> {
        Media { samples: &self.voice, facts: facts(&self.voice) }
    }
}

/// So many mixtures.
pub(crate) fn voices(count: usize, seed: u64) -> Vec<Voice> {
    let random = &mut Random::new(seed);
    let voice = |_| {
        let mut tone = |from: f32, to: f32| -> Vec<f32> {
            let turn =
                std::f32::consts::TAU * (from + (to - from) * random.uniform()) / RATE as f32;
            let loud = 0.1 + 0.2 * random.uniform();
            let [start, end] = [random.below(LENGTH / 3), LENGTH - random.below(LENGTH / 3)];
            let there = |at: usize| if (start..end).contains(&at) { loud } else { 0.0 };
            (0..LENGTH).map(|at| there(at) * (turn * at as f32).sin()).collect()
        };
        let (low, high) = (tone(300.0, 1000.0), tone(1800.0, 3500.0));
        let both = low.iter().zip(&high).map(|(low, high)| low + high);
        let (mut samples, mut voice) = (Vec::new(), Vec::new());
        Pcm::S16.extend(both, &mut samples);
        Pcm::S16.extend(low, &mut voice);
        Voice { samples, voice }
    };
    (0..count).map(voice).collect()
}

pub(crate) fn architecture() -> Architecture {
    let audio = AudioTokens { bands: 16, frames: FRAMES, frames_per_token: 2 };
    Architecture {
        width: 24,
        heads: 2,
        layers: 1,
        inputs: Inputs::Modalities { image: None, audio: Some(audio), text: None },
        head: Head::Masks(2 * 33),
        feed_forward: FeedForward::Mlp { hidden: 48 },
    }
}

/// The folder of a model that tells low tones, trained once.
pub(crate) fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let model = Transformer::to_train(&architecture(), &Start::default(), 1).unwrap();
        let options = Options { rate: 1e-2, steps: STEPS as u64, warm_up: 5, ..Options::default() };
        let mut trainer = Trainer::new(model, options);
        for batch in voices(STEPS * BATCH, 7).chunks(BATCH) {
            let (mut values, mut targets) = (Vec::new(), Vec::new());
            for record in batch {
                let (media, right) = (record.media(), record.right());
                let lesson = lesson(&architecture(), Some(SPECTRA), &media, &right).unwrap();
                values.extend(lesson.values);
                targets.extend(lesson.bits);
            }
            let input =
                Input::Modalities { batch: BATCH, image: None, audio: Some(values), text: None };
            trainer.step(&Batch { input, targets }).unwrap();
        }
        let artifact = super::squares::artifact(&trainer.trained(), "voices");
        super::example::saved(&artifact, "voices")
    })
}

/// The task with that model.
pub(crate) fn options() -> TaskOptions {
    let json = serde_json::json!({
        "kind": "separate", "model": model(), "label": "voice", "spectrum": SPECTRA,
    });
    serde_json::from_value(json).unwrap()
}
