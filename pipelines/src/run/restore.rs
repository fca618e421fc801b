//! Where a resumed run goes on: after its last commit, with the state that it had there.
//!
//! State comes from the newest snapshot that a commit names; the epochs committed since are replayed through
//! the operators, and what they make of them is thrown away, because it is durable already.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};

use super::RunError;
use crate::graph::Plan;
use crate::log::{Commit, RunLog};

/// Objects that are read at the same time.
const GETS: usize = 16;

/// How far back a resumed run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The first epoch that is cut again.
    pub(crate) first_epoch: u64,
    /// How many commits are before it.
    before: usize,
    snapshot: Option<Snapshot>,
}

/// The snapshot to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snapshot {
    /// Its commit, and the generation that made it.
    commit: (u64, u64),
    /// Operators and their virtual shards that were not empty.
    shards: Vec<(String, u32)>,
}

/// The commits that name snapshots, oldest first.
pub(crate) fn snapshots(commits: &[Commit]) -> impl Iterator<Item = &Commit> {
    commits.iter().filter(|commit| !commit.snapshots.is_empty())
}

impl Resume {
    /// Looks at the commits made so far. Without state there is nothing to replay.
    pub(crate) fn of(plan: &Plan, commits: &[Commit]) -> Self {
        let end = |before: usize| {
            let last = before.checked_sub(1).and_then(|at| commits.get(at));
            last.map_or(0, |commit| commit.epochs.end)
        };
        if plan.keyed().next().is_none() {
            let before = commits.len();
            return Self { first_epoch: end(before), before, snapshot: None };
        }
        let newest = commits.iter().rposition(|commit| !commit.snapshots.is_empty());
        let before = newest.map_or(0, |at| at + 1);
        let snapshot = newest.and_then(|at| commits.get(at)).map(|commit| {
            let shards = commit.snapshots.iter().flat_map(|(operator, shards)| {
                shards.iter().map(|shard| (operator.clone(), *shard))
            });
            Snapshot { commit: (commit.number, commit.generation), shards: shards.collect() }
        });
        Self { first_epoch: end(before), before, snapshot }
    }

    /// The commits whose effect on state is in the snapshot.
    pub(crate) fn before<'a>(&self, commits: &'a [Commit]) -> &'a [Commit] {
        commits.get(..self.before).unwrap_or(commits)
    }

    /// The commits to replay.
    pub(crate) fn replay<'a>(&self, commits: &'a [Commit]) -> &'a [Commit] {
        commits.get(self.before..).unwrap_or_default()
    }

    /// Reads the snapshot.
    ///
    /// # Errors
    /// When an object of it is missing: a fresh start in its place would lose state silently.
    pub(crate) async fn load(&self, plan: &Plan, log: &RunLog) -> Result<Restored, RunError> {
        let Some(Snapshot { commit, shards }) = &self.snapshot else { return Ok(Restored::default()) };
        let read = shards.iter().filter_map(|(operator, shard)| {
            let node = plan.nodes().iter().position(|node| node.name == *operator)?;
            Some(async move {
                let state = log.snapshot(*commit, operator, *shard).await?;
                Ok::<_, RunError>(((node, u8::try_from(*shard).unwrap_or(u8::MAX)), state.to_vec()))
            })
        });
        let states: HashMap<_, _> = futures::stream::iter(read.collect::<Vec<_>>())
            .buffer_unordered(GETS)
            .try_collect()
            .await?;
        Ok(Restored { states: Mutex::new(states) })
    }
}

/// State as of a snapshot, until each worker has taken what it owns.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    states: Mutex<HashMap<(usize, u8), Vec<u8>>>,
}

impl Restored {
    /// The state of a virtual shard of the operator at `node`.
    pub(crate) fn take(&self, node: usize, shard: u8) -> Option<Vec<u8>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(&(node, shard))
    }
}
