//! Cuts sources into parts and commits, ahead of the readers but never far.
//!
//! One task in the run's first process measures the sources and emits, epoch by epoch, at most one part of
//! each source. Where it cuts follows from the data and the plan alone, so a resumed run cuts the same.
//! It stays at most `open_commits` commits ahead of what is durable, which bounds what is in flight in
//! commits as the credit bounds it in bytes. Where operators have state it also stays at most
//! [`OPEN_EPOCHS`] epochs ahead of the slowest of them, which bounds what waits there to be complete.
//!
//! When the run is cancelled, the oldest commit that is not durable is finished if it was cut to its end, and
//! those after it are given up: what they hold is neither read nor computed any further.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::RunError;
use super::cursor::Cursor;
use super::flow::{Tick, Waker};
use super::stream::Stream;
use crate::graph::{CommitSize, OPEN_EPOCHS, PartSize};
use crate::log::{Commit, Cut};
use crate::source::SplitRange;

/// How long a cutter that waits may not notice that the run was cancelled.
const LOOK: Duration = Duration::from_millis(20);

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

impl PlannedCommit {
    /// Whether the state of operators becomes durable with this commit.
    pub(crate) fn snapshots(&self, every: u64) -> bool {
        !self.last && (self.number + 1).is_multiple_of(every)
    }
}

/// What the cutter tells the dataflow.
#[derive(Debug)]
pub(crate) enum Cutting {
    /// A part of the source with this index among the sources.
    Part(usize, Part),
    /// What operators with state must know, at the epoch that is reached.
    Tick(Tick),
    /// The commit is fully emitted.
    Commit(PlannedCommit),
    /// No more parts before this epoch.
    Advance(u64),
}

/// The task's state.
pub(crate) struct Cutter {
    pub(crate) cursors: Vec<Cursor>,
    /// When a part of each of them is full.
    pub(crate) parts: Vec<PartSize>,
    pub(crate) commit: CommitSize,
    pub(crate) open_commits: u64,
    /// Number of commits that are durable.
    pub(crate) durable: watch::Receiver<u64>,
    pub(crate) cancelled: Arc<AtomicBool>,
    /// From which commit on none is made.
    pub(crate) given_up: Arc<AtomicU64>,
    /// Records measured so far; final when the sources have ended.
    pub(crate) measured: Arc<Measured>,
    pub(crate) output: mpsc::UnboundedSender<Cutting>,
    pub(crate) waker: Waker,
    /// Which of them feed operators with state; their cursors stand at the newest snapshot.
    pub(crate) feeds_state: Vec<bool>,
    /// Whether all parts of an epoch go to one worker.
    pub(crate) whole_epochs: bool,
    /// In a plan with state, the epoch that all operators with state have reached.
    pub(crate) passed: Option<watch::Receiver<u64>>,
    /// Commits since the newest snapshot, whose epochs are emitted once more to rebuild the state.
    pub(crate) replay: Vec<Commit>,
    /// Set for sources that grow.
    pub(crate) stream: Option<Stream>,
}

/// What the sources hold, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) records: AtomicU64,
    pub(crate) complete: AtomicBool,
    /// How often a source told where records stand, also of those that are not cut yet.
    pub(crate) marks: Arc<AtomicU64>,
    /// In a stream, splits that were found and not cut, and their bytes.
    pub(crate) waiting_splits: AtomicU64,
    pub(crate) waiting_bytes: AtomicU64,
}

/// Where a part of this source is worked on: beside those of other sources, unless epochs are kept whole.
fn route(whole_epochs: bool, epoch: u64, source: usize) -> u64 {
    if whole_epochs { epoch } else { epoch + source as u64 }
}

impl Cutter {
    /// Emits everything after the last of these commits.
    pub(crate) async fn run(mut self, done: Option<&Commit>) -> Result<(), RunError> {
        let mut number = done.map_or(0, |commit| commit.number + 1);
        let mut epoch = done.map_or(0, |commit| commit.epochs.end);
        if let Some(stream) = self.stream.take() {
            return stream.run(self, number, epoch).await;
        }
        for commit in std::mem::take(&mut self.replay) {
            self.again(&commit).await?;
        }
        let first = number;
        loop {
            let Some(commit) = self.one_commit(number, epoch).await? else {
                self.give_up(first, number);
                return Ok(());
            };
            let last = commit.last;
            number += 1;
            epoch = commit.epochs.end;
            self.measured.complete.store(last, Ordering::Relaxed);
            self.emit_commit(commit);
            if last {
                // Even the last commits may be given up, until they are made.
                let made = self.durable.clone();
                let made =
                    async move { { made }.wait_for(|durable| *durable >= number).await.is_ok() };
                if unless(&self.cancelled, made).await.is_none() {
                    self.give_up(first, number);
                }
                return Ok(());
            }
        }
    }

    /// Emits a commit whose parts are all emitted.
    pub(super) fn emit_commit(&self, commit: PlannedCommit) {
        let (number, end) = (commit.number, commit.epochs.end);
        if self.passed.is_some() && !commit.last {
            self.emit(Cutting::Tick(Tick::Commit { number, end }));
        }
        self.emit(Cutting::Commit(commit));
        self.emit(Cutting::Advance(end));
    }

    /// Lets nothing be done for commits that are not nearly made; `next` was not cut to its end.
    fn give_up(&self, first: u64, next: u64) {
        // Without any commit to make, replays rebuild state for nobody.
        let oldest = *self.durable.borrow() + 1;
        let from = if next == first { 0 } else { oldest.min(next) };
        // The committer, which is in this process, knows it before any reader does.
        self.given_up.store(from, Ordering::SeqCst);
        self.emit(Cutting::Tick(Tick::GiveUp { from }));
    }

    /// Waits until commit `number` may be begun; whether the run is still there.
    pub(super) async fn may_begin(&mut self, number: u64) -> bool {
        let open = self.open_commits;
        self.durable.wait_for(|durable| number < durable + open).await.is_ok()
    }

    /// Emits the parts of one commit; `None` when the run was cancelled before it was whole.
    async fn one_commit(
        &mut self,
        number: u64,
        first: u64,
    ) -> Result<Option<PlannedCommit>, RunError> {
        let cancelled = Arc::clone(&self.cancelled);
        let begins = unless(&cancelled, self.may_begin(number)).await;
        if begins != Some(true) {
            return Ok(None);
        }
        let mut cuts: Vec<Cut> = Vec::new();
        let mut epoch = first;
        loop {
            if unless(&cancelled, self.keep_close(epoch)).await.is_none() {
                return Ok(None);
            }
            for source in 0..self.cursors.len() {
                let both = self.cursors.get_mut(source).zip(self.parts.get(source).copied());
                let Some((cursor, part)) = both else { continue };
                let Some((cut, ranges)) = cursor.cut(epoch, part).await? else { continue };
                self.measured.records.fetch_add(cut.records, Ordering::Relaxed);
                let part = Part { commit: number, epoch, ranges, route: self.route(epoch, source) };
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
                if !more && self.passed.is_some() {
                    // One epoch more, without parts, in which operators give what waited for the end.
                    self.keep_close(epoch).await;
                    self.emit(Cutting::Tick(Tick::Close { commit: number, epoch }));
                    epoch += 1;
                    self.emit(Cutting::Advance(epoch));
                }
                return Ok(Some(PlannedCommit { number, epochs: first..epoch, cuts, last: !more }));
            }
        }
    }

    /// Where a part of this source is worked on.
    pub(super) fn route(&self, epoch: u64, source: usize) -> u64 {
        route(self.whole_epochs, epoch, source)
    }

    /// Waits until `epoch` is at most [`OPEN_EPOCHS`] ahead of what has passed all operators with state.
    pub(super) async fn keep_close(&mut self, epoch: u64) {
        if let Some(passed) = &mut self.passed {
            // Fails only when the run is gone.
            let _ = passed.wait_for(|passed| epoch < passed.saturating_add(OPEN_EPOCHS)).await;
        }
    }

    /// Emits the parts of a commit that was made before, for the state of operators.
    async fn again(&mut self, commit: &Commit) -> Result<(), RunError> {
        let cancelled = Arc::clone(&self.cancelled);
        for epoch in commit.epochs.clone() {
            if unless(&cancelled, self.keep_close(epoch)).await.is_none() {
                return Ok(());
            }
            for (source, cursor) in self.cursors.iter_mut().enumerate() {
                let recorded = commit
                    .cuts
                    .iter()
                    .find(|cut| cut.epoch == epoch && cut.source == cursor.name());
                let part = self.parts.get(source).zip(self.feeds_state.get(source));
                let (Some(recorded), Some((part, true))) = (recorded, part) else { continue };
                let ranges = cursor.cut_again(recorded, *part).await?;
                let route = route(self.whole_epochs, epoch, source);
                let part = Part { commit: commit.number, epoch, ranges, route };
                let _ = self.output.send(Cutting::Part(source, part));
            }
            self.emit(Cutting::Advance(epoch + 1));
        }
        Ok(())
    }

    pub(super) fn emit(&self, cutting: Cutting) {
        // The dataflow may be gone after a failure; then nobody needs the cut.
        let _ = self.output.send(cutting);
        self.waker.wake();
    }
}

/// Waits for `work`, unless the run is cancelled before.
async fn unless<T>(cancelled: &AtomicBool, work: impl Future<Output = T>) -> Option<T> {
    let looks = async {
        while !cancelled.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        biased;
        () = looks => None,
        done = work => Some(done),
    }
}
