//! Puts the output of an epoch in order on one worker and lets it into the graph again, against credit.
//!
//! Like a reader, a task acquires the charge of each batch before it enters; until then the rows belong to
//! the memory of the operator that made them. The third stream says which epochs have passed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tokio::sync::mpsc;

use super::parcel::{Harvest, Sheaf};
use super::route::keyed;
use super::shards::within;
use super::{Batches, Output, Shared, Waker};
use crate::record::{Batch, Position, bytes_of};
use crate::run::RunError;
use crate::{dead_letter, source::BatchSize};

/// The streams of a gather.
pub(super) struct Gathered<'scope> {
    pub(super) batches: Batches<'scope>,
    pub(super) letters: Batches<'scope>,
    /// Carries nothing; an epoch has passed when its frontier has passed it.
    pub(super) passed: StreamVec<'scope, u64, ()>,
}

/// What the task sends.
enum Emit {
    Batch(Batch),
    Letters(Batch),
    Done(u64),
}

struct Open {
    batches: Capability<u64>,
    letters: Capability<u64>,
    _passed: Capability<u64>,
}

/// Gathers the harvests of keyed node `node`.
pub(super) fn gather<'scope>(
    harvests: StreamVec<'scope, u64, Harvest>,
    node: usize,
    shared: &Arc<Shared>,
) -> Gathered<'scope> {
    let scope = harvests.scope();
    let mut builder = OperatorBuilder::new(format!("gather {}", shared.name(node)), scope);
    let exchange = Exchange::new(|harvest: &Harvest| harvest.epoch);
    let mut input = builder.new_input(harvests, exchange);
    let (output, batches) = builder.new_output();
    let mut output: Output<Batch> = Output::from(output);
    let (dead, letters) = builder.new_output();
    let mut dead: Output<Batch> = Output::from(dead);
    let (end, passed) = builder.new_output::<Vec<()>>();
    let end: Output<()> = Output::from(end);

    let waker = Waker::new();
    waker.attach(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));
    let (to_task, from_operator) = mpsc::unbounded_channel();
    let (to_operator, mut from_task) = mpsc::channel(4);
    let task = Task {
        node,
        name: shared.name(node).to_owned(),
        size: shared.plan.batch_size(node),
        shared: Arc::clone(shared),
        output: to_operator,
        waker: waker.clone(),
    };
    let what = format!("operator `{}`", shared.name(node));
    shared.spawn(what, waker.clone(), task.run(from_operator));

    builder.build(move |_| {
        // Only its capabilities matter.
        let _end = end;
        let mut waiting: BTreeMap<u64, (Open, Vec<Harvest>)> = BTreeMap::new();
        let mut open: BTreeMap<u64, Open> = BTreeMap::new();
        move |frontiers| {
            waker.rest();
            input.for_each(|capability, harvests| {
                for harvest in harvests.drain(..) {
                    if let Some((_, epoch)) = waiting.get_mut(&harvest.epoch) {
                        epoch.push(harvest);
                        continue;
                    }
                    let pair = capability.retain_least(0).zip(capability.retain_least(1));
                    let all = pair.zip(capability.retain_least(2));
                    let Some(((batches, letters), _passed)) = all else { continue };
                    let epoch = Open { batches, letters, _passed };
                    waiting.insert(harvest.epoch, (epoch, vec![harvest]));
                }
            });
            while let Some(first) = waiting.first_entry()
                && frontiers.iter().all(|frontier| !frontier.less_equal(first.key()))
            {
                let (number, (epoch, harvests)) = first.remove_entry();
                open.insert(number, epoch);
                let _ = to_task.send(harvests);
            }
            while let Ok(emit) = from_task.try_recv() {
                match emit {
                    Emit::Batch(batch) => {
                        if let Some(epoch) = open.get(&batch.position.epoch) {
                            output.activate().session(&epoch.batches).give(batch);
                        }
                    }
                    Emit::Letters(batch) => {
                        if let Some(epoch) = open.get(&batch.position.epoch) {
                            dead.activate().session(&epoch.letters).give(batch);
                        }
                    }
                    Emit::Done(epoch) => {
                        open.remove(&epoch);
                    }
                }
            }
        }
    });
    Gathered { batches, letters, passed }
}

/// Tells the cutter which epochs have passed all keyed operators, in every process.
pub(super) fn watermark(passed: StreamVec<'_, u64, ()>, shared: &Arc<Shared>) {
    let mut builder = OperatorBuilder::new("watermark".to_owned(), passed.scope());
    let mut input = builder.new_input(passed, Pipeline);
    let shared = Arc::clone(shared);
    builder.build(move |_| {
        move |frontiers| {
            input.for_each(|_, _| {});
            let passed =
                frontiers.first().and_then(|frontier| frontier.frontier().first().copied());
            let passed = passed.unwrap_or(u64::MAX);
            shared.passed.send_if_modified(|now| {
                let later = passed > *now;
                *now = passed.max(*now);
                later
            });
        }
    });
}

struct Task {
    node: usize,
    name: String,
    size: BatchSize,
    shared: Arc<Shared>,
    output: mpsc::Sender<Emit>,
    waker: Waker,
}

impl Task {
    async fn run(self, mut epochs: mpsc::UnboundedReceiver<Vec<Harvest>>) {
        while let Some(harvests) = epochs.recv().await {
            if let Err(error) = self.epoch(harvests).await {
                self.shared.failures.report(error);
                self.waker.wake();
                return;
            }
        }
    }

    async fn epoch(&self, mut harvests: Vec<Harvest>) -> Result<(), RunError> {
        harvests.sort_by_key(|harvest| harvest.worker);
        let Some(Harvest { commit, epoch, .. }) = harvests.first() else { return Ok(()) };
        let start = Position { commit: *commit, epoch: *epoch, lane: 0, sequence: 0, last: false };
        self.check(harvests.iter().map(|harvest| harvest.state).sum())?;
        let (output, letters): (Vec<Sheaf>, Vec<Sheaf>) =
            harvests.into_iter().map(|harvest| (harvest.output, harvest.letters)).unzip();
        let schema = self.shared.schema(self.node);
        self.emit(output, RecordBatch::new_empty(schema), start, Emit::Batch).await?;
        let none = RecordBatch::new_empty(dead_letter::schema());
        self.emit(letters, none, start, Emit::Letters).await?;
        self.send(Emit::Done(start.epoch)).await;
        Ok(())
    }

    /// Fails when the state of all workers leaves no room for the epochs in passage.
    fn check(&self, state: usize) -> Result<(), RunError> {
        let operator = self.shared.operator(self.node);
        let checked = keyed(operator.as_ref()).and_then(|keyed| within(state, keyed.memory()));
        checked.map_err(|error| RunError::Operator {
            node: self.name.clone(),
            record: None,
            error: error.to_string(),
        })
    }

    /// Emits rows in order of shard as batches, and `empty` as the last one.
    async fn emit(
        &self,
        sheaves: Vec<Sheaf>,
        empty: RecordBatch,
        start: Position,
        emit: fn(Batch) -> Emit,
    ) -> Result<(), RunError> {
        let mut position = start;
        let mut rows: Vec<(u8, usize, usize)> = Vec::new();
        let mut batches: Vec<RecordBatch> = Vec::new();
        for sheaf in sheaves {
            let Some(records) = sheaf.rows else { continue };
            let at = batches.len();
            rows.extend(sheaf.shards.into_iter().enumerate().map(|(row, shard)| (shard, at, row)));
            batches.push(records.records);
        }
        rows.sort_by_key(|(shard, ..)| *shard);
        let bytes: usize = batches.iter().map(bytes_of).sum();
        let each = (bytes / rows.len().max(1)).max(1);
        let records = (self.size.bytes / each).clamp(1, self.size.records.max(1));
        let (rows, batches) = (Arc::new(rows), Arc::new(batches));
        for from in (0..rows.len()).step_by(records) {
            let (rows, batches) = (Arc::clone(&rows), Arc::clone(&batches));
            let records = self.shared.compute(&self.name, move || {
                let some = rows.iter().skip(from).take(records);
                let indices: Vec<(usize, usize)> = some.map(|(_, at, row)| (*at, *row)).collect();
                interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &indices)
            });
            let records = records.await?.map_err(|error| RunError::Operator {
                node: self.name.clone(),
                record: None,
                error: error.to_string(),
            })?;
            let memory = self.shared.plan.memory();
            let charge = memory.charge(self.node, bytes_of(&records), records.num_rows());
            let charge = Some(self.shared.credit.acquire(charge).await);
            self.send(emit(Batch { records, position, charge })).await;
            position.sequence += 1;
        }
        position.last = true;
        self.send(emit(Batch { records: empty, position, charge: None })).await;
        Ok(())
    }

    async fn send(&self, emit: Emit) {
        // The operator is gone only after a failure, which was reported.
        let _ = self.output.send(emit).await;
        self.waker.wake();
    }
}
