//! `kind = "watch"`: goes on watching what a codec costs a task, and raises an alarm when it is too much.
//!
//! A codec that was chosen by `codec = { auto = .., shadow = "0.5%" }` was shown to be good for records like the first
//! ones. Of the records that come later a small share, drawn by a hash of their ids, is stored without loss, and the
//! column `image_shadow_loss` says of each of them what the chosen setting would have lost. `watch` bets on these
//! losses one by one ([`Drift`](crate::choose::Drift)): while their mean is no larger than was allowed, the alarm is
//! raised with probability `1 - confidence` at most, however long the stream runs.
//!
//! ```toml
//! [operator.stored]
//! kind = "encode"
//! column = "image"
//! codec = { auto = "classify", model = "models/digits", label = "label", max_loss = "1%", shadow = "0.5%" }
//! inputs = ["decode"]
//!
//! # The few records that are watched; of the others nothing has to travel to where they are counted.
//! [operator.watched]
//! kind = "filter"
//! where = "image_shadow_loss != null"
//! inputs = ["stored"]
//!
//! [operator.watch]
//! kind = "watch"
//! column = "image_shadow_loss"
//! inputs = ["watched"]
//!
//! [sink.alarms]
//! kind = "jsonl"
//! path = "alarms"
//! inputs = ["watch"]
//! ```
//!
//! A row comes out every hundred watched records, at the one with which the alarm is raised, and at the end: so an alarm
//! is as durable as any record, and written once. The alarm is also a warning in the log, and stands among the
//! figures of the run. It is raised once and stays; what is stored goes on to be stored as was decided, since a run
//! keeps to its decisions. Choose anew with a new run.
//!
//! It is an operator of its own, beside the stream, because what it does has an order, and storing records has
//! none: `encode` stays a function of the record that runs anywhere, and one shard sees a few losses in the order of
//! the sources, the same for any number of workers and after any number of kills.
//!
//! ```
//! use anabranch_operators::WatchOptions;
//! use arrow::datatypes::{DataType, Field, Schema};
//! use std::sync::Arc;
//!
//! let options: WatchOptions = serde_json::from_str(r#"{ "column": "loss", "max_loss": "1%" }"#)?;
//! let schema = Schema::new(vec![Field::new("loss", DataType::Float64, true)]);
//! let output = options.build()?.output(&[Arc::new(schema)])?;
//! assert!(output.field_with_name("alarm").is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Keyed, Operator, OperatorError, Outcome, Shard,
};
use anabranch_pipelines::quantity::ByteSize;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::{OptionsError, Share};

mod row;
#[cfg(test)]
mod tests;
mod watcher;

use watcher::Watcher;

/// Field metadata keys under which a column of losses says how large their mean may be, and how sure one was of that.
pub(crate) const MAX_LOSS_KEY: &str = "anabranch:max_loss";
pub(crate) const CONFIDENCE_KEY: &str = "anabranch:confidence";

/// Options of `kind = "watch"`: losses of a stream are watched, and an alarm is raised when they are too large.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchOptions {
    /// The column of losses, numbers from -1 to 1; null of records that are not watched. `encode` and
    /// `transcode` with `codec = { auto = .., shadow = ".." }` make it of a column `image` and call it
    /// `image_shadow_loss`.
    pub column: String,
    /// How large their mean may be; what the column was made with unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_loss: Option<Share>,
    /// How sure an alarm is; what the column was made with unless said otherwise, and 0.95 of other columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Watched records from one row to the next.
    #[serde(default = "every")]
    pub every: u64,
    /// What a watch and rows on their way may take in memory, of which half is for these. Part of the job's `credit`.
    #[serde(default = "memory")]
    #[schemars(with = "String")]
    pub memory: ByteSize,
}

const fn every() -> u64 {
    100
}

const fn memory() -> ByteSize {
    ByteSize(64 << 20)
}

/// Unless anybody says otherwise.
const CONFIDENCE: f64 = 0.95;

/// What an alarm says is not so: a mean loss of at most `max_loss`, wrongly with probability `alpha` at most.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Claim {
    max_loss: f64,
    alpha: f64,
}

impl WatchOptions {
    /// The operator.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        if let Some(max_loss) = self.max_loss.filter(|of| !(of.0 > 0.0 && of.0 < 1.0)) {
            let message =
                format!("`max_loss = \"{max_loss}\"`: it is more than 0% and less than 100%");
            return Err(OptionsError(message));
        }
        if let Some(confidence) = self.confidence.filter(|of| !(0.5..1.0).contains(of)) {
            let message = format!("`confidence = {confidence}`: it is 0.5 to less than 1");
            return Err(OptionsError(message));
        }
        if self.every == 0 {
            return Err(OptionsError("`every = 0`: it is 1 or more".to_owned()));
        }
        Ok(Arc::new(Watch { options: self }))
    }

    fn claim(&self, input: &SchemaRef) -> Result<Claim, SchemaError> {
        let field = SchemaError::require(input, &self.column)?;
        if !field.data_type().is_numeric() {
            return Err(SchemaError::Unfit {
                column: self.column.clone(),
                found: format!("of type {}", field.data_type()),
                expected: "numbers from -1 to 1".to_owned(),
                hint: "`encode` with `shadow = \"0.5%\"` makes such a column".to_owned(),
            });
        }
        let said = |key: &str| field.metadata().get(key)?.parse::<f64>().ok();
        let max_loss = self.max_loss.map(|of| of.0).or_else(|| said(MAX_LOSS_KEY));
        let max_loss = max_loss.ok_or_else(|| {
            let column = &self.column;
            SchemaError::Mismatch(format!(
                "nothing says how large losses in `{column}` may be; say `max_loss = \"1%\"`"
            ))
        })?;
        let confidence = self.confidence.or_else(|| said(CONFIDENCE_KEY)).unwrap_or(CONFIDENCE);
        Ok(Claim { max_loss, alpha: 1.0 - confidence })
    }
}

struct Watch {
    options: WatchOptions,
}

impl Operator for Watch {
    fn kind(&self) -> &'static str {
        "watch"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("watch reads one input".into()));
        };
        self.options.claim(input)?;
        Ok(row::schema())
    }

    fn growth(&self) -> Growth {
        Growth { factor: 1.0, per_record: row::BYTES }
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Err(OperatorError::Failed("a watch knows what came before and is fed, not invoked".into()))
    }

    fn keyed(&self) -> Option<&dyn Keyed> {
        Some(self)
    }
}

impl Keyed for Watch {
    fn inputs(&self) -> usize {
        1
    }

    fn memory(&self) -> usize {
        self.options.memory.as_usize()
    }

    /// All losses meet in one shard, in the order of the sources.
    fn hashes(&self, _: usize, batch: &RecordBatch) -> Result<UInt64Array, OperatorError> {
        Ok(vec![0; batch.num_rows()].into())
    }

    fn shard(&self, inputs: &[SchemaRef]) -> Result<Box<dyn Shard>, OperatorError> {
        let [input] = inputs else {
            return Err(OperatorError::Failed("watch reads one input".to_owned()));
        };
        Ok(Box::new(Watcher::new(&self.options, self.options.claim(input)?)))
    }
}
