//! Cuts sources that grow, until the run is cancelled.
//!
//! The sources are listed again every `poll`. An epoch is cut as soon as records are there, is written to
//! the run log, and only then read: what was cut before a kill is cut the same after it. A commit is closed
//! by its number of parts, its bytes, or `commit.interval` after its first epoch, whichever comes first; a
//! cancelled run closes it early. A stream without new data cuts nothing and keeps nothing open.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::RunError;
use super::cutter::{Cutter, Cutting, Part, PlannedCommit};
use super::shared::Shared;
use crate::graph::Mode;
use crate::log::{Cut, Epoch, LogError, RunLog};
use crate::source::SplitRange;

/// How often a stream that waits looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// What cutting a stream needs beside the [`Cutter`].
pub(crate) struct Stream {
    log: RunLog,
    generation: u64,
    poll: Duration,
}

/// The commit that epochs are being cut for.
struct Open {
    number: u64,
    first: u64,
    /// The next epoch.
    epoch: u64,
    cuts: Vec<Cut>,
    /// When it must be closed.
    due: Option<Instant>,
    /// Commits before it that may not be durable yet, with the ends of their epochs.
    closed: VecDeque<(u64, u64)>,
}

impl Open {
    fn new(number: u64, epoch: u64) -> Self {
        Self { number, first: epoch, epoch, cuts: Vec::new(), due: None, closed: VecDeque::new() }
    }

    fn is_empty(&self) -> bool {
        self.first == self.epoch
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }
}

impl Stream {
    /// For a plan in stream mode.
    pub(crate) fn of(shared: &Shared) -> Option<Self> {
        let settings = shared.plan.settings();
        (settings.mode == Mode::Stream).then(|| Self {
            log: shared.log.clone(),
            generation: shared.generation,
            poll: settings.poll,
        })
    }

    /// Emits what the run log says was cut from `epoch` on, and then whatever comes.
    pub(super) async fn run(
        self,
        mut cutter: Cutter,
        number: u64,
        epoch: u64,
    ) -> Result<(), RunError> {
        cutter.cursors.iter_mut().for_each(super::cursor::Cursor::grow);
        let mut open = Open::new(number, epoch);
        self.forget(epoch).await;
        for entry in self.log.epochs(epoch).await? {
            self.begin(&mut cutter, &open).await;
            self.replay(&mut cutter, &mut open, entry)?;
        }
        let mut poll = Instant::now();
        loop {
            if cutter.output.is_closed() {
                return Ok(());
            }
            if cutter.cancelled.load(Ordering::Relaxed) {
                while !open.is_empty() {
                    self.cut(&mut cutter, &mut open, Vec::new(), true).await?;
                }
                return Ok(());
            }
            if poll <= Instant::now() {
                for cursor in &mut cutter.cursors {
                    cursor.discover().await?;
                }
                poll = Instant::now() + self.poll;
            }
            let mut more = false;
            for cursor in &mut cutter.cursors {
                more |= cursor.has_more().await?;
            }
            lag(&cutter);
            if more {
                self.begin(&mut cutter, &open).await;
                self.next(&mut cutter, &mut open).await?;
                lag(&cutter);
            } else if open.is_due() {
                self.begin(&mut cutter, &open).await;
                self.cut(&mut cutter, &mut open, Vec::new(), true).await?;
            } else {
                let next = open.due.map_or(poll, |due| due.min(poll));
                tokio::time::sleep_until(next.min(Instant::now() + LOOK)).await;
            }
            let durable = *cutter.durable.borrow_and_update();
            let made = open.closed.iter().take_while(|(number, _)| *number < durable).count();
            if let Some((_, end)) = open.closed.drain(..made).next_back() {
                self.forget(end).await;
            }
        }
    }

    /// Waits until an epoch may be cut: commits and epochs ahead of what is durable are bounded.
    async fn begin(&self, cutter: &mut Cutter, open: &Open) {
        if open.is_empty() {
            // Ends early only when the run is gone, and then nobody needs the epoch.
            cutter.may_begin(open.number).await;
        }
        cutter.keep_close(open.epoch).await;
    }

    /// Cuts an epoch from whatever is there.
    async fn next(&self, cutter: &mut Cutter, open: &mut Open) -> Result<(), RunError> {
        let mut parts = Vec::new();
        let both = cutter.cursors.iter_mut().zip(&cutter.parts).enumerate();
        for (source, (cursor, size)) in both {
            if let Some((cut, ranges)) = cursor.cut(open.epoch, *size).await? {
                parts.push((source, cut, ranges));
            }
        }
        let bytes = |cuts: &mut dyn Iterator<Item = &Cut>| cuts.map(|cut| cut.bytes).sum::<u64>();
        let bytes = bytes(&mut open.cuts.iter()) + bytes(&mut parts.iter().map(|part| &part.1));
        let epochs = open.epoch + 1 - open.first;
        let full = epochs >= cutter.commit.parts || bytes >= cutter.commit.bytes;
        let closes = full || open.is_due();
        self.cut(cutter, open, parts, closes).await
    }

    /// Writes an epoch to the run log and emits it. If an older start that still lived has cut it, its cut is
    /// emitted instead.
    async fn cut(
        &self,
        cutter: &mut Cutter,
        open: &mut Open,
        parts: Vec<(usize, Cut, Vec<SplitRange>)>,
        closes: bool,
    ) -> Result<(), RunError> {
        let recorded = parts.iter().filter_map(|(source, cut, ranges)| {
            Some(cutter.cursors.get(*source)?.part(cut.clone(), ranges))
        });
        let recorded = recorded.collect::<Result<Vec<_>, _>>()?;
        let entry = Epoch {
            epoch: open.epoch,
            generation: self.generation,
            commit: open.number,
            parts: recorded,
            closes,
        };
        if let Some(older) = self.log.record(&entry).await? {
            cutter.cursors.iter_mut().for_each(|cursor| cursor.rewind(open.epoch));
            return self.replay(cutter, open, older);
        }
        for (source, cut, ranges) in parts {
            emit(cutter, open, source, cut, ranges);
        }
        advance(cutter, open, closes);
        Ok(())
    }

    /// Emits an epoch as the run log has it.
    fn replay(&self, cutter: &mut Cutter, open: &mut Open, entry: Epoch) -> Result<(), RunError> {
        if entry.commit != open.number {
            let path = self.log.root().to_string();
            let message = format!("epoch {} is not of commit {}", entry.epoch, open.number);
            return Err(LogError::Damaged { path, message }.into());
        }
        for part in entry.parts {
            let named = |cursor: &super::cursor::Cursor| cursor.name() == part.cut.source;
            let Some(source) = cutter.cursors.iter().position(named) else { continue };
            let Some(cursor) = cutter.cursors.get_mut(source) else { continue };
            let ranges = cursor.pass(&part)?;
            emit(cutter, open, source, part.cut, ranges);
        }
        advance(cutter, open, entry.closes);
        Ok(())
    }

    /// Deletes the entries of epochs before this one, whose commits are durable.
    async fn forget(&self, epoch: u64) {
        if let Err(error) = self.log.forget_epochs_before(epoch).await {
            tracing::warn!("entries before epoch {epoch} stay, which costs space only: {error}");
        }
    }
}

fn emit(cutter: &Cutter, open: &mut Open, source: usize, cut: Cut, ranges: Vec<SplitRange>) {
    cutter.measured.records.fetch_add(cut.records, Ordering::Relaxed);
    let (commit, epoch) = (open.number, open.epoch);
    open.cuts.push(cut);
    let route = cutter.route(epoch, source);
    cutter.emit(Cutting::Part(source, Part { commit, epoch, ranges, route }));
}

/// Ends an epoch, and the commit with it when it closes.
fn advance(cutter: &Cutter, open: &mut Open, closes: bool) {
    open.epoch += 1;
    open.due.get_or_insert_with(|| Instant::now() + cutter.commit.interval);
    cutter.emit(Cutting::Advance(open.epoch));
    if closes {
        let mut next = Open::new(open.number + 1, open.epoch);
        next.closed = std::mem::take(&mut open.closed);
        next.closed.push_back((open.number, open.epoch));
        let Open { number, first, epoch, cuts, .. } = std::mem::replace(open, next);
        cutter.emit_commit(PlannedCommit { number, epochs: first..epoch, cuts, last: false });
    }
}

fn lag(cutter: &Cutter) {
    let waiting = cutter.cursors.iter().map(super::cursor::Cursor::waiting);
    let (splits, bytes) = waiting.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    cutter.measured.waiting_splits.store(splits, Ordering::Relaxed);
    cutter.measured.waiting_bytes.store(bytes, Ordering::Relaxed);
}
