//! How large a part may be whose rows reach an operator with state.
//!
//! A keyed operator takes an epoch as a whole, once it is complete. So up to [`OPEN_EPOCHS`] epochs wait in
//! it, one is being put in order and one goes out; half of the operator's memory is for them, and the parts
//! of the sources that feed it are cut so small that they fit. The sizes follow from the job alone and are
//! part of the plan's hash: workers, batches and credit do not change where a source is cut.

use super::memory::grow;
use super::{PartSize, PlanErrorKind, PlannedNode, Settings, Work};
use crate::quantity::ByteSize;

/// How many epochs the cutter is ahead of the slowest keyed operator at most.
pub(crate) const OPEN_EPOCHS: u64 = 2;
/// Epochs that a keyed operator holds at once: those that are open, one being copied, one going out.
const HELD: usize = OPEN_EPOCHS as usize + 2;
/// Bytes that a record takes in memory beside what a source measured: its id, its key, offsets, facts.
const RECORD: usize = 192;
/// Smallest part that is worth its overhead.
const LEAST: usize = 4 * 1024;

/// Bytes of a keyed operator's memory that are for epochs in passage.
pub(crate) fn passage(memory: usize) -> usize {
    memory / 2
}

/// The size of parts of each node that is a source; the job's setting, unless its rows reach state.
pub(super) fn plan(
    nodes: &[PlannedNode],
    settings: &Settings,
) -> Result<Vec<PartSize>, (String, PlanErrorKind)> {
    let mut parts = vec![settings.part; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        let Work::Operator { operator, .. } = &node.work else { continue };
        let Some(keyed) = operator.keyed() else { continue };
        let arrivals: Vec<(usize, (f64, f64))> = (0..nodes.len())
            .filter(|source| matches!(nodes.get(*source), Some(n) if n.work.role() == "source"))
            .map(|source| (source, arrival(nodes, source, at, (1.0, 0.0))))
            .filter(|(_, way)| *way != (0.0, 0.0))
            .collect();
        let share = passage(keyed.memory()) / HELD / arrivals.len().max(1);
        for (source, (factor, per_record)) in &arrivals {
            let each = per_record + factor * RECORD as f64;
            if (share as f64) < factor * LEAST as f64 + each {
                let needed = (factor * LEAST as f64 + each).ceil() as usize;
                let needed = needed * arrivals.len() * HELD * 2;
                let message = format!(
                    "its memory of {} is too small for the epochs on their way through it: at least {} \
                     are needed; raise `memory`",
                    ByteSize(keyed.memory() as u64),
                    ByteSize(needed as u64)
                );
                return Err((node.name.clone(), PlanErrorKind::Setting(message)));
            }
            let Some(part) = parts.get_mut(*source) else { continue };
            let least = factor * LEAST as f64;
            let most = ((share as f64 - least) / 2.0 / each).max(1.0) as u64;
            let records = part.records.min(most);
            let bytes = ((share as f64 - records as f64 * each) / factor) as u64;
            *part = PartSize { records, bytes: part.bytes.min(bytes.max(1)) };
        }
    }
    Ok(parts)
}

/// What a byte and a record of node `from` have become where they enter node `to`, over all ways.
fn arrival(nodes: &[PlannedNode], from: usize, to: usize, now: (f64, f64)) -> (f64, f64) {
    let mut sum = (0.0, 0.0);
    for (reader, node) in nodes.iter().enumerate() {
        let times = node.inputs.iter().filter(|input| **input == from).count() as f64;
        if times == 0.0 || node.work.role() != "operator" {
            continue;
        }
        let way =
            if reader == to { now } else { arrival(nodes, reader, to, grow(nodes, reader, now)) };
        sum = (sum.0 + times * way.0, sum.1 + times * way.1);
    }
    sum
}
