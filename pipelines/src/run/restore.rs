//! Where a resumed run goes on: after its last commit, with the state that it had there.
//!
//! State comes from the newest snapshot that a commit names; the epochs committed since are replayed through
//! the operators, and what they make of them is thrown away, because it is durable already.

use std::collections::BTreeMap;

use crate::graph::Plan;
use crate::log::{Commit, LogError};

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
    ///
    /// # Errors
    /// When it holds nothing of the operator, which would start anew silently: one without state is named too.
    pub(crate) fn snapshot(&self, operator: &str) -> Result<Option<Held>, LogError> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        let damaged = |message: String| {
            let path = format!("entry of commit {}", snapshot.commit.0);
            LogError::Damaged { path, message }
        };
        let shards = snapshot.shards.get(operator).ok_or_else(|| {
            damaged(format!(
                "it names snapshots, but none of operator `{operator}`; restore it, or start anew with \
                 `if_exists = \"overwrite\"`"
            ))
        })?;
        let numbers = shards.iter().map(|shard| {
            u8::try_from(*shard)
                .map_err(|_| damaged(format!("`{operator}` has no virtual shard {shard}")))
        });
        Ok(Some((snapshot.commit, numbers.collect::<Result<_, _>>()?)))
    }
}

/// The commit and generation of a snapshot, and the virtual shards in it.
pub(crate) type Held = ((u64, u64), Vec<u8>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_without_an_operator_is_no_fresh_start() {
        let shards = BTreeMap::from([("sum".to_owned(), vec![]), ("odd".to_owned(), vec![256])]);
        let snapshot = Some(Snapshot { commit: (3, 1), shards });
        let resume = Resume { first_epoch: 8, before: 4, snapshot };
        assert_eq!(resume.snapshot("sum").unwrap(), Some(((3, 1), vec![])));
        let error = resume.snapshot("join").unwrap_err().to_string();
        assert!(error.contains("commit 3") && error.contains("`join`"), "{error}");
        assert!(resume.snapshot("odd").is_err());
        let fresh = Resume { snapshot: None, ..resume };
        assert_eq!(fresh.snapshot("join").unwrap(), None);
    }
}
