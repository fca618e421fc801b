//! From examples, one after another, to the examples of steps.

use std::collections::BTreeMap;

use anabranch_models::random::Random;

use super::sample::Sample;
use super::state::{Damaged, Reader, Writer};

/// Examples that wait, or that are drawn from.
#[derive(Debug, PartialEq)]
pub(super) struct Pool {
    batch: usize,
    /// Examples to keep; 0 keeps none longer than until its step.
    size: usize,
    random: Random,
    /// By their modalities, in the order in which they came; in a reservoir all under one number.
    waiting: BTreeMap<u8, Vec<Sample>>,
    /// Examples that came since the last step; only of a reservoir.
    fresh: usize,
    bytes: usize,
}

/// Where the examples of a reservoir are.
const ALL: u8 = u8::MAX;

impl Pool {
    pub(super) fn new(batch: usize, size: usize, seed: u64) -> Self {
        // Not the trainer's own numbers: how weights start does not depend on what is drawn.
        let random = Random::new(seed ^ 0x9e5e_7201_d4a1_f005);
        Self { batch, size, random, waiting: BTreeMap::new(), fresh: 0, bytes: 0 }
    }

    /// Bytes that the examples take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Examples that are here.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Takes an example, and gives those of a step when one is due.
    pub(super) fn add(&mut self, sample: Sample) -> Option<Vec<Sample>> {
        self.bytes += sample.bytes();
        if self.size > 0 {
            self.keep(sample);
            self.fresh += 1;
            return if self.fresh < self.batch { None } else { self.draw() };
        }
        let queue = self.waiting.entry(sample.modalities()).or_default();
        queue.push(sample);
        if queue.len() < self.batch {
            return None;
        }
        let batch = std::mem::take(queue);
        self.bytes -= batch.iter().map(Sample::bytes).sum::<usize>();
        Some(batch)
    }

    /// Forgets all examples.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }

    fn keep(&mut self, sample: Sample) {
        let kept = self.waiting.entry(ALL).or_default();
        if kept.len() < self.size {
            kept.push(sample);
        } else if let Some(place) = kept.get_mut(self.random.below(self.size)) {
            self.bytes -= place.bytes();
            *place = sample;
        }
    }

    /// Any examples with the modalities of one that is drawn among all; one may be drawn twice.
    fn draw(&mut self) -> Option<Vec<Sample>> {
        self.fresh = 0;
        let kept = self.waiting.get(&ALL)?;
        let first = kept.get(self.random.below(kept.len()))?;
        let alike: Vec<&Sample> =
            kept.iter().filter(|sample| sample.modalities() == first.modalities()).collect();
        let more = (1..self.batch).filter_map(|_| alike.get(self.random.below(alike.len())));
        Some(std::iter::once(first).chain(more.copied()).cloned().collect())
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.number(self.random.state());
        to.number(self.fresh as u64);
        let queues: Vec<_> = self.waiting.iter().collect();
        to.list(&queues, |(number, queue), to| {
            to.number(u64::from(**number));
            to.list(queue, Sample::write);
        });
    }

    /// The same pool as it was.
    pub(super) fn read(&self, from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let random = Random::resume(from.number()?);
        let fresh = usize::try_from(from.number()?).map_err(|_| Damaged("a count is too large"))?;
        let queues = from.list(|from| {
            let number = u8::try_from(from.number()?).map_err(|_| Damaged("an unknown queue"))?;
            Ok((number, from.list(Sample::read)?))
        })?;
        let waiting: BTreeMap<u8, Vec<Sample>> = queues.into_iter().collect();
        let bytes = waiting.values().flatten().map(Sample::bytes).sum();
        Ok(Self { batch: self.batch, size: self.size, random, waiting, fresh, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u32, with_sound: bool) -> Sample {
        Sample {
            record: number.to_string(),
            image: Some(vec![1, 2]),
            audio: with_sound.then(|| vec![0.5]),
            label: number,
            ..Sample::default()
        }
    }

    fn labels(batch: Option<Vec<Sample>>) -> Vec<u32> {
        batch.into_iter().flatten().map(|sample| sample.label).collect()
    }

    #[test]
    fn examples_come_in_order_and_with_their_like() {
        let mut pool = Pool::new(2, 0, 1);
        let batches: Vec<Vec<u32>> =
            (0..6).map(|number| labels(pool.add(sample(number, number % 3 == 0)))).collect();
        assert_eq!(batches, [vec![], vec![], vec![1, 2], vec![0, 3], vec![], vec![4, 5]]);
        assert_eq!((pool.len(), pool.bytes()), (0, 0));
    }

    #[test]
    fn a_reservoir_holds_so_many_and_a_restored_one_goes_on_alike() {
        let mut pool = Pool::new(4, 10, 7);
        let (mut steps, mut late) = (0, 0);
        for number in 0..200 {
            let drawn = pool.add(sample(number, number % 2 == 0));
            if let Some(drawn) = drawn {
                steps += 1;
                assert_eq!(drawn.len(), 4);
                let first = drawn[0].modalities();
                assert!(drawn.iter().all(|sample| sample.modalities() == first));
                late += drawn.iter().filter(|sample| sample.label + 40 > number).count();
            }
            let bytes: usize = pool.waiting.values().flatten().map(Sample::bytes).sum();
            assert_eq!(pool.bytes(), bytes);
            let mut written = Writer::default();
            pool.write(&mut written);
            let mut reader = Reader(&written.0);
            let again = Pool::new(4, 10, 8).read(&mut reader).unwrap();
            assert_eq!((&again, reader.0.len()), (&pool, 0));
            pool = again;
        }
        assert_eq!((steps, pool.len()), (50, 10));
        // After 40 more of 10 places, one in 68 of the old ones is left.
        assert!(late > 180, "{late} of 200");
    }
}
