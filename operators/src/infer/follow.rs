//! The newest artifact that passes, from one epoch on.
//!
//! Newest is what was trained for the most steps; of equal ones, what was written last. A follower looks when an
//! epoch begins, so nothing of that epoch was answered yet, and a process never goes back to an older artifact.
//! (Each process looks for itself, so a newer one may answer an earlier epoch than another process's.)

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anabranch_models::artifact::architecture::{Architecture, Head, Inputs};
use anabranch_pipelines::operator::{Context, OperatorError};
use arrow::datatypes::Schema;

use super::InferOptions;
use super::model::{Choice, Held, Model};
use super::shelf::{Entry, Shelf, ShelfError};
use super::wiring::Wiring;

/// Changes that are remembered. An epoch that is further back than so many was durable long ago.
const REMEMBERED: usize = 1024;
/// Artifacts of which an error says why they cannot answer.
const TOLD: usize = 3;
/// How often a follower that waits for its first artifact looks.
const LOOK: Duration = Duration::from_millis(100);

/// Order of artifacts: steps, time of writing, name.
type Rank = (u64, i64, String);
type Kind = (Inputs, Head);

/// Chooses an artifact for each epoch.
#[derive(Debug, Default)]
pub(super) struct Follower(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// From which epoch on which artifact answers, in order.
    chosen: Vec<(u64, Arc<Choice>)>,
    /// The artifact that answers now.
    current: Option<Rank>,
    /// What it takes and tells, as all models after it must.
    kind: Option<Kind>,
    /// The last epoch of which something was answered.
    latest: Option<u64>,
    looked: Option<Instant>,
    /// What was found of each entry, as it stood then.
    found: HashMap<String, (Entry, Found)>,
    /// Artifacts that were passed over because they are damaged or do not fit.
    skipped: u64,
}

#[derive(Debug, Clone)]
enum Found {
    /// It is not looked at again until it changes; why.
    PassedOver(String),
    /// It may be opened.
    Whole(Rank),
}

impl Follower {
    /// Which artifact answers the context's epoch, of records with these columns, if they are known.
    ///
    /// # Errors
    /// When there is none yet and the options do not say to wait, or the epoch is too far back.
    pub(super) fn choose(
        &self,
        shelf: &Shelf,
        options: &InferOptions,
        input: Option<&Schema>,
        held: &Held,
        context: &Context,
    ) -> Result<Arc<Choice>, OperatorError> {
        // An epoch that begins waits here until the look at its beginning is over; so do others, briefly.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = context.epoch();
        let begins = state.latest.is_none_or(|latest| epoch > latest);
        if begins {
            let due = state.looked.is_none_or(|looked| looked.elapsed() >= options.every());
            if due || state.chosen.is_empty() {
                state.look(shelf, options, input, held, context)?;
            }
            state.latest = Some(epoch);
        }
        let chosen = state.chosen.iter().rev().find(|(from, _)| *from <= epoch);
        chosen.map(|(_, choice)| Arc::clone(choice)).ok_or_else(|| {
            OperatorError::Failed(format!(
                "epoch {epoch} is more than {REMEMBERED} models back; what answered it is forgotten"
            ))
        })
    }
}

impl State {
    /// Looks, and waits for the first artifact as long as the options say.
    fn look(
        &mut self,
        shelf: &Shelf,
        options: &InferOptions,
        input: Option<&Schema>,
        held: &Held,
        context: &Context,
    ) -> Result<(), OperatorError> {
        let begun = Instant::now();
        loop {
            let looked = self.look_once(shelf, options, input, held, context);
            self.looked = Some(Instant::now());
            if !self.chosen.is_empty() {
                // What answers so far goes on when a store does not tell what is new.
                if let Err(error) = looked {
                    tracing::warn!("infer: no newer model can be looked for: {error}");
                }
                return Ok(());
            }
            match looked {
                Err(error) if !error.is_passing() => return Err(failed(&error)),
                _ if begun.elapsed() < options.wait() => {
                    context.check_cancelled()?;
                    std::thread::sleep(LOOK);
                }
                Err(error) => return Err(failed(&error)),
                Ok(()) => return Err(self.nothing(shelf)),
            }
        }
    }

    fn nothing(&self, shelf: &Shelf) -> OperatorError {
        let at = shelf.place("");
        if self.skipped == 0 && self.found.is_empty() {
            let what = "train one first, or let the operator wait for it with `wait = \"10m\"`";
            return failed(&format!("{}; {what}", ShelfError::Empty { at }));
        }
        let reasons = self.found.iter().filter_map(|(name, (_, found))| match found {
            Found::PassedOver(reason) => Some((name, reason)),
            Found::Whole(_) => None,
        });
        let mut reasons: Vec<(&String, &String)> = reasons.collect();
        // Names that trainings give end with the step, so these are the newest.
        reasons.sort_unstable_by(|a, b| b.cmp(a));
        let told: Vec<&str> =
            reasons.iter().take(TOLD).map(|(_, reason)| reason.as_str()).collect();
        let more = reasons.len().saturating_sub(TOLD);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        failed(&format!(
            "of {} at {at} none can answer: {}{more}",
            if self.found.len() == 1 {
                "1 artifact".into()
            } else {
                format!("{} artifacts", self.found.len())
            },
            told.join("; ")
        ))
    }

    fn look_once(
        &mut self,
        shelf: &Shelf,
        options: &InferOptions,
        input: Option<&Schema>,
        held: &Held,
        context: &Context,
    ) -> Result<(), ShelfError> {
        let entries = shelf.list(context)?;
        let there: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        self.found.retain(|name, _| there.contains(name.as_str()));
        for entry in entries {
            // Weights come before or after the card, whoever writes them.
            let known = self.found.get(&entry.name).is_some_and(|(before, _)| before == &entry);
            if known || entry.weights_bytes.is_none() {
                continue;
            }
            let found = match shelf.card(&entry.name, context) {
                Ok((card, _)) => match options.gate.as_ref().and_then(|gate| gate.refusal(&card)) {
                    Some(reason) => {
                        let at = shelf.place(&entry.name);
                        tracing::info!("infer: {at} does not pass the gate: {reason}");
                        Found::PassedOver(format!("{}: {reason}", entry.name))
                    }
                    None => {
                        let rank = (card.training.steps, entry.modified, entry.name.clone());
                        Found::Whole(rank)
                    }
                },
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => self.skip(&error),
            };
            self.found.insert(entry.name.clone(), (entry, found));
        }
        self.swap(shelf, options, input, held, context)
    }

    /// Takes the newest artifact that opens and fits, if it is newer than the one that answers.
    fn swap(
        &mut self,
        shelf: &Shelf,
        options: &InferOptions,
        input: Option<&Schema>,
        held: &Held,
        context: &Context,
    ) -> Result<(), ShelfError> {
        while let Some(rank) = self.newest() {
            match self.open(shelf, &rank.2, options, input, context)? {
                Ok((choice, model)) => {
                    let (epoch, name) = (context.epoch(), &model.name);
                    tracing::info!("infer: from epoch {epoch} on {name} answers");
                    self.kind.get_or_insert_with(|| kind(model.engine.architecture()));
                    held.keep(Arc::new(model));
                    if self.chosen.len() == REMEMBERED {
                        self.chosen.remove(0);
                    }
                    // Epochs come in any order: the first model answers those before, too.
                    let from = if self.chosen.is_empty() { 0 } else { epoch };
                    self.chosen.push((from, Arc::new(choice)));
                    self.current = Some(rank);
                    break;
                }
                Err(reason) => {
                    let found = self.skip(&reason);
                    if let Some(there) = self.found.get_mut(&rank.2) {
                        there.1 = found;
                    }
                }
            }
        }
        Ok(())
    }

    /// The newest of what may be opened, if it is newer than what answers.
    fn newest(&self) -> Option<Rank> {
        let newer = |rank: &&Rank| self.current.as_ref().is_none_or(|now| *rank > now);
        let whole = self.found.values().filter_map(|(_, found)| match found {
            Found::Whole(rank) => Some(rank),
            Found::PassedOver(_) => None,
        });
        whole.filter(newer).max().cloned()
    }

    /// An artifact as a model, or why it is none that can go on where others were.
    fn open(
        &self,
        shelf: &Shelf,
        entry: &str,
        options: &InferOptions,
        input: Option<&Schema>,
        context: &Context,
    ) -> Result<Result<(Choice, Model), String>, ShelfError> {
        let at = shelf.place(entry);
        let opened = match shelf.open(entry, context) {
            Ok(opened) => opened,
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let found = kind(opened.artifact.architecture());
        if self.kind.as_ref().is_some_and(|kind| *kind != found) {
            let reason = "it takes or tells something else than the model that answers";
            return Ok(Err(format!("artifact {at}: {reason}")));
        }
        // What runs on needs a model that answers these records, whatever else lies in the folder.
        if let Some(input) = input
            && let Err(error) = Wiring::of(opened.artifact.architecture(), options, input)
        {
            return Ok(Err(format!("artifact {at}: {error}")));
        }
        let choice = Choice { entry: entry.to_owned(), sha256: opened.sha256.clone() };
        let model = Model::of(&opened, options).map_err(|e| format!("artifact {at}: {e}"));
        Ok(model.map(|model| (choice, model)))
    }

    /// Says once why an artifact is passed over.
    fn skip(&mut self, reason: &dyn std::fmt::Display) -> Found {
        self.skipped += 1;
        let (skipped, goes_on) = (self.skipped, self.current.is_some());
        let goes_on = if goes_on { "; the model before it goes on" } else { "" };
        tracing::warn!("infer: passed over ({skipped} so far): {reason}{goes_on}");
        Found::PassedOver(reason.to_string())
    }
}

/// What a model takes and tells.
fn kind(architecture: &Architecture) -> Kind {
    (architecture.inputs.clone(), architecture.head)
}

fn failed(error: &dyn std::fmt::Display) -> OperatorError {
    OperatorError::Failed(error.to_string())
}
