//! A task for tests: pictures of a square, and a small model that draws where it is.
//!
//! Squares are a little brighter than what is around them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anabranch_models::artifact::architecture::{
    Architecture, FeedForward, Head, ImageTokens, Inputs,
};
use anabranch_models::artifact::{Artifact, Card, Tensor};
use anabranch_models::random::Random;
use anabranch_models::train::export::{Precision, export};
use anabranch_models::train::{Batch, Options, Trainer};
use anabranch_models::transformer::{Input, Start, Transformer};

use super::{TaskOptions, lesson};
use crate::codec::{Facts, Media};

pub(crate) const SIDE: usize = 16;
pub(crate) const FACTS: Facts =
    Facts::Image { width: SIDE as u32, height: SIDE as u32, channels: 1 };
const STEPS: usize = 150;
const BATCH: usize = 16;

/// A picture, and white where its square is.
#[derive(Debug, Clone)]
pub(crate) struct Square {
    pub(crate) samples: Vec<u8>,
    pub(crate) mask: Vec<u8>,
}

impl Square {
    pub(crate) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: FACTS }
    }

    pub(crate) fn right(&self) -> Media<'_> {
        Media { samples: &self.mask, facts: FACTS }
    }
}

/// So many pictures.
pub(crate) fn squares(count: usize, seed: u64) -> Vec<Square> {
    let random = &mut Random::new(seed);
    let square = |_| {
        let side = 4 + random.below(6);
        let [top, left] = [(); 2].map(|()| random.below(SIDE - side + 1));
        let within = |at: usize| {
            (top..top + side).contains(&(at / SIDE)) && (left..left + side).contains(&(at % SIDE))
        };
        let mask: Vec<u8> = (0..SIDE * SIDE).map(|at| if within(at) { 255 } else { 0 }).collect();
        let samples = mask.iter().map(|sample| {
            let level = if *sample > 0 { 140.0 } else { 100.0 };
            (level + 3.0 * random.normal()) as u8
        });
        Square { samples: samples.collect(), mask }
    };
    (0..count).map(square).collect()
}

pub(crate) fn architecture() -> Architecture {
    Architecture {
        width: 24,
        heads: 2,
        layers: 1,
        inputs: Inputs::Image(ImageTokens { height: SIDE, width: SIDE, channels: 1, patch: 4 }),
        head: Head::Masks(16),
        feed_forward: FeedForward::Mlp { hidden: 48 },
    }
}

fn trained() -> Artifact {
    let model = Transformer::to_train(&architecture(), &Start::default(), 1).unwrap();
    let options = Options { rate: 1e-2, steps: STEPS as u64, warm_up: 10, ..Options::default() };
    let mut trainer = Trainer::new(model, options);
    for batch in squares(STEPS * BATCH, 7).chunks(BATCH) {
        let (mut values, mut targets) = (Vec::new(), Vec::new());
        for record in batch {
            let lesson = lesson(&architecture(), None, &record.media(), &record.right()).unwrap();
            values.extend(lesson.values);
            targets.extend(lesson.bits);
        }
        trainer.step(&Batch { input: Input::Images(values), targets }).unwrap();
    }
    artifact(&trainer.trained(), "squares")
}

pub(super) fn artifact(model: &Transformer, name: &str) -> Artifact {
    let exported = export(model, Precision::Int8).into_iter();
    let tensors = exported.map(|tensor| {
        (tensor.shape.name.clone(), Tensor::from_bytes(&tensor.shape, &tensor.bytes))
    });
    Artifact::new(Card::new(name, model.architecture().clone()), tensors.collect()).unwrap()
}

/// The folder of a model that draws squares, trained once.
pub(crate) fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| super::example::saved(&trained(), "squares"))
}

/// The task with that model.
pub(crate) fn options() -> TaskOptions {
    let json = serde_json::json!({ "kind": "segment", "model": model(), "label": "mask" });
    serde_json::from_value(json).unwrap()
}
