//! Writes parts to shards: a tokio task per lane, one open shard each.
//!
//! A batch gives its charge back when the writer took it, whose own memory is reserved; so writers never
//! wait for one another's credit.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tokio::sync::mpsc;

use super::{Batches, Output, Shared, Waker};
use crate::operator::Class;
use crate::record::{Batch, bytes_of};
use crate::run::{Meter, RunError};
use crate::sink::{Compute, PartName, PartWriter, Shard, Sink, SinkError};

/// A durable, invisible shard, on its way to the committer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Prepared {
    pub(crate) sink: String,
    pub(crate) epoch: u64,
    /// The [`Shard`] as JSON, which crosses processes in any encoding.
    pub(crate) shard: String,
}

/// Which sink, and where its figures go.
#[derive(Clone)]
pub(super) struct Writing {
    pub(super) name: String,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) schema: arrow::datatypes::SchemaRef,
    pub(super) meter: Arc<Meter>,
    /// Whether what it writes differs from start to start.
    pub(super) class: Class,
}

type Finished = (u32, u64, Option<Shard>);

/// Writes what arrives: a stream of prepared shards.
pub(super) fn sink<'scope>(
    batches: Batches<'scope>,
    writing: Writing,
    shared: &Arc<Shared>,
) -> StreamVec<'scope, u64, Prepared> {
    let scope = batches.scope();
    let mut builder = OperatorBuilder::new(format!("sink {}", writing.name), scope);
    let mut input = builder.new_input(batches, Pipeline);
    let (output, prepared) = builder.new_output();
    let mut output: Output<Prepared> = Output::from(output);

    let waker = Waker::new();
    waker.attach(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));
    let (send, mut receive) = mpsc::unbounded_channel::<Finished>();
    let shared = Arc::clone(shared);

    builder.build(move |_| {
        let mut lanes: HashMap<u32, mpsc::UnboundedSender<Batch>> = HashMap::new();
        let mut open: HashMap<(u32, u64), Capability<u64>> = HashMap::new();
        move |_| {
            waker.rest();
            input.for_each(|capability, batches| {
                for batch in batches.drain(..) {
                    let (lane, epoch) = (batch.position.lane, batch.position.epoch);
                    if let std::collections::hash_map::Entry::Vacant(slot) =
                        open.entry((lane, epoch))
                        && let Some(capability) = capability.retain_least(0)
                    {
                        slot.insert(capability);
                    }
                    let lane = lanes.entry(lane).or_insert_with(|| {
                        let (to_lane, from_operator) = mpsc::unbounded_channel();
                        let lane = Lane {
                            writing: writing.clone(),
                            shared: Arc::clone(&shared),
                            output: send.clone(),
                            waker: waker.clone(),
                        };
                        let what = format!("sink `{}`", writing.name);
                        shared.spawn(what, waker.clone(), lane.run(from_operator));
                        to_lane
                    });
                    writing.meter.arrived();
                    let _ = lane.send(batch);
                }
            });
            while let Ok((lane, epoch, shard)) = receive.try_recv() {
                let Some(capability) = open.remove(&(lane, epoch)) else { continue };
                let Some(shard) = shard else { continue };
                writing.meter.wrote(shard.rows, shard.bytes);
                match serde_json::to_string(&shard) {
                    Ok(shard) => {
                        let sink = writing.name.clone();
                        output.activate().session(&capability).give(Prepared {
                            sink,
                            epoch,
                            shard,
                        });
                    }
                    Err(e) => shared.failures.report(RunError::Worker(format!(
                        "sink `{}`: shard {} cannot be named in the run log: {e}",
                        writing.name, shard.path
                    ))),
                }
            }
        }
    });
    prepared
}

struct Lane {
    writing: Writing,
    shared: Arc<Shared>,
    output: mpsc::UnboundedSender<Finished>,
    waker: Waker,
}

impl Lane {
    async fn run(self, mut batches: mpsc::UnboundedReceiver<Batch>) {
        let executor = Arc::downgrade(&self.shared.executor);
        let compute = Compute::new(move |job| {
            if let Some(executor) = executor.upgrade() {
                executor
                    .submit(crate::operator::Allocation { threads: 1, bytes: 0 }, move |_| job());
            }
        });
        let mut writer: Option<Box<dyn PartWriter>> = None;
        while let Some(batch) = batches.recv().await {
            if let Err(error) = self.batch(batch, &mut writer, &compute).await {
                let node = self.writing.name.clone();
                self.shared.failures.report(RunError::Sink { node, error });
                self.waker.wake();
                return;
            }
        }
    }

    async fn batch(
        &self,
        batch: Batch,
        writer: &mut Option<Box<dyn PartWriter>>,
        compute: &Compute,
    ) -> Result<(), SinkError> {
        let Batch { records, position, charge } = batch;
        let Writing { name, sink, schema, meter, class } = &self.writing;
        if records.num_rows() > 0 {
            meter.read(records.num_rows(), bytes_of(&records));
            let open = match writer {
                Some(open) => open,
                None => {
                    let part = PartName {
                        run: self.shared.run.clone(),
                        sink: name.clone(),
                        commit: position.commit,
                        epoch: position.epoch,
                        lane: position.lane,
                        generation: (*class == Class::Live).then_some(self.shared.generation),
                    };
                    writer.insert(sink.writer(&part, schema, compute)?)
                }
            };
            open.write(records).await?;
        }
        meter.handled();
        drop(charge);
        if position.last {
            let shard = match writer.take() {
                Some(writer) => writer.finish().await?,
                None => None,
            };
            let _ = self.output.send((position.lane, position.epoch, shard));
            self.waker.wake();
        }
        Ok(())
    }
}
