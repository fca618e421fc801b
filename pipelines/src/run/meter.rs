//! Counters of one node in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::graph::{Plan, PlannedNode, Work};
use crate::operator::Board;
use crate::progress::NodeProgress;

/// What a node did in this process since the start.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    busy_micros: AtomicU64,
    waiting_micros: AtomicU64,
    in_flight: AtomicU64,
    allocated: AtomicU64,
    used: AtomicU64,
    threads: AtomicU64,
    dead_letters: AtomicU64,
    lag: AtomicU64,
    board: Arc<Board>,
}

/// What an operator did in an invocation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) refused: u64,
    /// The largest output so far, in bytes.
    largest: u64,
    busy: Duration,
}

impl Count {
    /// Of (records, bytes) in and out.
    pub(crate) fn of(read: (usize, usize), wrote: (usize, usize), busy: Duration) -> Self {
        Self {
            records_in: read.0 as u64,
            records_out: wrote.0 as u64,
            bytes_in: read.1 as u64,
            bytes_out: wrote.1 as u64,
            refused: 0,
            largest: wrote.1 as u64,
            busy,
        }
    }

    pub(crate) fn absorb(&mut self, other: &Self) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.refused += other.refused;
        self.largest = self.largest.max(other.largest);
        self.busy += other.busy;
    }
}

impl Meter {
    pub(crate) fn add(&self, count: &Count) {
        self.records_in.fetch_add(count.records_in, Relaxed);
        self.records_out.fetch_add(count.records_out, Relaxed);
        self.bytes_in.fetch_add(count.bytes_in, Relaxed);
        self.bytes_out.fetch_add(count.bytes_out, Relaxed);
        self.dead_letters.fetch_add(count.refused, Relaxed);
        self.used.fetch_max(count.largest, Relaxed);
        self.busy_micros.fetch_add(count.busy.as_micros() as u64, Relaxed);
    }

    pub(crate) fn read(&self, records: usize, bytes: usize) {
        self.records_in.fetch_add(records as u64, Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn wrote(&self, records: u64, bytes: u64) {
        self.records_out.fetch_add(records, Relaxed);
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn granted(&self, threads: usize, bytes: usize, waited: Duration) {
        self.threads.fetch_max(threads as u64, Relaxed);
        self.allocated.fetch_max(bytes as u64, Relaxed);
        self.waiting_micros.fetch_add(waited.as_micros() as u64, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(crate) fn returned(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(crate) fn refused(&self, records: u64) {
        self.dead_letters.fetch_add(records, Relaxed);
    }

    /// Where the node shows figures of its own.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    pub(crate) fn arrived(&self) {
        self.lag.fetch_add(1, Relaxed);
    }

    pub(crate) fn handled(&self) {
        self.lag.fetch_sub(1, Relaxed);
    }

    fn progress(&self, node: &PlannedNode) -> NodeProgress {
        let seconds = |micros: &AtomicU64| micros.load(Relaxed) as f64 / 1e6;
        NodeProgress {
            name: node.name.clone(),
            role: node.work.role().to_owned(),
            kind: node.work.kind().to_owned(),
            tier: match &node.work {
                Work::Operator { operator, .. } => operator.tier().name().to_owned(),
                _ => String::new(),
            },
            records_in: self.records_in.load(Relaxed),
            records_out: self.records_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            busy_seconds: seconds(&self.busy_micros),
            waiting_seconds: seconds(&self.waiting_micros),
            in_flight: self.in_flight.load(Relaxed),
            allocated_bytes: self.allocated.load(Relaxed),
            used_bytes: self.used.load(Relaxed),
            threads: self.threads.load(Relaxed),
            dead_letters: self.dead_letters.load(Relaxed),
            lag: self.lag.load(Relaxed),
            figures: self.board.figures(),
            curves: self.board.curves(),
        }
    }
}

/// The nodes of a plan, which have done nothing.
pub(crate) fn nothing(plan: &Plan) -> Vec<NodeProgress> {
    plan.nodes().iter().map(|node| Meter::default().progress(node)).collect()
}

/// The meters of all nodes of a plan, in its order.
pub(crate) fn progress(plan: &Plan, meters: &[Arc<Meter>]) -> Vec<NodeProgress> {
    plan.nodes().iter().zip(meters).map(|(node, meter)| meter.progress(node)).collect()
}
