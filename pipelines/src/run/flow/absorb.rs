//! Feeds complete epochs to the shards of this worker, in order, and snapshots them at commits.
//!
//! An epoch is handed to the task that owns the shards once nothing of it can come any more, and a commit's
//! snapshot stands between its last epoch and the next commit's first. So what a shard sees depends on the
//! plan and the rows alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tokio::sync::mpsc;

use super::parcel::{Harvest, Parcel, Receipt, Snapped, Tick};
use super::shards::{Done, Shards, Task};
use super::{Output, Shared, Waker};

/// The streams of an absorber.
pub(super) struct Absorbed<'scope> {
    pub(super) harvests: StreamVec<'scope, u64, Harvest>,
    pub(super) receipts: StreamVec<'scope, u64, Receipt>,
    pub(super) snapped: StreamVec<'scope, u64, Snapped>,
}

/// An epoch that is not complete.
struct Open {
    capability: Capability<u64>,
    commit: u64,
    parcels: Vec<Parcel>,
    closing: bool,
}

impl Open {
    fn new(capability: Capability<u64>, commit: u64) -> Self {
        Self { capability, commit, parcels: Vec::new(), closing: false }
    }
}

/// Absorbs the parcels for this worker of keyed node `node`.
pub(super) fn absorb<'scope>(
    parcels: StreamVec<'scope, u64, Parcel>,
    ticks: StreamVec<'scope, u64, Tick>,
    node: usize,
    shared: &Arc<Shared>,
) -> Absorbed<'scope> {
    let scope = parcels.scope();
    let mut builder = OperatorBuilder::new(format!("absorb {}", shared.name(node)), scope);
    let exchange = Exchange::new(|parcel: &Parcel| parcel.worker as u64);
    let mut input = builder.new_input(parcels, exchange);
    let mut ticks = builder.new_input(ticks, Pipeline);
    let (output, harvests) = builder.new_output();
    let mut harvested: Output<Harvest> = Output::from(output);
    let (output, receipts) = builder.new_output();
    let mut arrived: Output<Receipt> = Output::from(output);
    let (output, snapped) = builder.new_output();
    let mut durable: Output<Snapped> = Output::from(output);

    let waker = Waker::new();
    waker.attach(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));
    let (to_task, from_operator) = mpsc::unbounded_channel();
    let (to_operator, mut from_task) = mpsc::unbounded_channel();
    let shards = Shards::new(node, scope.index(), scope.peers(), shared);
    let what = format!("operator `{}`", shared.name(node));
    shared.spawn(what, waker.clone(), shards.run(from_operator, to_operator, waker.clone()));
    let every = shared.plan.settings().snapshot_every;

    builder.build(move |_| {
        let mut open: BTreeMap<u64, Open> = BTreeMap::new();
        let mut commits: BTreeMap<u64, (u64, Capability<u64>)> = BTreeMap::new();
        let mut absorbing: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        let mut snapping: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        move |frontiers| {
            waker.rest();
            input.for_each(|capability, parcels| {
                let pair = capability.retain_least(0).zip(capability.retain_least(1));
                let Some((output, receipts)) = pair else { return };
                for mut parcel in parcels.drain(..) {
                    if let Some(receipt) = parcel.receipt.take() {
                        arrived.activate().session(&receipts).give(receipt);
                    }
                    let commit = parcel.position.commit;
                    let epoch = open
                        .entry(parcel.position.epoch)
                        .or_insert_with(|| Open::new(output.clone(), commit));
                    if parcel.rows.is_some() {
                        epoch.parcels.push(parcel);
                    }
                }
            });
            ticks.for_each(|capability, ticks| {
                for tick in ticks.drain(..) {
                    match tick {
                        Tick::Commit { number, end } if (number + 1) % every == 0 => {
                            if let Some(capability) = capability.retain_least(2) {
                                commits.insert(end, (number, capability));
                            }
                        }
                        Tick::Commit { .. } | Tick::GiveUp { .. } => {}
                        Tick::Close { commit, epoch } => {
                            if let Some(capability) = capability.retain_least(0) {
                                let open = open.entry(epoch);
                                open.or_insert_with(|| Open::new(capability, commit)).closing =
                                    true;
                            }
                        }
                    }
                }
            });
            let complete = |epoch: u64| frontiers.iter().all(|f| !f.less_equal(&epoch));
            loop {
                let next = open.first_key_value().map(|(epoch, _)| *epoch);
                let boundary = commits.first_key_value().map(|(end, _)| *end);
                match (next, boundary) {
                    (next, Some(end))
                        if next.is_none_or(|next| next >= end)
                            && complete(end.saturating_sub(1)) =>
                    {
                        if let Some((_, (number, capability))) = commits.pop_first() {
                            snapping.insert(number, capability);
                            let _ = to_task.send(Task::Snapshot(number));
                        }
                    }
                    (Some(next), boundary)
                        if boundary.is_none_or(|end| next < end) && complete(next) =>
                    {
                        if let Some((epoch, Open { capability, commit, parcels, closing })) =
                            open.pop_first()
                        {
                            absorbing.insert(epoch, capability);
                            let _ = to_task.send(Task::Epoch { commit, epoch, parcels, closing });
                        }
                    }
                    _ => break,
                }
            }
            while let Ok(done) = from_task.try_recv() {
                match done {
                    Done::Epoch(harvest) => {
                        if let Some(capability) = absorbing.remove(&harvest.epoch) {
                            harvested.activate().session(&capability).give(*harvest);
                        }
                    }
                    Done::Snapshot(snapshot) => {
                        if let Some(capability) = snapping.remove(&snapshot.commit) {
                            durable.activate().session(&capability).give(snapshot);
                        }
                    }
                }
            }
        }
    });
    Absorbed { harvests, receipts, snapped }
}
