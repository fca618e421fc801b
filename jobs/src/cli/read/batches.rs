//! Cuts an order into the batches of one worker, and has the windows they lie in ready.

use std::ops::{Deref, Range};
use std::sync::Arc;

use anabranch_connectors::table::read::{Damage, ReadError, TableReader, Window};
use anabranch_pipelines::quantity::ByteSize;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::room::{Room, Share};

/// The positions that one of several workers reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Positions {
    pub(super) from: u64,
    pub(super) end: u64,
    /// Positions of a batch.
    pub(super) batch: u64,
    /// Which worker, of how many.
    pub(super) index: u64,
    pub(super) of: u64,
}

impl Positions {
    /// The worker's `n`-th batch, and the position behind the batches that all workers read meanwhile.
    fn nth(&self, n: u64) -> Option<(Range<u64>, u64)> {
        let round = self.batch.checked_mul(self.of)?;
        let before = self.from.checked_add(round.checked_mul(n)?)?;
        let start = before.checked_add(self.batch.checked_mul(self.index)?)?;
        let end = self.end.min(start.saturating_add(self.batch));
        (start < end).then(|| (start..end, self.end.min(before.saturating_add(round))))
    }
}

/// One batch to make.
pub(super) struct Task {
    pub(super) rows: Vec<(Arc<Held>, Range<u64>)>,
    /// Where to go on once every worker is through with this round of batches.
    pub(super) resume: u64,
    /// What was found to be unreadable since the last one.
    pub(super) damage: Vec<Damage>,
}

/// Windows that were asked for.
type Loading = JoinHandle<Result<Option<(Window, Vec<Damage>)>, ReadError>>;

/// A window, and its share of the memory for them, until the last batch that needs it is made.
pub(super) struct Held {
    window: Window,
    share: Share,
}

impl Deref for Held {
    type Target = Window;

    fn deref(&self) -> &Window {
        &self.window
    }
}

/// The batches of one worker, in order.
pub(super) struct Batches {
    table: Arc<TableReader>,
    runtime: Handle,
    positions: Positions,
    room: Arc<Room>,
    next: u64,
    window: Option<Arc<Held>>,
    /// The window behind it.
    ahead: Option<(u64, Share, Loading)>,
    damage: Vec<Damage>,
}

impl Batches {
    /// With windows of about so many bytes, of which two may be in memory.
    pub(super) fn new(
        table: Arc<TableReader>,
        runtime: Handle,
        positions: Positions,
        window: ByteSize,
    ) -> Self {
        // Windows end with a block, which is an eighth of one, so they are not all of one size.
        let room = Room::new(window.0.saturating_mul(2).saturating_add(window.0 / 4));
        let (window, ahead, damage) = (None, None, Vec::new());
        Self { table, runtime, positions, room, next: 0, window, ahead, damage }
    }

    fn task(&mut self, positions: Range<u64>, resume: u64) -> Result<Task, String> {
        let mut rows: Vec<(Arc<Held>, Range<u64>)> = Vec::new();
        let mut at = positions.start;
        while at < positions.end {
            let own = rows.iter().map(|(held, _)| held.share.bytes).sum();
            let window = self.window(at, own)?;
            let held = window.positions();
            let end = held.end.min(positions.end);
            // Half of a window is time enough to read the next one, and the one before is gone by then.
            if end >= held.start + (held.end - held.start) / 2 && held.end < self.positions.end {
                self.read_ahead(held.end);
            }
            rows.push((window, at..end));
            at = end;
        }
        Ok(Task { rows, resume, damage: std::mem::take(&mut self.damage) })
    }

    /// The window that holds a position, for a batch that holds `own` bytes of others.
    fn window(&mut self, position: u64, own: u64) -> Result<Arc<Held>, String> {
        if let Some(window) =
            self.window.as_ref().filter(|window| window.positions().contains(&position))
        {
            return Ok(Arc::clone(window));
        }
        self.window = None;
        loop {
            let (begins, mut share, loading) = match self.ahead.take() {
                Some(ahead) => ahead,
                None => {
                    let bytes = self.table.window_bytes(position).unwrap_or(0);
                    (position, self.room.wait(bytes, own), self.load(position))
                }
            };
            let loaded = self.runtime.block_on(loading);
            let loaded = loaded.map_err(|e| format!("a thread that read was lost: {e}"))?;
            let (window, damage) = loaded
                .map_err(|e| e.to_string())?
                .ok_or_else(|| format!("there is no position {begins}"))?;
            self.damage.extend(damage);
            // With many workers and small windows a worker has no batch in some of them.
            if window.positions().contains(&position) {
                share.becomes(window.bytes());
                let window = Arc::new(Held { window, share });
                self.window = Some(Arc::clone(&window));
                return Ok(window);
            }
        }
    }

    fn read_ahead(&mut self, position: u64) {
        let bytes = self.table.window_bytes(position).unwrap_or(0);
        if self.ahead.is_none()
            && let Some(share) = self.room.take(bytes)
        {
            self.ahead = Some((position, share, self.load(position)));
        }
    }

    fn load(&self, position: u64) -> Loading {
        let table = Arc::clone(&self.table);
        self.runtime.spawn(async move { table.window(position).await })
    }
}

impl Iterator for Batches {
    type Item = Result<Task, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let (positions, resume) = self.positions.nth(self.next)?;
        self.next += 1;
        Some(self.task(positions, resume))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_an_order_without_gap_or_overlap() {
        for (from, end, batch, of) in [(0, 100, 8, 1), (5, 100, 7, 3), (0, 10, 64, 4), (9, 9, 1, 2)]
        {
            let mut all: Vec<(u64, u64)> = (0..of)
                .flat_map(|index| {
                    let positions = Positions { from, end, batch, index, of };
                    (0..).map_while(move |n| positions.nth(n)).flat_map(|(range, resume)| {
                        assert!(range.end <= resume);
                        range.map(move |at| (at, resume))
                    })
                })
                .collect();
            all.sort_unstable();
            assert_eq!(
                all.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
                (from..end).collect::<Vec<_>>()
            );
            // All positions before `resume` belong to its round or to one before.
            for pair in all.windows(2) {
                assert!(pair[0].1 == pair[1].1 || pair[0].1 == pair[1].0);
            }
        }
    }
}
