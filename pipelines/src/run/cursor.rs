//! Where the cutter stands in one source.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;

use super::RunError;
use super::growth::Growth;
use crate::graph::PartSize;
use crate::log::{Commit, Cut, Place, StreamPart};
use crate::source::{Mark, Marks, Order, Source, SourceError, Split, SplitRange};

/// A position in the measured records of a source, in its order.
pub(crate) struct Cursor {
    name: String,
    source: Arc<dyn Source>,
    splits: Vec<Arc<Split>>,
    order: Order,
    /// All records, when they are shuffled: (split, mark).
    records: Option<Vec<(usize, Mark)>>,
    /// The permutation of the current pass.
    permutation: Vec<u32>,
    place: Place,
    marks: Option<Marks>,
    next: Option<(usize, Mark)>,
    /// In a stream, what is known of a listing that grows.
    growth: Option<Growth>,
    /// In a stream, the last epoch that was cut, and where the cursor stood before it: its place, and the
    /// number of splits that the run log knew.
    before: Option<(u64, Place, usize)>,
    /// Counts the marks that the source gave.
    counted: Arc<AtomicU64>,
}

impl Cursor {
    /// A cursor that stands where the last of these commits ended.
    pub(crate) fn new(
        name: &str,
        source: Arc<dyn Source>,
        order: Order,
        splits: Vec<Arc<Split>>,
        commits: &[Commit],
    ) -> Self {
        let cuts = commits.iter().rev().flat_map(|commit| commit.cuts.iter().rev());
        let last = cuts.into_iter().find(|cut| cut.source == name).map(|cut| cut.to.clone());
        let start = || Place { pass: 0, split: 0, name: String::new(), offset: 0 };
        Self {
            name: name.to_owned(),
            source,
            splits,
            order,
            records: None,
            permutation: Vec::new(),
            place: last.unwrap_or_else(start),
            marks: None,
            next: None,
            growth: None,
            before: None,
            counted: Arc::default(),
        }
    }

    /// Counts every mark that the source gives: a shuffle waits for all of them before its first cut.
    pub(crate) fn counting(self, counted: Arc<AtomicU64>) -> Self {
        Self { counted, ..self }
    }

    /// The next part, or `None` at the end of the source.
    pub(crate) async fn cut(
        &mut self,
        epoch: u64,
        size: PartSize,
    ) -> Result<Option<(Cut, Vec<SplitRange>)>, RunError> {
        if !self.has_more().await? {
            return Ok(None);
        }
        let from = self.place.clone();
        self.before = self.growth.as_ref().map(|known| (epoch, from.clone(), known.recorded()));
        let (mut records, mut bytes) = (0, 0);
        let mut ranges: Vec<SplitRange> = Vec::new();
        while records < size.records && bytes < size.bytes && self.has_more().await? {
            let Some((split, mark)) = self.next.take() else { break };
            records += mark.records;
            bytes += mark.bytes;
            self.advance(split, &mark);
            let Some(split) = self.splits.get(split) else { break };
            match ranges.last_mut() {
                Some(last)
                    if Arc::ptr_eq(&last.split, split) && last.range.end == mark.range.start =>
                {
                    last.range.end = mark.range.end;
                }
                _ => ranges.push(SplitRange { split: Arc::clone(split), range: mark.range }),
            }
        }
        let (source, to) = (self.name.clone(), self.place.clone());
        let added = match &mut self.growth {
            Some(growth) => growth.record(&self.splits),
            None => Vec::new(),
        };
        Ok(Some((Cut { source, epoch, from, to, records, bytes, added }, ranges)))
    }

    /// The source's name in the job.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The ranges of a recorded cut, which must be cut the same again.
    pub(crate) async fn cut_again(
        &mut self,
        recorded: &Cut,
        size: PartSize,
    ) -> Result<Vec<SplitRange>, RunError> {
        match self.cut(recorded.epoch, size).await? {
            Some((cut, ranges)) if cut == *recorded => Ok(ranges),
            _ => {
                let message = format!(
                    "the data has changed since epoch {} was committed, so the state of operators cannot \
                     be rebuilt from it; restore it, or start anew with `if_exists = \"overwrite\"`",
                    recorded.epoch
                );
                let location = recorded.to.name.clone();
                Err(failed(&self.name, crate::source::SourceError::Format { location, message }))
            }
        }
    }

    /// From now on the listing grows. What is in it so far is known to the run log.
    pub(crate) fn grow(&mut self) {
        self.growth = Some(Growth::from(self.splits.as_slice()));
    }

    /// Lists the source again and appends what is new.
    pub(crate) async fn discover(&mut self) -> Result<(), RunError> {
        let Some(growth) = &mut self.growth else { return Ok(()) };
        let listed = match self.source.splits().await {
            Ok(listed) => listed,
            Err(SourceError::Nothing { .. }) => Vec::new(),
            Err(error) => return Err(failed(&self.name, error)),
        };
        let found = growth.look(&self.name, &self.splits, listed, self.source.whole());
        self.splits.extend(found.into_iter().map(Arc::new));
        Ok(())
    }

    /// Splits and bytes that were found and are not cut.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let left = self.splits.get(self.place.split as usize..).unwrap_or_default();
        let found = left.iter().fold((0, 0), |sum, split| (sum.0 + 1, sum.1 + split.bytes));
        let unsettled = self.growth.as_ref().map_or((0, 0), Growth::unsettled);
        (found.0 + unsettled.0, found.1 + unsettled.1)
    }

    /// The ranges of a stream's part as the run log names them.
    ///
    /// # Errors
    /// When a split is not in the listing, which no entry could name then.
    pub(crate) fn part(&self, cut: Cut, ranges: &[SplitRange]) -> Result<StreamPart, RunError> {
        let ordinal = |split: &Split| self.growth.as_ref().and_then(|g| g.ordinal(&split.name));
        let range = |r: &SplitRange| {
            let ordinal = ordinal(&r.split).ok_or_else(|| self.unlisted(&r.split.name))?;
            Ok((ordinal, r.range.start, r.range.end))
        };
        Ok(StreamPart { cut, ranges: ranges.iter().map(range).collect::<Result<_, RunError>>()? })
    }

    fn unlisted(&self, split: &str) -> RunError {
        let message = "a part reads from it, and it is not in the listing".to_owned();
        failed(&self.name, SourceError::Format { location: split.to_owned(), message })
    }

    /// Goes back to before the cut of an epoch that somebody else has cut. What was found since is found again.
    pub(crate) fn rewind(&mut self, epoch: u64) {
        let Some(growth) = &self.growth else { return };
        let (place, recorded) = match self.before.take() {
            Some((at, place, recorded)) if at == epoch => (place, recorded),
            _ => (self.place.clone(), growth.recorded()),
        };
        self.splits.truncate(recorded);
        // Empty splits that only this start has seen may have been passed.
        self.place = if place.split > recorded as u64 {
            Place { split: recorded as u64, offset: 0, name: String::new(), ..place }
        } else {
            place
        };
        (self.marks, self.next) = (None, None);
        self.grow();
    }

    /// Moves past a part that the run log names, and gives what it reads. The data is not looked at: it may
    /// have gone since.
    ///
    /// # Errors
    /// When the part reads from a split that no entry added to the listing.
    pub(crate) fn pass(&mut self, part: &StreamPart) -> Result<Vec<SplitRange>, RunError> {
        self.splits.extend(part.cut.added.iter().cloned().map(Arc::new));
        self.grow();
        self.place = part.cut.to.clone();
        (self.marks, self.next) = (None, None);
        let range = |&(split, from, to): &(u64, u64, u64)| {
            let listed = self.splits.get(split as usize);
            let listed = listed.ok_or_else(|| self.unlisted(&format!("split number {split}")))?;
            Ok(SplitRange { split: Arc::clone(listed), range: from..to })
        };
        part.ranges.iter().map(range).collect()
    }

    /// Whether records are left. Looks one mark ahead, and opens the next split when one has ended.
    pub(crate) async fn has_more(&mut self) -> Result<bool, RunError> {
        loop {
            if self.next.is_some() {
                return Ok(true);
            }
            if self.place.pass >= self.order.passes {
                return Ok(false);
            }
            self.next = match self.order.shuffle {
                Some(seed) => self.shuffled(seed).await?,
                None => self.sequential().await?,
            };
            if self.next.is_none() {
                if self.growth.is_some() {
                    return Ok(false);
                }
                let pass = self.place.pass + 1;
                self.place = Place { pass, split: 0, name: String::new(), offset: 0 };
            }
        }
    }

    async fn sequential(&mut self) -> Result<Option<(usize, Mark)>, RunError> {
        loop {
            let at = self.place.split as usize;
            let Some(split) = self.splits.get(at) else { return Ok(None) };
            let marks = self
                .marks
                .get_or_insert_with(|| self.source.measure(Arc::clone(split), self.place.offset));
            let mark = marks.next().await;
            self.counted.fetch_add(1, Ordering::Relaxed);
            match mark {
                Some(Err(SourceError::Store {
                    source: object_store::Error::NotFound { .. },
                    ..
                })) if self.growth.is_some() => {
                    // It was listed and is gone: what was in it is one record that will be refused.
                    self.marks = Some(futures::stream::empty().boxed());
                    let range = self.place.offset..self.place.offset + 1;
                    return Ok(Some((at, Mark { range, records: 1, bytes: 0 })));
                }
                Some(mark) => return Ok(Some((at, mark.map_err(|e| failed(&self.name, e))?))),
                None => {
                    self.marks = None;
                    self.place.split += 1;
                    self.place.offset = 0;
                    self.place.name =
                        self.splits.get(at + 1).map_or_else(String::new, |s| s.name.clone());
                }
            }
        }
    }

    async fn shuffled(&mut self, seed: u64) -> Result<Option<(usize, Mark)>, RunError> {
        if self.records.is_none() {
            let mut records = Vec::new();
            for (at, split) in self.splits.iter().enumerate() {
                let mut marks = self.source.measure(Arc::clone(split), 0);
                while let Some(mark) = marks.next().await {
                    self.counted.fetch_add(1, Ordering::Relaxed);
                    records.push((at, mark.map_err(|e| failed(&self.name, e))?));
                }
            }
            if u32::try_from(records.len()).is_err() {
                let message = format!("a shuffle is of at most {} records", u32::MAX);
                return Err(failed(&self.name, SourceError::Options(message)));
            }
            self.records = Some(records);
        }
        let records = self.records.as_deref().unwrap_or_default();
        if self.place.offset == 0 || self.permutation.len() != records.len() {
            self.permutation = permutation(records.len(), seed, self.place.pass);
        }
        let at = self.permutation.get(self.place.offset as usize);
        Ok(at.and_then(|at| records.get(*at as usize)).cloned())
    }

    /// Moves past a mark. In a shuffle the offset is the position in the permutation.
    fn advance(&mut self, split: usize, mark: &Mark) {
        if self.order.shuffle.is_some() {
            self.place.offset += 1;
        } else {
            self.place.split = split as u64;
            self.place.offset = mark.range.end;
            self.place.name = self.splits.get(split).map_or_else(String::new, |s| s.name.clone());
        }
    }
}

/// A permutation of `0..records` keyed by seed and pass (Fisher-Yates over SplitMix64).
fn permutation(records: usize, seed: u64, pass: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..records as u32).collect();
    let mut state = seed ^ (u64::from(pass) << 32) ^ 0x9e37_79b9_7f4a_7c15;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    for at in (1..order.len()).rev() {
        let other = (u128::from(random()) * (at as u128 + 1)) >> 64;
        order.swap(at, other as usize);
    }
    order
}

fn failed(node: &str, error: crate::source::SourceError) -> RunError {
    RunError::Source { node: node.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lines;

    #[test]
    fn a_split_that_is_not_listed_is_no_other_one() {
        let source = Lines::of("memory://cursor-unlisted/in");
        let mut cursor = Cursor::new("lines", source, Order::default(), Vec::new(), &[]);
        cursor.grow();
        let place = || Place { pass: 0, split: 0, name: String::new(), offset: 0 };
        let cut = Cut {
            source: "lines".to_owned(),
            epoch: 0,
            from: place(),
            to: place(),
            records: 1,
            bytes: 1,
            added: vec![Split { name: "a".to_owned(), bytes: 1, version: String::new() }],
        };
        let part = StreamPart { cut: cut.clone(), ranges: vec![(0, 0, 1)] };
        let read = cursor.pass(&part).unwrap();
        assert_eq!(cursor.part(cut.clone(), &read).unwrap(), part);
        let split = Arc::new(Split { name: "b".to_owned(), ..cut.added[0].clone() });
        let unlisted = cursor.part(cut.clone(), &[SplitRange { split, range: 0..1 }]);
        assert!(unlisted.unwrap_err().to_string().contains("not in the listing"));
        let cut = Cut { added: Vec::new(), ..cut };
        let unlisted = cursor.pass(&StreamPart { cut, ranges: vec![(7, 0, 1)] });
        assert!(unlisted.unwrap_err().to_string().contains("number 7"));
    }

    #[test]
    fn a_shuffle_counts_what_it_measures_before_its_first_cut() {
        let folder = "memory://cursor-shuffle/in";
        crate::testing::put_lines(folder, "a", 7);
        let source = Lines::of(folder);
        let order = Order { shuffle: Some(1), ..Order::default() };
        let counted = Arc::new(AtomicU64::new(0));
        crate::testing::wait(async {
            let splits = source.splits().await.unwrap().into_iter().map(Arc::new).collect();
            let cursor = Cursor::new("lines", source, order, splits, &[]);
            assert!(cursor.counting(Arc::clone(&counted)).has_more().await.unwrap());
        });
        assert_eq!(counted.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_permutation_is_one_and_differs_by_pass() {
        let one = permutation(1000, 7, 0);
        let mut sorted = one.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_ne!(one, permutation(1000, 7, 1));
        assert_ne!(one, permutation(1000, 8, 0));
        assert_eq!(one, permutation(1000, 7, 0));
    }
}
