//! Opens parts: a tokio task per source and worker reads them one after the other, against the credit.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tokio::sync::mpsc;

use super::letters::Letters;
use super::{Batches, Output, Shared, Waker};
use crate::dead_letter::{self, DeadLetter};
use crate::record::{Batch, Position, RecordId, bytes_of, weight_of, with_ids};
use crate::run::cutter::Part;
use crate::run::{Meter, RunError};
use crate::source::{BatchSize, Source, SourceBatch, Unreadable};

/// What the reading task sends, with the number of the part.
enum Read {
    Batch(u64, Batch),
    Letters(u64, Batch),
    Done(u64),
}

/// Reads the parts that are routed to this worker: a stream of batches, and one of dead letters.
pub(super) fn reader<'scope>(
    parts: StreamVec<'scope, u64, Part>,
    node: usize,
    shared: &Arc<Shared>,
) -> (Batches<'scope>, Batches<'scope>) {
    let scope = parts.scope();
    let mut builder = OperatorBuilder::new(format!("reader {}", shared.name(node)), scope);
    let mut input = builder.new_input(parts, Exchange::new(|part: &Part| part.route));
    let (output, batches) = builder.new_output();
    let mut output: Output<Batch> = Output::from(output);
    let (letters, dead) = builder.new_output();
    let mut letters: Output<Batch> = Output::from(letters);

    let waker = Waker::new();
    let (to_task, from_operator) = mpsc::unbounded_channel();
    let (to_operator, mut from_task) = mpsc::channel(4);
    let task = Task::new(node, shared, to_operator, waker.clone());
    let what = format!("source `{}`", shared.name(node));
    shared.spawn(what, waker.clone(), task.run(from_operator));
    waker.attach(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));

    builder.build(move |_| {
        let mut open: BTreeMap<u64, (Capability<u64>, Capability<u64>)> = BTreeMap::new();
        let mut next = 0;
        move |_| {
            waker.rest();
            input.for_each(|capability, parts| {
                for part in parts.drain(..) {
                    let pair = capability.retain_least(0).zip(capability.retain_least(1));
                    let Some(pair) = pair else { continue };
                    open.insert(next, pair);
                    let _ = to_task.send((next, part));
                    next += 1;
                }
            });
            while let Ok(read) = from_task.try_recv() {
                match read {
                    Read::Batch(part, batch) => {
                        if let Some((capability, _)) = open.get(&part) {
                            output.activate().session(&capability).give(batch);
                        }
                    }
                    Read::Letters(part, batch) => {
                        if let Some((_, capability)) = open.get(&part) {
                            letters.activate().session(&capability).give(batch);
                        }
                    }
                    Read::Done(part) => {
                        open.remove(&part);
                    }
                }
            }
        }
    });
    (batches, dead)
}

struct Task {
    node: usize,
    name: String,
    source: Arc<dyn Source>,
    size: BatchSize,
    meter: Arc<Meter>,
    shared: Arc<Shared>,
    output: mpsc::Sender<Read>,
    waker: Waker,
}

impl Task {
    fn new(node: usize, shared: &Arc<Shared>, output: mpsc::Sender<Read>, waker: Waker) -> Self {
        Self {
            node,
            name: shared.name(node).to_owned(),
            source: shared.source(node),
            size: shared.plan.batch_size(node),
            meter: shared.meter(node),
            shared: Arc::clone(shared),
            output,
            waker,
        }
    }

    async fn run(self, mut parts: mpsc::UnboundedReceiver<(u64, Part)>) {
        while let Some((number, part)) = parts.recv().await {
            if let Err(error) = self.part(number, part).await {
                self.shared.failures.report(error);
                self.waker.wake();
                return;
            }
        }
    }

    async fn part(&self, number: u64, part: Part) -> Result<(), RunError> {
        let failed = |error| RunError::Source { node: self.name.clone(), error };
        let mut position =
            Position { commit: part.commit, epoch: part.epoch, lane: 0, sequence: 0, last: false };
        let mut batches = self.source.open(part.ranges, self.size);
        while !self.shared.gives_up(position.commit)
            && let Some(batch) = batches.next().await
        {
            let SourceBatch { records, refused } = batch.map_err(failed)?;
            if !refused.is_empty() {
                self.refuse(number, position, refused).await?;
            }
            if records.num_rows() == 0 {
                continue;
            }
            let records = with_ids(&self.name, &records)
                .map_err(|e| failed(crate::source::SourceError::Options(e.to_string())))?;
            let (rows, bytes) = (records.num_rows(), bytes_of(&records));
            let charge = self.shared.plan.memory().charge(self.node, weight_of(&records), rows);
            let charge = Some(self.shared.credit.acquire(charge).await);
            if !self.shared.is_replay(position.commit) {
                self.meter.read(rows, bytes);
                self.meter.wrote(rows as u64, bytes as u64);
            }
            self.send(Read::Batch(number, Batch { records, position, charge })).await;
            position.sequence += 1;
        }
        // An empty last batch tells everyone downstream that the part is whole.
        position.last = true;
        let schema = self.shared.schema(self.node);
        let records = arrow::array::RecordBatch::new_empty(schema);
        self.send(Read::Batch(number, Batch { records, position, charge: None })).await;
        let records = arrow::array::RecordBatch::new_empty(dead_letter::schema());
        self.send(Read::Letters(number, Batch { records, position, charge: None })).await;
        self.send(Read::Done(number)).await;
        Ok(())
    }

    async fn refuse(
        &self,
        number: u64,
        position: Position,
        refused: Vec<Unreadable>,
    ) -> Result<(), RunError> {
        if self.shared.is_replay(position.commit) {
            return Ok(());
        }
        self.meter.read(refused.len(), 0);
        self.meter.refused(refused.len() as u64);
        let letters: Vec<DeadLetter> = refused
            .into_iter()
            .map(|record| DeadLetter {
                id: RecordId::new(&self.name, &record.key),
                key: record.key,
                operator: self.name.clone(),
                error: record.error,
                record: None,
                split: Some(record.split),
                range: Some(record.range),
                bytes: record.bytes,
            })
            .collect();
        let letters = Letters::new(&letters).map_err(|e| RunError::Worker(e.to_string()))?;
        self.shared.tell(&letters)?;
        for records in letters.rows {
            self.send(Read::Letters(number, Batch { records, position, charge: None })).await;
        }
        Ok(())
    }

    async fn send(&self, read: Read) {
        // The operator is gone only after a failure, which was reported.
        let _ = self.output.send(read).await;
        self.waker.wake();
    }
}
