//! One invocation: the operators of a stage on one batch, slice by slice.
//!
//! Operators that follow one another run back to back on slices of a few records, so that what one
//! decodes is still in the cache when the next one reads it, and only a slice is held decoded at a time.
//! A panic is caught here: the slice is run again record by record, and the record that panics is refused.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use rayon::prelude::*;

use crate::operator::{Allocation, Context, Operator, OperatorError, Outcome};
use crate::panics;
use crate::record::{bytes_of, name_of_row};
use crate::run::Meter;

/// Records in a slice at most: enough to spread the cost of columns.
const SLICE_RECORDS: usize = 64;
/// Bytes that a slice should grow to at most. Operators declare what the worst record may need, so most
/// slices become a fraction of this, and stay in the cache of a core.
const SLICE_BYTES: usize = 4 << 20;

/// An operator of a stage, and where its figures go.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) operator: Arc<dyn Operator>,
    pub(crate) meter: Arc<Meter>,
}

/// A row that a member refused, as it stood before that member.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) operator: Arc<str>,
    pub(crate) row: RecordBatch,
    pub(crate) error: String,
}

/// What an invocation came to.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) records: RecordBatch,
    pub(crate) refused: Vec<Refusal>,
}

/// Why an invocation failed as a whole.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) operator: Arc<str>,
    pub(crate) record: Option<String>,
    pub(crate) error: OperatorError,
}

/// A stage's operators, ready for any batch.
#[derive(Clone)]
pub(crate) struct Invocation {
    pub(crate) members: Vec<Member>,
    pub(crate) schema: arrow::datatypes::SchemaRef,
    pub(crate) context: Context,
    /// Bytes that a slice may take at its largest.
    pub(crate) slice: usize,
}

impl Invocation {
    /// Runs the batch with this allocation.
    pub(crate) fn run(
        &self,
        batch: &RecordBatch,
        allocation: &Allocation,
    ) -> Result<Verdict, Failure> {
        let slices = self.slices(batch);
        let verdicts: Result<Vec<Verdict>, Failure> = if allocation.threads > 1 && slices.len() > 1
        {
            slices.into_par_iter().map(|slice| self.guarded(slice, allocation)).collect()
        } else {
            slices.into_iter().map(|slice| self.guarded(slice, allocation)).collect()
        };
        self.join(verdicts?)
    }

    /// What comes of a batch that nobody needs any more.
    pub(crate) fn nothing(&self) -> Verdict {
        Verdict { records: RecordBatch::new_empty(Arc::clone(&self.schema)), refused: Vec::new() }
    }

    fn join(&self, mut verdicts: Vec<Verdict>) -> Result<Verdict, Failure> {
        if verdicts.len() == 1
            && let Some(verdict) = verdicts.pop()
        {
            return Ok(verdict);
        }
        let records = concat_batches(&self.schema, verdicts.iter().map(|verdict| &verdict.records))
            .map_err(|error| self.failure(self.members.len(), None, error.into()))?;
        let refused = verdicts.into_iter().flat_map(|verdict| verdict.refused).collect();
        Ok(Verdict { records, refused })
    }

    /// Cuts a batch so that no slice outgrows its bound on the way, as far as operators declare.
    fn slices(&self, batch: &RecordBatch) -> Vec<RecordBatch> {
        let rows = batch.num_rows();
        if rows <= 1 {
            return vec![batch.clone()];
        }
        let mut largest = bytes_of(batch);
        let mut size = largest;
        for member in &self.members {
            size = member.operator.growth().bound(size, rows);
            largest = largest.max(size);
        }
        let bound = self.slice.min(SLICE_BYTES);
        let each = (bound.saturating_mul(rows) / largest.max(1)).clamp(1, SLICE_RECORDS);
        (0..rows).step_by(each).map(|at| batch.slice(at, each.min(rows - at))).collect()
    }

    /// Runs a slice; after a panic, record by record.
    fn guarded(&self, slice: RecordBatch, allocation: &Allocation) -> Result<Verdict, Failure> {
        let Ok(result) = self.caught(&slice, allocation) else {
            return self.one_by_one(&slice, allocation);
        };
        result
    }

    /// The result, or the member at which it panicked and what the panic said.
    fn caught(
        &self,
        slice: &RecordBatch,
        allocation: &Allocation,
    ) -> Result<Result<Verdict, Failure>, (usize, RecordBatch, String)> {
        let at = std::cell::RefCell::new((0, slice.clone()));
        panics::catch(|| self.through(slice, allocation, &at)).map_err(|panic| {
            let (member, input) = at.into_inner();
            (member, input, panic)
        })
    }

    fn one_by_one(&self, slice: &RecordBatch, allocation: &Allocation) -> Result<Verdict, Failure> {
        let rows = (0..slice.num_rows()).map(|row| {
            let record = slice.slice(row, 1);
            self.caught(&record, allocation).unwrap_or_else(|(member, input, panic)| {
                let operator = self.name(member);
                if let Some(member) = self.members.get(member) {
                    member.meter.refused(1);
                }
                let refusal = Refusal {
                    operator,
                    row: input,
                    error: format!("the operator panicked: {panic}"),
                };
                Ok(Verdict {
                    records: RecordBatch::new_empty(Arc::clone(&self.schema)),
                    refused: vec![refusal],
                })
            })
        });
        let verdicts: Result<Vec<Verdict>, Failure> = rows.collect();
        self.join(verdicts?)
    }

    /// Runs a slice through all members.
    fn through(
        &self,
        slice: &RecordBatch,
        allocation: &Allocation,
        at: &std::cell::RefCell<(usize, RecordBatch)>,
    ) -> Result<Verdict, Failure> {
        let mut records = slice.clone();
        let mut bytes = bytes_of(&records);
        let mut refused = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            self.context
                .check_cancelled()
                .map_err(|error| self.failure(index, name_of_row(&records, 0), error))?;
            let begun = Instant::now();
            let rows = records.num_rows();
            at.replace((index, records.clone()));
            let Outcome { records: output, refused: rejected } = member
                .operator
                .invoke(records.clone(), allocation, &self.context)
                .map_err(|error| self.failure(index, name_of_row(&records, 0), error))?;
            for refusal in rejected {
                let row = records.slice(refusal.row.min(rows.saturating_sub(1)), 1);
                refused.push(Refusal {
                    operator: Arc::clone(&member.name),
                    row,
                    error: refusal.error,
                });
                member.meter.refused(1);
            }
            let grown = bytes_of(&output);
            member.meter.invoked((rows, bytes), (output.num_rows(), grown), begun.elapsed());
            (records, bytes) = (output, grown);
        }
        Ok(Verdict { records, refused })
    }

    fn name(&self, member: usize) -> Arc<str> {
        self.members
            .get(member)
            .or(self.members.last())
            .map_or_else(|| "".into(), |m| Arc::clone(&m.name))
    }

    fn failure(&self, member: usize, record: Option<String>, error: OperatorError) -> Failure {
        Failure { operator: self.name(member), record, error }
    }
}
