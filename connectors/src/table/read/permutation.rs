//! A keyed permutation of `0..n` that is a function, not a list: any of its values can be had alone.

use crate::splitmix::mix;

/// Rounds of the network. Four make a random-looking permutation; two more cost nanoseconds.
const ROUNDS: u64 = 6;

/// A permutation of `0..n`: a Feistel network over the next even number of bits, walked until it is inside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permutation {
    n: u64,
    /// Bits of one half.
    half: u32,
    key: u64,
}

impl Permutation {
    /// The permutation of `0..n` under this key.
    pub(super) fn new(n: u64, key: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { n, half: bits.div_ceil(2).max(1), key }
    }

    /// Where `at` goes; `at` is below `n`.
    pub(super) fn of(&self, at: u64) -> u64 {
        debug_assert!(at < self.n, "{at} of {}", self.n);
        let mut value = at;
        // A permutation of the larger domain: following it from a value inside leads inside again, after fewer
        // than four steps on average.
        loop {
            value = self.step(value);
            if value < self.n {
                return value;
            }
        }
    }

    fn step(&self, value: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (value >> self.half, value & mask);
        for round in 0..ROUNDS {
            let mixed = mix(right ^ mix(self.key.wrapping_add(round)));
            (left, right) = (right, left ^ (mixed & mask));
        }
        (left << self.half) | right
    }
}

/// One key from several numbers.
pub(super) fn key(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |key, number| mix(key ^ mix(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_once(n in 1_u64..3000, key: u64) {
            let permutation = Permutation::new(n, key);
            let mut seen = vec![false; n as usize];
            for at in 0..n {
                let to = permutation.of(at) as usize;
                prop_assert!(!std::mem::replace(&mut seen[to], true));
            }
        }
    }

    #[test]
    fn large_numbers_stay_inside() {
        for n in [u64::from(u32::MAX), 1 << 40, (1 << 62) + 1, u64::MAX] {
            let permutation = Permutation::new(n, 7);
            assert!([0, 1, n / 2, n - 1].into_iter().all(|at| permutation.of(at) < n));
        }
    }

    #[test]
    fn every_place_is_as_likely_as_any_other() {
        // 10 numbers under 20,000 keys: how often each goes to each place is known to about 2 %.
        let mut counts = [[0_u32; 10]; 10];
        for seed in 0..20_000 {
            let permutation = Permutation::new(10, key(&[seed]));
            (0..10).for_each(|at| counts[at as usize][permutation.of(at) as usize] += 1);
        }
        let expected = 2000.0;
        let chi: f64 =
            counts.iter().flatten().map(|c| (f64::from(*c) - expected).powi(2) / expected).sum();
        // 81 degrees of freedom: above 130 once in 2,500 permutations that are fair.
        assert!(chi < 130.0, "{chi}");
    }
}
