//! The virtual shards of one keyed operator on one worker, owned by a task that does one thing at a time.
//!
//! What computes runs on the executor: absorbing an epoch, finishing, writing state as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::letters::Letters;
use super::parcel::{Harvest, Parcel, Sheaf, Snapped};
use super::route::keyed;
use super::{Shared, Waker};
use crate::dead_letter;
use crate::executor::Refusal;
use crate::graph::passage;
use crate::operator::{Live, Operator, OperatorError, Shard, Yield};
use crate::record::bytes_of;
use crate::run::{Count, RunError};

/// Objects of a snapshot that are written or read at the same time.
const TRANSFERS: usize = 8;

/// What the operator asks for, in order.
pub(super) enum Task {
    /// Absorb a complete epoch.
    Epoch { commit: u64, epoch: u64, parcels: Vec<Parcel>, closing: bool },
    /// Make the state durable as it is at this commit.
    Snapshot(u64),
}

/// What it gets back.
pub(super) enum Done {
    Epoch(Box<Harvest>),
    Snapshot(Snapped),
}

/// State of a worker's shards, by virtual shard.
type States = BTreeMap<u8, Box<dyn Shard>>;

pub(super) struct Shards {
    node: usize,
    worker: usize,
    peers: usize,
    shared: Arc<Shared>,
    operator: Arc<dyn Operator>,
    inputs: Vec<SchemaRef>,
    states: States,
}

impl Shards {
    pub(super) fn new(node: usize, worker: usize, peers: usize, shared: &Arc<Shared>) -> Self {
        let planned = shared.plan.nodes().get(node);
        let inputs = planned.map(|n| n.inputs.iter().map(|at| shared.schema(*at)).collect());
        Self {
            node,
            worker,
            peers,
            operator: shared.operator(node),
            inputs: inputs.unwrap_or_default(),
            states: States::new(),
            shared: Arc::clone(shared),
        }
    }

    /// Does what is asked until the dataflow has ended; the first failure ends the run.
    pub(super) async fn run(
        mut self,
        mut tasks: mpsc::UnboundedReceiver<Task>,
        done: mpsc::UnboundedSender<Done>,
        waker: Waker,
    ) {
        let mut result = self.restore().await;
        while result.is_ok()
            && let Some(task) = tasks.recv().await
        {
            result = match task {
                Task::Epoch { commit, epoch, parcels, closing } => self
                    .epoch((commit, epoch), parcels, closing)
                    .await
                    .map(|harvest| Done::Epoch(Box::new(harvest))),
                Task::Snapshot(commit) => self.snapshot(commit).await.map(Done::Snapshot),
            }
            .map(|done_now| {
                let _ = done.send(done_now);
                waker.wake();
            });
        }
        if let Err(error) = result {
            self.shared.failures.report(error);
            waker.wake();
        }
    }

    /// Reads this worker's part of the newest snapshot. One that is missing fails the run: a fresh start in
    /// its place would lose state silently.
    async fn restore(&mut self) -> Result<(), RunError> {
        let (shared, name) = (Arc::clone(&self.shared), self.shared.name(self.node).to_owned());
        let Some((commit, shards)) = shared.resume.snapshot(&name)? else { return Ok(()) };
        let (peers, worker) = (self.peers, self.worker);
        let mine = shards.into_iter().filter(|shard| usize::from(*shard) % peers == worker);
        let states: Vec<(u8, bytes::Bytes)> = futures::stream::iter(mine.collect::<Vec<u8>>())
            .map(|shard| {
                let (log, name) = (&shared.log, &name);
                async move {
                    let state = log.snapshot(commit, name, shard.into()).await?;
                    Ok::<_, RunError>((shard, state))
                }
            })
            .buffer_unordered(TRANSFERS)
            .try_collect()
            .await?;
        let inputs = self.inputs.clone();
        self.compute(move |operator, all| {
            for (number, state) in states {
                let mut shard = keyed(operator)?.shard(&inputs)?;
                shard.restore(&state)?;
                all.insert(number, shard);
            }
            Ok(())
        })
        .await
    }

    async fn epoch(
        &mut self,
        (commit, epoch): (u64, u64),
        parcels: Vec<Parcel>,
        closing: bool,
    ) -> Result<Harvest, RunError> {
        let meter = self.shared.meter(self.node);
        let name: Arc<str> = self.shared.name(self.node).into();
        let inputs = self.inputs.clone();
        let schema = self.shared.schema(self.node);
        let given_up = Arc::clone(&self.shared.given_up);
        let live = Live::new(meter.board(), commit, given_up);
        let begun = std::time::Instant::now();
        let (output, shards, refused, state, read) = self
            .compute(move |operator, states| {
                let mut out = Out::new(keyed(operator)?.memory());
                let mut read = (0, 0);
                if !live.is_needed() {
                    return Ok((None, Vec::new(), Vec::new(), 0, read));
                }
                for (number, rows) in ordered(parcels, inputs.len())?.into_iter().enumerate() {
                    let Some((records, shards)) = rows else { continue };
                    read = (read.0 + records.num_rows(), read.1 + bytes_of(&records));
                    let mut at = 0;
                    for run in shards.chunk_by(|a, b| a == b) {
                        let Some(shard) = run.first() else { continue };
                        let state = match states.entry(*shard) {
                            std::collections::btree_map::Entry::Occupied(slot) => slot.into_mut(),
                            std::collections::btree_map::Entry::Vacant(slot) => {
                                slot.insert(keyed(operator)?.shard(&inputs)?)
                            }
                        };
                        let before = state.bytes();
                        state.begin(&live);
                        let made = state.absorb(number, &records.slice(at, run.len()));
                        let Some(made) = needed(made, &live)? else {
                            return Ok((None, Vec::new(), Vec::new(), 0, read));
                        };
                        out.add(*shard, made, state.bytes() as isize - before as isize)?;
                        at += run.len();
                    }
                }
                if closing {
                    for (number, state) in states.iter_mut() {
                        state.begin(&live);
                        let Some(made) = needed(state.finish(), &live)? else {
                            return Ok((None, Vec::new(), Vec::new(), 0, read));
                        };
                        out.add(*number, made, 0)?;
                    }
                    states.clear();
                }
                let state = states.values().map(|state| state.bytes()).sum::<usize>();
                let (records, shards) = out.records(&schema)?;
                Ok((records, shards, out.refused, state, read))
            })
            .await?;
        let wrote = output.as_ref().map_or((0, 0), |o| (o.num_rows(), bytes_of(o)));
        if !self.shared.is_replay(commit) {
            let mut count = Count::of(read, wrote, begun.elapsed());
            count.refused = refused.len() as u64;
            meter.add(&count);
        }
        let mut refused = refused;
        refused.sort_by_key(|(shard, ..)| *shard);
        let letter_shards = refused.iter().map(|(shard, ..)| *shard).collect::<Vec<u8>>();
        let letters = if refused.is_empty() {
            None
        } else {
            let refusal = |(_, row, error)| Refusal { operator: Arc::clone(&name), row, error };
            let refused = refused.into_iter().map(refusal).collect();
            let failed = |e: arrow::error::ArrowError| RunError::Worker(e.to_string());
            let letters = self.shared.compute(&name, move || Letters::of(refused));
            let letters = letters.await?.map_err(failed)?;
            self.shared.tell(&letters)?;
            let rows = concat_batches(&dead_letter::schema(), &letters.rows);
            Some(rows.map_err(failed)?)
        };
        Ok(Harvest {
            worker: self.worker,
            commit,
            epoch,
            state,
            output: Sheaf { rows: output.map(Into::into), shards },
            letters: Sheaf { rows: letters.map(Into::into), shards: letter_shards },
        })
    }

    async fn snapshot(&mut self, commit: u64) -> Result<Snapped, RunError> {
        let written = self
            .compute(|_, states| {
                let mut written = Vec::new();
                for (number, state) in states.iter() {
                    let bytes = state.snapshot()?;
                    if !bytes.is_empty() {
                        written.push((u32::from(*number), bytes));
                    }
                }
                Ok(written)
            })
            .await?;
        let shards = written.iter().map(|(number, _)| *number).collect();
        let operator = self.shared.name(self.node).to_owned();
        let (log, generation) = (&self.shared.log, self.shared.generation);
        futures::stream::iter(written)
            .map(|(number, bytes)| log.put_snapshot((commit, generation), &operator, number, bytes))
            .buffer_unordered(TRANSFERS)
            .try_collect::<()>()
            .await?;
        Ok(Snapped { commit, operator, shards })
    }

    /// Runs `work` on the state on the executor.
    async fn compute<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&dyn Operator, &mut States) -> Result<R, OperatorError> + Send + 'static,
    ) -> Result<R, RunError> {
        let mut states = std::mem::take(&mut self.states);
        let operator = Arc::clone(&self.operator);
        let name = self.shared.name(self.node).to_owned();
        let planned = self.shared.plan.nodes().get(self.node);
        let threads = planned.map_or(1, |node| node.resources().threads.max(1));
        let pool = self.operator.keyed().filter(|keyed| keyed.is_parallel()).map(|_| threads);
        let done = self.shared.compute_on(pool, &name, move || {
            let result = work(operator.as_ref(), &mut states);
            (states, result)
        });
        let (states, result) = done.await?;
        self.states = states;
        result.map_err(|error| RunError::Operator {
            node: name,
            record: None,
            error: error.to_string(),
        })
    }
}

/// What a shard made of rows; `None` when it stopped because the commit of its epoch will not be made.
fn needed(made: Result<Yield, OperatorError>, live: &Live) -> Result<Option<Yield>, OperatorError> {
    match made {
        Err(OperatorError::Cancelled) if !live.is_needed() => Ok(None),
        made => made.map(Some),
    }
}

/// The rows of an epoch by input, each input's in order of shard, lane, sequence and row.
type Ordered = Vec<Option<(RecordBatch, Vec<u8>)>>;

fn ordered(mut parcels: Vec<Parcel>, inputs: usize) -> Result<Ordered, OperatorError> {
    parcels.sort_by_key(|parcel| (parcel.input, parcel.position.lane, parcel.position.sequence));
    let mut parcels = parcels.into_iter().peekable();
    let mut ordered = Vec::with_capacity(inputs);
    for input in 0..inputs {
        let mut batches = Vec::new();
        let mut rows: Vec<(u8, usize, usize)> = Vec::new();
        while let Some(parcel) = parcels.next_if(|parcel| parcel.input == input) {
            let Some(records) = parcel.rows else { continue };
            let at = batches.len();
            rows.extend(parcel.shards.iter().enumerate().map(|(row, shard)| (*shard, at, row)));
            batches.push(records.records);
        }
        if rows.is_empty() {
            ordered.push(None);
            continue;
        }
        rows.sort_by_key(|(shard, ..)| *shard);
        let indices: Vec<(usize, usize)> = rows.iter().map(|(_, at, row)| (*at, *row)).collect();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let records = interleave_record_batch(&batches, &indices)?;
        ordered.push(Some((records, rows.into_iter().map(|(shard, ..)| shard).collect())));
    }
    Ok(ordered)
}

/// What the shards give in one epoch, against the operator's memory.
struct Out {
    memory: usize,
    held: isize,
    records: Vec<(u8, RecordBatch)>,
    refused: Vec<(u8, RecordBatch, String)>,
}

impl Out {
    fn new(memory: usize) -> Self {
        Self { memory, held: 0, records: Vec::new(), refused: Vec::new() }
    }

    /// Adds what a shard gave, whose state grew by so many bytes. One epoch alone must not outgrow the
    /// memory here; the state of all workers together is counted where harvests meet.
    fn add(&mut self, shard: u8, made: Yield, grown: isize) -> Result<(), OperatorError> {
        self.held += grown;
        for batch in made.records.into_iter().filter(|batch| batch.num_rows() > 0) {
            self.held += bytes_of(&batch) as isize;
            self.records.push((shard, batch));
        }
        for (row, error) in made.refused {
            self.held += bytes_of(&row) as isize;
            self.refused.push((shard, row, error));
        }
        let held = usize::try_from(self.held).unwrap_or(0);
        if held > self.memory {
            return Err(OperatorError::StateTooLarge { held, allowed: self.memory });
        }
        Ok(())
    }

    /// The output rows in order of shard.
    fn records(
        &mut self,
        schema: &SchemaRef,
    ) -> Result<(Option<RecordBatch>, Vec<u8>), OperatorError> {
        let mut records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return Ok((None, Vec::new()));
        }
        records.sort_by_key(|(shard, _)| *shard);
        let shards = records
            .iter()
            .flat_map(|(shard, batch)| std::iter::repeat_n(*shard, batch.num_rows()))
            .collect();
        let records = concat_batches(schema, records.iter().map(|(_, batch)| batch))?;
        Ok((Some(records), shards))
    }
}

/// Whether state of `held` bytes leaves room for the epochs in passage.
pub(super) fn within(held: usize, memory: usize) -> Result<(), OperatorError> {
    let held = held + passage(memory);
    if held > memory { Err(OperatorError::StateTooLarge { held, allowed: memory }) } else { Ok(()) }
}
