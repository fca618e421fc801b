//! Small networks that judge codecs, trained here on originals.

use std::error::Error;
use std::path::Path;

use anabranch_models::artifact::architecture::{Architecture, Inputs};
use anabranch_models::artifact::{Artifact, Card, Tensor};
use anabranch_models::random::Random;
use anabranch_models::train::export::{Precision, export};
use anabranch_models::train::{Batch, Options, Trainer};
use anabranch_models::transformer::{Input, Start, Transformer};

/// A network and how it learns.
pub(crate) struct Network {
    pub(crate) name: &'static str,
    pub(crate) architecture: Architecture,
    pub(crate) batch: usize,
    pub(crate) rate: f32,
    pub(crate) steps: u64,
    pub(crate) seed: u64,
}

/// What a network takes of a record, and what it is to answer.
pub(crate) type Example = (Vec<f32>, Vec<u32>);

impl Network {
    /// Trains on what `draw` gives and saves the artifact into a folder. Gives the loss of the last tenth of the steps.
    pub(crate) fn train(
        &self,
        folder: &Path,
        mut draw: impl FnMut(&mut Random) -> Result<Example, Box<dyn Error>>,
    ) -> Result<f64, Box<dyn Error>> {
        let Self { architecture, steps, seed, .. } = self;
        let model = Transformer::to_train(architecture, &Start::default(), *seed)?;
        let warm_up = steps / 20;
        let options =
            Options { rate: self.rate, steps: *steps, warm_up, seed: *seed, ..Options::default() };
        let mut trainer = Trainer::new(model, options);
        let random = &mut Random::new(!seed);
        let last = (steps / 10).max(1);
        let mut loss = 0.0;
        for step in 0..*steps {
            let (mut values, mut targets) = (Vec::new(), Vec::new());
            for _ in 0..self.batch {
                let (taken, answered) = draw(random)?;
                values.extend(taken);
                targets.extend(answered);
            }
            let found = trainer.step(&Batch { input: self.input(values)?, targets })?;
            if step + last >= *steps {
                loss += f64::from(found.loss) / last as f64;
            }
        }
        let exported = export(&trainer.trained(), Precision::Int8).into_iter();
        let tensors = exported.map(|tensor| {
            (tensor.shape.name.clone(), Tensor::from_bytes(&tensor.shape, &tensor.bytes))
        });
        let mut card = Card::new(self.name, architecture.clone());
        (card.training.seed, card.training.steps) = (*seed, *steps);
        Artifact::new(card, tensors.collect())?.save(folder)?;
        Ok(loss)
    }

    /// A batch of pictures or of spectra.
    fn input(&self, values: Vec<f32>) -> Result<Input, Box<dyn Error>> {
        match &self.architecture.inputs {
            Inputs::Image(_) => Ok(Input::Images(values)),
            Inputs::Modalities { image: None, audio: Some(_), text: None } => {
                let audio = Some(values);
                Ok(Input::Modalities { batch: self.batch, image: None, audio, text: None })
            }
            other => Err(format!("{} takes {other:?}", self.name).into()),
        }
    }
}
