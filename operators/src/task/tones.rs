//! A task for tests: sounds of one tone, and a small model that tells how high it is.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anabranch_models::artifact::architecture::{
    Architecture, AudioTokens, FeedForward, Head, Inputs,
};
use anabranch_models::artifact::{Artifact, Card, Tensor};
use anabranch_models::random::Random;
use anabranch_models::train::export::{Precision, export};
use anabranch_models::train::{Batch, Options, Trainer};
use anabranch_models::transformer::{Input, Start, Transformer};

use super::{Spectra, TaskOptions};
use crate::codec::{Facts, Media, Pcm};
use crate::spectrum::Bands;

pub(crate) const RATE: u32 = 8000;
const CLASSES: usize = 3;
/// Samples of a sound.
const LENGTH: usize = 640;
const SPECTRA: Spectra = Spectra { rate: RATE, window: 128, hop: 128 };
const TOKENS: AudioTokens = AudioTokens { bands: 16, frames: 4, frames_per_token: 2 };

/// A sound and how high it is.
#[derive(Debug, Clone)]
pub(crate) struct Tone {
    pub(crate) samples: Vec<u8>,
    pub(crate) class: u32,
}

impl Tone {
    pub(crate) fn facts(&self) -> Facts {
        let frames = self.samples.len() as u64 / 2;
        Facts::Audio { format: Pcm::S16, rate: RATE, channels: 1, frames }
    }

    pub(crate) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: self.facts() }
    }
}

/// So many sounds.
pub(crate) fn tones(count: usize, seed: u64) -> Vec<Tone> {
    let random = &mut Random::new(seed);
    let tone = |_| {
        let class = random.below(CLASSES) as u32;
        let hertz = [400.0, 1000.0, 2200.0][class as usize] * (0.9 + 0.2 * random.uniform());
        let (loud, phase) = (2000.0 + 6000.0 * random.uniform(), random.uniform());
        let mut samples = Vec::new();
        for at in 0..LENGTH {
            let turns = hertz * at as f32 / RATE as f32 + phase;
            let value = loud * (std::f32::consts::TAU * turns).sin() + 500.0 * random.normal();
            samples.extend((value as i16).to_le_bytes());
        }
        Tone { samples, class }
    };
    (0..count).map(tone).collect()
}

fn architecture() -> Architecture {
    Architecture {
        width: 16,
        heads: 2,
        layers: 1,
        inputs: Inputs::Modalities { image: None, audio: Some(TOKENS), text: None },
        head: Head::Classes(CLASSES),
        feed_forward: FeedForward::Mlp { hidden: 32 },
    }
}

fn trained() -> Artifact {
    let model = Transformer::to_train(&architecture(), &Start::default(), 1).unwrap();
    let options = Options { rate: 8e-3, steps: 60, warm_up: 5, ..Options::default() };
    let mut trainer = Trainer::new(model, options);
    let AudioTokens { bands, frames, .. } = TOKENS;
    let Spectra { rate, window, hop } = SPECTRA;
    let mel = Bands { rate, frames, bands, window, hop }.filters().unwrap();
    let records = tones(60 * 32, 7);
    for batch in records.chunks(32) {
        let mut audio = Vec::new();
        batch.iter().for_each(|record| mel.append(&record.media(), &mut audio).unwrap());
        let targets = batch.iter().map(|record| record.class).collect();
        let input =
            Input::Modalities { batch: batch.len(), image: None, audio: Some(audio), text: None };
        trainer.step(&Batch { input, targets }).unwrap();
    }
    let exported = export(&trainer.trained(), Precision::Int8).into_iter();
    let tensors = exported.map(|tensor| {
        (tensor.shape.name.clone(), Tensor::from_bytes(&tensor.shape, &tensor.bytes))
    });
    Artifact::new(Card::new("tones", architecture()), tensors.collect()).unwrap()
}

/// The folder of a model that tells tones apart, trained once.
pub(crate) fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| super::example::saved(&trained(), "tones"))
}

/// The task with that model.
pub(crate) fn options() -> TaskOptions {
    let json = serde_json::json!({
        "kind": "classify", "model": model(), "label": "label", "spectrum": SPECTRA,
    });
    serde_json::from_value(json).unwrap()
}
