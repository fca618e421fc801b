//! An operator whose codec is chosen before the run begins.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Journaled, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::RecordId;
use anabranch_pipelines::source::BatchSize;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use sha2::{Digest, Sha256};

use super::answers::{self, Answers};
use super::decide::Sampled;
use super::{Acting, Auto, Decision};
use crate::codec::{Facts, Media};
use crate::task::Right;

/// Records and bytes that are looked at, at most: of a sample with all its columns, right answers that are media among
/// them, which stay where they are; and of its records, which count by what they hold when they are decoded.
const RECORDS: usize = 16_384;
const BYTES: usize = 256 << 20;

/// Decodes the record in a row into the room; `None` for one that cannot be looked at.
pub(crate) type Decoded =
    Box<dyn Fn(&RecordBatch, usize, &mut Vec<u8>) -> Option<Facts> + Send + Sync>;

/// Makes the operator that acts on a decision.
pub(crate) type With = Box<dyn Fn(Acting) -> Arc<dyn Operator> + Send + Sync>;

/// An operator that becomes another once its codec is chosen.
pub(crate) struct Choosing {
    auto: Auto,
    options: serde_json::Value,
    decoded: Decoded,
    with: With,
    /// The operator with a lossless codec: of the same kind, with the same columns.
    like: Arc<dyn Operator>,
}

impl Choosing {
    pub(crate) fn new(
        auto: Auto,
        options: serde_json::Value,
        decoded: Decoded,
        with: With,
    ) -> Self {
        let like = with(auto.undecided());
        Self { auto, options, decoded, with, like }
    }
}

impl Operator for Choosing {
    fn kind(&self) -> &'static str {
        self.like.kind()
    }

    fn options(&self) -> serde_json::Value {
        self.options.clone()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let output = self.like.output(inputs)?;
        if let (Some(label), [input]) = (&self.auto.options().label, inputs) {
            answers::check(input, label, self.auto.task.as_ref())?;
        }
        Ok(output)
    }

    fn growth(&self) -> Growth {
        self.like.growth()
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Err(OperatorError::Failed("its codec was not chosen yet".to_owned()))
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        Some(self)
    }
}

impl Journaled for Choosing {
    fn sample(&self) -> BatchSize {
        BatchSize { records: RECORDS, bytes: BYTES }
    }

    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        let mut samples = Vec::new();
        let mut found: Vec<(std::ops::Range<usize>, Facts, Option<Right<'_>>, u128)> = Vec::new();
        for batch in sample {
            let label = self.auto.options().label.as_deref();
            let answers = Answers::of(batch, label, self.auto.task.as_ref())?;
            for row in 0..batch.num_rows() {
                let start = samples.len();
                let facts = (self.decoded)(batch, row, &mut samples);
                let Some(facts) = facts.filter(|_| samples.len() <= BYTES) else {
                    samples.truncate(start);
                    continue;
                };
                let right = answers.right(row).ok().flatten();
                found.push((start..samples.len(), facts, right, order(batch, row)));
            }
        }
        let records = found.into_iter().filter_map(|(range, facts, right, order)| {
            let media = Media { samples: samples.get(range)?, facts };
            Some(Sampled { media, right, order })
        });
        let decision = self.auto.decide(records.collect());
        serde_json::to_vec_pretty(&decision).map_err(|e| OperatorError::Failed(e.to_string()))
    }

    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError> {
        let foreign = |e: String| OperatorError::Failed(format!("the decision on a codec: {e}"));
        let decision: Decision =
            serde_json::from_slice(decision).map_err(|e| foreign(e.to_string()))?;
        Ok((self.with)(self.auto.acting(&decision).map_err(foreign)?))
    }
}

/// Where a record stands among others, which says nothing of it and is the same on every machine.
fn order(batch: &RecordBatch, row: usize) -> u128 {
    let id = RecordId::of_row(batch, row).map_or((row as u128).to_be_bytes(), |id| id.0);
    let mut order = [0; 16];
    // Hashed again, for ids that somebody numbered.
    order.iter_mut().zip(Sha256::digest(id)).for_each(|(to, from)| *to = from);
    u128::from_be_bytes(order)
}
