//! Asymmetric numeral systems: the state of a coder is a number, and a symbol of frequency `f` of 4096 makes it
//! `4096 / f` times larger (Duda, arXiv:1311.2540; this variant is Giesen's `rans_byte`, with words of 16 bits).
//!
//! A state is from `2^15` to `2^31 - 1`. To decode, with `slot = x mod 4096` that belongs to a symbol whose slots
//! begin at `start`: `x = f * (x / 4096) + slot - start`, and while that is below `2^15` the next word of the stream
//! becomes its low bits. Encoding is the same backwards, from the last symbol to the first, so a decoder that has
//! decoded everything finds the state that the encoder began with: damage shows.
//!
//! Several states take turns, so that a processor works on all of them at once; they read from one stream.

/// Frequencies add up to two to this power.
pub(crate) const BITS: u32 = 12;
/// What frequencies add up to.
pub(crate) const TOTAL: u32 = 1 << BITS;
/// The least state, which encoders begin with.
pub(crate) const LEAST: u32 = 1 << 15;

/// What encoding a symbol takes. The division is a multiplication by a reciprocal (Alverson, ARITH 1991), exact for
/// states below `2^31`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Code {
    /// From this state on a word leaves first.
    most: u32,
    reciprocal: u32,
    bias: u32,
    rest: u16,
    shift: u8,
}

impl Code {
    /// Of a symbol whose slots begin at `start`; its frequency is at least 1.
    pub(crate) fn new(start: u32, frequency: u32) -> Self {
        let frequency = frequency.clamp(1, TOTAL);
        let most = frequency << (31 - BITS);
        let rest = (TOTAL - frequency) as u16;
        if frequency == 1 {
            return Self { most, reciprocal: u32::MAX, bias: start + TOTAL - 1, rest, shift: 0 };
        }
        let shift = frequency.next_power_of_two().trailing_zeros();
        let reciprocal = (1_u64 << (shift + 31)).div_ceil(u64::from(frequency));
        Self { most, reciprocal: reciprocal as u32, bias: start, rest, shift: shift as u8 - 1 }
    }

    /// Whether there is such a symbol: the default is none.
    #[inline(always)]
    pub(crate) fn exists(&self) -> bool {
        self.most > 0
    }

    /// Encodes the symbol: the state after it, with a word for the stream if one leaves.
    #[inline(always)]
    pub(crate) fn encode(self, mut state: u32, words: &mut Backwards<'_>) -> u32 {
        let leaves = state >= self.most;
        words.push(state as u16, leaves);
        state >>= if leaves { 16 } else { 0 };
        let high = (u64::from(state) * u64::from(self.reciprocal)) >> 32;
        let quotient = (high as u32) >> self.shift;
        state + self.bias + quotient * u32::from(self.rest)
    }
}

/// Words that are written from the last to the first.
pub(crate) struct Backwards<'a> {
    room: &'a mut [u16],
    at: usize,
}

impl<'a> Backwards<'a> {
    pub(crate) fn new(room: &'a mut [u16]) -> Self {
        let at = room.len();
        Self { room, at }
    }

    #[inline(always)]
    fn push(&mut self, word: u16, keep: bool) {
        // Written either way, since a branch here would be guessed wrong half of the time.
        if let Some(place) = self.room.get_mut(self.at.wrapping_sub(1)) {
            *place = word;
        }
        self.at -= usize::from(keep);
    }

    pub(crate) fn finish(self) -> &'a [u16] {
        self.room.get(self.at..).unwrap_or_default()
    }
}

/// Words that are read from the first to the last.
pub(crate) struct Words<'a> {
    words: &'a [[u8; 2]],
    at: usize,
}

impl<'a> Words<'a> {
    pub(crate) fn new(words: &'a [[u8; 2]]) -> Self {
        Self { words, at: 0 }
    }

    /// The state with a word more, if it is below the least.
    #[inline(always)]
    pub(crate) fn refill(&mut self, state: u32) -> u32 {
        let below = state < LEAST;
        // What is missing reads as zero and is noticed at the end.
        let word = self.words.get(self.at).copied().unwrap_or_default();
        self.at += usize::from(below);
        if below { state << 16 | u32::from(u16::from_le_bytes(word)) } else { state }
    }

    /// Whether more was read than there is.
    pub(crate) fn short(&self) -> bool {
        self.at > self.words.len()
    }

    /// Whether all was read.
    pub(crate) fn done(&self) -> bool {
        self.at == self.words.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reciprocals_divide_exactly_and_states_stay_in_range() {
        let mut random = crate::random::Random::new(5);
        for frequency in (1..300).chain([1000, 2048, 4095, 4096]) {
            let start = (TOTAL - frequency) / 2;
            let code = Code::new(start, frequency);
            for _ in 0..200 {
                let state = LEAST + random.below((1 << 31) - (1 << 15)) as u32;
                let mut room = [0; 1];
                let mut words = Backwards::new(&mut room);
                let next = code.encode(state, &mut words);
                let words = words.finish();
                let small = if words.is_empty() { state } else { state >> 16 };
                assert_eq!(next, (small / frequency) * TOTAL + small % frequency + start);
                assert!((LEAST..1 << 31).contains(&next), "{next} from {state} at {frequency}");
                let back = frequency * (next >> BITS) + (next & (TOTAL - 1)) - start;
                let bytes: Vec<[u8; 2]> = words.iter().map(|word| word.to_le_bytes()).collect();
                assert_eq!(Words::new(&bytes).refill(back), state);
            }
        }
    }
}
