//! Tasks: what a trained model makes of records, in numbers that say how well.
//!
//! A task is what a codec is judged by. Its model was trained on originals and is asked twice, about a record as it
//! was and as it comes back from the codec; the difference is the loss **Q_infer**. (Q_train, the loss of a model that
//! was trained on decoded records, and Q_latent, that of one that never saw anything but latents, are other questions
//! and never answered by this one.)
//!
//! ```no_run
//! use anabranch_operators::codec::{Facts, Media};
//! use anabranch_operators::task::TaskOptions;
//!
//! let options: TaskOptions = serde_json::from_str(r#"{ "kind": "classify", "model": "models/digits" }"#)?;
//! let task = options.build()?;
//! let facts = Facts::Image { width: 28, height: 28, channels: 1 };
//! let media = Media { samples: &[0; 28 * 28], facts };
//! // An empty picture is no five.
//! let outcome = task.outcomes(&[media], &[Some(5)]).remove(0)?;
//! assert_eq!(outcome.score, 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;
use std::sync::Arc;

use anabranch_models::artifact::{Artifact, CARD};
use anabranch_pipelines::graph::nearest;
use anabranch_pipelines::record::Modality;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::OptionsError;
use crate::codec::Media;

mod classify;
#[cfg(test)]
pub(crate) mod example;

/// How well a model did on a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// 1 for right, 0 for wrong; a task may give anything between.
    pub score: f64,
    /// The class that it answered, for tasks with classes.
    pub answer: Option<u32>,
}

/// A model and how its answers are judged.
pub trait Task: Send + Sync {
    /// The name in job files.
    fn name(&self) -> &'static str;

    /// What records it is about.
    fn modality(&self) -> Modality;

    /// The outcome of each record, given its right answer. Where none is known, what the model answers is right.
    ///
    /// A record that the model cannot take has an error instead, as a sentence.
    fn outcomes(&self, media: &[Media<'_>], right: &[Option<u32>]) -> Vec<Result<Outcome, String>>;
}

/// Kinds of tasks.
const KINDS: [&str; 1] = ["classify"];

/// A task as job files name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskOptions {
    /// `"classify"`: pictures, by a model of classes.
    pub kind: String,
    /// The model: the folder of an artifact, with `card.json` and `weights.safetensors`.
    pub model: String,
    /// The SHA-256 of its `card.json`, which has that of the weights. Taken when the job starts; a job that says it
    /// runs with that very model or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The column of right answers, whole numbers from 0. Without it, what the model answers to the original is right,
    /// and every changed answer is a loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
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
        let folder = Path::new(&self.model);
        let wrong = |e: &dyn std::fmt::Display| OptionsError(format!("the task's model: {e}"));
        let artifact = Artifact::open(folder).map_err(|e| wrong(&e))?;
        let found = self.hash()?;
        if let Some(said) = self.sha256.as_ref().filter(|said| !said.eq_ignore_ascii_case(&found)) {
            let message = format!("the SHA-256 of its {CARD} is {found}, not {said}");
            return Err(wrong(&message));
        }
        let classify = classify::Classify::new(&artifact).map_err(|e| wrong(&e))?;
        Ok(Arc::new(classify))
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
        let path = Path::new(&self.model).join(CARD);
        let card = std::fs::read(&path)
            .map_err(|e| OptionsError(format!("the task's model: {}: {e}", path.display())))?;
        Ok(Sha256::digest(&card).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
