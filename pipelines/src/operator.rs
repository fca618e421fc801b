//! The trait that every operator implements.
//!
//! An operator turns a batch into a batch: [`Operator::invoke`] gets rows, the [`Allocation`] that was
//! decided for this invocation, and a [`Context`] to fetch references and notice cancellation. No
//! timely or tokio type is in it, so the same operator runs in a graph, on a plain thread and in a worker
//! process; the suite `anabranch_operators::conformance` runs those without state in all three.
//!
//! Three optional parts make richer operators. A [`Journaled`] one decides something from a sample (a
//! dictionary, a codec's quality) that enters the run log before the first commit and is replayed.
//! A [`Keyed`] one has state, in 256 virtual shards that can be snapshot and restored.
//! A [`Choosing`] one chooses anew while the run goes on, once for each epoch.
//!
//! ```
//! use std::sync::Arc;
//! use anabranch_pipelines::operator::{Allocation, Context, Growth, Operator, OperatorError, Outcome};
//! use anabranch_pipelines::graph::SchemaError;
//! use arrow::array::{AsArray, RecordBatch, StringArray};
//! use arrow::datatypes::SchemaRef;
//!
//! /// Upper-cases a text column; refuses empty texts.
//! struct Shout;
//!
//! impl Operator for Shout {
//!     fn kind(&self) -> &'static str { "shout" }
//!     fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
//!         SchemaError::require(&inputs[0], "text")?;
//!         Ok(Arc::clone(&inputs[0]))
//!     }
//!     fn growth(&self) -> Growth { Growth::times(3.0) } // `ŉ` upper-cases to three bytes
//!     fn invoke(&self, batch: RecordBatch, _: &Allocation, _: &Context) -> Result<Outcome, OperatorError> {
//!         let text = batch.column_by_name("text").unwrap().as_string::<i32>();
//!         let mut outcome = Outcome::keeping(&batch, |row| {
//!             if text.value(row).is_empty() { Err("the text is empty".into()) } else { Ok(()) }
//!         })?;
//!         let text = outcome.records.column_by_name("text").unwrap().as_string::<i32>();
//!         let loud: StringArray = text.iter().map(|t| t.map(str::to_uppercase)).collect();
//!         let at = batch.schema().index_of("text")?;
//!         let mut columns = outcome.records.columns().to_vec();
//!         columns[at] = Arc::new(loud);
//!         outcome.records = RecordBatch::try_new(batch.schema(), columns)?;
//!         Ok(outcome)
//!     }
//! }
//! ```

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thiserror::Error;

use crate::graph::SchemaError;
use crate::quantity::ByteSize;
use crate::record::bytes_of;

mod allocation;
mod context;
mod live;

pub use allocation::{Allocation, Declared, Features, Resources, Sizing, Usage};
pub use context::{Context, FetchError, Fetcher, Listed, NoFetcher};
pub(crate) use live::Board;
pub use live::Live;

/// How far an operator's output is determined by its input.
///
/// A run is of the least class among its operators. Only [`Class::Live`] gives up byte-identical output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Class {
    /// A function of the record.
    #[default]
    Pure,
    /// Takes decisions from more than the record; each enters the run log and is replayed.
    Journaled,
    /// Depends on load or time.
    Live,
}

impl Class {
    /// The name in plans and reports: `pure`, `journaled`, `live`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Journaled => "journaled",
            Self::Live => "live",
        }
    }
}

/// Where an operator's invocations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tier {
    /// On the executor's threads, in a process of the run.
    #[default]
    InProcess,
    /// In a worker process of their own; see [`isolated`](crate::executor::isolated).
    WorkerProcess,
}

impl Tier {
    /// The name in plans and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InProcess => "in process",
            Self::WorkerProcess => "worker process",
        }
    }
}

/// The largest output an operator declares for an input: `factor * bytes + per_record * records`.
///
/// The run takes credit for it before the input is read, so that a slow sink meets bounded memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Output bytes per input byte.
    pub factor: f64,
    /// Output bytes per record on top.
    pub per_record: usize,
}

impl Growth {
    /// An output no larger than its input.
    pub const NONE: Self = Self { factor: 1.0, per_record: 0 };

    /// An output of at most `factor` times the input's bytes.
    pub const fn times(factor: f64) -> Self {
        Self { factor, per_record: 0 }
    }

    /// The declared bound for an input of this size, in bytes.
    pub fn bound(&self, bytes: usize, records: usize) -> usize {
        (bytes as f64 * self.factor).ceil() as usize + self.per_record * records
    }
}

/// What an invocation gives back: rows, and the input rows that it refused.
///
/// Every input row is part of the output, dropped on purpose (a filter), or refused. The output keeps
/// the order of the input.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The output rows, of the schema that [`Operator::output`] promised.
    pub records: RecordBatch,
    /// Input rows that become dead letters.
    pub refused: Vec<Refused>,
}

/// An input row that an operator refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its row in the invocation's input.
    pub row: usize,
    /// What is wrong with it, as a sentence without the record's name.
    pub error: String,
}

impl Outcome {
    /// Only rows, nothing refused.
    pub fn all(records: RecordBatch) -> Self {
        Self { records, refused: Vec::new() }
    }

    /// The rows of `batch` for which `check` succeeds; the others are refused with its error.
    ///
    /// # Errors
    /// When Arrow cannot filter one of the column types.
    pub fn keeping(
        batch: &RecordBatch,
        mut check: impl FnMut(usize) -> Result<(), String>,
    ) -> Result<Self, OperatorError> {
        let mut refused = Vec::new();
        let keep: Vec<bool> = (0..batch.num_rows())
            .map(|row| match check(row) {
                Ok(()) => true,
                Err(error) => {
                    refused.push(Refused { row, error });
                    false
                }
            })
            .collect();
        let records = if refused.is_empty() {
            batch.clone()
        } else {
            filter_record_batch(batch, &BooleanArray::from(keep))?
        };
        Ok(Self { records, refused })
    }
}

/// Why an invocation failed as a whole; a single bad record is a [`Refused`] instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// Arrow refused the columns: the input is not what the plan promised.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    /// A column is missing or of another type than the plan promised.
    #[error("{0}")]
    Schema(#[from] SchemaError),
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// State, with the rows on their way into and out of it, outgrew the memory that the operator declared.
    #[error(
        "state and the rows on their way through it take {}, more than its memory of {}; raise the operator's `memory` (and the job's `credit` with it)",
        ByteSize(*held as u64),
        ByteSize(*allowed as u64)
    )]
    StateTooLarge {
        /// Bytes held.
        held: usize,
        /// Bytes declared.
        allowed: usize,
    },
    /// Anything else that is no single record's fault.
    #[error("{0}")]
    Failed(String),
}

/// A step of the graph. See the [module documentation](self).
pub trait Operator: Send + Sync + 'static {
    /// The kind in job files: `decode`, `resize`, ...; a verb where it transforms.
    fn kind(&self) -> &'static str;

    /// The options that determine the output: part of the plan's hash, and what a worker process
    /// rebuilds the operator from.
    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// How far the output is determined by the input.
    fn class(&self) -> Class {
        match (self.choosing(), self.journaled()) {
            (Some(_), _) => Class::Live,
            (None, Some(_)) => Class::Journaled,
            (None, None) => Class::Pure,
        }
    }

    /// Where its invocations run.
    fn tier(&self) -> Tier {
        Tier::InProcess
    }

    /// The output's schema for these inputs (one, unless [`Keyed`]), computed at plan time.
    ///
    /// # Errors
    /// When a column is missing or of the wrong type; the message names the nearest column.
    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError>;

    /// The declared bound of the output's size.
    fn growth(&self) -> Growth;

    /// What is known of an invocation before it runs, at next to no cost.
    fn features(&self, batch: &RecordBatch) -> Features {
        Features { records: batch.num_rows(), bytes: bytes_of(batch), work: bytes_of(batch) as f64 }
    }

    /// Turns a batch into a batch. Rows are independent: any split of a batch gives the same rows.
    ///
    /// # Errors
    /// Only for what is no single record's fault; a bad record is refused in the [`Outcome`].
    fn invoke(
        &self,
        batch: RecordBatch,
        allocation: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError>;

    /// The decision that this operator needs before it can be invoked, if it is journaled.
    fn journaled(&self) -> Option<&dyn Journaled> {
        None
    }

    /// What this operator chooses for each epoch, if it does.
    fn choosing(&self) -> Option<&dyn Choosing> {
        None
    }

    /// The state of this operator, if it has one; such an operator is not invoked but fed.
    fn keyed(&self) -> Option<&dyn Keyed> {
        None
    }
}

/// An operator that decides something once, from the first records of part 0, for the whole run.
///
/// The decision is written to the run log before the first commit, and a resumed run replays it.
pub trait Journaled {
    /// How many records and bytes of part 0 the decision looks at, at most.
    fn sample(&self) -> crate::source::BatchSize;

    /// Takes the decision. The sample may be empty.
    ///
    /// # Errors
    /// When no decision is possible, which fails the run.
    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError>;

    /// The operator that acts on a decision; it is pure.
    ///
    /// # Errors
    /// When the decision is not one of this operator's.
    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError>;
}

/// An operator that chooses anew while the run goes on, and keeps to one choice for all rows of an epoch.
///
/// All parts of an epoch are worked on by one process, so a choice is kept there: by the operator itself, or, when
/// its invocations run in worker processes, by asking it here and [telling](Context::choice) them.
/// A run that starts again after a kill chooses again for the epochs that were not durable.
pub trait Choosing {
    /// What is chosen for the context's epoch. It is the same whenever that epoch is asked for.
    ///
    /// # Errors
    /// When there is nothing to choose from, or no longer, which fails the run.
    fn choose(&self, context: &Context) -> Result<Arc<[u8]>, OperatorError>;
}

/// Number of virtual shards of keyed state, fixed for life so that a restart may have other workers.
pub const VIRTUAL_SHARDS: u64 = 256;

/// An operator with state, fed by one or more inputs and partitioned by key.
///
/// Rows whose hashes agree modulo [`VIRTUAL_SHARDS`] meet in one [`Shard`]. A shard is fed epoch by epoch,
/// and within an epoch once per input: the rows come in order of input, lane and sequence, whatever the
/// number of workers and the size of batches. Its output is put in order of shard before it goes on, so it
/// depends on the rows and the plan alone.
///
/// The growth that a keyed [`Operator`] declares relates the output of an epoch to its input.
pub trait Keyed {
    /// How many inputs the operator has.
    fn inputs(&self) -> usize;

    /// Bytes that the operator may hold, over all shards of the whole run: its state, and the rows of
    /// epochs that are on their way into and out of it (up to half).
    fn memory(&self) -> usize;

    /// Whether its shards compute with rayon: they then run inside a pool of the threads that the job grants
    /// (`resources = { threads = 2 }`), one unless it says so. Their output does not depend on how many.
    fn is_parallel(&self) -> bool {
        false
    }

    /// A well-mixed hash of the key of each row of input `input`, the same on every machine.
    ///
    /// # Errors
    /// When the key column is not what the plan promised.
    fn hashes(&self, input: usize, batch: &RecordBatch) -> Result<UInt64Array, OperatorError>;

    /// An empty virtual shard for inputs of these schemas.
    ///
    /// # Errors
    /// When the schemas are not what the plan promised.
    fn shard(&self, inputs: &[SchemaRef]) -> Result<Box<dyn Shard>, OperatorError>;
}

/// What a shard gives back: output rows, and rows that it refuses.
#[derive(Debug, Clone, Default)]
pub struct Yield {
    /// Output rows in a fixed order, of the schema that [`Operator::output`] promised.
    pub records: Vec<RecordBatch>,
    /// Rows that become dead letters: each a batch of one row as it came in, and what is wrong with it.
    pub refused: Vec<(RecordBatch, String)>,
}

/// The state of one virtual shard.
pub trait Shard: Send {
    /// An epoch is about to be absorbed, or the end of the inputs: where to show figures meanwhile.
    fn begin(&mut self, _live: &Live) {}

    /// Takes an epoch's rows of one input and gives the output rows that they complete.
    ///
    /// A row that is kept must be copied ([`compact`](crate::record::compact)), lest it pin its batch.
    ///
    /// # Errors
    /// For what is no single record's fault.
    fn absorb(&mut self, input: usize, batch: &RecordBatch) -> Result<Yield, OperatorError>;

    /// The inputs have ended: output rows that waited for more, and rows to refuse.
    ///
    /// # Errors
    /// For what is no single record's fault.
    fn finish(&mut self) -> Result<Yield, OperatorError> {
        Ok(Yield::default())
    }

    /// Bytes held.
    fn bytes(&self) -> usize;

    /// The state as bytes, for [`restore`](Self::restore); empty when there is none.
    ///
    /// # Errors
    /// When the state cannot be written.
    fn snapshot(&self) -> Result<Vec<u8>, OperatorError>;

    /// Replaces the state by a snapshot.
    ///
    /// # Errors
    /// When the bytes are no snapshot of this operator.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), OperatorError>;
}
