//! A task for tests: pictures of stripes, and a small model that tells which way they run.
//!
//! The fainter the stripes, the sooner a codec takes them for nothing.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anabranch_models::artifact::architecture::{
    Architecture, FeedForward, Head, ImageTokens, Inputs,
};
use anabranch_models::artifact::{Artifact, Card, Tensor};
use anabranch_models::engine::example::random;
use anabranch_models::random::Random;
use anabranch_models::train::export::{Precision, export};
use anabranch_models::train::{Batch, Options, Trainer};
use anabranch_models::transformer::{Input, Start, Transformer};

use crate::brightness::brightness;
use crate::codec::{Facts, Media};

pub(crate) const SIDE: u32 = 16;
pub(crate) const CLASSES: u32 = 3;
pub(crate) const FACTS: Facts = Facts::Image { width: SIDE, height: SIDE, channels: 3 };

/// A picture and which way its stripes run.
#[derive(Debug, Clone)]
pub(crate) struct Stripes {
    pub(crate) samples: Vec<u8>,
    pub(crate) class: u32,
}

impl Stripes {
    pub(crate) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: FACTS }
    }
}

/// So many pictures.
pub(crate) fn stripes(count: usize, seed: u64) -> Vec<Stripes> {
    let random = &mut Random::new(seed);
    let picture = |_| {
        let class = random.below(CLASSES as usize) as u32;
        let (base, strength) = (60.0 + 130.0 * random.uniform(), 6.0 + 20.0 * random.uniform());
        let mut samples = Vec::new();
        for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
            let along = [x, y, x + y][class as usize];
            let sign = if along / 2 % 2 == 0 { 1.0 } else { -1.0 };
            let value = base + sign * strength;
            samples.extend([(); 3].map(|()| (value + 2.0 * random.normal()) as u8));
        }
        Stripes { samples, class }
    };
    (0..count).map(picture).collect()
}

pub(crate) fn architecture() -> Architecture {
    let side = SIDE as usize;
    Architecture {
        width: 16,
        heads: 2,
        layers: 1,
        inputs: Inputs::Image(ImageTokens { height: side, width: side, channels: 3, patch: 4 }),
        head: Head::Classes(CLASSES as usize),
        feed_forward: FeedForward::Mlp { hidden: 32 },
    }
}

fn trained(name: &str, architecture: &Architecture, seed: u64) -> Artifact {
    let model = Transformer::to_train(architecture, &Start::default(), seed).unwrap();
    let options = Options { rate: 8e-3, steps: 120, warm_up: 10, ..Options::default() };
    let mut trainer = Trainer::new(model, options);
    let records = stripes(120 * 32, 7);
    for batch in records.chunks(32) {
        let values = batch.iter().flat_map(|record| brightness(&record.samples)).collect();
        let targets = batch.iter().map(|record| record.class).collect();
        trainer.step(&Batch { input: Input::Images(values), targets }).unwrap();
    }
    let exported = export(&trainer.trained(), Precision::Int8).into_iter();
    let tensors = exported.map(|tensor| {
        (tensor.shape.name.clone(), Tensor::from_bytes(&tensor.shape, &tensor.bytes))
    });
    let mut card = Card::new(name, architecture.clone());
    card.training.seed = seed;
    Artifact::new(card, tensors.collect()).unwrap()
}

pub(crate) fn saved(artifact: &Artifact, name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("anabranch-{name}-{}", std::process::id()));
    artifact.save(&folder).unwrap();
    folder
}

/// The folder of a model that tells stripes apart, trained once.
pub(crate) fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| saved(&trained("stripes", &architecture(), 1), "stripes"))
}

/// The folder of a deeper model that was taught the same, from another start.
pub(crate) fn other_model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    let deeper = || Architecture { layers: 2, ..architecture() };
    MODEL.get_or_init(|| saved(&trained("deeper", &deeper(), 2), "deeper"))
}

/// The folder of a model that answers 0 to everything.
pub(crate) fn constant() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| zeros(&architecture(), "constant"))
}

/// The folder of a GPT that was taught nothing.
pub(crate) fn gpt(vocabulary: usize) -> PathBuf {
    let architecture = Architecture {
        width: 16,
        heads: 2,
        layers: 1,
        inputs: Inputs::Tokens { vocabulary, context: 8 },
        head: Head::NextToken,
        feed_forward: FeedForward::None,
    };
    saved(&random(&architecture).unwrap(), &format!("gpt{vocabulary}"))
}

/// The folder of a model whose logits are 0 for everything.
pub(crate) fn zeros(architecture: &Architecture, name: &str) -> PathBuf {
    let shapes = architecture.tensors().into_iter();
    let tensors = shapes.map(|shape| {
        let zeros = vec![0.0_f32; shape.elements()];
        (shape.name.clone(), Tensor::new(&shape.shape, zeros))
    });
    let card = Card::new("nothing learned", architecture.clone());
    saved(&Artifact::new(card, tensors.collect()).unwrap(), name)
}
