//! How much memory a plan takes, and whether the credit is enough for it.
//!
//! The credit is divided before anything runs. Reserves are what collectors hold whatever happens:
//! open shard writers, keyed state, the slices that executor threads work on. What is left bounds the
//! batches in flight, so no collector can hold the credit that another one waits for.

use std::sync::Arc;

use super::{PlanErrorKind, PlannedNode, Settings, Work};
use crate::quantity::ByteSize;
use crate::sink::Sink;

const MIB: usize = 1024 * 1024;
/// Smallest batch that is worth its overhead.
const LEAST_BATCH: usize = 64 * 1024;

/// One line of the memory plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// Node, or what the memory is for.
    pub name: String,
    /// Bytes over all processes of the run.
    pub bytes: usize,
}

/// What a run will hold in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Memory set aside, by what it is for.
    pub reserves: Vec<Reserve>,
    /// The rest of the credit: bytes of batches in flight, over all processes of the run.
    pub in_flight: usize,
    /// Bytes that an executor thread may decode at once.
    pub slice: usize,
    /// Executor threads of each process.
    pub threads: usize,
    ways: Vec<Option<Way>>,
}

/// What the batches of a source or keyed operator grow to on their way, per byte and per record.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Way {
    factor: f64,
    per_record: f64,
    batch: usize,
}

impl Memory {
    /// Bytes of credit for a batch that source or keyed operator `node` emits with this size.
    pub fn charge(&self, node: usize, bytes: usize, records: usize) -> usize {
        match self.ways.get(node).copied().flatten() {
            Some(way) => {
                (bytes as f64 * way.factor + records as f64 * way.per_record).ceil() as usize
            }
            None => bytes,
        }
    }

    /// Bytes at which source or keyed operator `node` ends a batch.
    pub fn batch_bytes(&self, node: usize) -> usize {
        self.ways.get(node).copied().flatten().map_or(LEAST_BATCH, |way| way.batch)
    }
}

pub(super) fn plan(
    nodes: &[PlannedNode],
    stages: &[Vec<usize>],
    settings: &Settings,
    dead_letters: Option<&Arc<dyn Sink>>,
) -> Result<Memory, PlanErrorKind> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processes = settings.processes;
    let threads = if settings.threads == 0 { (cores / processes).max(1) } else { settings.threads };
    let slice = (settings.credit / 4 / (threads * processes)).clamp(MIB / 4, 16 * MIB);
    let executors = threads * processes * slice;
    let mut reserves = vec![Reserve { name: "executor threads".into(), bytes: executors }];
    for node in nodes {
        let bytes = match &node.work {
            Work::Sink { sink } => {
                sink.reserve() * node.lanes as usize * settings.workers * processes
            }
            Work::Operator { operator, .. } => operator.keyed().map_or(0, |keyed| keyed.memory()),
            Work::Source { .. } => 0,
        };
        if bytes > 0 {
            reserves.push(Reserve { name: node.name.clone(), bytes });
        }
    }
    if let Some(sink) = dead_letters {
        let bytes = sink.reserve() * settings.workers * processes;
        reserves.push(Reserve { name: crate::log::DEAD_LETTERS.into(), bytes });
    }
    let reserved: usize = reserves.iter().map(|reserve| reserve.bytes).sum();
    let detail = || {
        let one = |r: &Reserve| format!("{} {}", r.name, ByteSize(r.bytes as u64));
        reserves.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let ways: Vec<Option<(f64, f64)>> = (0..nodes.len()).map(|at| way(nodes, stages, at)).collect();
    let widest = ways.iter().flatten().map(|way| way.0).fold(1.0, f64::max);
    let least = (LEAST_BATCH as f64 * widest).ceil() as usize;
    let in_flight = settings.credit.saturating_sub(reserved);
    let least_in_flight = 2 * least * processes;
    if in_flight < least_in_flight {
        // A larger credit is used for larger slices, so what is needed grows with it, to an end.
        let needed = (reserved + least_in_flight).next_multiple_of(MIB);
        let enough = Settings { credit: needed, ..settings.clone() };
        if let Err(error) = plan(nodes, stages, &enough, dead_letters) {
            return Err(error.of_credit(settings.credit));
        }
        return Err(PlanErrorKind::Credit {
            credit: ByteSize(settings.credit as u64).to_string(),
            needed: ByteSize(needed as u64).to_string(),
            detail: format!("{}, batches {}", detail(), ByteSize(least_in_flight as u64)),
        });
    }
    // Enough batches in flight to keep every thread busy while others are read and written.
    let share = in_flight / processes / (2 * threads + 2);
    let ways = ways
        .into_iter()
        .map(|way| {
            way.map(|(factor, per_record)| {
                let most = (share as f64 / factor) as usize;
                Way {
                    factor,
                    per_record,
                    batch: most.clamp(LEAST_BATCH, settings.batch.bytes.max(LEAST_BATCH)),
                }
            })
        })
        .collect();
    Ok(Memory { reserves, in_flight, slice, threads, ways })
}

/// The largest size on the way from node `at`, as (per byte, per record); `None` for nodes at which no
/// credit is taken.
fn way(nodes: &[PlannedNode], stages: &[Vec<usize>], at: usize) -> Option<(f64, f64)> {
    let takes_credit = match &nodes.get(at)?.work {
        Work::Source { .. } => true,
        Work::Operator { operator, .. } => operator.keyed().is_some(),
        Work::Sink { .. } => false,
    };
    takes_credit.then(|| ahead(nodes, stages, at, (1.0, 0.0)))
}

/// The largest size from node `at` on, for a batch that leaves it with size `now`. Only what stands between
/// stages counts: inside a stage, slices are worked on one by one and have their own reserve.
fn ahead(nodes: &[PlannedNode], stages: &[Vec<usize>], at: usize, now: (f64, f64)) -> (f64, f64) {
    let mut branches = (0.0, 0.0);
    for (reader, node) in nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&at)) {
        let branch = match &node.work {
            // State has its own reserve: a batch leaves its charge behind when it is absorbed.
            Work::Operator { operator, .. } if operator.keyed().is_some() => now,
            Work::Operator { .. } => {
                let stage = stages.iter().find(|stage| stage.first() == Some(&reader));
                let members = stage.cloned().unwrap_or_else(|| vec![reader]);
                let grown = members.iter().fold(now, |size, member| grow(nodes, *member, size));
                let last = members.last().copied().unwrap_or(reader);
                let rest = ahead(nodes, stages, last, grown);
                (now.0.max(rest.0), now.1.max(rest.1))
            }
            _ => now,
        };
        branches = (branches.0 + branch.0, branches.1 + branch.1);
    }
    (now.0.max(branches.0), now.1.max(branches.1))
}

pub(super) fn grow(
    nodes: &[PlannedNode],
    at: usize,
    (factor, per_record): (f64, f64),
) -> (f64, f64) {
    match nodes.get(at).map(|node| &node.work) {
        Some(Work::Operator { operator, .. }) => {
            let growth = operator.growth();
            (factor * growth.factor, per_record * growth.factor + growth.per_record as f64)
        }
        _ => (factor, per_record),
    }
}
