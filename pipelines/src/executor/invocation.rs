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
use crate::record::{bytes_of, compact, name_of_row, weight_of};
use crate::run::{Count, Meter};

/// Records in a slice at most: enough to spread the cost of columns.
const SLICE_RECORDS: usize = 64;
/// Bytes that a slice should grow to at most. Operators declare what the worst record may need, so most
/// slices become a fraction of this, and stay in the cache of a core. Pictures that take a fifth of what is
/// declared cost more at twice this, for the cache, and at half of it, for columns.
const SLICE_BYTES: usize = 2 << 20;

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
    /// What each member did.
    pub(crate) counts: Vec<Count>,
}

/// A slice on its way through the members.
struct Passage {
    /// The member that it has reached.
    member: usize,
    /// What that member reads, and its size.
    records: RecordBatch,
    bytes: usize,
    /// What the members before it refused and did.
    refused: Vec<Refusal>,
    counts: Vec<Count>,
}

/// What a batch is granted, and its epoch's surroundings.
type Around<'a> = (&'a Allocation, &'a Context);

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
    /// Adds what the members did to their meters.
    pub(crate) fn count(&self, verdict: &Verdict) {
        let both = self.members.iter().zip(&verdict.counts);
        both.for_each(|(member, count)| member.meter.add(count));
    }

    /// Runs a batch of this epoch with this allocation.
    pub(crate) fn run(
        &self,
        batch: &RecordBatch,
        epoch: u64,
        allocation: &Allocation,
    ) -> Result<Verdict, Failure> {
        let context = self.context.in_epoch(epoch);
        let granted = (allocation, &context);
        let slices = self.slices(batch);
        let verdicts: Result<Vec<Verdict>, Failure> = if allocation.threads > 1 && slices.len() > 1
        {
            slices.into_par_iter().map(|slice| self.guarded(slice, granted)).collect()
        } else {
            slices.into_iter().map(|slice| self.guarded(slice, granted)).collect()
        };
        self.join(verdicts?)
    }

    /// What comes of a batch that nobody needs any more.
    pub(crate) fn nothing(&self) -> Verdict {
        let records = RecordBatch::new_empty(Arc::clone(&self.schema));
        Verdict { records, refused: Vec::new(), counts: Vec::new() }
    }

    /// What happened after the last member.
    pub(crate) fn failure_of(&self, error: OperatorError) -> Failure {
        self.failure(self.members.len(), None, error)
    }

    fn join(&self, mut verdicts: Vec<Verdict>) -> Result<Verdict, Failure> {
        if verdicts.len() == 1
            && let Some(verdict) = verdicts.pop()
        {
            return Ok(verdict);
        }
        let records = concat_batches(&self.schema, verdicts.iter().map(|verdict| &verdict.records))
            .map_err(|error| self.failure_of(error.into()))?;
        let mut joined = Verdict { records, refused: Vec::new(), counts: Vec::new() };
        joined.counts.resize_with(self.members.len(), Count::default);
        for Verdict { refused, counts, .. } in verdicts {
            joined.refused.extend(refused);
            joined.counts.iter_mut().zip(&counts).for_each(|(sum, count)| sum.absorb(count));
        }
        Ok(joined)
    }

    /// Cuts a batch so that no slice outgrows its bound on the way, as far as operators declare.
    fn slices(&self, batch: &RecordBatch) -> Vec<RecordBatch> {
        let rows = batch.num_rows();
        if rows <= 1 {
            return vec![batch.clone()];
        }
        let mut largest = weight_of(batch);
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
    fn guarded(&self, slice: RecordBatch, granted: Around<'_>) -> Result<Verdict, Failure> {
        let mut passage = self.begin(slice.clone());
        match panics::catch(|| self.through(&mut passage, granted)) {
            Ok(result) => result.map(|()| self.end(passage)),
            // What the members counted and refused on the way counts when they do it again.
            Err(_) => self.one_by_one(&slice, granted),
        }
    }

    fn one_by_one(&self, slice: &RecordBatch, granted: Around<'_>) -> Result<Verdict, Failure> {
        let rows = (0..slice.num_rows()).map(|row| {
            let mut passage = self.begin(slice.slice(row, 1));
            match panics::catch(|| self.through(&mut passage, granted)) {
                Ok(result) => result.map(|()| self.end(passage)),
                Err(panic) => Ok(self.panicked(passage, &panic)),
            }
        });
        let verdicts: Result<Vec<Verdict>, Failure> = rows.collect();
        self.join(verdicts?)
    }

    fn begin(&self, records: RecordBatch) -> Passage {
        let counts = vec![Count::default(); self.members.len()];
        Passage { member: 0, bytes: bytes_of(&records), records, refused: Vec::new(), counts }
    }

    fn end(&self, passage: Passage) -> Verdict {
        let Passage { records, refused, counts, .. } = passage;
        // The members after one that left no row have not seen the batch.
        let records = if records.num_rows() == 0 { self.nothing().records } else { records };
        Verdict { records, refused, counts }
    }

    /// What reached the member that panicked is refused, beside what the members before it refused.
    fn panicked(&self, mut passage: Passage, panic: &str) -> Verdict {
        let Passage { member, records, .. } = passage;
        for row in 0..records.num_rows() {
            passage.refused.push(Refusal {
                operator: self.name(member),
                row: alone(&records, row),
                error: format!("the operator panicked: {panic}"),
            });
        }
        if let Some(count) = passage.counts.get_mut(member) {
            count.records_in += records.num_rows() as u64;
            count.bytes_in += passage.bytes as u64;
            count.refused += records.num_rows() as u64;
        }
        let Verdict { records, .. } = self.nothing();
        Verdict { records, refused: passage.refused, counts: passage.counts }
    }

    /// Runs a slice through all members, as long as there are rows.
    fn through(
        &self,
        passage: &mut Passage,
        (allocation, context): Around<'_>,
    ) -> Result<(), Failure> {
        for (index, member) in self.members.iter().enumerate() {
            let rows = passage.records.num_rows();
            if rows == 0 {
                break;
            }
            passage.member = index;
            let failure =
                |records: &RecordBatch, e| self.failure(index, name_of_row(records, 0), e);
            let cancelled = context.check_cancelled();
            cancelled.map_err(|error| failure(&passage.records, error))?;
            let begun = Instant::now();
            let Outcome { records: output, refused } = member
                .operator
                .invoke(passage.records.clone(), allocation, context)
                .map_err(|error| failure(&passage.records, error))?;
            let refused = refused.into_iter().map(|refusal| Refusal {
                operator: Arc::clone(&member.name),
                row: alone(&passage.records, refusal.row.min(rows - 1)),
                error: refusal.error,
            });
            let before = passage.refused.len();
            passage.refused.extend(refused);
            let grown = bytes_of(&output);
            if let Some(count) = passage.counts.get_mut(index) {
                let read = (rows, passage.bytes);
                *count = Count::of(read, (output.num_rows(), grown), begun.elapsed());
                count.refused = (passage.refused.len() - before) as u64;
            }
            (passage.records, passage.bytes) = (output, grown);
        }
        Ok(())
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

/// A row that keeps nothing of the rows beside it alive: a decoded slice is large.
fn alone(records: &RecordBatch, row: usize) -> RecordBatch {
    let row = records.slice(row, 1);
    compact(&row).unwrap_or(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::{Class, Growth, Refused};
    use crate::store::StoreFetcher;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::{Int64Type, SchemaRef};

    /// Refuses one number, and panics at a batch that is empty or holds another one.
    struct Picky {
        refuses: i64,
        panics: i64,
    }

    impl Operator for Picky {
        fn kind(&self) -> &'static str {
            "picky"
        }

        fn options(&self) -> serde_json::Value {
            serde_json::Value::Null
        }

        fn class(&self) -> Class {
            Class::Pure
        }

        fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, crate::graph::SchemaError> {
            Ok(Arc::clone(&inputs[0]))
        }

        fn growth(&self) -> Growth {
            Growth::NONE
        }

        fn invoke(
            &self,
            batch: RecordBatch,
            _: &Allocation,
            _: &Context,
        ) -> Result<Outcome, OperatorError> {
            let numbers = numbers(&batch);
            assert!(!numbers.is_empty(), "an empty batch");
            assert!(!numbers.contains(&self.panics), "a number that it cannot bear");
            let kept = numbers.iter().copied().filter(|number| *number != self.refuses);
            let refused = numbers.iter().position(|number| *number == self.refuses);
            let refused = refused.map(|row| Refused { row, error: "no".to_owned() });
            Ok(Outcome { records: batch_of(kept), refused: refused.into_iter().collect() })
        }
    }

    fn batch_of(numbers: impl Iterator<Item = i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
        RecordBatch::try_from_iter([("number", column)]).unwrap()
    }

    fn numbers(batch: &RecordBatch) -> Vec<i64> {
        batch.column(0).as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn a_panic_after_a_refusal_neither_hides_it_nor_counts_twice() {
        let member = |refuses, panics| Member {
            name: format!("refuses {refuses}").into(),
            operator: Arc::new(Picky { refuses, panics }),
            meter: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fetcher = Arc::new(StoreFetcher::new(runtime.handle().clone()));
        let invocation = Invocation {
            members: vec![member(1, -1), member(2, 3), member(-1, -1)],
            schema: batch_of(0..0).schema(),
            context: Context::new(fetcher, Arc::default()),
            slice: 1 << 20,
        };
        crate::panics::keep_quiet();
        let allocation = Allocation { threads: 1, bytes: 1 << 20 };
        let verdict = invocation.run(&batch_of(0..6), 0, &allocation).unwrap();
        assert_eq!(numbers(&verdict.records), [0, 4, 5]);
        let refused: Vec<(&str, Vec<i64>)> =
            verdict.refused.iter().map(|r| (r.operator.as_ref(), numbers(&r.row))).collect();
        let expected = [("refuses 1", vec![1]), ("refuses 2", vec![2]), ("refuses 2", vec![3])];
        assert_eq!(refused, expected);
        let counted = verdict.counts.iter().map(|c| (c.records_in, c.records_out, c.refused));
        assert_eq!(counted.collect::<Vec<_>>(), [(6, 5, 1), (5, 3, 2), (3, 3, 0)]);
        // An empty batch, as the last one of a part is, reaches no member.
        assert_eq!(invocation.run(&batch_of(0..0), 0, &allocation).unwrap().records.num_rows(), 0);
    }
}
