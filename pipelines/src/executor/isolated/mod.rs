//! Operators in worker processes of their own, for what may crash: native decoders, models.
//!
//! [`Isolated`] is an operator around an operator. Its invocations go to warm worker processes as Arrow IPC
//! over a Unix socket; there, [`serve`] rebuilds the operator from its kind and options. When a worker dies,
//! the batch is run again record by record, and the record that kills it is refused. How workers are started
//! is up to the program; a thread in the worker's place shows all of it but the crash:
//!
//! ```
//! # use anabranch_pipelines::operator::{Allocation, Context, Growth, Operator, OperatorError, Outcome};
//! # use arrow::array::RecordBatch;
//! # use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
//! # struct Same;
//! # impl Operator for Same {
//! #     fn kind(&self) -> &'static str { "same" }
//! #     fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, anabranch_pipelines::graph::SchemaError> {
//! #         Ok(inputs[0].clone())
//! #     }
//! #     fn growth(&self) -> Growth { Growth::NONE }
//! #     fn invoke(&self, b: RecordBatch, _: &Allocation, _: &Context) -> Result<Outcome, OperatorError> {
//! #         Ok(Outcome::all(b))
//! #     }
//! # }
//! use std::sync::Arc;
//! use anabranch_pipelines::executor::isolated::{Isolated, Recipe, Worker};
//! use anabranch_pipelines::operator::Tier;
//!
//! // What a worker process does with the recipe: `same` is the only kind that this program knows.
//! fn build(recipe: &Recipe) -> Result<Arc<dyn Operator>, String> {
//!     (recipe.kind == "same").then(|| Arc::new(Same) as Arc<dyn Operator>).ok_or("no such kind".into())
//! }
//!
//! let start = || Worker::in_thread(build, Context::plain());
//! let operator = Isolated::new(Arc::new(Same), Arc::new(start))?;
//! assert_eq!(operator.tier(), Tier::WorkerProcess);
//! let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
//! let batch = RecordBatch::new_empty(Arc::new(schema));
//! assert_eq!(operator.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain())?.records, batch);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::graph::SchemaError;
use crate::operator::{
    Allocation, Choosing, Class, Context, Features, Growth, Journaled, Operator, OperatorError,
    Outcome, Refused, Tier,
};

mod frame;
mod serve;
mod worker;

pub use serve::serve;
pub use worker::Worker;

use worker::Lost;

/// What a worker process rebuilds an operator from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// [`Operator::kind`].
    pub kind: String,
    /// [`Operator::options`].
    pub options: serde_json::Value,
    /// The decision that it acts on, if it is [`Journaled`].
    pub decision: Option<Vec<u8>>,
}

/// Starts a worker.
pub type Start = dyn Fn() -> io::Result<Worker> + Send + Sync;

/// An operator whose invocations run in worker processes. See the [module documentation](self).
#[derive(Clone)]
pub struct Isolated {
    operator: Arc<dyn Operator>,
    recipe: Recipe,
    start: Arc<Start>,
    idle: Arc<Mutex<Vec<Worker>>>,
}

impl Isolated {
    /// `operator` in workers that `start` starts, when they are needed.
    ///
    /// # Errors
    /// When it has state, which stays in the run's own processes.
    pub fn new(operator: Arc<dyn Operator>, start: Arc<Start>) -> Result<Self, String> {
        if operator.keyed().is_some() {
            return Err(format!(
                "`{}` has state, which a worker process cannot hold; leave `isolate` out",
                operator.kind()
            ));
        }
        let (kind, options) = (operator.kind().to_owned(), operator.options());
        let recipe = Recipe { kind, options, decision: None };
        Ok(Self { operator, recipe, start, idle: Arc::default() })
    }

    /// Asks a worker, a warm one if there is one.
    fn ask(
        &self,
        batch: &RecordBatch,
        allocation: &Allocation,
        context: &Context,
    ) -> Result<Outcome, Lost> {
        let warm = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = match warm {
            Some(worker) => worker,
            None => {
                let mut worker = (self.start)().map_err(|error| {
                    Lost::Failed(OperatorError::Failed(format!(
                        "cannot start a worker process: {error}"
                    )))
                })?;
                worker.greet(&self.recipe, context)?;
                worker
            }
        };
        let outcome = worker.ask(batch, allocation, context)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        Ok(outcome)
    }

    /// After a loss: every record alone, so that only the one that kills its worker is refused.
    fn one_by_one(
        &self,
        batch: &RecordBatch,
        allocation: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let mut outputs = Vec::new();
        let mut refused = Vec::new();
        for row in 0..batch.num_rows() {
            match self.ask(&batch.slice(row, 1), allocation, context) {
                Ok(outcome) => {
                    outputs.push(outcome.records);
                    refused.extend(outcome.refused.into_iter().map(|r| Refused { row, ..r }));
                }
                Err(Lost::Died(error)) => refused.push(Refused { row, error }),
                Err(Lost::Failed(error)) => return Err(error),
            }
        }
        let schema = match outputs.first() {
            Some(output) => output.schema(),
            None => self.operator.output(&[batch.schema()])?,
        };
        Ok(Outcome { records: concat_batches(&schema, &outputs)?, refused })
    }
}

impl Operator for Isolated {
    fn kind(&self) -> &'static str {
        self.operator.kind()
    }

    fn options(&self) -> serde_json::Value {
        self.operator.options()
    }

    fn class(&self) -> Class {
        self.operator.class()
    }

    fn tier(&self) -> Tier {
        Tier::WorkerProcess
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        self.operator.output(inputs)
    }

    fn growth(&self) -> Growth {
        self.operator.growth()
    }

    fn features(&self, batch: &RecordBatch) -> Features {
        self.operator.features(batch)
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        allocation: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let chosen = self.operator.choosing().map(|operator| operator.choose(context));
        let context = &context.with_choice(chosen.transpose()?);
        match self.ask(&batch, allocation, context) {
            Ok(outcome) => Ok(outcome),
            Err(Lost::Failed(error)) => Err(error),
            Err(Lost::Died(error)) if batch.num_rows() == 1 => {
                let records = RecordBatch::new_empty(self.operator.output(&[batch.schema()])?);
                Ok(Outcome { records, refused: vec![Refused { row: 0, error }] })
            }
            Err(Lost::Died(_)) => self.one_by_one(&batch, allocation, context),
        }
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        self.operator.journaled().map(|_| self as &dyn Journaled)
    }

    fn choosing(&self) -> Option<&dyn Choosing> {
        self.operator.choosing()
    }
}

/// Decides in the run's own process: a worker gets the decision with its recipe.
impl Journaled for Isolated {
    fn sample(&self) -> crate::source::BatchSize {
        let none = crate::source::BatchSize { records: 0, bytes: 0 };
        self.operator.journaled().map_or(none, Journaled::sample)
    }

    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        self.operator.journaled().map_or_else(|| Err(undecided()), |inner| inner.decide(sample))
    }

    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError> {
        let inner = self.operator.journaled().ok_or_else(undecided)?;
        let recipe = Recipe { decision: Some(decision.to_vec()), ..self.recipe.clone() };
        let operator = inner.decided(decision)?;
        Ok(Arc::new(Self {
            operator,
            recipe,
            start: Arc::clone(&self.start),
            idle: Arc::default(),
        }))
    }
}

fn undecided() -> OperatorError {
    OperatorError::Failed("it takes no decision".to_owned())
}
