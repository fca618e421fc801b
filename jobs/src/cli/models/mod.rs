//! `anabranch models`: trained models as they lie in folders and buckets.

use std::path::PathBuf;
use std::sync::Arc;

use anabranch_models::artifact::Card;
use anabranch_operators::infer::shelf::{Entry, Opened, Shelf, ShelfError};
use anabranch_pipelines::operator::Context;
use anabranch_pipelines::store::StoreFetcher;
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use super::{Exit, Failure, print};
use crate::terminal;

mod sample;

/// What to do with models.
#[derive(Debug, Subcommand)]
pub(super) enum ModelsCommand {
    /// List the models of a folder: what they are, how long they were trained and what they were measured to do.
    List {
        /// A folder that holds artifacts at any depth, as a path or URL.
        #[arg(value_name = "PATH")]
        path: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a model, after checking that it is whole.
    Show {
        /// The artifact, as a path or URL.
        #[arg(value_name = "ARTIFACT")]
        artifact: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show two models side by side, and how they differ.
    Compare {
        /// An artifact, as a path or URL.
        #[arg(value_name = "A")]
        a: String,
        /// Another one.
        #[arg(value_name = "B")]
        b: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a model of texts go on with a prompt.
    Sample(SampleArgs),
}

/// Which model goes on with what, and how.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("made by").required(true).args(["bytes", "tokenizer"])))]
pub(super) struct SampleArgs {
    /// The artifact, as a path or URL.
    #[arg(value_name = "ARTIFACT")]
    artifact: String,
    /// What the text begins with.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// The `tokenizer.json` that made the tokens that it was trained on.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Its tokens are bytes, as of `tokenise` with `model = "byte"`.
    #[arg(long)]
    bytes: bool,
    /// How many tokens to add.
    #[arg(long, value_name = "N", default_value_t = 200)]
    tokens: usize,
    /// How much is left to chance: 0 always takes the likeliest token, 1 draws as the model says.
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from the N likeliest tokens only.
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// The seed: equal seeds give equal text.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A model, as it was found.
#[derive(Debug, Serialize)]
pub(crate) struct ModelSeen {
    pub(crate) place: String,
    /// That of its card, which has that of its weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    /// Of card and weights.
    pub(crate) bytes: u64,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// What the card's numbers come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) derived: Option<Derived>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) card: Option<Card>,
}

/// What the numbers of a card come to.
#[derive(Debug, Serialize)]
pub(crate) struct Derived {
    pub(crate) multiplications_per_token: f64,
    pub(crate) additions_per_token: f64,
    /// The share of the multiplications of the same model with an MLP that this one does without.
    pub(crate) replaced_share: f64,
}

/// Two models.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) a: ModelSeen,
    pub(crate) b: ModelSeen,
}

/// Does what was asked for.
pub(super) fn models(command: &ModelsCommand) -> Result<Exit, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| failed(&format!("cannot start I/O: {error}")))?;
    let fetcher = StoreFetcher::new(runtime.handle().clone());
    let context = Context::new(Arc::new(fetcher), Arc::default());
    match command {
        ModelsCommand::List { path, json } => list(path, *json, &context),
        ModelsCommand::Show { artifact, json } => {
            let seen = seen(artifact, &context)?;
            show(&seen, *json, terminal::model)
        }
        ModelsCommand::Compare { a, b, json } => {
            let compared = Compared { a: seen(a, &context)?, b: seen(b, &context)? };
            show(&compared, *json, terminal::compared)
        }
        ModelsCommand::Sample(args) => sample::sample(args, &context),
    }
}

fn failed(message: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("error: {message}"))
}

fn show<T: Serialize>(seen: &T, json: bool, text: fn(&T) -> String) -> Result<Exit, Failure> {
    let text = if json {
        serde_json::to_string_pretty(seen).map_err(|error| failed(&error))? + "\n"
    } else {
        text(seen)
    };
    print(&text).map(|()| Exit::Done)
}

fn list(path: &str, json: bool, context: &Context) -> Result<Exit, Failure> {
    let shelf = Shelf::at(path).map_err(|error| failed(&error))?;
    let entries = shelf.list(context).map_err(|error| failed(&error))?;
    if entries.is_empty() {
        return Err(failed(&ShelfError::Empty { at: shelf.place("") }));
    }
    let models: Vec<ModelSeen> = entries.iter().map(|entry| look(&shelf, entry, context)).collect();
    show(&models, json, |models| terminal::models(models))
}

/// What there is of an entry, damaged or not.
fn look(shelf: &Shelf, entry: &Entry, context: &Context) -> ModelSeen {
    let bytes = entry.card_bytes + entry.weights_bytes.unwrap_or(0);
    let place = shelf.place(&entry.name);
    match shelf.open(&entry.name, context) {
        Ok(opened) => ModelSeen::whole(place, opened),
        Err(error) => {
            let card = shelf.card(&entry.name, context).ok();
            let problem = match error {
                ShelfError::Artifact { source, .. } => source.to_string(),
                _ if entry.weights_bytes.is_none() => "weights.safetensors is not there".to_owned(),
                other => other.to_string(),
            };
            let (card, sha256) = card.unzip();
            ModelSeen { place, sha256, bytes, problem: Some(problem), derived: None, card }
        }
    }
}

/// The one artifact that stands there, whole.
fn open(artifact: &str, context: &Context) -> Result<(String, Opened), Failure> {
    let shelf = Shelf::at(artifact).map_err(|error| failed(&error))?;
    match shelf.open("", context) {
        Ok(opened) => Ok((shelf.place(""), opened)),
        Err(error) => Err(match shelf.list(context) {
            // A folder of models is easily taken for one.
            Ok(entries) if entries.iter().all(|entry| !entry.name.is_empty()) => {
                let Some(first) = entries.first() else {
                    return Err(failed(&ShelfError::Empty { at: shelf.place("") }));
                };
                let (first, rest) = (shelf.place(&first.name), entries.len() - 1);
                let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                failed(&format!("{artifact} is no artifact; below it stand {first}{more}"))
            }
            _ => failed(&error),
        }),
    }
}

fn seen(artifact: &str, context: &Context) -> Result<ModelSeen, Failure> {
    open(artifact, context).map(|(place, opened)| ModelSeen::whole(place, opened))
}

impl ModelSeen {
    /// A model of which nothing is damaged.
    pub(crate) fn whole(place: String, opened: Opened) -> Self {
        let Opened { artifact, sha256, bytes } = opened;
        let card = artifact.card().clone();
        let derived = Derived {
            multiplications_per_token: card.operations.multiplications_per_token(),
            additions_per_token: card.operations.additions_per_token(),
            replaced_share: card.replaced_share(),
        };
        let (derived, card) = (Some(derived), Some(card));
        Self { place, sha256: Some(sha256), bytes, problem: None, derived, card }
    }
}
