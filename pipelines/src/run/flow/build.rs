//! Builds the dataflow of a plan; every worker builds the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::vec::{Broadcast, Filter, Map};
use timely::dataflow::{Scope, StreamVec};
use tokio::sync::mpsc::UnboundedReceiver;

use super::absorb::absorb;
use super::committer::{CommitTask, committer};
use super::cuts::{Cuts, cuts};
use super::gather::{gather, watermark};
use super::parcel::{Snapped, Tick};
use super::reader::reader;
use super::route::{Custody, release, route};
use super::sink::{Writing, sink};
use super::stage::{Stage, stage};
use super::{Batches, Shared, Waker};
use crate::dead_letter;
use crate::executor::{Invocation, Member};
use crate::graph::Work;
use crate::log::DEAD_LETTERS;
use crate::operator::{Declared, Growth};
use crate::run::RunError;
use crate::run::cutter::Cutting;

/// Builds the whole graph. The cutter's channel and the commit task exist on the first worker alone.
pub(crate) fn build(
    scope: Scope<'_, u64>,
    shared: &Arc<Shared>,
    cutting: Option<(UnboundedReceiver<Cutting>, Waker)>,
    task: Option<CommitTask>,
) {
    let plan = &shared.plan;
    let is_source =
        |at: &usize| matches!(plan.nodes().get(*at).map(|n| &n.work), Some(Work::Source { .. }));
    let sources: Vec<usize> = (0..plan.nodes().len()).filter(is_source).collect();
    let Cuts { parts, ticks, planned } =
        cuts(scope, sources.len(), shared.resume.first_epoch, cutting);
    let listening = Arc::clone(shared);
    let ticks = ticks.broadcast().inspect(move |tick| {
        if let Tick::GiveUp { from } = tick {
            listening.given_up.store(*from, Ordering::SeqCst);
        }
    });

    let mut outputs: Vec<Option<Batches<'_>>> = plan.nodes().iter().map(|_| None).collect();
    let mut letters: Vec<(u32, Batches<'_>)> = Vec::new();
    let (mut prepared, mut snapped, mut passed) = (Vec::new(), Vec::new(), Vec::new());
    for (node, parts) in sources.into_iter().zip(parts) {
        let (batches, dead) = reader(parts, node, shared);
        letters.push((1, dead));
        if let Some(slot) = outputs.get_mut(node) {
            *slot = Some(batches);
        }
    }
    for (at, node) in plan.nodes().iter().enumerate() {
        // Replays are for state: what does not lead to any has been done already.
        let replays = node.is_keyed() || plan.feeds_state(at);
        let input = |(from, offset): (&usize, &u32)| {
            let Some(Some(batches)) = outputs.get(*from) else {
                let (node, from) = (&node.name, shared.name(*from));
                let message = format!("`{node}` reads from `{from}`, which gives nothing");
                shared.failures.report(RunError::Worker(message));
                return None;
            };
            let batches = shift(batches.clone(), *offset);
            Some(if replays { batches } else { without_replays(batches, shared) })
        };
        let inputs = || -> Vec<Batches<'_>> {
            node.inputs.iter().zip(&node.lane_offsets).filter_map(input).collect()
        };
        match &node.work {
            Work::Source { .. } => {}
            Work::Operator { .. } if node.is_keyed() => {
                let state = keyed(inputs(), ticks.clone(), at, shared);
                letters.push((1, state.letters));
                snapped.push(state.snapped);
                passed.push(state.passed);
                if let Some(slot) = outputs.get_mut(at) {
                    *slot = Some(state.batches);
                }
            }
            Work::Operator { .. } => {
                let Some(members) = plan.stages().iter().find(|stage| stage.first() == Some(&at))
                else {
                    continue;
                };
                let (batches, dead) =
                    stage(scope.concatenate(inputs()), a_stage(members, shared), shared);
                letters.push((node.lanes, dead));
                let slot = members.last().and_then(|last| outputs.get_mut(*last));
                if let Some(slot) = slot {
                    *slot = Some(batches);
                }
            }
            Work::Sink { sink: target } => {
                let writing = Writing {
                    name: node.name.clone(),
                    sink: Arc::clone(target),
                    schema: Arc::clone(&node.schema),
                    meter: shared.meter(at),
                    class: node.class,
                };
                prepared.push(sink(scope.concatenate(inputs()), writing, shared));
            }
        }
    }
    if let Some(target) = plan.dead_letters() {
        let mut offset = 0;
        let shifted: Vec<Batches<'_>> = letters
            .into_iter()
            .map(|(lanes, stream)| {
                let stream = shift(without_replays(stream, shared), offset);
                offset += lanes;
                stream
            })
            .collect();
        let writing = Writing {
            name: DEAD_LETTERS.to_owned(),
            sink: Arc::clone(target),
            schema: dead_letter::schema(),
            meter: Arc::default(),
            class: plan.class(),
        };
        prepared.push(sink(scope.concatenate(shifted), writing, shared));
    }
    if !passed.is_empty() {
        watermark(scope.concatenate(passed), shared);
    }
    let (prepared, snapped) = (scope.concatenate(prepared), scope.concatenate(snapped));
    committer(prepared, planned, snapped, shared, task);
}

/// The streams of an operator with state.
struct State<'scope> {
    batches: Batches<'scope>,
    letters: Batches<'scope>,
    snapped: StreamVec<'scope, u64, Snapped>,
    passed: StreamVec<'scope, u64, ()>,
}

/// An operator with state: its rows go to the workers that own their shards, and come back in order.
fn keyed<'scope>(
    inputs: Vec<Batches<'scope>>,
    ticks: StreamVec<'scope, u64, Tick>,
    node: usize,
    shared: &Arc<Shared>,
) -> State<'scope> {
    let scope = ticks.scope();
    let custody = Custody::default();
    let parcels: Vec<_> = inputs
        .into_iter()
        .enumerate()
        .map(|(number, batches)| route(batches, node, number, &custody, shared))
        .collect();
    let absorbed = absorb(scope.concatenate(parcels), ticks, node, shared);
    release(absorbed.receipts, &custody, shared, node);
    let gathered = gather(absorbed.harvests, node, shared);
    State {
        batches: gathered.batches,
        letters: gathered.letters,
        snapped: absorbed.snapped,
        passed: gathered.passed,
    }
}

/// Without the batches of commits that an earlier start made.
fn without_replays<'scope>(batches: Batches<'scope>, shared: &Arc<Shared>) -> Batches<'scope> {
    if shared.first_commit == 0 || shared.plan.keyed().next().is_none() {
        return batches;
    }
    let shared = Arc::clone(shared);
    batches.filter(move |batch| !shared.is_replay(batch.position.commit))
}

/// Numbers the lanes of one input of a fan-in apart from those before it.
fn shift(batches: Batches<'_>, offset: u32) -> Batches<'_> {
    if offset == 0 {
        return batches;
    }
    batches.map(move |mut batch| {
        batch.position.lane += offset;
        batch
    })
}

fn a_stage(members: &[usize], shared: &Arc<Shared>) -> Stage {
    let plan = &shared.plan;
    let nodes: Vec<_> =
        members.iter().filter_map(|at| Some((*at, plan.nodes().get(*at)?))).collect();
    let name = nodes.iter().map(|(_, node)| node.name.as_str()).collect::<Vec<_>>().join(" > ");
    let mut growth = Growth::NONE;
    let mut invocation = Invocation {
        members: Vec::new(),
        schema: members.last().map_or_else(|| shared.schema(0), |last| shared.schema(*last)),
        context: shared.context.clone(),
        slice: plan.memory().slice,
    };
    for (at, node) in &nodes {
        if let Work::Operator { operator, .. } = &node.work {
            let own = operator.growth();
            growth = Growth {
                factor: growth.factor * own.factor,
                per_record: (growth.per_record as f64 * own.factor) as usize + own.per_record,
            };
            invocation.members.push(Member {
                name: node.name.as_str().into(),
                operator: shared.operator(*at),
                meter: shared.meter(*at),
            });
        }
    }
    let resources = nodes.first().map(|(_, node)| node.resources()).unwrap_or_default();
    let last = members.last().copied().unwrap_or(0);
    let only_sinks = plan
        .readers(last)
        .all(|reader| matches!(plan.nodes().get(reader).map(|n| &n.work), Some(Work::Sink { .. })));
    let resources = crate::operator::Resources {
        // Inside a stage only slices are held at their largest, and those have a bound.
        memory: resources.memory.or(Some(plan.memory().slice)),
        ..resources
    };
    Stage { name, invocation, sizing: Arc::new(Declared { resources, growth }), last: only_sinks }
}
