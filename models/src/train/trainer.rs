//! The loop: a model, its optimiser and a random state.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;
use thiserror::Error;

use super::adam::{self, Moments, Update};
use super::batch::Batch;
use super::groups::Group;
use super::options::Options;
use super::parameters;
use super::snapshot::SnapshotError;
use crate::kernel::{dot, lanes};
use crate::random::Random;
use crate::transformer::{InputError, Transformer};

/// Trains one model with AdamW.
#[derive(Debug)]
pub struct Trainer<M> {
    pub(super) model: M,
    pub(super) options: Options,
    /// Steps taken.
    pub(super) step: u64,
    pub(super) random: Random,
    /// By parameter, with the number of updates it got.
    pub(super) moments: BTreeMap<String, (u64, Moments)>,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// The step's number, from 0.
    pub step: u64,
    /// The loss before the update.
    pub loss: f32,
    /// The rate of weights.
    pub rate: f32,
    /// The global norm of the gradients of all parameters but tables, before clipping.
    pub norm: f32,
}

/// Why a training stops.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The loss or a gradient is not a number. The model is as it was before the step.
    #[error(
        "step {step}: {what} is {value}; lower the learning rate ({rate}) or look at the batch of this step"
    )]
    NotFinite {
        /// The step's number, from 0.
        step: u64,
        /// What went wrong.
        what: &'static str,
        /// Its value.
        value: f32,
        /// The rate of this step.
        rate: f32,
    },
    /// A batch that the model cannot take.
    #[error("step {step}: {source}")]
    Input {
        /// The step's number, from 0.
        step: u64,
        /// What is wrong with it.
        source: InputError,
    },
    /// A teacher that is not the student's.
    #[error("the teacher has {teacher} blocks, the student {student}; distil between equals")]
    Teacher {
        /// Blocks of the teacher.
        teacher: usize,
        /// Blocks of the student.
        student: usize,
    },
    /// A snapshot that cannot be taken or restored.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

lanes! {
    fn square(values: &[f32]) -> f32 {
        dot(values, values)
    }
}

impl<M: Module> Trainer<M> {
    /// A trainer at step 0 of a model whose parameters live on an autodiff device.
    pub fn new(model: M, options: Options) -> Self {
        let random = Random::new(options.seed);
        Self { model, options, step: 0, random, moments: BTreeMap::new() }
    }

    /// The model as it is now.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, training ended.
    pub fn into_model(self) -> M {
        self.model
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The random state: batches drawn from it resume with the training.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Takes a step down any loss of the model, shape `[1]`.
    ///
    /// # Errors
    ///
    /// What `loss` returns, and a loss or gradient that is not finite: then nothing was changed but
    /// what `loss` drew from the random state.
    pub fn step_with(
        &mut self,
        loss: impl FnOnce(&M, &mut Random) -> Result<Tensor<1>, InputError>,
    ) -> Result<Metrics, TrainError> {
        let step = self.step;
        let rate = self.options.rate_at(step);
        let loss = loss(&self.model, &mut self.random)
            .map_err(|source| TrainError::Input { step, source })?;
        let value = loss.clone().inner().into_scalar::<f32>();
        let finite = |what, value: f32| {
            if value.is_finite() {
                return Ok(());
            }
            Err(TrainError::NotFinite { step, what, value, rate })
        };
        finite("the loss", value)?;
        let mut gradients = loss.backward();
        let gradients = parameters::gradients(&self.model, &mut gradients);
        let (mut clipped, mut tables) = (0.0, 0.0);
        for (path, gradient) in &gradients {
            let square = f64::from(square(gradient));
            if Group::of(path).clipped() { clipped += square } else { tables += square }
        }
        let norm = clipped.sqrt() as f32;
        finite("the norm of the gradients", norm)?;
        finite("the norm of the tables' gradients", tables.sqrt() as f32)?;
        self.update(&gradients, norm, rate);
        self.step += 1;
        Ok(Metrics { step, loss: value, rate, norm })
    }

    fn update(&mut self, gradients: &BTreeMap<String, Vec<f32>>, norm: f32, rate: f32) {
        let Self { model, options, moments, .. } = self;
        let scale = if options.clip > 0.0 { (options.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let changed = parameters::change(model.clone(), |path, values| {
            let Some(gradient) = gradients.get(path) else { return false };
            if !moments.contains_key(path) {
                moments.insert(path.to_owned(), (0, Moments::new(values.len())));
            }
            let Some((updates, moments)) = moments.get_mut(path) else { return false };
            let group = Group::of(path);
            let by = Update {
                rate: rate * options.factor(group),
                decay: options.decay_of(group),
                betas: options.betas,
                step: *updates,
                scale: if group.clipped() { scale } else { 1.0 },
                clamped: group == Group::BitTable,
            };
            adam::apply(values, gradient, moments, &by);
            *updates += 1;
            true
        });
        *model = changed;
    }
}

impl Trainer<Transformer> {
    /// Takes a step down the cross entropy of one batch.
    ///
    /// # Errors
    ///
    /// A batch that does not fit the model, or a loss or gradient that is not finite.
    pub fn step(&mut self, batch: &Batch) -> Result<Metrics, TrainError> {
        let share = self.options.modality_dropout;
        self.step_with(|model, random| {
            model.loss(&batch.drop_modalities(share, random), &batch.targets)
        })
    }

    /// The model without what training needs, for evaluation.
    pub fn trained(&self) -> Transformer {
        self.model.valid()
    }
}
