//! What an operator with state shows while it works on an epoch, and how it learns that nobody needs the rest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::progress::{Curve, Figure};

/// Named figures and curves of a node, as they stand now.
#[derive(Debug, Default)]
pub(crate) struct Board {
    figures: Mutex<Vec<Figure>>,
    curves: Mutex<Vec<Curve>>,
}

impl Board {
    pub(crate) fn figures(&self) -> Vec<Figure> {
        lock(&self.figures).clone()
    }

    pub(crate) fn curves(&self) -> Vec<Curve> {
        lock(&self.curves).clone()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A [`Shard`](super::Shard)'s view of the run while it absorbs an epoch.
///
/// ```
/// use anabranch_pipelines::operator::Live;
/// use anabranch_pipelines::progress::Figure;
///
/// // Of a shard that runs on its own: it may show what it likes, and is always needed.
/// let live = Live::default();
/// live.show(vec![Figure::of("step", 1200.0, 2000.0), Figure::new("loss", 1.83)]);
/// assert!(live.is_needed());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Live {
    board: Arc<Board>,
    /// The epoch's commit, and from which one on a cancelled run makes none.
    commit: Option<(u64, Arc<AtomicU64>)>,
}

impl Live {
    pub(crate) fn new(board: Arc<Board>, commit: u64, given_up: Arc<AtomicU64>) -> Self {
        Self { board, commit: Some((commit, given_up)) }
    }

    /// Shows these figures in place of the last ones. One that changes is a sign of life to the watchdog.
    pub fn show(&self, figures: Vec<Figure>) {
        *lock(&self.board.figures) = figures;
    }

    /// Shows these curves in place of the last ones. Every look at the run copies them, so they are some hundred
    /// points at most.
    pub fn draw(&self, curves: Vec<Curve>) {
        *lock(&self.board.curves) = curves;
    }

    /// Whether the epoch's commit will still be made. Once it will not, a shard that would go on for long returns
    /// [`Cancelled`](super::OperatorError::Cancelled): its state and output are forgotten.
    pub fn is_needed(&self) -> bool {
        let given_up =
            |(commit, from): &(u64, Arc<AtomicU64>)| *commit >= from.load(Ordering::SeqCst);
        !self.commit.as_ref().is_some_and(given_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_needed_until_its_commit_is_given_up() {
        let given_up = Arc::new(AtomicU64::new(u64::MAX));
        let of = |commit| Live::new(Arc::default(), commit, Arc::clone(&given_up));
        let (before, after) = (of(3), of(4));
        assert!(before.is_needed() && after.is_needed());
        given_up.store(4, Ordering::SeqCst);
        assert!(before.is_needed() && !after.is_needed());
    }
}
