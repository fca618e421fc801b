//! A listing that grows: which splits are new, which still change, and which changed too late.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::source::Split;

/// What is known of the listing of a stream's source, which is append-only: a split that was taken up is
/// never taken up again.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// Ordinals of the splits in the listing.
    known: HashMap<String, usize>,
    /// Splits that were seen once and may still be written.
    unsettled: HashMap<String, Split>,
    /// Splits whose change was told.
    told: HashSet<String>,
    /// How many splits the run log knows.
    recorded: usize,
}

impl From<&[Arc<Split>]> for Growth {
    fn from(splits: &[Arc<Split>]) -> Self {
        let known = splits.iter().enumerate().map(|(at, split)| (split.name.clone(), at));
        Self { known: known.collect(), recorded: splits.len(), ..Self::default() }
    }
}

impl Growth {
    /// The splits that this listing adds, sorted by name. Unless they are `whole` at once, splits count when
    /// two listings in a row agree about them.
    pub(crate) fn look(
        &mut self,
        source: &str,
        splits: &[Arc<Split>],
        listed: Vec<Split>,
        whole: bool,
    ) -> Vec<Split> {
        let mut found = Vec::new();
        let mut unsettled = HashMap::new();
        for split in listed {
            if let Some(at) = self.known.get(&split.name) {
                let changed = splits.get(*at).is_some_and(|known| **known != split);
                if changed && self.told.insert(split.name.clone()) {
                    tracing::warn!(
                        "source `{source}`: {} changed after it was taken up; the change is ignored, for a \
                         stream reads what is added and no more: write under a new name",
                        split.name
                    );
                }
            } else if whole || self.unsettled.get(&split.name) == Some(&split) {
                found.push(split);
            } else {
                unsettled.insert(split.name.clone(), split);
            }
        }
        self.unsettled = unsettled;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        for (at, split) in (splits.len()..).zip(&found) {
            self.known.insert(split.name.clone(), at);
        }
        found
    }

    /// The splits that the run log does not know yet; it will when the next cut is written.
    pub(crate) fn record(&mut self, splits: &[Arc<Split>]) -> Vec<Split> {
        let new = splits.get(self.recorded..).unwrap_or_default();
        self.recorded = splits.len();
        new.iter().map(|split| Split::clone(split)).collect()
    }

    /// How many splits the run log knows.
    pub(crate) fn recorded(&self) -> usize {
        self.recorded
    }

    /// The place of a split in the listing.
    pub(crate) fn ordinal(&self, name: &str) -> Option<u64> {
        self.known.get(name).map(|at| *at as u64)
    }

    /// Splits that may still be written, and their bytes so far.
    pub(crate) fn unsettled(&self) -> (u64, u64) {
        let splits = self.unsettled.values();
        splits.fold((0, 0), |sum, split| (sum.0 + 1, sum.1 + split.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str, bytes: u64) -> Split {
        Split { name: name.to_owned(), bytes, version: bytes.to_string() }
    }

    fn names(splits: &[Split]) -> Vec<&str> {
        splits.iter().map(|split| split.name.as_str()).collect()
    }

    #[test]
    fn a_local_file_counts_once_two_listings_agree() {
        let mut growth = Growth::default();
        assert!(growth.look("s", &[], vec![split("b", 1), split("a", 1)], false).is_empty());
        assert_eq!(growth.unsettled(), (2, 2));
        let found = growth.look("s", &[], vec![split("b", 2), split("a", 1)], false);
        assert_eq!(names(&found), ["a"]);
        let splits: Vec<_> = found.into_iter().map(Arc::new).collect();
        let found = growth.look("s", &splits, vec![split("b", 2), split("a", 1)], false);
        assert_eq!(names(&found), ["b"]);
        assert_eq!((growth.ordinal("a"), growth.ordinal("b")), (Some(0), Some(1)));
        assert_eq!(growth.unsettled(), (0, 0));
    }

    #[test]
    fn objects_count_at_once_sorted_within_a_discovery() {
        let mut growth = Growth::default();
        let found = growth.look("s", &[], vec![split("c", 1), split("b", 1)], true);
        assert_eq!(names(&found), ["b", "c"]);
        let splits: Vec<_> = found.into_iter().map(Arc::new).collect();
        let listed = vec![split("a", 1), split("b", 1), split("c", 1)];
        assert_eq!(names(&growth.look("s", &splits, listed, true)), ["a"]);
        assert_eq!(growth.ordinal("a"), Some(2));
    }

    #[test]
    fn what_was_taken_up_is_not_taken_up_again() {
        let splits = [Arc::new(split("a", 1))];
        let mut growth = Growth::from(splits.as_slice());
        for bytes in [1, 2, 2, 3] {
            assert!(growth.look("s", &splits, vec![split("a", bytes)], true).is_empty());
        }
        assert_eq!(growth.told.len(), 1);
        assert!(growth.look("s", &splits, Vec::new(), true).is_empty());
    }
}
