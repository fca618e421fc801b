//! What a trained model scores once it is exported: the integers through Burn's forward pass, and the engine.

use std::error::Error;

use anabranch_models::artifact::architecture::{FeedForward, Inputs};
use anabranch_models::artifact::{Accuracy, Artifact, Card, Tensor, Training};
use anabranch_models::engine::{self, Engine};
use anabranch_models::train::export::{Precision, export};
use anabranch_models::train::{Batch, evaluate};
use anabranch_models::transformer::{Input, Transformer};
use serde::{Deserialize, Serialize};

use crate::run::Settings;

/// Mean cross entropy in nats, and the share of right predictions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
    /// The deviation of the loss of one example (a window or a picture).
    pub(crate) deviation: f64,
    pub(crate) examples: usize,
}

/// The scores of one model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Scores {
    /// As it was trained.
    pub(crate) trained: Score,
    /// What the engine answers: tables in the bits of their contender, an MLP in f32.
    pub(crate) engine: Score,
    /// The same with tables or an MLP in int8.
    pub(crate) engine_int8: Option<Score>,
}

/// Scores a model and the artifact that `exported` made of it.
pub(crate) fn score(
    model: &Transformer,
    artifact: &Artifact,
    held_out: &[Batch],
) -> Result<Scores, Box<dyn Error>> {
    let trained = evaluate(model, held_out)?;
    let engine = answers(&Engine::load(artifact)?, held_out)?;
    let engine_int8 = match model.architecture().feed_forward {
        FeedForward::None => None,
        FeedForward::Mlp { .. } => {
            let options = engine::Options { int8: true, ..engine::Options::default() };
            Some(answers(&Engine::load_with(artifact, options)?, held_out)?)
        }
        FeedForward::Bits(_) | FeedForward::Rows(_) => {
            let artifact = exported(model, artifact.card().clone(), Precision::Int8)?;
            Some(answers(&Engine::load(&artifact)?, held_out)?)
        }
    };
    let trained = Score {
        loss: trained.loss,
        accuracy: trained.accuracy,
        deviation: engine.deviation,
        examples: engine.examples,
    };
    Ok(Scores { trained, engine, engine_int8 })
}

/// The engine's answers to all examples.
fn answers(engine: &Engine, held_out: &[Batch]) -> Result<Score, Box<dyn Error>> {
    let outputs = engine.architecture().outputs();
    let (mut right, mut predictions, mut losses) = (0, 0, Vec::new());
    for batch in held_out {
        let (logits, per_example) = logits(engine, batch)?;
        let rows = logits.chunks_exact(outputs).zip(&batch.targets);
        let rows: Vec<f64> = rows
            .map(|(logits, target)| {
                let target = logits.get(*target as usize).copied().unwrap_or(f32::NEG_INFINITY);
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                right += usize::from(target >= largest);
                predictions += 1;
                let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
                sum.ln() - f64::from(target - largest)
            })
            .collect();
        losses.extend(rows.chunks(per_example).map(|of| of.iter().sum::<f64>() / of.len() as f64));
    }
    let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    let square = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>();
    Ok(Score {
        loss: mean,
        accuracy: f64::from(right as u32) / f64::from(predictions.max(1)),
        deviation: (square / losses.len().saturating_sub(1).max(1) as f64).sqrt(),
        examples: losses.len(),
    })
}

/// The logits of a batch, and the predictions of an example.
fn logits(engine: &Engine, batch: &Batch) -> Result<(Vec<f32>, usize), Box<dyn Error>> {
    match (engine, &batch.input) {
        (Engine::Gpt(gpt), Input::Tokens { ids, length }) => {
            let sequences: Vec<&[u32]> = ids.chunks(*length).collect();
            Ok((gpt.logits(&sequences)?, *length))
        }
        (Engine::Encoder(encoder), Input::Images(values)) => {
            let Inputs::Image(sizes) = encoder.architecture().inputs else {
                return Err("an encoder of pictures".into());
            };
            let size = sizes.height * sizes.width * sizes.channels;
            let record = |values| engine::Input { image: Some(values), ..engine::Input::default() };
            let records: Vec<_> = values.chunks(size).map(record).collect();
            Ok((encoder.predict(&records)?, 1))
        }
        _ => Err("a task of another kind than its model".into()),
    }
}

/// What the engine runs.
pub(crate) fn artifact(
    model: &Transformer,
    settings: &Settings,
    precision: Precision,
) -> Result<Artifact, Box<dyn Error>> {
    let mut card = Card::new(settings.name(), model.architecture().clone());
    card.training = Training {
        data_commit: settings.task.clone(),
        seed: settings.seed,
        steps: settings.steps,
        tasks: vec![settings.task.clone()],
    };
    exported(model, card, precision)
}

fn exported(
    model: &Transformer,
    mut card: Card,
    precision: Precision,
) -> Result<Artifact, Box<dyn Error>> {
    card.table_bits = precision.bits();
    let tensors = export(model, precision).into_iter();
    let tensors = tensors.map(|t| (t.shape.name.clone(), Tensor::from_bytes(&t.shape, &t.bytes)));
    Ok(Artifact::new(card, tensors.collect())?)
}

/// The artifact with what it was measured to do.
pub(crate) fn with_card(
    artifact: Artifact,
    scores: &Scores,
    settings: &Settings,
) -> Result<Artifact, Box<dyn Error>> {
    let Score { loss, accuracy, deviation, examples } = scores.engine;
    let measure = |measure: &str, value: f64, half: f64| Accuracy {
        task: settings.task.clone(),
        measure: measure.to_owned(),
        value,
        interval: [value - half, value + half],
        examples: examples as u64,
    };
    let root = (examples.max(1) as f64).sqrt();
    let share = (accuracy * (1.0 - accuracy)).sqrt();
    let mut card = artifact.card().clone();
    card.accuracy = vec![
        measure("loss", loss, 1.96 * deviation / root),
        measure("accuracy", accuracy, 1.96 * share / root),
    ];
    Ok(Artifact::new(card, artifact.tensors().clone())?)
}
