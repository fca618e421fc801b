//! Sends the rows of each batch to the workers that own their virtual shards.
//!
//! Hashing and splitting run on the executor. The charge of a batch stays here until every parcel of it
//! has arrived, even at another process, so bytes in flight are counted wherever they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::parcel::{Parcel, Receipt};
use super::{Batches, Output, Shared, Waker};
use crate::credit::Charge;
use crate::operator::{Allocation, Keyed, Operator, OperatorError, VIRTUAL_SHARDS};
use crate::record::{Batch, name_of_row};
use crate::run::RunError;

/// Charges of parcels that are on their way, shared by the operators of one worker.
#[derive(Clone, Default)]
pub(super) struct Custody {
    held: Arc<Mutex<(u64, HashMap<u64, Charge>)>>,
}

impl Custody {
    fn keep(&self, charge: Charge, worker: usize) -> Receipt {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let number = held.0;
        held.0 += 1;
        held.1.insert(number, charge);
        Receipt { worker, number }
    }

    fn release(&self, receipt: Receipt) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&receipt.number);
    }
}

/// The share of each worker in a batch: its rows and their virtual shards.
type Split = Vec<(usize, RecordBatch, Vec<u8>)>;

/// Splits the batches of one input of keyed node `node` into parcels.
pub(super) fn route<'scope>(
    batches: Batches<'scope>,
    node: usize,
    input_number: usize,
    custody: &Custody,
    shared: &Arc<Shared>,
) -> StreamVec<'scope, u64, Parcel> {
    let scope = batches.scope();
    let mut builder = OperatorBuilder::new(format!("route {}", shared.name(node)), scope);
    let mut input = builder.new_input(batches, Pipeline);
    let (output, parcels) = builder.new_output();
    let mut output: Output<Parcel> = Output::from(output);

    let waker = Waker::new();
    waker.attach(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));
    let (send, receive) = crossbeam_channel::unbounded::<(u64, Batch, Result<Split, RunError>)>();
    let (me, peers) = (scope.index(), scope.peers());
    let (custody, shared) = (custody.clone(), Arc::clone(shared));
    let operator = shared.operator(node);
    let meter = shared.meter(node);

    builder.build(move |_| {
        let mut waiting: HashMap<u64, Capability<u64>> = HashMap::new();
        let mut next = 0;
        move |_| {
            waker.rest();
            input.for_each(|capability, batches| {
                for batch in batches.drain(..) {
                    let Some(capability) = capability.retain_least(0) else { continue };
                    waiting.insert(next, capability);
                    meter.arrived();
                    let (number, send, waker) = (next, send.clone(), waker.clone());
                    let (operator, failures) = (Arc::clone(&operator), shared.failures.clone());
                    let (name, running) = (shared.name(node).to_owned(), shared.running.clone());
                    next += 1;
                    shared.executor.submit(Allocation { threads: 1, bytes: 0 }, move |_| {
                        let _watch = running.begin(&name, Some(&batch.records));
                        let result = crate::panics::catch(|| {
                            split(operator.as_ref(), input_number, &batch.records, peers)
                        });
                        let result =
                            result.and_then(|result| result.map_err(|error| error.to_string()));
                        let record = name_of_row(&batch.records, 0);
                        let result = result.map_err(|error| RunError::Operator {
                            node: name,
                            record,
                            error,
                        });
                        if send.send((number, batch, result)).is_err() && !failures.any() {
                            tracing::debug!("a batch was split after its dataflow had ended");
                        }
                        waker.wake();
                    });
                }
            });
            for (number, batch, result) in receive.try_iter() {
                let Some(capability) = waiting.remove(&number) else { continue };
                meter.handled();
                let split = match result {
                    Ok(split) => split,
                    Err(error) => {
                        shared.failures.report(error);
                        continue;
                    }
                };
                let mut output = output.activate();
                let mut session = output.session(&capability);
                let Batch { position, charge, .. } = batch;
                for (worker, records, shards) in split {
                    let receipt = charge.clone().map(|charge| custody.keep(charge, me));
                    let rows = Some(records.into());
                    let input = input_number;
                    session.give(Parcel { worker, input, position, rows, shards, receipt });
                }
                if position.last {
                    // Every worker must know that there is this epoch, to say what its state is after it.
                    for worker in 0..peers {
                        session.give(Parcel {
                            worker,
                            input: input_number,
                            position,
                            rows: None,
                            shards: Vec::new(),
                            receipt: None,
                        });
                    }
                }
            }
        }
    });
    parcels
}

/// Gives charges back when their parcels have arrived.
pub(super) fn release(
    receipts: StreamVec<'_, u64, Receipt>,
    custody: &Custody,
    shared: &Arc<Shared>,
    node: usize,
) {
    let scope = receipts.scope();
    let mut builder = OperatorBuilder::new(format!("release {}", shared.name(node)), scope);
    let exchange = Exchange::new(|receipt: &Receipt| receipt.worker as u64);
    let mut input = builder.new_input(receipts, exchange);
    let custody = custody.clone();
    builder.build(move |_| {
        move |_| {
            input.for_each(|_, receipts| {
                receipts.drain(..).for_each(|receipt| custody.release(receipt));
            });
        }
    });
}

fn split(
    operator: &dyn Operator,
    input: usize,
    records: &RecordBatch,
    peers: usize,
) -> Result<Split, OperatorError> {
    if records.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let hashes = keyed(operator)?.hashes(input, records)?;
    let shards: Vec<u8> =
        hashes.values().iter().map(|hash| (hash % VIRTUAL_SHARDS) as u8).collect();
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); peers];
    for (row, shard) in (0..).zip(&shards) {
        if let Some(rows) = rows.get_mut(usize::from(*shard) % peers) {
            rows.push(row);
        }
    }
    let mut split = Vec::new();
    for (worker, rows) in rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        if rows.len() == shards.len() {
            return Ok(vec![(worker, records.clone(), shards)]);
        }
        let own = rows.iter().filter_map(|row| shards.get(*row as usize)).copied().collect();
        split.push((worker, take_record_batch(records, &UInt32Array::from(rows))?, own));
    }
    Ok(split)
}

/// The operator as one with state, which the plan has checked it is.
pub(super) fn keyed(operator: &dyn Operator) -> Result<&dyn Keyed, OperatorError> {
    operator
        .keyed()
        .ok_or_else(|| OperatorError::Failed(format!("`{}` has no state", operator.kind())))
}
