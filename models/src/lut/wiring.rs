//! Which value every wire reads.

use std::sync::Arc;

use crate::random::Random;

/// The values that wires read: fixed, or chosen while training among a few candidates per wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// Candidates of every wire, wire by wire.
    candidates: Arc<[u32]>,
    /// Candidates per wire: 1 when the wiring is fixed.
    choices: usize,
}

impl Wiring {
    /// Concatenated random permutations of `values`: every value is read equally often, up to one.
    /// Independent draws would leave out more than a third of them.
    pub fn permutations(values: usize, wires: usize, random: &mut Random) -> Self {
        Self { candidates: concatenated(values, wires, random).into(), choices: 1 }
    }

    /// `choices` candidates per wire (16 to 64 are enough; all values at once would cost a dense
    /// product), each value a candidate equally often. The best one is learned: DWN section 3.3.
    pub fn learned(values: usize, wires: usize, choices: usize, random: &mut Random) -> Self {
        let choices = choices.clamp(1, values.max(1));
        let mut candidates = vec![0; wires * choices];
        // One permutation covers many wires' first candidates, then their second, and so on.
        for choice in 0..choices {
            let drawn = concatenated(values, wires, random);
            for (slot, value) in candidates.iter_mut().skip(choice).step_by(choices).zip(drawn) {
                *slot = value;
            }
        }
        Self { candidates: candidates.into(), choices }
    }

    /// Wires that read exactly these values.
    pub fn fixed(values: impl Into<Arc<[u32]>>) -> Self {
        Self { candidates: values.into(), choices: 1 }
    }

    /// Wire `i` reads value `i`.
    pub fn straight(wires: usize) -> Self {
        Self::fixed((0..wires as u32).collect::<Vec<_>>())
    }

    /// The number of wires.
    pub fn wires(&self) -> usize {
        self.candidates.len() / self.choices
    }

    /// Candidates per wire.
    pub fn choices(&self) -> usize {
        self.choices
    }

    /// The candidates, wire by wire.
    pub fn candidates(&self) -> &Arc<[u32]> {
        &self.candidates
    }
}

fn concatenated(values: usize, wires: usize, random: &mut Random) -> Vec<u32> {
    let mut all = Vec::with_capacity(wires + values);
    while all.len() < wires && values > 0 {
        let mut order: Vec<u32> = (0..values as u32).collect();
        random.shuffle(&mut order);
        all.extend(order);
    }
    all.resize(wires, 0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read_equally_often() {
        let wiring = Wiring::permutations(7, 30, &mut Random::new(1));
        for value in 0..7 {
            let count = wiring.candidates().iter().filter(|v| **v == value).count();
            assert!((4..=5).contains(&count), "value {value} is read {count} times");
        }
        let learned = Wiring::learned(7, 14, 3, &mut Random::new(1));
        assert_eq!((learned.wires(), learned.choices()), (14, 3));
        for value in 0..7 {
            assert_eq!(learned.candidates().iter().filter(|v| **v == value).count(), 6);
        }
    }
}
