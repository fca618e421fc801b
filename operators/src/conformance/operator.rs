//! What every operator must do: on a plain thread, in a graph, and across the boundary of a process.
//!
//! The output has the schema that was promised, for no rows too. Rows keep their order and their ids. A row
//! that is refused is one of the input, is told once with a reason, and is not in the output. Batches of 1,
//! 7 and 64 rows, two threads, and a second time give the same rows. The output is no larger than declared.
//! A journaled operator takes the same decision from the same sample, and the same decision gives the same
//! rows. A run delivers what a plain thread does, whatever its workers and batches are, and refuses the same
//! rows; so does an operator that was rebuilt from its kind, options and decision on the other side of a
//! socket.

use std::sync::Arc;

use anabranch_pipelines::executor::isolated::{Isolated, Recipe, Worker};
use anabranch_pipelines::operator::{
    Allocation, Class, Context, Operator, OperatorError, Outcome, Refused,
};
use anabranch_pipelines::record::{ID, bytes_of};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use super::{Failure, ensure, graph};

/// Records with ids and a column of integers from 0, for operators that need no more.
pub fn numbered(rows: usize, column: &str) -> RecordBatch {
    let ids = (0..rows as u128).map(u128::to_be_bytes);
    let ids: ArrayRef = match FixedSizeBinaryArray::try_from_iter(ids) {
        Ok(ids) => Arc::new(ids),
        Err(_) => Arc::new(FixedSizeBinaryArray::new_null(16, 0)),
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    RecordBatch::try_from_iter([(ID, ids), (column, numbers)])
        .unwrap_or_else(|_| RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())))
}

/// Rebuilds an operator from what a worker process is told of it.
pub type Rebuild = fn(&Recipe) -> Result<Arc<dyn Operator>, String>;

/// Holds an operator that is no keyed one to all of the above, on this input.
///
/// # Errors
/// With the first thing that is not as it must be.
pub fn check(
    operator: &Arc<dyn Operator>,
    input: &RecordBatch,
    context: &Context,
    rebuild: Rebuild,
) -> Result<(), Failure> {
    on_a_thread(operator, input, context)?;
    across_a_socket(operator, input, context, rebuild)?;
    in_a_graph(operator, input)
}

/// What a worker at the other end of a socket delivers is what the operator itself delivers.
fn across_a_socket(
    operator: &Arc<dyn Operator>,
    input: &RecordBatch,
    context: &Context,
    rebuild: Rebuild,
) -> Result<(), Failure> {
    let kind = operator.kind();
    let within = context.clone();
    let start = move || Worker::in_thread(rebuild, within.clone());
    let isolated = Isolated::new(Arc::clone(operator), Arc::new(start)).map_err(Failure)?;
    let isolated = decide(&(Arc::new(isolated) as Arc<dyn Operator>), input)?;
    let plain = decide(operator, input)?;
    let run = |operator: &Arc<dyn Operator>| {
        let outcome = operator.invoke(input.clone(), &Allocation::PLAIN, context);
        outcome.map_err(|e| Failure(format!("{kind} fails in a worker: {e}")))
    };
    same(&run(&plain)?, &run(&isolated)?)
        .map_err(|what| Failure(format!("{kind}, in a worker: {what}")))
}

/// A run delivers and refuses what the operator does, with one worker and with two.
fn in_a_graph(operator: &Arc<dyn Operator>, input: &RecordBatch) -> Result<(), Failure> {
    let kind = operator.kind();
    let input = graph::entering(input)?;
    let schema = operator.output(&[input.schema()]);
    let schema = schema.map_err(|e| Failure(format!("{kind} refuses an id and a key: {e}")))?;
    // A run's decision looks at the beginning of part 0.
    let first = input.slice(0, input.num_rows().min(graph::PART as usize));
    let invoked =
        decide(operator, &first)?.invoke(input.clone(), &Allocation::PLAIN, &Context::plain());
    let expected = invoked.map_err(|e| Failure(format!("{kind} fails: {e}")))?;
    let rows = |refused: &[Refused]| refused.iter().map(|r| r.row).collect::<Vec<_>>();
    for (workers, batch) in [(1, 64), (2, 5)] {
        let told = |what: String| {
            Failure(format!("{kind}, in a run of {workers} workers and batches of {batch}: {what}"))
        };
        let delivered = graph::run(operator, &input, &schema, (workers, batch))?;
        let (refuses, refused) = (rows(&expected.refused), rows(&delivered.refused));
        // Reasons may differ: what a run's stores say of a reference, nobody says on a plain thread.
        if refuses != refused {
            return Err(told(format!("it refuses {refused:?}, not {refuses:?}")));
        }
        let records = |records: &RecordBatch| Outcome::all(records.clone());
        same(&records(&expected.records), &records(&delivered.records)).map_err(told)?;
    }
    Ok(())
}

fn on_a_thread(
    operator: &Arc<dyn Operator>,
    input: &RecordBatch,
    context: &Context,
) -> Result<(), Failure> {
    let kind = operator.kind();
    ensure(operator.keyed().is_none(), || format!("{kind} is keyed: it is not invoked"))?;
    ensure(operator.output(&[]).is_err(), || format!("{kind} promises output for no input"))?;
    let promised = operator
        .output(&[input.schema()])
        .map_err(|e| Failure(format!("{kind} refuses the input's columns: {e}")))?;
    let decided = decide(operator, input)?;
    let run = |rows: RecordBatch, threads: usize| {
        let allocation = Allocation { threads, bytes: usize::MAX };
        let failed = |e: OperatorError| Failure(format!("{kind} fails: {e}"));
        decided.invoke(rows, &allocation, context).map_err(failed)
    };
    let whole = run(input.clone(), 1)?;
    delivered(kind, &promised, &whole, input)?;
    let none = run(input.slice(0, 0), 1)?;
    delivered(kind, &promised, &none, &input.slice(0, 0))?;

    let features = decided.features(input);
    ensure(features.records == input.num_rows(), || format!("{kind} miscounts the records"))?;
    let finite = features.work.is_finite() && features.work >= 0.0;
    ensure(finite, || format!("{kind} expects {} work", features.work))?;
    let (held, bound) =
        (bytes_of(&whole.records), decided.growth().bound(bytes_of(input), input.num_rows()));
    ensure(held <= bound, || format!("{kind} declares {bound} bytes and gives {held}"))?;

    for size in [1, 7, 64] {
        let split = split(input, size, |rows| run(rows, 1), &promised)?;
        same(&whole, &split)
            .map_err(|what| Failure(format!("{kind}, batches of {size}: {what}")))?;
    }
    let both = std::thread::scope(|scope| {
        let twice = [1, 2].map(|threads| scope.spawn(move || run(input.clone(), threads)));
        twice.map(|thread| thread.join().map_err(|_| Failure(format!("{kind} panics"))))
    });
    for again in both {
        same(&whole, &again??).map_err(|what| Failure(format!("{kind}, two threads: {what}")))?;
    }
    Ok(())
}

/// The operator to invoke: the decided one, if it takes a decision.
fn decide(operator: &Arc<dyn Operator>, input: &RecordBatch) -> Result<Arc<dyn Operator>, Failure> {
    let kind = operator.kind();
    let Some(journaled) = operator.journaled() else {
        let honest = operator.class() != Class::Journaled;
        ensure(honest, || format!("{kind} is called journaled and takes no decision"))?;
        return Ok(Arc::clone(operator));
    };
    let honest = operator.class() >= Class::Journaled;
    ensure(honest, || format!("{kind} takes a decision and is called pure"))?;
    let fail = |e: OperatorError| Failure(format!("{kind} cannot decide: {e}"));
    journaled.decide(&[]).map_err(fail)?;
    let sample = input.slice(0, input.num_rows().min(journaled.sample().records));
    let decision = journaled.decide(std::slice::from_ref(&sample)).map_err(fail)?;
    let again = journaled.decide(&[sample]).map_err(fail)?;
    ensure(decision == again, || format!("{kind} decides otherwise the second time"))?;
    let (decided, replayed) =
        (journaled.decided(&decision).map_err(fail)?, journaled.decided(&decision).map_err(fail)?);
    let run = |operator: &Arc<dyn Operator>| {
        operator.invoke(input.clone(), &Allocation::PLAIN, &Context::plain()).map_err(fail)
    };
    same(&run(&decided)?, &run(&replayed)?)
        .map_err(|what| Failure(format!("{kind}, its decision replayed: {what}")))?;
    Ok(decided)
}

/// Schema, order, ids, and refused rows of one invocation.
fn delivered(
    kind: &str,
    promised: &SchemaRef,
    outcome: &Outcome,
    input: &RecordBatch,
) -> Result<(), Failure> {
    let Outcome { records, refused } = outcome;
    ensure(&records.schema() == promised, || {
        format!("{kind} promises {promised:?} and delivers {:?}", records.schema())
    })?;
    let rows: Vec<usize> = refused.iter().map(|refused| refused.row).collect();
    ensure(rows.is_sorted_by(|a, b| a < b), || format!("{kind} refuses rows {rows:?}"))?;
    let last = rows.last().is_none_or(|row| *row < input.num_rows());
    ensure(last, || format!("{kind} refuses rows {rows:?} of {}", input.num_rows()))?;
    let told = refused.iter().all(|refused| !refused.error.trim().is_empty());
    ensure(told, || format!("{kind} refuses a row without a reason"))?;
    let fits = records.num_rows() + rows.len() <= input.num_rows();
    ensure(fits, || format!("{kind} gives more rows than it gets"))?;
    let (Some(before), Some(after)) = (input.column_by_name(ID), records.column_by_name(ID)) else {
        return Ok(());
    };
    let mut left = ids(before).into_iter().enumerate();
    for id in ids(after) {
        let from = left.find(|(_, before)| *before == id);
        let (row, _) = from.ok_or_else(|| Failure(format!("{kind} changes ids or their order")))?;
        ensure(!rows.contains(&row), || format!("{kind} refuses row {row} and passes it on"))?;
    }
    Ok(())
}

fn ids(column: &ArrayRef) -> Vec<Option<&[u8]>> {
    let ids = column.as_fixed_size_binary_opt();
    ids.map(|ids| ids.iter().collect()).unwrap_or_default()
}

/// The rows and refusals of an input that comes in batches of `size`.
fn split(
    input: &RecordBatch,
    size: usize,
    run: impl Fn(RecordBatch) -> Result<Outcome, Failure>,
    schema: &SchemaRef,
) -> Result<Outcome, Failure> {
    let (mut records, mut refused) = (Vec::new(), Vec::new());
    for at in (0..input.num_rows()).step_by(size) {
        let outcome = run(input.slice(at, size.min(input.num_rows() - at)))?;
        records.push(outcome.records);
        refused.extend(outcome.refused.into_iter().map(|mut refusal| {
            refusal.row += at;
            refusal
        }));
    }
    let records = concat_batches(schema, &records).map_err(|e| Failure(e.to_string()))?;
    Ok(Outcome { records, refused })
}

fn same(a: &Outcome, b: &Outcome) -> Result<(), String> {
    if a.refused != b.refused {
        return Err(format!("it refuses {:?}, then {:?}", a.refused, b.refused));
    }
    if a.records.num_rows() != b.records.num_rows() {
        return Err(format!(
            "it gives {} rows, then {}",
            a.records.num_rows(),
            b.records.num_rows()
        ));
    }
    for (field, (a, b)) in
        a.records.schema().fields().iter().zip(a.records.columns().iter().zip(b.records.columns()))
    {
        if a.to_data() != b.to_data() {
            return Err(format!("column `{}` differs", field.name()));
        }
    }
    Ok(())
}
