//! `kind = "train"`: a transformer learns from records; its measures and artifacts come out as records.
//!
//! * `tokens`: a GPT. Texts of consecutive records are one text, cut into windows of `context` tokens.
//! * `image` with a `label`: a ViT over decoded pictures of one size, or over their latents as they are.
//! * several of `image`, `audio` (spectra) and `text`: an encoder of any subset of them. A record may lack some;
//!   `modality_dropout` teaches the model to do with less than it has.
//!
//! Records are taken in the order of the sources, so `order = { shuffle = 1, passes = 10 }` of the source says how
//! often and in which order they are learned from. Where neighbours are alike (pieces of one text) or the stream
//! never ends, a `reservoir` is drawn from at random.
//!
//! Some records are held out, by a hash of their ids; every `every` steps the model is measured on these, and a row
//! comes out. Rows with an artifact hold its two files, and a sink of kind `files` makes a folder of each:
//!
//! ```toml
//! [operator.tokens]
//! kind = "tokenise"
//! column = "text"
//! model = "byte"
//! inputs = ["paragraphs"]
//!
//! [operator.learn]
//! kind = "train"
//! name = "shakespeare"
//! tokens = { vocabulary = 256, context = 64 }
//! steps = 2000
//! resources = { threads = 2 }
//! inputs = ["tokens"]
//!
//! [operator.artifacts]
//! kind = "select"
//! keep = ["key", "card.json", "weights.safetensors"]
//! inputs = ["learn"]
//!
//! [sink.models]
//! kind = "files"
//! path = "models"
//! inputs = ["artifacts"]
//! ```
//!
//! What comes out is a function of the options and of the records in their order: the same bits for any number of
//! workers and threads, and after any number of kills, since weights, moments, random numbers and examples are in
//! the snapshot. A record that a model cannot take (an unknown token, a picture of another size, a label that is no
//! class) is refused; a loss that is no number ends the run and names its step and records.
//!
//! ```
//! use anabranch_operators::TrainOptions;
//!
//! let options: TrainOptions = serde_json::from_str(
//!     r#"{ "image": { "width": 32, "height": 32 }, "label": { "classes": 10 }, "feed_forward": "mlp" }"#,
//! )?;
//! assert_eq!(options.build()?.keyed().map(|keyed| keyed.inputs()), Some(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_models::artifact::architecture::Architecture;
use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Keyed, Operator, OperatorError, Outcome, Shard,
};
use anabranch_pipelines::quantity::ByteSize;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;

use crate::OptionsError;

mod columns;
mod curve;
mod holdout;
mod interval;
mod learner;
mod options;
mod pool;
mod row;
mod sample;
mod state;
#[cfg(test)]
mod tests;
mod window;

pub use options::{AudioInput, Half, ImageInput, LabelInput, TextInput, TokensInput, TrainOptions};

use learner::Learner;
use sample::Sample;

/// Room for rows on their way into a training, beside its state.
const ROWS: usize = 32 << 20;

/// What a model takes in memory while it is trained: values, two moments and a gradient of each.
fn model_bytes(architecture: &Architecture) -> usize {
    let parameters = usize::try_from(architecture.parameters()).unwrap_or(usize::MAX);
    parameters.saturating_mul(4 * size_of::<f32>())
}

impl TrainOptions {
    /// The operator.
    ///
    /// # Errors
    /// When sizes do not fit together, an option is out of its range, or `memory` is too small for the sizes.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        self.check()?;
        let architecture = self.architecture()?;
        let waiting = if self.reservoir > 0 { self.reservoir } else { 7 * self.batch };
        let examples = (waiting + self.holdout_examples).saturating_mul(Sample::largest(&self));
        let state = model_bytes(&architecture).saturating_add(examples);
        // Half of the memory is for rows on their way.
        let least = state.saturating_mul(2);
        let memory = match self.memory {
            None => least.saturating_add(ROWS),
            Some(memory) if memory.as_usize() >= least => memory.as_usize(),
            Some(memory) => {
                return Err(OptionsError(format!(
                    "`memory = \"{memory}\"` is too little: model, optimiser and examples take {}, and as much \
                     again is for rows on their way; give at least {}, or leave it out",
                    ByteSize(state as u64),
                    ByteSize(least as u64)
                )));
            }
        };
        Ok(Arc::new(Train { memory, options: Arc::new(self) }))
    }
}

struct Train {
    options: Arc<TrainOptions>,
    memory: usize,
}

impl Operator for Train {
    fn kind(&self) -> &'static str {
        "train"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(self.options.as_ref()).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("train reads one input".into()));
        };
        columns::check(&self.options, input)?;
        Ok(row::schema())
    }

    /// Rows come out seldom; an artifact among them is a matter of the model's size, not of the rows'.
    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Err(OperatorError::Failed("a training has a state and is fed, not invoked".into()))
    }

    fn keyed(&self) -> Option<&dyn Keyed> {
        Some(self)
    }
}

impl Keyed for Train {
    fn inputs(&self) -> usize {
        1
    }

    fn memory(&self) -> usize {
        self.memory
    }

    fn is_parallel(&self) -> bool {
        true
    }

    /// All rows meet in one shard, in the order of the sources.
    fn hashes(&self, _: usize, batch: &RecordBatch) -> Result<UInt64Array, OperatorError> {
        Ok(vec![0; batch.num_rows()].into())
    }

    fn shard(&self, _: &[SchemaRef]) -> Result<Box<dyn Shard>, OperatorError> {
        Ok(Box::new(Learner::new(&self.options)?))
    }
}
