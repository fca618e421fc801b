//! Which record of which part stands where in a mixture.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_pipelines::source::{Marks, SourceError};
use futures::TryStreamExt;

use super::{Inner, WhenDry};
use crate::source::inner::Place;
use crate::splitmix::mix;

/// Positions between two notes of where all parts stood, as long as there are few notes.
const STEP: u64 = 256;
/// Notes at most. Whenever there are as many, every second one is forgotten, and further ones are as far apart as
/// the rest are then: to go back takes longer in a long mixture, and no more memory.
const NOTES: usize = 1 << 12;
/// Entries that are remembered: what was measured is read soon after.
const RECENT: usize = 1 << 16;

/// The record at a position.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) part: usize,
    /// How often the part had been read whole before.
    pub(super) pass: u32,
    pub(super) place: Place,
}

/// Where a part stands.
#[derive(Debug, Clone, Default)]
struct Stand {
    split: usize,
    offset: u64,
    pass: u32,
    /// Records of this pass that were taken.
    taken: u64,
    dry: bool,
}

/// What walks over a mixture have in common: notes, and the last entries. Both are bounded: to 4096 times the number of
/// parts, and to 65,536, some 5 MiB, whatever the length of the mixture.
#[derive(Default)]
pub(super) struct Walked {
    known: Mutex<Known>,
}

struct Known {
    /// Where all parts stood at each multiple of `step`.
    notes: Vec<Vec<Stand>>,
    step: u64,
    /// The position of the first of the recent entries.
    first: u64,
    recent: VecDeque<Entry>,
    end: Option<u64>,
}

impl Default for Known {
    fn default() -> Self {
        Self { notes: Vec::new(), step: STEP, first: 0, recent: VecDeque::new(), end: None }
    }
}

impl Known {
    /// Notes where all parts stand, if that is the next position to be noted.
    fn note(&mut self, stood: u64, stands: impl FnOnce() -> Vec<Stand>) {
        if stood != self.notes.len() as u64 * self.step {
            return;
        }
        self.notes.push(stands());
        if self.notes.len() >= NOTES {
            let mut kept = (0..).map(|number| number % 2 == 0);
            self.notes.retain(|_| kept.next().unwrap_or(true));
            self.step *= 2;
        }
    }

    /// The last note at a position or before it.
    fn before(&self, position: u64) -> Option<(u64, Vec<Stand>)> {
        let last = self.notes.len().checked_sub(1)? as u64;
        let number = last.min(position / self.step);
        Some((number * self.step, self.notes.get(usize::try_from(number).ok()?)?.clone()))
    }
}

/// One walk, from a position on.
pub(super) struct Walk {
    inner: Arc<Inner>,
    position: u64,
    /// Where the parts stand at `stood`, which lags behind while recent entries are given.
    parts: Vec<Part>,
    stood: u64,
}

#[derive(Default)]
struct Part {
    stand: Stand,
    marks: Option<Marks>,
}

impl Walk {
    /// A walk that stands at a position.
    pub(super) fn to(inner: Arc<Inner>, position: u64) -> Self {
        let mut walk = Self { inner, position, parts: Vec::new(), stood: 0 };
        walk.go_back();
        walk
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The entry at the position, which is passed; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, SourceError> {
        if let Some(entry) = self.remembered() {
            self.position += 1;
            return Ok(Some(entry));
        }
        if self.ended() {
            return Ok(None);
        }
        // What was given from memory is walked now, and so is the way from a note.
        if self.stood < self.position {
            self.go_back();
        }
        while self.stood < self.position {
            if self.step().await?.is_none() {
                return Ok(None);
            }
        }
        let entry = self.step().await?;
        if entry.is_some() {
            self.position += 1;
        }
        Ok(entry)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.inner.walked.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self) -> Option<Entry> {
        let known = self.known();
        let at = self.position.checked_sub(known.first)?;
        known.recent.get(usize::try_from(at).ok()?).cloned()
    }

    fn ended(&self) -> bool {
        self.known().end.is_some_and(|end| self.position >= end)
    }

    /// Lets the parts stand where the last note before the position says, unless they stand behind it already.
    fn go_back(&mut self) {
        let (at, stands) = self.known().before(self.position).unzip();
        let at = at.unwrap_or(0);
        if !self.parts.is_empty() && at <= self.stood {
            return;
        }
        let start = || self.inner.parts.iter().map(|_| Stand::default()).collect();
        let stands: Vec<Stand> = stands.unwrap_or_else(start);
        self.parts = stands.into_iter().map(|stand| Part { stand, ..Part::default() }).collect();
        self.stood = at;
    }

    /// The entry where the parts stand, which they pass.
    async fn step(&mut self) -> Result<Option<Entry>, SourceError> {
        self.note();
        let inner = Arc::clone(&self.inner);
        let drawn = mix(inner.seed ^ mix(self.stood));
        while let Some(part) = self.draw(drawn) {
            if let Some(place) = self.take(&inner, part).await? {
                let pass = self.parts.get(part).map_or(0, |part| part.stand.pass);
                let entry = Entry { part, pass, place };
                self.remember(&entry);
                self.stood += 1;
                return Ok(Some(entry));
            }
            let Some(Part { stand, .. }) = self.parts.get_mut(part) else { break };
            match inner.when_dry {
                WhenDry::Stop => break,
                WhenDry::GoOn => stand.dry = true,
                // A part without records has none the second time either.
                WhenDry::Repeat if stand.taken == 0 => stand.dry = true,
                WhenDry::Repeat => {
                    *stand = Stand { pass: stand.pass + 1, ..Stand::default() };
                    let whole = |part: &Part| part.stand.dry || part.stand.pass > 0;
                    if self.parts.iter().all(whole) {
                        break;
                    }
                }
            }
        }
        self.known().end = Some(self.stood);
        Ok(None)
    }

    /// The part that a drawn number falls on, among those that are not dry.
    fn draw(&self, drawn: u64) -> Option<usize> {
        let parts = self.parts.iter().zip(&self.inner.weights).enumerate();
        let wet = parts.filter(|(_, (part, _))| !part.stand.dry).map(|(at, (_, w))| (at, *w));
        let total: u64 = wet.clone().map(|(_, weight)| weight).sum();
        let mut falls = ((u128::from(drawn) * u128::from(total)) >> 64) as u64;
        for (at, weight) in wet {
            match falls.checked_sub(weight) {
                Some(rest) => falls = rest,
                None => return Some(at),
            }
        }
        None
    }

    /// The next record of a part; `None` at its end.
    async fn take(&mut self, inner: &Inner, at: usize) -> Result<Option<Place>, SourceError> {
        let listed = inner.listed().await?;
        let (Some(part), Some(splits), Some(source)) =
            (self.parts.get_mut(at), listed.get(at), inner.parts.get(at).map(|part| &part.source))
        else {
            return Ok(None);
        };
        loop {
            let Some(split) = splits.get(part.stand.split) else { return Ok(None) };
            let marks = part
                .marks
                .get_or_insert_with(|| source.measure(Arc::clone(split), part.stand.offset));
            match marks.try_next().await? {
                Some(mark) => {
                    part.stand.offset = mark.range.end;
                    part.stand.taken += 1;
                    return Ok(Some(Place { split: Arc::clone(split), mark }));
                }
                None => {
                    part.marks = None;
                    (part.stand.split, part.stand.offset) = (part.stand.split + 1, 0);
                }
            }
        }
    }

    /// Notes where all parts stand, at every so many positions.
    fn note(&self) {
        self.known()
            .note(self.stood, || self.parts.iter().map(|part| part.stand.clone()).collect());
    }

    fn remember(&self, entry: &Entry) {
        let mut known = self.known();
        if self.stood != known.first + known.recent.len() as u64 {
            // Another walk is ahead, or this one began elsewhere.
            if self.stood < known.first + known.recent.len() as u64 {
                return;
            }
            known.recent.clear();
            known.first = self.stood;
        }
        if known.recent.len() >= RECENT {
            known.recent.pop_front();
            known.first += 1;
        }
        known.recent.push_back(entry.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_a_long_mixture_are_thinned_out_and_stay_right() {
        let mut known = Known::default();
        let stand = |at: u64| vec![Stand { taken: at, ..Stand::default() }];
        let length = 5 * NOTES as u64 * STEP;
        for at in 0..length {
            known.note(at, || stand(at));
            assert!(known.notes.len() < NOTES);
        }
        for position in [0, 1, STEP, length / 3, length - 1] {
            let (at, stands) = known.before(position).unwrap();
            assert!(at <= position && position - at <= 8 * STEP, "{position} from {at}");
            assert_eq!(stands[0].taken, at);
        }
    }
}
