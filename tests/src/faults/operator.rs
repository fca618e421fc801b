//! An operator that goes wrong at one record: `kind = "fault"`.

use std::sync::Arc;
use std::time::Duration;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Features, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::{KEY, bytes_of};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

/// Options of `kind = "fault"`: passes records on, except where it goes wrong.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultOptions {
    /// What happens at the record.
    pub does: Fault,
    /// It happens at every record whose key ends so.
    pub key: String,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The invocation panics.
    Panic,
    /// The timely worker that routes the record panics.
    PanicWorker,
    /// The invocation never returns, and hears of no cancellation.
    Hang,
    /// The process aborts, as native code does that corrupted its memory.
    Abort,
    /// The invocation fails as a whole.
    Fail,
}

impl FaultOptions {
    /// The operator.
    ///
    /// # Errors
    /// Never.
    pub fn build(self) -> Result<Arc<dyn Operator>, String> {
        Ok(Arc::new(Faulty { options: self }))
    }
}

struct Faulty {
    options: FaultOptions,
}

impl Faulty {
    fn meets(&self, batch: &RecordBatch) -> bool {
        let keys = batch.column_by_name(KEY).and_then(|column| column.as_string_opt::<i32>());
        keys.is_some_and(|keys| keys.iter().flatten().any(|key| key.ends_with(&self.options.key)))
    }
}

impl Operator for Faulty {
    fn kind(&self) -> &'static str {
        "fault"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let input = inputs
            .first()
            .map(Arc::clone)
            .unwrap_or_else(|| arrow::datatypes::Schema::empty().into());
        SchemaError::require(&input, KEY)?;
        Ok(input)
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn features(&self, batch: &RecordBatch) -> Features {
        if self.options.does == Fault::PanicWorker && self.meets(batch) {
            panic!("a fault on purpose, in the worker");
        }
        let bytes = bytes_of(batch);
        Features { records: batch.num_rows(), bytes, work: bytes as f64 }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        if self.meets(&batch) {
            match self.options.does {
                Fault::Panic => panic!("a fault on purpose"),
                Fault::Hang => loop {
                    std::thread::sleep(Duration::from_secs(1));
                },
                Fault::Abort => std::process::abort(),
                Fault::Fail => return Err(OperatorError::Failed("a fault on purpose".to_owned())),
                Fault::PanicWorker => {}
            }
        }
        Ok(Outcome::all(batch))
    }
}
