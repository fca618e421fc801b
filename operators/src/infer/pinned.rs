//! A model that is part of the job.

use std::sync::Arc;

use anabranch_pipelines::operator::Context;

use super::model::{Choice, Held, Model};
use super::shelf::{Shelf, ShelfError};
use super::{InferOptions, Work};

/// Reads the model if it is on this machine, and says in the options which one it is.
///
/// # Errors
/// When there is none, or it is not what the options say.
pub(super) fn choose(
    mut options: InferOptions,
    shelf: &Shelf,
    held: &Held,
) -> Result<(InferOptions, Work), String> {
    if !shelf.is_local() {
        // It is read when the first batch comes, by each process: without a hash nobody would notice that it
        // changed in between.
        let Some(sha256) = options.sha256.clone() else {
            let model = &options.model;
            return Err(format!(
                "`model = {model:?}` is read while the job runs: say which one is meant, with `sha256 = \"..\"` \
                 (`anabranch models show` tells it), follow the newest (`follow = true`), or name a local copy"
            ));
        };
        return Ok((options, Work::Remote(Choice { entry: String::new(), sha256 })));
    }
    let entry = newest(&options, shelf).map_err(|e| e.to_string())?;
    let at = shelf.place(&entry);
    let opened = shelf.open(&entry, &Context::plain()).map_err(|e| e.to_string())?;
    if let Some(expected) =
        options.sha256.clone().filter(|it| !it.eq_ignore_ascii_case(&opened.sha256))
    {
        return Err(ShelfError::Other { at, found: opened.sha256, expected }.to_string());
    }
    let refusal = options.gate.as_ref().and_then(|gate| gate.refusal(opened.artifact.card()));
    if let Some(reason) = refusal {
        return Err(format!("model {at} does not pass the gate: {reason}"));
    }
    let model = Arc::new(Model::of(&opened, &options).map_err(|e| format!("model {at}: {e}"))?);
    held.keep(Arc::clone(&model));
    options.sha256 = Some(model.sha256.clone());
    if !entry.is_empty() {
        options.model = at;
    }
    Ok((options, Work::Read(model)))
}

/// The entry to open: the shelf itself, or of several the one of this hash, or the newest that passes the gate.
fn newest(options: &InferOptions, shelf: &Shelf) -> Result<String, ShelfError> {
    let context = Context::plain();
    let entries = shelf.list(&context)?;
    if entries.iter().any(|entry| entry.name.is_empty()) {
        return Ok(String::new());
    }
    let mut best = None;
    let mut problem = ShelfError::Empty { at: shelf.place("") };
    for entry in entries {
        let (card, sha256) = match shelf.card(&entry.name, &context) {
            Ok(read) => read,
            Err(error) => {
                problem = error;
                continue;
            }
        };
        let wanted = match &options.sha256 {
            Some(wanted) => wanted.eq_ignore_ascii_case(&sha256),
            None => options.gate.as_ref().is_none_or(|gate| gate.refusal(&card).is_none()),
        };
        let rank = (wanted, card.training.steps, entry.modified, entry.name);
        best = best.max(Some(rank));
    }
    // One that does not pass is refused with its reason.
    best.map(|(.., name)| name).ok_or(problem)
}
