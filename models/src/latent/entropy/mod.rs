//! Latents to bytes and back, with distributions that stand in the artifact.
//!
//! Channels follow one another, the most energetic first; within one, rows from the top. What is coded of a latent is
//! its difference to a [`Predictor`], with the distribution that its context selects: with `m` the magnitude of a
//! difference, at most 31 and 0 outside, how many of 1, 3, 6, 12 and 24 are at most
//! `m(above, left) + 2 m(above) + m(above, right) + 2 m(same place, channel before)`. Symbol 128
//! (the difference -128) is the escape: it stands for a difference that the distribution does not have, and all that
//! were escaped follow their channel, in order, as plain bytes (each of frequency 16).
//!
//! The stream is the coder's states, 32 bits each, then words of 16 bits, all little-endian. There are
//! [`lanes`] states, and the latent in column `x` of a row uses number `x mod lanes`; escaped bytes take
//! turns from number 0 on. A stream that is cut behind a channel gives the channels before: the rate is chosen by how
//! much is read.

mod context;
mod distributions;
mod rans;

use self::context::contexts as contexts_of;
pub use self::context::{CONTEXTS, Predictor};
pub(crate) use self::distributions::Counts;
pub use self::distributions::{Distributions, SYMBOLS};
pub(crate) use self::rans::TOTAL;
use self::rans::{BITS, Backwards, Code, LEAST, Words};
use super::LatentError;

/// The symbol of what a distribution does not have.
pub(crate) const ESCAPE: i8 = -128;
/// Latents from which on several states take turns: their bytes then count little.
const MANY: usize = 4096;

/// How many states take turns: 8 for records of at least 4096 latents in rows of at least 8, else 1.
#[must_use]
pub fn lanes(rows: usize, across: usize, channels: usize) -> usize {
    if across >= 8 && rows * across * channels >= MANY { 8 } else { 1 }
}

/// Distributions as coders read them.
#[derive(Debug)]
pub(crate) struct Coder {
    predictors: Vec<Predictor>,
    /// Of each channel, context and symbol.
    codes: Vec<Code>,
    /// Of each channel and context, the symbol of every slot.
    slots: Vec<u8>,
    /// Of each channel, context and symbol, its frequency and where its slots begin.
    ranges: Vec<(u16, u16)>,
}

/// Latents of a record: `[channels, rows, across]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) channels: usize,
    pub(crate) rows: usize,
    pub(crate) across: usize,
}

impl Shape {
    fn plane(&self) -> usize {
        self.rows * self.across
    }

    /// Latents, all of them.
    pub(crate) fn len(&self) -> usize {
        self.plane() * self.channels
    }
}

/// Room that is used again from record to record.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// What is coded: differences, or escapes instead.
    symbols: Vec<i8>,
    contexts: Vec<u8>,
    room: Vec<u8>,
    words: Vec<u16>,
    /// Differences that were escaped, of all channels one after the other.
    escaped: Vec<u8>,
    /// Where those of each channel end.
    ends: Vec<usize>,
}

impl Coder {
    pub(crate) fn new(distributions: &Distributions) -> Self {
        let all = distributions.frequencies();
        let (mut codes, mut ranges) =
            (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        let mut slots = Vec::with_capacity(all.len() / SYMBOLS * TOTAL as usize);
        for frequencies in all.chunks_exact(SYMBOLS) {
            let mut start = 0;
            for (symbol, frequency) in frequencies.iter().enumerate() {
                let code = Code::new(u32::from(start), u32::from(*frequency));
                codes.push(if *frequency > 0 { code } else { Code::default() });
                ranges.push((*frequency, start));
                slots.extend(std::iter::repeat_n(symbol as u8, usize::from(*frequency)));
                start += frequency;
            }
        }
        Self { predictors: distributions.predictors().to_vec(), codes, slots, ranges }
    }

    /// Appends the stream of these latents.
    pub(crate) fn encode(
        &self,
        latents: &[i8],
        shape: Shape,
        scratch: &mut Scratch,
        to: &mut Vec<u8>,
    ) {
        self.symbols(latents, shape, scratch);
        match lanes(shape.rows, shape.across, shape.channels) {
            8 => self.write::<8>(shape, scratch, to),
            _ => self.write::<1>(shape, scratch, to),
        }
    }

    /// Finds what is to be coded of each latent, and in which context.
    fn symbols(&self, latents: &[i8], shape: Shape, scratch: &mut Scratch) {
        let Scratch { symbols, contexts, escaped, ends, .. } = scratch;
        let (plane, across) = (shape.plane().max(1), shape.across.max(1));
        symbols.resize(shape.len(), 0);
        contexts.resize(shape.len(), 0);
        scratch.room.resize(across + 2, 0);
        escaped.clear();
        ends.clear();
        let mut before: &[i8] = &[];
        let codes = self.codes.chunks_exact(CONTEXTS * SYMBOLS);
        let latents = latents.chunks_exact(plane).zip(&self.predictors).zip(codes);
        let planes = symbols.chunks_exact_mut(plane).zip(contexts.chunks_exact_mut(plane));
        for (((latents, predictor), codes), (symbols, contexts)) in latents.zip(planes) {
            predictor.differences(latents, across, symbols);
            let mut above: &[i8] = &[];
            let rows = symbols.chunks_exact_mut(across).zip(contexts.chunks_exact_mut(across));
            for (y, (row, to)) in rows.enumerate() {
                let before = before.get(y * across..(y + 1) * across).unwrap_or_default();
                contexts_of(above, before, &mut scratch.room, to);
                for (symbol, context) in row.iter_mut().zip(to.iter()) {
                    if !codes.get(place(*symbol, *context)).is_some_and(Code::exists)
                        || *symbol == ESCAPE
                    {
                        escaped.push(symbol.cast_unsigned());
                        *symbol = ESCAPE;
                    }
                }
                above = row;
            }
            before = symbols;
            ends.push(escaped.len());
        }
    }

    fn write<const LANES: usize>(&self, shape: Shape, scratch: &mut Scratch, to: &mut Vec<u8>) {
        let Scratch { symbols, contexts, words, escaped, ends, .. } = scratch;
        words.resize(shape.len() + escaped.len(), 0);
        let mut words = Backwards::new(words);
        let mut states = [LEAST; LANES];
        let (plane, across) = (shape.plane().max(1), shape.across.max(1));
        let planes = symbols.chunks_exact(plane).zip(contexts.chunks_exact(plane));
        let codes = self.codes.chunks_exact(CONTEXTS * SYMBOLS).take(ends.len());
        let starts = std::iter::once(&0).chain(ends.iter()).zip(ends.iter());
        let channels: Vec<_> = codes.zip(starts).zip(planes).collect();
        for ((codes, (start, end)), (symbols, contexts)) in channels.into_iter().rev() {
            let escaped = escaped.get(*start..*end).unwrap_or_default();
            for (turn, byte) in escaped.iter().enumerate().rev() {
                if let Some(state) = states.get_mut(turn % LANES) {
                    *state = Code::new(u32::from(*byte) * 16, 16).encode(*state, &mut words);
                }
            }
            let mut encode = |state: &mut u32, symbol: i8, context: u8| {
                let code = codes.get(place(symbol, context)).copied().unwrap_or_default();
                *state = code.encode(*state, &mut words);
            };
            let rows = symbols.chunks_exact(across).zip(contexts.chunks_exact(across));
            for (symbols, contexts) in rows.rev() {
                let (groups, rest) = symbols.as_chunks::<LANES>();
                let (pairs, tail) = contexts.as_chunks::<LANES>();
                let rest = states.iter_mut().take(rest.len()).zip(rest).zip(tail);
                for ((state, symbol), context) in rest.rev() {
                    encode(state, *symbol, *context);
                }
                for (symbols, contexts) in groups.iter().zip(pairs).rev() {
                    let lanes = states.iter_mut().zip(symbols).zip(contexts);
                    for ((state, symbol), context) in lanes.rev() {
                        encode(state, *symbol, *context);
                    }
                }
            }
        }
        to.extend(states.iter().flat_map(|state| state.to_le_bytes()));
        to.extend(words.finish().iter().flat_map(|word| word.to_le_bytes()));
    }

    /// The latents of the first channels of a stream that has `stored` of them.
    ///
    /// # Errors
    /// A stream that ends early, or is damaged in a way that shows.
    pub(crate) fn decode(
        &self,
        stream: &[u8],
        shape: Shape,
        stored: usize,
        scratch: &mut Scratch,
        latents: &mut Vec<i8>,
    ) -> Result<(), LatentError> {
        latents.clear();
        latents.resize(shape.len(), 0);
        match lanes(shape.rows, shape.across, stored) {
            8 => self.read::<8>(stream, shape, stored == shape.channels, scratch, latents)?,
            _ => self.read::<1>(stream, shape, stored == shape.channels, scratch, latents)?,
        }
        if !scratch.escaped.is_empty() {
            let escapes = latents.iter_mut().filter(|symbol| **symbol == ESCAPE);
            for (symbol, byte) in escapes.zip(&scratch.escaped) {
                *symbol = byte.cast_signed();
            }
        }
        let planes = latents.chunks_exact_mut(shape.plane().max(1));
        for (plane, predictor) in planes.zip(&self.predictors) {
            predictor.undo(plane, shape.across);
        }
        Ok(())
    }

    fn read<const LANES: usize>(
        &self,
        stream: &[u8],
        shape: Shape,
        whole: bool,
        scratch: &mut Scratch,
        symbols: &mut [i8],
    ) -> Result<(), LatentError> {
        let (heads, words) = stream.split_at_checked(4 * LANES).ok_or(LatentError::Truncated)?;
        let mut states = [0; LANES];
        for (state, head) in states.iter_mut().zip(heads.as_chunks::<4>().0) {
            *state = u32::from_le_bytes(*head);
            // Others never leave an encoder.
            if !(LEAST..1 << 31).contains(state) {
                return Err(LatentError::Damaged);
            }
        }
        let (words, odd) = words.as_chunks::<2>();
        let mut words = Words::new(words);
        let (plane, across) = (shape.plane().max(1), shape.across.max(1));
        scratch.room.resize(across + 2, 0);
        scratch.contexts.resize(across, 0);
        let row_contexts = scratch.contexts.get_mut(..across).unwrap_or_default();
        scratch.escaped.clear();
        let mut before: &[i8] = &[];
        let slots = self.slots.chunks_exact(CONTEXTS * TOTAL as usize);
        let ranges = self.ranges.chunks_exact(CONTEXTS * SYMBOLS);
        for ((plane, slots), ranges) in symbols.chunks_exact_mut(plane).zip(slots).zip(ranges) {
            let mut escapes = 0;
            let mut decode = |state: &mut u32, to: &mut i8, context: u8| {
                let slot = *state & (TOTAL - 1);
                let at = usize::from(context) << BITS | slot as usize;
                let symbol = slots.get(at).copied().unwrap_or_default().cast_signed();
                let range = ranges.get(place(symbol, context));
                let (frequency, start) = range.copied().unwrap_or_default();
                let above = slot.wrapping_sub(u32::from(start));
                *to = symbol;
                escapes += usize::from(symbol == ESCAPE);
                *state = words.refill(u32::from(frequency) * (*state >> BITS) + above);
            };
            let mut above: &[i8] = &[];
            for (y, row) in plane.chunks_exact_mut(across).enumerate() {
                let before = before.get(y * across..(y + 1) * across).unwrap_or_default();
                contexts_of(above, before, &mut scratch.room, row_contexts);
                let (groups, rest) = row.as_chunks_mut::<LANES>();
                let (pairs, tail) = row_contexts.as_chunks::<LANES>();
                for (group, contexts) in groups.iter_mut().zip(pairs) {
                    for ((state, to), context) in states.iter_mut().zip(group).zip(contexts) {
                        decode(state, to, *context);
                    }
                }
                for ((state, to), context) in states.iter_mut().zip(rest).zip(tail) {
                    decode(state, to, *context);
                }
                above = row;
            }
            for turn in 0..escapes {
                let Some(state) = states.get_mut(turn % LANES) else { break };
                let slot = *state & (TOTAL - 1);
                scratch.escaped.push((slot / 16) as u8);
                *state = words.refill(16 * (*state >> BITS) + slot % 16);
            }
            if words.short() {
                return Err(LatentError::Truncated);
            }
            before = plane;
        }
        if whole && !(words.done() && odd.is_empty() && states == [LEAST; LANES]) {
            return Err(LatentError::Damaged);
        }
        Ok(())
    }
}

/// Where a symbol of a context stands among those of a channel.
#[inline(always)]
fn place(symbol: i8, context: u8) -> usize {
    usize::from(context) * SYMBOLS + usize::from(symbol.cast_unsigned())
}

#[cfg(test)]
mod tests;
