//! Hands batches to the executor and passes the results on in the order of arrival.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::letters::Letters;
use super::{Batches, Output, Shared, Waker};
use crate::dead_letter;
use crate::executor::{Failure, Invocation};
use crate::operator::{Sizing, Usage};
use crate::panics;
use crate::record::{Batch, Position, bytes_of, name_of_row};
use crate::run::RunError;
use arrow::array::RecordBatch;

/// A stage as the dataflow runs it.
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) invocation: Invocation,
    pub(super) sizing: Arc<dyn Sizing>,
    /// Whether only sinks read the output: then its charge shrinks to its size.
    pub(super) last: bool,
}

struct Waiting {
    output: Capability<u64>,
    letters: Capability<u64>,
    position: Position,
}

type Made = Result<(RecordBatch, Letters), Failure>;
type Done = (u64, Batch, Made);

/// Runs a stage on every batch: a stream of its output, and one of dead letters.
pub(super) fn stage<'scope>(
    batches: Batches<'scope>,
    stage: Stage,
    shared: &Arc<Shared>,
) -> (Batches<'scope>, Batches<'scope>) {
    let scope = batches.scope();
    let mut builder = OperatorBuilder::new(format!("stage {}", stage.name), scope);
    let mut input = builder.new_input(batches, Pipeline);
    let (output, results) = builder.new_output();
    let mut output: Output<Batch> = Output::from(output);
    let (letters, dead) = builder.new_output();
    let mut letters: Output<Batch> = Output::from(letters);

    let waker = Waker::new();
    waker.attach(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));
    let (send, receive) = crossbeam_channel::unbounded::<Done>();
    let (stage, shared) = (Arc::new(stage), Arc::clone(shared));

    builder.build(move |_| {
        let mut waiting: VecDeque<(u64, Waiting)> = VecDeque::new();
        let mut done: BTreeMap<u64, (Batch, Made)> = BTreeMap::new();
        let mut next = 0;
        move |_| {
            waker.rest();
            input.for_each(|capability, batches| {
                for batch in batches.drain(..) {
                    let pair = capability.retain_least(0).zip(capability.retain_least(1));
                    let Some((output, letters)) = pair else { continue };
                    waiting
                        .push_back((next, Waiting { output, letters, position: batch.position }));
                    submit(next, batch, &stage, &shared, send.clone(), waker.clone());
                    next += 1;
                }
            });
            done.extend(
                receive.try_iter().map(|(number, batch, result)| (number, (batch, result))),
            );
            while let Some((number, _)) = waiting.front()
                && let Some((batch, result)) = done.remove(number)
                && let Some((_, Waiting { output: held, letters: dead, position })) =
                    waiting.pop_front()
            {
                let (records, refused) = match result {
                    Ok(done) => done,
                    Err(Failure { operator, record, error }) => {
                        shared.failures.report(RunError::Operator {
                            node: operator.to_string(),
                            record,
                            error: error.to_string(),
                        });
                        continue;
                    }
                };
                if !shared.is_replay(position.commit)
                    && let Err(error) = shared.tell(&refused)
                {
                    shared.failures.report(error);
                    continue;
                }
                let mut rows = refused.rows;
                if rows.is_empty() && position.last {
                    rows.push(RecordBatch::new_empty(dead_letter::schema()));
                }
                let count = rows.len();
                for (at, records) in rows.into_iter().enumerate() {
                    let position = Position { last: position.last && at + 1 == count, ..position };
                    let charge = batch.charge.clone();
                    letters.activate().session(&dead).give(Batch { records, position, charge });
                }
                if stage.last
                    && let Some(charge) = &batch.charge
                {
                    charge.shrink_to(bytes_of(&records));
                }
                output.activate().session(&held).give(batch.with_records(records));
            }
        }
    });
    (results, dead)
}

fn submit(
    number: u64,
    batch: Batch,
    stage: &Arc<Stage>,
    shared: &Arc<Shared>,
    send: crossbeam_channel::Sender<Done>,
    waker: Waker,
) {
    let members = &stage.invocation.members;
    let features = match members.first() {
        Some(member) if batch.records.num_rows() > 0 => {
            match panics::catch(|| member.operator.features(&batch.records)) {
                Ok(features) => features,
                Err(panic) => {
                    return shared.failures.report(RunError::Operator {
                        node: member.name.to_string(),
                        record: name_of_row(&batch.records, 0),
                        error: format!("it panicked when it looked at the batch: {panic}"),
                    });
                }
            }
        }
        _ => crate::operator::Features::default(),
    };
    let allocation = stage.sizing.size(&features);
    members.iter().for_each(|member| member.meter.arrived());
    let (stage, failures) = (Arc::clone(stage), shared.failures.clone());
    // What an earlier start made was counted, and its refusals are dead letters already.
    let replay = shared.is_replay(batch.position.commit);
    let (running, given_up) = (shared.running.clone(), Arc::clone(&shared.given_up));
    shared.executor.submit(allocation, move |granted| {
        let members = &stage.invocation.members;
        for member in members {
            let allocation = granted.allocation;
            member.meter.granted(allocation.threads, allocation.bytes, granted.waited);
        }
        let watch = running.begin(&stage.name, Some(&batch.records));
        let begun = std::time::Instant::now();
        let given_up = batch.position.commit >= given_up.load(Ordering::SeqCst);
        let result = if given_up {
            Ok(stage.invocation.nothing())
        } else {
            stage.invocation.run(&batch.records, batch.position.epoch, &granted.allocation)
        };
        drop(watch);
        if let (false, Ok(verdict)) = (given_up, &result) {
            if !replay {
                stage.invocation.count(verdict);
            }
            let used =
                Usage { seconds: begun.elapsed().as_secs_f64(), bytes: bytes_of(&verdict.records) };
            stage.sizing.observe(&features, &granted.allocation, &used);
        }
        // Letters are built here, so that no timely thread encodes rows and none of them keeps its slice.
        let result = result.and_then(|verdict| {
            let letters = Letters::of(verdict.refused);
            let letters = letters.map_err(|error| stage.invocation.failure_of(error.into()))?;
            Ok((verdict.records, letters))
        });
        for member in members {
            member.meter.returned();
            member.meter.handled();
        }
        if send.send((number, batch, result)).is_err() && !failures.any() {
            tracing::debug!("a result came after its dataflow had ended");
        }
        waker.wake();
    });
}
