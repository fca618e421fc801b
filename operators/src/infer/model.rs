//! A model that answers, and which one that is.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_models::artifact::architecture::{Architecture, Head};
use anabranch_models::engine::Engine;
use anabranch_pipelines::operator::{Context, OperatorError};
use serde::{Deserialize, Serialize};

use super::shelf::{Opened, Shelf, ShelfError};
use super::{InferOptions, Score};

/// Characters of a model's name that its column has, at most.
const NAME: usize = 64;
/// Digits of the hash behind it.
const DIGITS: usize = 12;
/// Bytes of a value of the column of models, at most.
pub(super) const LARGEST_NAME: usize = 4 * NAME + 1 + DIGITS;
/// Models that are held.
const HELD: usize = 2;

/// Which artifact of a shelf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Choice {
    pub(super) entry: String,
    /// That of the card.
    pub(super) sha256: String,
}

/// An artifact that runs.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) engine: Engine,
    /// Its name and the beginning of its hash.
    pub(super) name: String,
    pub(super) sha256: String,
}

impl Model {
    /// # Errors
    /// When the options do not go with it.
    pub(super) fn of(opened: &Opened, options: &InferOptions) -> Result<Self, String> {
        let Opened { artifact, sha256, .. } = opened;
        suits(artifact.architecture(), options)?;
        let engine = Engine::load(artifact).map_err(|e| e.to_string())?;
        let name: String = artifact.card().name.chars().take(NAME).collect();
        let name = format!("{name}@{}", sha256.get(..DIGITS).unwrap_or(sha256));
        Ok(Self { engine, name, sha256: sha256.clone() })
    }
}

/// Whether a model gives what the options ask for.
fn suits(architecture: &Architecture, options: &InferOptions) -> Result<(), String> {
    let outputs = architecture.outputs();
    match architecture.head {
        Head::Classes(_) if options.score == Score::Loss => {
            return Err("`score = \"loss\"` is for models of texts; this one tells classes".into());
        }
        Head::NextToken if !options.labels.is_empty() => {
            return Err("`labels` name classes, and this model tells tokens".into());
        }
        Head::Classes(classes) if !options.labels.is_empty() && options.labels.len() != classes => {
            let labels = options.labels.len();
            return Err(format!("it tells {classes} classes, and `labels` names {labels}"));
        }
        Head::Masks(_) => {
            let message = "it draws masks, which have no column here; the tasks \"segment\" and \"separate\" of \
                           `evaluate` ask such a model";
            return Err(message.to_owned());
        }
        Head::Classes(_) | Head::NextToken => {}
    }
    match options.top {
        Some(top) if top > outputs => {
            Err(format!("`top = {top}`: the model tells {outputs} things apart"))
        }
        _ => Ok(()),
    }
}

/// The models that answered lately.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Vec<Arc<Model>>>);

impl Held {
    /// Keeps a model, in the place of the one that was not asked for longest.
    pub(super) fn keep(&self, model: Arc<Model>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|other| other.sha256 != model.sha256);
        held.insert(0, model);
        held.truncate(HELD);
    }

    /// The chosen model, read again if it is not held.
    ///
    /// # Errors
    /// When it cannot be read, or another one stands there.
    pub(super) fn get(
        &self,
        choice: &Choice,
        shelf: &Shelf,
        options: &InferOptions,
        context: &Context,
    ) -> Result<Arc<Model>, OperatorError> {
        // Whoever needs it meanwhile waits, rather than read it too.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) =
            held.iter().position(|model| model.sha256.eq_ignore_ascii_case(&choice.sha256))
        {
            let model = held.remove(at);
            held.insert(0, Arc::clone(&model));
            return Ok(model);
        }
        let failed = |e: &dyn std::fmt::Display| OperatorError::Failed(e.to_string());
        let opened = open(shelf, choice, context).map_err(|e| failed(&e))?;
        let at = shelf.place(&choice.entry);
        let model = Model::of(&opened, options).map_err(|e| failed(&format!("model {at}: {e}")))?;
        let model = Arc::new(model);
        held.insert(0, Arc::clone(&model));
        held.truncate(HELD);
        Ok(model)
    }
}

/// Opens exactly this artifact.
fn open(shelf: &Shelf, choice: &Choice, context: &Context) -> Result<Opened, ShelfError> {
    let opened = shelf.open(&choice.entry, context)?;
    if opened.sha256.eq_ignore_ascii_case(&choice.sha256) {
        return Ok(opened);
    }
    let (at, expected) = (shelf.place(&choice.entry), choice.sha256.clone());
    Err(ShelfError::Other { at, found: opened.sha256, expected })
}
