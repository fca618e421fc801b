//! `kind = "infer"`: what a trained model says of each record, in columns beside it.
//!
//! A model is an artifact of `anabranch_models`: a folder with `card.json` and `weights.safetensors`. What it takes
//! decides which columns go in: decoded pictures of its size (`image`, samples as numbers from -1 to 1), spectrograms
//! (`audio`) and tokens (`tokens`, see `tokenise`). What comes out:
//!
//! * A model of **classes**: the likeliest class, as a number or by its name in `labels`, and its probability. Of a
//!   text that is longer than the context, the end is looked at. A model of several modalities takes what there is
//!   of them; its texts are cut or filled up with token 0 to the length that it was trained with.
//! * A model of **texts**: the likeliest next token behind the end of the text, and its probability; or, with
//!   `score = "loss"`, how surprising the text is: the mean of `-ln p` over all tokens but the first, in nats. A
//!   text longer than the context is read in pieces of that length.
//!
//! A record without any of the inputs has no prediction; one that the model cannot take (a picture of another size,
//! an unknown token, an empty text, a value that is no number) is refused.
//!
//! # One model, or the newest
//!
//! By default the model is part of the job: it is read when the job starts, its hash is part of the plan, and the
//! same records give the same bits. When `model` names a folder of several artifacts, the newest that passes the
//! gate is taken then.
//!
//! With `follow = true` the operator looks for a newer artifact when an epoch begins, at most once in `every`, and
//! lets it answer from that epoch on: every record is answered by one model, and all records of an epoch by the same.
//! Newest is what was trained for the most steps (give each training a folder). One that is damaged or takes
//! something else is passed over, and the log says so once; the model before it goes on. The column `INTO_model`
//! tells which model answered.
//!
//! ```toml
//! [operator.digits]
//! kind = "infer"
//! model = "models/digits"
//! follow = true
//! gate = { measure = "accuracy", at_least = 0.95 }
//! inputs = ["decode"]
//! ```
//!
//! ```
//! use anabranch_models::artifact::architecture::{Architecture, FeedForward, Head, Inputs};
//! use anabranch_models::engine::example;
//! use anabranch_operators::InferOptions;
//! use anabranch_pipelines::operator::{Allocation, Context};
//! use arrow::array::{ArrayRef, AsArray, ListArray, RecordBatch};
//! use arrow::datatypes::Int32Type;
//! use std::sync::{Arc, OnceLock};
//!
//! let folder = std::env::temp_dir().join(format!("anabranch-infer-{}", std::process::id()));
//! example::random(&Architecture {
//!     width: 8,
//!     heads: 2,
//!     layers: 1,
//!     inputs: Inputs::Tokens { vocabulary: 5, context: 4 },
//!     head: Head::NextToken,
//!     feed_forward: FeedForward::None,
//! })?
//! .save(&folder)?;
//!
//! let infer = InferOptions::of(&folder.display().to_string()).build()?;
//! let texts = vec![Some(vec![Some(1), Some(2)]), None];
//! let texts: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(texts));
//! let batch = RecordBatch::try_from_iter([("tokens", texts)])?;
//! let outcome = infer.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
//! let next = outcome.records.column_by_name("prediction").unwrap().as_primitive::<Int32Type>();
//! assert!((0..5).contains(&next.value(0)) && next.values().len() == 2);
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Choosing, Context, Growth, Operator, OperatorError, Outcome, Refused,
};
use anabranch_pipelines::quantity::Interval;
use arrow::array::{BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::derived::Derived;

mod answer;
mod follow;
mod gate;
mod model;
mod pinned;
mod rows;
pub mod shelf;
#[cfg(test)]
mod tests;
mod wiring;

use answer::Answer;
pub(crate) use answer::nats;
use follow::Follower;
pub use gate::Gate;
use model::{Choice, Held, LARGEST_NAME, Model};
use rows::Asked;
use shelf::Shelf;
use wiring::Wiring;

/// What is asked of a model.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The likeliest class or next token.
    #[default]
    Answer,
    /// How surprising a text is, in nats per token.
    Loss,
}

/// Options of `kind = "infer"`: what a trained model says of each record.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InferOptions {
    /// The artifact, as a path or URL: a folder with `card.json` and `weights.safetensors`, or one that holds such
    /// folders.
    pub model: String,
    /// The SHA-256 of its `card.json`, which has that of the weights. That of a local one is taken when the job
    /// starts; one behind a URL needs it, so that the plan says which model answers. Not with `follow`.
    #[serde(default)]
    pub sha256: Option<String>,
    /// The column of pictures; `"image"` unless said otherwise.
    #[serde(default)]
    pub image: Option<String>,
    /// The column of spectrograms, lists of 32-bit floats; `"audio"` unless said otherwise.
    #[serde(default)]
    pub audio: Option<String>,
    /// The column of tokens, lists of 32-bit integers; `"tokens"` unless said otherwise.
    #[serde(default)]
    pub tokens: Option<String>,
    /// The column of answers that is added; `"prediction"` unless said otherwise, with `score = "loss"` `"loss"`.
    /// Columns beside it begin with its name: `_confidence` (the probability of the answer) and, with `follow`,
    /// `_model`.
    #[serde(default)]
    pub into: Option<String>,
    /// Names of the classes, the first of class 0. Without them, answers are numbers.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Also add the so many likeliest answers and their probabilities, as lists in `_top` and `_top_confidence`.
    #[serde(default)]
    pub top: Option<usize>,
    /// `"answer"`, or `"loss"` of models of texts: how surprising each text is, in nats per token.
    #[serde(default)]
    pub score: Score,
    /// Whether a newer artifact takes over while the job runs, always between epochs.
    #[serde(default)]
    pub follow: bool,
    /// With `follow`: how often to look for a newer one. Default `"10s"`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<Interval>,
    /// With `follow`: how long to wait for the first one, less than the job's `stall`. Default: not at all.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub wait: Option<Interval>,
    /// What the card of an artifact must say: `{ measure = "accuracy", at_least = 0.8 }`, or `at_most` for losses.
    #[serde(default)]
    pub gate: Option<Gate>,
}

const EVERY: Duration = Duration::from_secs(10);
/// Bytes of a list of answers beyond its elements, and of the ends of columns.
const ROOM: usize = 64;
/// Answers of `top`, at most.
const MOST: usize = 1024;

impl InferOptions {
    /// The defaults, for an artifact.
    pub fn of(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            sha256: None,
            image: None,
            audio: None,
            tokens: None,
            into: None,
            labels: Vec::new(),
            top: None,
            score: Score::Answer,
            follow: false,
            every: None,
            wait: None,
            gate: None,
        }
    }

    /// The operator.
    ///
    /// # Errors
    /// When options do not go together, or the model cannot be read, does not pass its gate or gives something else
    /// than they ask for.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        self.check().map_err(OptionsError)?;
        let shelf = Shelf::at(&self.model).map_err(|e| OptionsError(e.to_string()))?;
        let held = Held::default();
        let (options, work) = match self.follow {
            true => (self, Work::Follow(Box::default())),
            false => pinned::choose(self, &shelf, &held).map_err(OptionsError)?,
        };
        let (schema, input) = (Derived::default(), OnceLock::new());
        Ok(Arc::new(Infer { options, shelf, held, work, schema, input }))
    }

    fn check(&self) -> Result<(), String> {
        if self.follow && self.sha256.is_some() {
            return Err(
                "`sha256` names one artifact, and `follow` takes newer ones; leave one out".into(),
            );
        }
        if !self.follow && (self.every.is_some() || self.wait.is_some()) {
            return Err("`every` and `wait` go with `follow = true`".into());
        }
        let loss = self.score == Score::Loss;
        if loss && (self.top.is_some() || !self.labels.is_empty()) {
            return Err("`score = \"loss\"` gives one number: leave `top` and `labels` out".into());
        }
        if let Some(top) = self.top.filter(|top| !(1..=MOST).contains(top)) {
            return Err(format!("`top = {top}`: it is 1 to {MOST}"));
        }
        self.gate.as_ref().map_or(Ok(()), Gate::check)
    }

    fn into(&self) -> &str {
        let default = if self.score == Score::Loss { "loss" } else { "prediction" };
        self.into.as_deref().unwrap_or(default)
    }

    fn every(&self) -> Duration {
        self.every.map_or(EVERY, |every| every.0)
    }

    fn wait(&self) -> Duration {
        self.wait.map_or(Duration::ZERO, |wait| wait.0)
    }

    /// The fields that are added.
    fn fields(&self) -> Vec<Field> {
        let mut fields = answer::fields(self);
        if self.follow {
            fields.push(Field::new(format!("{}_model", self.into()), DataType::Utf8, true));
        }
        fields
    }
}

/// How the model is found.
enum Work {
    /// One that was read already.
    Read(Arc<Model>),
    /// One in a store, read when the first batch comes.
    Remote(Choice),
    Follow(Box<Follower>),
}

struct Infer {
    options: InferOptions,
    shelf: Shelf,
    held: Held,
    work: Work,
    schema: Derived<SchemaRef>,
    /// The columns of the plan that it stands in.
    input: OnceLock<SchemaRef>,
}

impl Infer {
    fn input(&self) -> Option<&Schema> {
        self.input.get().map(AsRef::as_ref)
    }

    fn model(&self, context: &Context) -> Result<Arc<Model>, OperatorError> {
        let get = |choice: &Choice| self.held.get(choice, &self.shelf, &self.options, context);
        match (&self.work, context.choice()) {
            (Work::Read(model), _) => Ok(Arc::clone(model)),
            (Work::Remote(choice), _) => get(choice),
            // In a worker process, which is told.
            (Work::Follow(_), Some(choice)) => {
                let foreign = |e| OperatorError::Failed(format!("the choice of a model: {e}"));
                get(&serde_json::from_slice(choice).map_err(foreign)?)
            }
            (Work::Follow(follower), None) => get(&*follower.choose(
                &self.shelf,
                &self.options,
                self.input(),
                &self.held,
                context,
            )?),
        }
    }
}

impl Operator for Infer {
    fn kind(&self) -> &'static str {
        "infer"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("infer reads one input".into()));
        };
        if let Work::Read(model) = &self.work {
            let wiring = Wiring::of(model.engine.architecture(), &self.options, input)?;
            let missing = wiring.missing(model.engine.architecture());
            // Once, however often the plan is made.
            if self.input.get().is_none()
                && let Some(missing) = missing
            {
                tracing::warn!(
                    "infer: {} takes {missing} too, and no column is named for it",
                    model.name
                );
            }
        }
        let mut fields: Vec<Arc<Field>> = input.fields().iter().cloned().collect();
        for field in self.options.fields() {
            let name = field.name();
            if input.field_with_name(name).is_ok() {
                let message = format!("there is a column `{name}` already; name another in `into`");
                return Err(SchemaError::Mismatch(message));
            }
            fields.push(Arc::new(field));
        }
        let _ = self.input.set(Arc::clone(input));
        Ok(Arc::new(Schema::new(fields)))
    }

    fn growth(&self) -> Growth {
        let label = self.options.labels.iter().map(String::len).max().unwrap_or(0);
        let answers = 1 + self.options.top.unwrap_or(0);
        let name = if self.options.follow { LARGEST_NAME } else { 0 };
        Growth { factor: 1.0, per_record: ROOM + name + answers * (label + 3 * size_of::<i32>()) }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        if batch.num_rows() == 0 {
            return Ok(Outcome::all(RecordBatch::new_empty(schema)));
        }
        let model = self.model(context)?;
        let wiring = Wiring::of(model.engine.architecture(), &self.options, &input)?;
        let rows = wiring.rows(&batch)?;
        let asked = (0..batch.num_rows()).map(|row| rows.get(row)).collect::<Vec<_>>();
        let (answers, refused) = self.ask(&model, asked);
        let keep: BooleanArray = answers.iter().map(|row| Some(row.is_some())).collect();
        let answers: Vec<Option<Answer>> = answers.into_iter().flatten().collect();
        let kept = if refused.is_empty() { batch } else { filter_record_batch(&batch, &keep)? };
        let mut columns = kept.columns().to_vec();
        columns.extend(answer::columns(&answers, &self.options));
        if self.options.follow {
            let name = |answer: &Option<Answer>| answer.as_ref().map(|_| model.name.as_str());
            columns.push(Arc::new(answers.iter().map(name).collect::<StringArray>()));
        }
        Ok(Outcome { records: RecordBatch::try_new(schema, columns)?, refused })
    }

    fn choosing(&self) -> Option<&dyn Choosing> {
        matches!(self.work, Work::Follow(_)).then_some(self as &dyn Choosing)
    }
}

impl Infer {
    /// The answers to rows: `None` for one that is refused, `Some(None)` for one of which there is nothing.
    fn ask(
        &self,
        model: &Model,
        asked: Vec<Result<Asked<'_>, String>>,
    ) -> (Vec<Option<Option<Answer>>>, Vec<Refused>) {
        let there = asked.iter().flatten().filter(|asked| !asked.is_empty());
        let whole: Vec<Asked<'_>> = there.copied().collect();
        // All rows at once; when the model fails, it is at one of them.
        let together = answer::answers(&model.engine, &whole, &self.options).ok();
        let mut together = together.map(Vec::into_iter);
        let mut refused = Vec::new();
        let answers = asked.into_iter().enumerate().map(|(row, asked)| {
            let answer = asked.and_then(|asked| match &mut together {
                _ if asked.is_empty() => Ok(None),
                Some(together) => Ok(together.next()),
                None => answer::answers(&model.engine, &[asked], &self.options)
                    .map(|mut answers| answers.pop())
                    .map_err(|error| error.to_string()),
            });
            answer.map_err(|error| refused.push(Refused { row, error })).ok()
        });
        (answers.collect(), refused)
    }
}

impl Choosing for Infer {
    fn choose(&self, context: &Context) -> Result<Arc<[u8]>, OperatorError> {
        let Work::Follow(follower) = &self.work else {
            return Err(OperatorError::Failed("it has one model and chooses none".to_owned()));
        };
        let choice =
            follower.choose(&self.shelf, &self.options, self.input(), &self.held, context)?;
        let told = serde_json::to_vec(&*choice);
        Ok(told.map_err(|e| OperatorError::Failed(e.to_string()))?.into())
    }
}
