//! What a model says of rows, and how it becomes columns.

use std::sync::Arc;

use anabranch_models::engine::{Engine, EngineError, Gpt};
use arrow::array::{
    ArrayRef, Float32Array, Float32Builder, Int32Array, Int32Builder, ListBuilder, StringArray,
    StringBuilder,
};
use arrow::datatypes::{DataType, Field};

use super::rows::Asked;
use super::{InferOptions, Score};

/// Logits that are held at once, at most: 64 MiB of them.
const LOGITS: usize = 16 << 20;

/// What a model says of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The likeliest classes or tokens with their probabilities, the likeliest first.
    Likeliest(Vec<(u32, f32)>),
    /// Nats per token.
    Loss(f32),
}

/// The answers to rows of which there is something, in order.
///
/// # Errors
/// When the model fails at one of them.
pub(super) fn answers(
    engine: &Engine,
    rows: &[Asked<'_>],
    options: &InferOptions,
) -> Result<Vec<Answer>, EngineError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let logits = match engine {
        Engine::Gpt(gpt) => {
            let texts: Vec<_> = rows.iter().map(|row| row.tokens.unwrap_or_default()).collect();
            if options.score == Score::Loss {
                return losses(gpt, &texts);
            }
            let ends: Vec<_> = texts.iter().map(|text| end(text, gpt.context())).collect();
            gpt.last_logits(&ends)?
        }
        Engine::Encoder(encoder) => {
            let inputs: Vec<_> = rows.iter().map(Asked::input).collect();
            encoder.predict(&inputs)?
        }
    };
    let outputs = engine.architecture().outputs().max(1);
    let top = options.top.unwrap_or(1);
    Ok(logits.chunks(outputs).map(|logits| Answer::Likeliest(likeliest(logits, top))).collect())
}

/// The last tokens of a text, as many as a model sees.
fn end(text: &[u32], context: usize) -> &[u32] {
    text.get(text.len().saturating_sub(context)..).unwrap_or_default()
}

/// The largest of some logits with their probabilities; of equal ones the first is the larger.
fn likeliest(logits: &[f32], top: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(top + 1);
    for (class, logit) in (0..).zip(logits) {
        let at = best.partition_point(|(_, other)| other >= logit);
        if at < top {
            best.insert(at, (class, *logit));
            best.truncate(top);
        }
    }
    let largest = best.first().map_or(0.0, |(_, logit)| f64::from(*logit));
    let weight = |logit: f32| (f64::from(logit) - largest).exp();
    let total: f64 = logits.iter().map(|logit| weight(*logit)).sum();
    best.into_iter().map(|(class, logit)| (class, (weight(logit) / total) as f32)).collect()
}

/// The mean loss of the tokens of each text behind its first.
fn losses(gpt: &Gpt, texts: &[&[u32]]) -> Result<Vec<Answer>, EngineError> {
    let mean = |(sum, text): (f64, &&[u32])| {
        Answer::Loss((sum / text.len().saturating_sub(1).max(1) as f64) as f32)
    };
    Ok(nats(gpt, texts)?.into_iter().zip(texts).map(mean).collect())
}

/// The sum of the losses of the tokens of each text behind its first, in nats. A long text is read in pieces as long as
/// the context, each of which begins with the last token that the one before foretold.
pub(crate) fn nats(gpt: &Gpt, texts: &[&[u32]]) -> Result<Vec<f64>, EngineError> {
    let (context, vocabulary) = (gpt.context().max(1), gpt.architecture().outputs().max(1));
    let mut sums = vec![0.0_f64; texts.len()];
    let pieces = texts.iter().enumerate().flat_map(|(text, tokens)| {
        let read = tokens.split_last().map_or(&[][..], |(_, read)| read);
        let targets = tokens.split_first().map_or(&[][..], |(_, targets)| targets);
        read.chunks(context).zip(targets.chunks(context)).map(move |piece| (text, piece))
    });
    let pieces: Vec<_> = pieces.collect();
    let mut rest = pieces.as_slice();
    while !rest.is_empty() {
        let mut held = 0;
        let fits = rest.iter().take_while(|(_, (read, _))| {
            held += read.len() * vocabulary;
            held <= LOGITS
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        rest = later;
        let read: Vec<&[u32]> = now.iter().map(|(_, (read, _))| *read).collect();
        let logits = gpt.logits(&read)?;
        let mut logits = logits.chunks_exact(vocabulary);
        for (text, (_, targets)) in now {
            let losses =
                targets.iter().zip(&mut logits).map(|(target, logits)| loss(logits, *target));
            if let Some(sum) = sums.get_mut(*text) {
                *sum += losses.sum::<f64>();
            }
        }
    }
    Ok(sums)
}

fn loss(logits: &[f32], target: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - f64::from(largest)).exp()).sum();
    let target = logits.get(target as usize).copied().unwrap_or(f32::NAN);
    sum.ln() + f64::from(largest) - f64::from(target)
}

/// The fields that are added for these options, beside that of the model.
pub(super) fn fields(options: &InferOptions) -> Vec<Field> {
    let into = options.into();
    if options.score == Score::Loss {
        return vec![Field::new(into, DataType::Float32, true)];
    }
    let kind = if options.labels.is_empty() { DataType::Int32 } else { DataType::Utf8 };
    let mut fields = vec![
        Field::new(into, kind.clone(), true),
        Field::new(format!("{into}_confidence"), DataType::Float32, true),
    ];
    if options.top.is_some() {
        let list = |kind| DataType::List(Arc::new(Field::new("element", kind, true)));
        fields.push(Field::new(format!("{into}_top"), list(kind), true));
        fields.push(Field::new(format!("{into}_top_confidence"), list(DataType::Float32), true));
    }
    fields
}

/// The columns of [`fields`].
pub(super) fn columns(answers: &[Option<Answer>], options: &InferOptions) -> Vec<ArrayRef> {
    if options.score == Score::Loss {
        let loss = |answer: &Option<Answer>| match answer {
            Some(Answer::Loss(loss)) => Some(*loss),
            _ => None,
        };
        return vec![Arc::new(answers.iter().map(loss).collect::<Float32Array>())];
    }
    let ranked = |answer: &'_ Option<Answer>| match answer {
        Some(Answer::Likeliest(best)) => Some(best.clone()),
        _ => None,
    };
    let ranked: Vec<Option<Vec<(u32, f32)>>> = answers.iter().map(ranked).collect();
    let first = ranked.iter().map(|best| best.as_ref()?.first().copied());
    let label = |class: u32| options.labels.get(class as usize).map_or("", String::as_str);
    let classes: ArrayRef = if options.labels.is_empty() {
        let classes = first.clone().map(|best| Some(best?.0.cast_signed()));
        Arc::new(classes.collect::<Int32Array>())
    } else {
        Arc::new(first.clone().map(|best| Some(label(best?.0))).collect::<StringArray>())
    };
    let confidence = first.map(|best| Some(best?.1)).collect::<Float32Array>();
    let mut columns: Vec<ArrayRef> = vec![classes, Arc::new(confidence)];
    if options.top.is_none() {
        return columns;
    }
    let element = |kind| Arc::new(Field::new("element", kind, true));
    let mut numbers = ListBuilder::new(Int32Builder::new()).with_field(element(DataType::Int32));
    let mut labels = ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8));
    let mut shares = ListBuilder::new(Float32Builder::new()).with_field(element(DataType::Float32));
    for best in &ranked {
        for (class, share) in best.iter().flatten() {
            numbers.values().append_value(class.cast_signed());
            labels.values().append_value(label(*class));
            shares.values().append_value(*share);
        }
        numbers.append(best.is_some());
        labels.append(best.is_some());
        shares.append(best.is_some());
    }
    columns.push(match options.labels.is_empty() {
        true => Arc::new(numbers.finish()),
        false => Arc::new(labels.finish()),
    });
    columns.push(Arc::new(shares.finish()));
    columns
}
