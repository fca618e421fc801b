//! Loss and accuracy over batches.

use burn::module::Module;
use burn::tensor::Tensor;

use super::batch::Batch;
use super::export::{Exported, forward_on_grid};
use crate::artifact::architecture::Head;
use crate::transformer::{Input, InputError, Transformer, binary_cross_entropy, cross_entropy};

/// What a model scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// The mean cross entropy in nats.
    pub loss: f64,
    /// The share of predictions that are right: whose largest logit is the target's, or with a head
    /// of masks, whose logit has the sign of its bit.
    pub accuracy: f64,
    /// Predictions: classes, tokens or bits.
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
    score(&model, batches, |input| model.forward(input))
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
    score(&model, batches, |input| Ok(forward_on_grid(&model, tensors, input)?.logits))
}

fn score<'a>(
    model: &Transformer,
    batches: impl IntoIterator<Item = &'a Batch>,
    forward: impl Fn(&Input) -> Result<Tensor<2>, InputError>,
) -> Result<Evaluation, InputError> {
    let (mut loss, mut right, mut count) = (0.0, 0, 0);
    for batch in batches {
        let logits = forward(&batch.input)?;
        let targets = batch.targets.as_slice();
        model.check_targets(&logits, targets)?;
        let (answers, mean) = match model.architecture().head {
            Head::Masks(_) => (bits(&logits), binary_cross_entropy(logits, targets)),
            Head::NextToken | Head::Classes(_) => {
                (likeliest(&logits), cross_entropy(logits, targets))
            }
        };
        right += answers.iter().zip(targets).filter(|(a, b)| **a == i64::from(**b)).count();
        loss += f64::from(mean.into_scalar::<f32>()) * targets.len() as f64;
        count += targets.len();
    }
    let of = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
    Ok(Evaluation { loss: of(loss), accuracy: of(right as f64), count })
}

/// The class of each row.
fn likeliest(logits: &Tensor<2>) -> Vec<i64> {
    let best = logits.clone().argmax(1).into_data().convert::<i64>();
    best.try_into_vec::<i64>().unwrap_or_default()
}

/// The bit of each logit.
fn bits(logits: &Tensor<2>) -> Vec<i64> {
    let logits = logits.clone().into_data().convert::<f32>().try_into_vec::<f32>();
    logits.unwrap_or_default().into_iter().map(|logit| i64::from(logit > 0.0)).collect()
}
