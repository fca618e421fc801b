//! Tasks: what a trained model makes of records, in numbers that say how well.
//!
//! A task is what a codec is judged by. Its model was trained on originals and is asked twice, about a record as it
//! was and as it comes back from the codec; the difference is the loss **Q_infer**. (Q_train, the loss of a model that
//! was trained on decoded records, and Q_latent, that of one that never saw anything but latents, are other questions
//! and never answered by this one.)
//!
//! ```no_run
//! use anabranch_operators::codec::{Facts, Media};
//! use anabranch_operators::task::{Right, TaskOptions};
//!
//! let options: TaskOptions = serde_json::from_str(r#"{ "kind": "classify", "model": "models/digits" }"#)?;
//! let task = options.build()?;
//! let facts = Facts::Image { width: 28, height: 28, channels: 1 };
//! let media = Media { samples: &[0; 28 * 28], facts };
//! // An empty picture is no five.
//! let outcome = task.outcomes(&[media], &[Some(Right::Class(5))]).remove(0)?;
//! assert_eq!(outcome.score, 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | | judges | score of a record | records that it cannot take |
//! | --- | --- | --- | --- |
//! | `classify` | pictures, by a model of classes | 1 if the likeliest class is right, else 0 | of another size |
//! | `classify` with `spectrum` | sounds, through log-mel spectra | the same | of another rate; a sample that is no number |
//! | `segment` | pictures, by a model that draws masks | intersection of its drawing and the right one over their union | of another size; without a mask |
//! | `separate` | sounds, by a model that tells which parts of their spectra are the voice | the share of its estimate's power that is voice | of another rate; whose voice is silent |
//! | `tokens` | texts, by a model of the next token | 1 - bits per byte / 8, from 0 to 1 | empty; of foreign tokens |

use std::path::Path;
use std::sync::Arc;

use anabranch_models::artifact::architecture::Architecture;
use anabranch_models::artifact::{Artifact, CARD};
use anabranch_pipelines::graph::nearest;
use anabranch_pipelines::record::Modality;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::OptionsError;
use crate::codec::Media;
use crate::spectrum::{hop, window};

mod ask;
mod classify;
#[cfg(test)]
pub(crate) mod example;
mod picture;
mod segment;
mod separate;
#[cfg(test)]
pub(crate) mod squares;
pub(crate) mod takes;
#[cfg(test)]
mod tests;
mod tokens;
#[cfg(test)]
pub(crate) mod tones;
#[cfg(test)]
pub(crate) mod voices;

/// How well a model did on a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// 1 for right, 0 for wrong; a task may give anything between.
    pub score: f64,
    /// The class that it answered, for tasks with classes.
    pub answer: Option<u32>,
}

/// What is right of a record.
#[derive(Debug, Clone, Copy)]
pub enum Right<'a> {
    /// Its class.
    Class(u32),
    /// Media like those of the record: the mask of a picture, or the voice in a sound by itself.
    Media(Media<'a>),
}

impl<'a> Right<'a> {
    pub(crate) fn class(self) -> Result<u32, String> {
        match self {
            Self::Class(class) => Ok(class),
            Self::Media(_) => Err("its right answer is no class".to_owned()),
        }
    }

    fn media(self) -> Result<Media<'a>, String> {
        match self {
            Self::Media(media) => Ok(media),
            Self::Class(class) => Err(format!("its right answer is class {class}, not media")),
        }
    }
}

/// What the column of right answers holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// Whole numbers from 0. A task can do without: what the model answers to the original is right then.
    Classes,
    /// Decoded media, of the modality of the records; always needed.
    Media,
}

impl Outcome {
    /// Of a model of classes: whether the likeliest is right; of equals the first is taken. Where no answer is known,
    /// what the model says is right.
    pub(crate) fn of(logits: &[f32], right: Option<u32>) -> Self {
        let all = logits.iter().enumerate().rev();
        let likeliest = all.max_by(|(_, a), (_, b)| a.total_cmp(b));
        let answer = likeliest.map_or(0, |(class, _)| class as u32);
        let score = f64::from(u8::from(right.is_none_or(|right| right == answer)));
        Self { score, answer: Some(answer) }
    }
}

/// How far apart two answers of a model of classes are: the root mean square of the differences of their logits, of
/// which the mean is taken away, since adding a number to all of them says nothing.
pub(crate) fn moved(original: &[f32], decoded: &[f32]) -> f64 {
    let differences = original.iter().zip(decoded).map(|(a, b)| f64::from(*b) - f64::from(*a));
    let differences: Vec<f64> = differences.collect();
    let count = differences.len().max(1) as f64;
    let mean = differences.iter().sum::<f64>() / count;
    (differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / count).sqrt()
}

/// Answers that have nothing to do with the records that they are given to.
#[derive(Debug, Clone, PartialEq)]
pub struct Blind {
    /// Which, to be read behind "with".
    pub answers: &'static str,
    /// What each record comes to.
    pub outcomes: Vec<Result<Outcome, String>>,
}

impl Blind {
    /// The model's answers, each given to the record behind it: `outcomes` stand where the answers do.
    fn others(mut outcomes: Vec<Result<Outcome, String>>) -> Self {
        if !outcomes.is_empty() {
            outcomes.rotate_right(1);
        }
        Self { answers: "its answers to other records", outcomes }
    }
}

/// A model and how its answers are judged.
pub trait Task: Send + Sync {
    /// The name in job files.
    fn name(&self) -> &'static str;

    /// What records it is about.
    fn modality(&self) -> Modality;

    /// What its right answers are.
    fn labels(&self) -> Labels {
        Labels::Classes
    }

    /// The outcome of each record, given its right answer. Where none is known, the class that the model answers is
    /// right.
    ///
    /// A record that the model cannot take has an error instead, as a sentence.
    fn outcomes(
        &self,
        media: &[Media<'_>],
        right: &[Option<Right<'_>>],
    ) -> Vec<Result<Outcome, String>>;

    /// What records come to by answers that have nothing to do with them, such as what the model answers to others of
    /// them: each of these with its outcomes, record by record. For tasks whose right answers are media.
    fn blind_outcomes(&self, _: &[Media<'_>], _: &[Option<Right<'_>>]) -> Vec<Blind> {
        Vec::new()
    }

    /// The logits of each record, for tasks whose model knows classes; an error for each record that it cannot take.
    fn logits(&self, media: &[Media<'_>]) -> Vec<Result<Vec<f32>, String>> {
        let told = || Err(format!("the model of `{}` has no classes", self.name()));
        media.iter().map(|_| told()).collect()
    }

    /// The outcome of each text, for tasks that are about texts.
    fn texts(&self, texts: &[&str]) -> Vec<Result<Outcome, String>> {
        let told = || Err(format!("the task is about {}, not text", self.modality()));
        texts.iter().map(|_| told()).collect()
    }
}

/// Kinds of tasks.
const CLASSIFY: &str = "classify";
const SEGMENT: &str = "segment";
const SEPARATE: &str = "separate";
const TOKENS: &str = "tokens";
const KINDS: [&str; 4] = [CLASSIFY, SEGMENT, SEPARATE, TOKENS];

/// How sounds become the spectra that a model takes, as the operator `spectrum` made them for its training; frames and
/// bands are the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spectra {
    /// Samples per second that all sounds have.
    pub rate: u32,
    /// Samples of a window. Default 256.
    #[serde(default = "window")]
    pub window: usize,
    /// Samples from one window to the next. Default 128.
    #[serde(default = "hop")]
    pub hop: usize,
}

/// A task as job files name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskOptions {
    /// `"classify"`: pictures or sounds, by a model of classes. `"segment"`: pictures, by a model that draws masks of
    /// what is in them. `"separate"`: sounds, by a model that tells which parts of their spectra are the voice.
    /// `"tokens"`: texts, by a model of the next token.
    pub kind: String,
    /// The model: the folder of an artifact, with `card.json` and `weights.safetensors`.
    pub model: String,
    /// The SHA-256 of its `card.json`, which has that of the weights. Taken when the job starts; a job that says it
    /// runs with that very model or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The column of right answers. For `"classify"` whole numbers from 0; without it, what the model answers to the
    /// original is right, and every changed answer is a loss. For `"segment"` decoded pictures, white where there is
    /// something; for `"separate"` decoded sounds, the voices by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// For `"separate"`, and for `"classify"` when it is about sounds: how these become spectra.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spectrum: Option<Spectra>,
    /// For `"tokens"`: the `tokenizer.json` that the model was trained with; a token per byte unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
}

impl TaskOptions {
    /// Reads the model.
    ///
    /// # Errors
    /// When there is no such task, or the model cannot be read, is another than was said or answers something else.
    pub fn build(&self) -> Result<Arc<dyn Task>, OptionsError> {
        if !KINDS.contains(&self.kind.as_str()) {
            let near = nearest(&self.kind, KINDS);
            let hint = near.map(|kind| format!(" (did you mean {kind:?}?)")).unwrap_or_default();
            let (kind, kinds) = (&self.kind, KINDS.join(", "));
            return Err(OptionsError(format!(
                "there is no task {kind:?}{hint}; there are {kinds}"
            )));
        }
        let wrong = |e: &dyn std::fmt::Display| OptionsError(format!("the task's model: {e}"));
        let (artifact, _) = open(&self.model, self.sha256.as_deref()).map_err(|e| wrong(&e))?;
        if self.kind == TOKENS {
            return self.tokens(&artifact);
        }
        if self.tokenizer.is_some() {
            let message = format!("`tokenizer` is an option of the task \"{TOKENS}\"");
            return Err(OptionsError(message));
        }
        let dense = [SEGMENT, SEPARATE].contains(&self.kind.as_str());
        if dense && self.label.is_none() {
            let of = if self.kind == SEGMENT { "masks" } else { "voices by themselves" };
            let message = format!("the task \"{}\" needs `label`, the column of {of}", self.kind);
            return Err(OptionsError(message));
        }
        if self.kind == SEGMENT {
            if self.spectrum.is_some() {
                let message =
                    format!("the task \"{SEGMENT}\" is about pictures; leave `spectrum` out");
                return Err(OptionsError(message));
            }
            return Ok(Arc::new(segment::Segment::new(&artifact).map_err(|e| wrong(&e))?));
        }
        if self.kind == SEPARATE {
            let message = format!(
                "the task \"{SEPARATE}\" needs `spectrum = {{ rate = .. }}`, which says how sounds become spectra"
            );
            let spectra = self.spectrum.ok_or(OptionsError(message))?;
            let separate = separate::Separate::new(&artifact, spectra).map_err(|e| wrong(&e))?;
            return Ok(Arc::new(separate));
        }
        let classify = classify::Classify::new(&artifact, self.spectrum).map_err(|e| wrong(&e))?;
        Ok(Arc::new(classify))
    }

    fn tokens(&self, artifact: &Artifact) -> Result<Arc<dyn Task>, OptionsError> {
        for (option, there) in
            [("label", self.label.is_some()), ("spectrum", self.spectrum.is_some())]
        {
            if there {
                let message = format!("`{option}` is an option of the task \"{CLASSIFY}\"");
                return Err(OptionsError(message));
            }
        }
        let read = |file: &String| {
            std::fs::read(file)
                .map_err(|e| OptionsError(format!("the task's tokenizer: {file}: {e}")))
        };
        let tokenizer = self.tokenizer.as_ref().map(read).transpose()?;
        let tokens = tokens::Tokens::new(artifact, tokenizer.as_deref());
        Ok(Arc::new(tokens.map_err(|e| OptionsError(format!("the task's model: {e}")))?))
    }

    /// The same options, with the hash of the model: what a plan is to know.
    ///
    /// # Errors
    /// When the model's card cannot be read.
    pub fn sealed(mut self) -> Result<Self, OptionsError> {
        self.sha256 = Some(self.hash()?);
        Ok(self)
    }

    fn hash(&self) -> Result<String, OptionsError> {
        hash(&self.model).map_err(|e| OptionsError(format!("the task's model: {e}")))
    }
}

/// The SHA-256 of the card of an artifact in a folder.
fn hash(folder: &str) -> Result<String, String> {
    let path = Path::new(folder).join(CARD);
    let card = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Sha256::digest(&card).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The artifact in a folder, and the SHA-256 of its card.
///
/// # Errors
/// When it cannot be read, or its card is another than was said, as a sentence.
pub(crate) fn open(folder: &str, said: Option<&str>) -> Result<(Artifact, String), String> {
    let artifact = Artifact::open(Path::new(folder)).map_err(|e| e.to_string())?;
    let found = hash(folder)?;
    match said.filter(|said| !said.eq_ignore_ascii_case(&found)) {
        Some(said) => Err(format!("the SHA-256 of its {CARD} is {found}, not {said}")),
        None => Ok((artifact, found)),
    }
}

/// A record as a model of masks learns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// What the model takes.
    pub values: Vec<f32>,
    /// 0 or 1 for each of its logits, in their order.
    pub bits: Vec<u32>,
}

/// What a model of these sizes learns of a record, so that it answers the task `"segment"` (a picture and its mask), or
/// with `spectra` the task `"separate"` (a mixture and the voice in it).
///
/// ```
/// use anabranch_models::artifact::architecture::{
///     Architecture, FeedForward, Head, ImageTokens, Inputs,
/// };
/// use anabranch_operators::codec::{Facts, Media};
/// use anabranch_operators::task::lesson;
///
/// // Two patches of 2 x 2 pixels, and a bit for each pixel.
/// let architecture = Architecture {
///     width: 8,
///     heads: 1,
///     layers: 1,
///     inputs: Inputs::Image(ImageTokens { height: 2, width: 4, channels: 1, patch: 2 }),
///     head: Head::Masks(4),
///     feed_forward: FeedForward::None,
/// };
/// let facts = Facts::Image { width: 4, height: 2, channels: 1 };
/// let picture = Media { samples: &[0, 0, 0, 255, 0, 0, 255, 255], facts };
/// let mask = Media { samples: &[0, 0, 0, 255, 0, 0, 255, 255], facts };
/// let lesson = lesson(&architecture, None, &picture, &mask)?;
/// assert_eq!(lesson.values, [-1.0, -1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 1.0]);
/// assert_eq!(lesson.bits, [0, 0, 0, 0, 0, 1, 1, 1]);
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// When the sizes are not those of a model of the task, or the record cannot be taken, as a sentence.
pub fn lesson(
    architecture: &Architecture,
    spectra: Option<Spectra>,
    media: &Media<'_>,
    right: &Media<'_>,
) -> Result<Lesson, String> {
    match spectra {
        None => segment::lesson(&segment::takes(architecture)?, media, right),
        Some(spectra) => separate::Hears::new(architecture, spectra)?.lesson(media, right),
    }
}
