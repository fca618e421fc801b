//! Loss and accuracy over batches.

use burn::module::Module;
use burn::tensor::Tensor;

use super::batch::Batch;
use super::export::{Exported, forward_on_grid};
use crate::transformer::{Input, InputError, Transformer, cross_entropy};

/// What a model scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// The mean cross entropy in nats.
    pub loss: f64,
    /// The share of predictions whose largest logit is the target's.
    pub accuracy: f64,
    /// Predictions.
    pub count: usize,
}

/// Evaluates a model; every prediction weighs the same.
///
/// # Errors
///
/// When a batch does not fit the model.
pub fn evaluate<'a>(
    model: &Transformer,
    batches: impl IntoIterator<Item = &'a Batch>,
) -> Result<Evaluation, InputError> {
    let model = model.valid();
    score(batches, |input| model.forward(input))
}

/// Evaluates what was exported of a model, as the engine computes it: on the integer grid.
///
/// # Errors
///
/// When a batch does not fit the model.
pub fn evaluate_exported<'a>(
    model: &Transformer,
    tensors: &[Exported],
    batches: impl IntoIterator<Item = &'a Batch>,
) -> Result<Evaluation, InputError> {
    let model = model.valid();
    score(batches, |input| Ok(forward_on_grid(&model, tensors, input)?.logits))
}

fn score<'a>(
    batches: impl IntoIterator<Item = &'a Batch>,
    forward: impl Fn(&Input) -> Result<Tensor<2>, InputError>,
) -> Result<Evaluation, InputError> {
    let (mut loss, mut right, mut count) = (0.0, 0, 0);
    for batch in batches {
        let logits = forward(&batch.input)?;
        let [rows, classes] = logits.dims();
        if rows != batch.targets.len() {
            return Err(InputError::Targets { found: batch.targets.len(), expected: rows });
        }
        if let Some((row, target)) =
            batch.targets.iter().enumerate().find(|(_, target)| **target as usize >= classes)
        {
            return Err(InputError::Target { target: *target, row, classes });
        }
        let best = logits.clone().argmax(1).into_data().convert::<i64>();
        let best = best.try_into_vec::<i64>().unwrap_or_default();
        right += best.iter().zip(&batch.targets).filter(|(a, b)| **a == i64::from(**b)).count();
        loss += f64::from(cross_entropy(logits, &batch.targets).into_scalar::<f32>()) * rows as f64;
        count += rows;
    }
    let of = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
    Ok(Evaluation { loss: of(loss), accuracy: of(right as f64), count })
}
