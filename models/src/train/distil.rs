//! Warm start of look-up tables: fit each block to the MLP block that it replaces.
//!
//! The recipe: train a model with MLPs; [`Transformer::with_feed_forward`] gives the same model with
//! new tables; some hundred [`Trainer::distil`] steps fit every table block to its MLP on the inputs
//! that the MLP sees; then train on as usual. The teacher's steps count in every comparison.

use burn::module::Module;
use burn::tensor::Tensor;

use super::trainer::{Metrics, TrainError, Trainer};
use crate::transformer::{Input, Transformer};

impl Trainer<Transformer> {
    /// Takes a step of all feed-forward halves towards those of a teacher of the same sizes, on the
    /// teacher's own activations: the loss is the mean squared error relative to the teacher's mean
    /// square, averaged over blocks (1 is what a block of zeros scores). Nothing else is changed.
    ///
    /// # Errors
    ///
    /// A teacher with another number of blocks, an input that does not fit, or a loss that is not
    /// finite.
    pub fn distil(&mut self, teacher: &Transformer, input: &Input) -> Result<Metrics, TrainError> {
        let step = self.step;
        let (teachers, students) = (teacher.blocks.len(), self.model.blocks.len());
        if teachers != students {
            return Err(TrainError::Teacher { teacher: teachers, student: students });
        }
        let passes = teacher
            .valid()
            .feed_forward_passes(input)
            .map_err(|source| TrainError::Input { step, source })?;
        self.step_with(|model, _| {
            let device = model.device();
            let losses = model.blocks.iter().zip(passes).map(|(block, pass)| {
                let target = Tensor::from_inner(pass.output);
                let apart = block.feed_forward(Tensor::from_inner(pass.input)) - target.clone();
                let size = (target.clone() * target).mean() + 1e-12;
                (apart.clone() * apart).mean() / size
            });
            let total = losses.reduce(|a, b| a + b);
            Ok(total.unwrap_or_else(|| Tensor::zeros([1], &device)) / students.max(1) as f32)
        })
    }
}
