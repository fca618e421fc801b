//! Where a resumed run goes on: after its last commit, with the state that it had there.
//!
//! State comes from the newest snapshot that a commit names; the epochs committed since are replayed through
//! the operators, and what they make of them is thrown away, because it is durable already.

use std::collections::BTreeMap;

use crate::graph::Plan;
use crate::log::Commit;

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
    /// Virtual shards that were not empty, by operator.
    shards: BTreeMap<String, Vec<u32>>,
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
        let snapshot = newest.and_then(|at| commits.get(at)).map(|commit| Snapshot {
            commit: (commit.number, commit.generation),
            shards: commit.snapshots.clone(),
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

    /// The snapshot's commit and generation, and which virtual shards of an operator it holds.
    pub(crate) fn snapshot(&self, operator: &str) -> Option<((u64, u64), &[u32])> {
        let snapshot = self.snapshot.as_ref()?;
        let shards = snapshot.shards.get(operator).map(Vec::as_slice).unwrap_or_default();
        Some((snapshot.commit, shards))
    }
}
