//! Names that an archive has twice: the second is refused, whichever process meets it.
//!
//! A record's id follows from its name, so two members of one name would be two records of one id. That a name stood
//! before is known once all that stands before was walked; a process that begins in the middle of an archive walks
//! what it has not seen, headers alone where the archive is not packed.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_pipelines::source::Split;

use super::object::Failure;
use super::tar::members::Members;

/// Bytes of all names that are kept; the names of the archive that is being read are kept in any case.
const KEPT: usize = 64 << 20;
/// Bytes that a name takes in a map: its hash, its place, and the room between.
const NAME: usize = 2 * (size_of::<(u64, u64)>() + 1);

/// What is known of the archives of a source, the last ones read.
#[derive(Default)]
pub(super) struct Repeats {
    kept: Mutex<VecDeque<(Split, Arc<Mutex<Known>>)>>,
}

impl Repeats {
    /// What is known of one of them. Others are forgotten, the oldest first, while all together take too much.
    pub(super) fn of(&self, split: &Split) -> Arc<Mutex<Known>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(other, _)| other == split);
        let known = at.and_then(|at| kept.remove(at)).map(|(_, known)| known).unwrap_or_default();
        let mut all: usize =
            kept.iter().map(|(_, known)| size(known)).sum::<usize>() + size(&known);
        while all > KEPT
            && let Some((_, oldest)) = kept.pop_front()
        {
            all = all.saturating_sub(size(&oldest));
        }
        kept.push_back((split.clone(), Arc::clone(&known)));
        known
    }
}

/// Which names an archive has, as far as it was walked.
#[derive(Default)]
pub(super) struct Known {
    /// Where a name, by its hash, stands first.
    first: HashMap<u64, u64>,
    /// Up to here every name is known.
    walked: u64,
}

impl Known {
    /// A name that stands there. Others before it may not be known.
    pub(super) fn add(&mut self, name: &str, range: &Range<u64>) {
        let first = self.first.entry(hash(name)).or_insert(range.start);
        *first = range.start.min(*first);
        self.pass(range);
    }

    /// What stands there has no name that matters.
    pub(super) fn pass(&mut self, range: &Range<u64>) {
        if range.start <= self.walked {
            self.walked = self.walked.max(range.end);
        }
    }

    /// Whether a name that stands at `start` stood before it. What was not walked yet is walked now, by these
    /// members; `key` is what counts of a member's name.
    pub(super) fn stood_before(
        &mut self,
        name: &str,
        start: u64,
        members: impl FnOnce() -> Result<Members, Failure>,
        key: impl Fn(&str) -> &str,
    ) -> Result<bool, Failure> {
        if self.walked < start {
            let mut members = members()?;
            members.seek(self.walked)?;
            while self.walked < start {
                let Some(found) = members.next()? else { break };
                // What begins at the start, or reaches over it, is none of those before it.
                let range = found.range.start..found.range.end.min(start);
                match found.range.start < start {
                    true => self.add(key(&found.name), &range),
                    false => self.walked = start,
                }
            }
        }
        Ok(self.first.get(&hash(name)).is_some_and(|first| *first < start))
    }
}

/// Locks what is known.
pub(super) fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that it takes. One that somebody walks just now cannot be asked, and counts for nothing.
pub(super) fn size(known: &Mutex<Known>) -> usize {
    known.try_lock().map_or(0, |known| known.first.capacity() * NAME)
}

/// A name as it is kept. That two of an archive have one hash is as likely as that a bit of it is read wrong.
pub(super) fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_archives_are_forgotten_by_their_size() {
        let repeats = Repeats::default();
        let split = |n: u64| Split { name: n.to_string(), bytes: 1, version: String::new() };
        let each = KEPT / NAME / 4;
        for n in 0..10 {
            let known = repeats.of(&split(n));
            let mut known = known.lock().unwrap();
            (0..each as u64).for_each(|at| {
                known.first.insert(at, at);
            });
            known.walked = 7;
        }
        let kept: Vec<u64> =
            (0..10).filter(|n| repeats.of(&split(*n)).lock().unwrap().walked == 7).collect();
        assert!((1..=4).contains(&kept.len()) && kept.contains(&9), "{kept:?}");
    }

    #[test]
    fn names_behind_a_gap_make_nobody_believe_that_the_gap_was_walked() {
        let mut known = Known::default();
        known.add("late", &(2000..3000));
        assert_eq!(known.walked, 0);
        known.add("early", &(0..1000));
        known.pass(&(1000..1500));
        assert_eq!(known.walked, 1500);
        // The same name before the gap is the first one.
        known.add("late", &(1500..2000));
        assert_eq!(known.first[&hash("late")], 1500);
    }
}
