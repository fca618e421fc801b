//! Cuts sources into parts and commits, ahead of the readers but never far.
//!
//! One task in the run's first process measures the sources and emits, epoch by epoch, at most one part of
//! each source. Where it cuts follows from the data and the plan alone, so a resumed run cuts the same.
//! It stays at most `open_commits` commits ahead of what is durable, which bounds what is in flight in
//! commits as the credit bounds it in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::RunError;
use super::cursor::Cursor;
use super::flow::Waker;
use crate::graph::{CommitSize, PartSize};
use crate::log::{Commit, Cut};
use crate::source::SplitRange;

/// A part, on its way to the reader that opens it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) commit: u64,
    pub(crate) epoch: u64,
    pub(crate) ranges: Vec<SplitRange>,
    /// Which worker reads it, modulo their number.
    pub(crate) route: u64,
}

/// A commit whose parts have all been emitted.
#[derive(Debug, Clone)]
pub(crate) struct PlannedCommit {
    pub(crate) number: u64,
    pub(crate) epochs: std::ops::Range<u64>,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) last: bool,
}

/// What the cutter tells the dataflow.
#[derive(Debug)]
pub(crate) enum Cutting {
    /// A part of the source with this index among the sources.
    Part(usize, Part),
    /// The commit is fully emitted.
    Commit(PlannedCommit),
    /// No more parts before this epoch.
    Advance(u64),
}

/// The task's state.
pub(crate) struct Cutter {
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) part: PartSize,
    pub(crate) commit: CommitSize,
    pub(crate) open_commits: u64,
    /// Number of commits that are durable.
    pub(crate) durable: watch::Receiver<u64>,
    pub(crate) cancelled: Arc<AtomicBool>,
    /// Records measured so far; final when the sources have ended.
    pub(crate) measured: Arc<Measured>,
    pub(crate) output: mpsc::UnboundedSender<Cutting>,
    pub(crate) waker: Waker,
}

/// What the sources hold, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) records: AtomicU64,
    pub(crate) complete: AtomicBool,
}

impl Cutter {
    /// Emits everything after the last of these commits.
    pub(crate) async fn run(mut self, done: Option<&Commit>) -> Result<(), RunError> {
        let mut number = done.map_or(0, |commit| commit.number + 1);
        let mut epoch = done.map_or(0, |commit| commit.epochs.end);
        loop {
            let Some(commit) = self.one_commit(number, epoch).await? else { return Ok(()) };
            let last = commit.last;
            number += 1;
            epoch = commit.epochs.end;
            self.measured.complete.store(last, Ordering::Relaxed);
            self.emit(Cutting::Commit(commit));
            self.emit(Cutting::Advance(epoch));
            if last {
                return Ok(());
            }
        }
    }

    /// Emits the parts of one commit; `None` when the run was cancelled before it was whole.
    async fn one_commit(
        &mut self,
        number: u64,
        first: u64,
    ) -> Result<Option<PlannedCommit>, RunError> {
        let open = self.open_commits;
        if self.durable.wait_for(|durable| number < durable + open).await.is_err() {
            return Ok(None);
        }
        let mut cuts: Vec<Cut> = Vec::new();
        let mut epoch = first;
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            for source in 0..self.cursors.len() {
                let Some(cursor) = self.cursors.get_mut(source) else { continue };
                let Some((cut, ranges)) = cursor.cut(epoch, self.part).await? else { continue };
                self.measured.records.fetch_add(cut.records, Ordering::Relaxed);
                let part = Part { commit: number, epoch, ranges, route: epoch + source as u64 };
                cuts.push(cut);
                self.emit(Cutting::Part(source, part));
            }
            epoch += 1;
            self.emit(Cutting::Advance(epoch));
            let mut more = false;
            for cursor in &mut self.cursors {
                more |= cursor.has_more().await?;
            }
            let bytes: u64 = cuts.iter().map(|cut| cut.bytes).sum();
            if !more || epoch - first >= self.commit.parts || bytes >= self.commit.bytes {
                return Ok(Some(PlannedCommit { number, epochs: first..epoch, cuts, last: !more }));
            }
        }
    }

    fn emit(&self, cutting: Cutting) {
        // The dataflow may be gone after a failure; then nobody needs the cut.
        let _ = self.output.send(cutting);
        self.waker.wake();
    }
}
