//! The wavelet of Cohen, Daubechies and Feauveau with 9 and 7 taps, by lifting in integers.
//!
//! Lifting (Daubechies and Sweldens, J. Fourier Anal. Appl. 4, 1998) makes low and high frequencies out of even and
//! odd samples in four steps, each of which adds to one half a multiple of its neighbours in the other half. The steps
//! are not scaled at the end: what that would multiply is part of the [linear map](super::matrix) that follows.
//!
//! Samples are integers and every step rounds in one stated way, so the same numbers come out on every machine. Without
//! saturation a step is undone exactly, because the neighbours that it rounded are still there.
//!
//! At both ends a signal is mirrored around its first and last sample. Lengths are even: whoever calls pads.

use crate::kernel::lanes;

/// The four steps: `x + WHOLE * t + floor(PART * t / 2^16)` where `t` is the sum of the two neighbours. The upper half
/// of a product of 16 bits is one instruction everywhere; that it is rounded down is undone on the way back.
///
/// The multiples are -1.586134, -0.052980, 0.882911 and 0.443507.
const STEPS: [(i16, i16); 4] = [(-2, 27_123), (0, -3_472), (1, -7_674), (0, 29_066)];

/// What the low band of a constant is multiplied by in one transform.
pub(crate) const LOW: f64 = 1.230_174_105;
/// What an orthonormal transform would multiply a low band by in addition; high bands by its reciprocal.
pub(crate) const ORTHONORMAL: f64 = std::f64::consts::SQRT_2 / LOW;

/// An integer that is lifted. Those of pictures have 16 bits and saturate; those of sound have 32, and never reach
/// their ends.
pub(crate) trait Sample: Copy + Default {
    /// `self` plus a step's multiple of `a + b`, or minus it when `BACK`.
    fn lift<const WHOLE: i16, const PART: i16, const BACK: bool>(self, a: Self, b: Self) -> Self;
}

impl Sample for i16 {
    #[inline(always)]
    fn lift<const WHOLE: i16, const PART: i16, const BACK: bool>(self, a: Self, b: Self) -> Self {
        let sum = a.saturating_add(b);
        let part = ((i32::from(sum) * i32::from(PART)) >> 16) as i16;
        let plus = |x: i16, by: i16| if BACK { x.saturating_sub(by) } else { x.saturating_add(by) };
        let minus =
            |x: i16, by: i16| if BACK { x.saturating_add(by) } else { x.saturating_sub(by) };
        let lifted = plus(self, part);
        // Written out, so that a step stays a few instructions.
        match WHOLE {
            0 => lifted,
            1 => plus(lifted, sum),
            _ => minus(minus(lifted, sum), sum),
        }
    }
}

impl Sample for i32 {
    #[inline(always)]
    fn lift<const WHOLE: i16, const PART: i16, const BACK: bool>(self, a: Self, b: Self) -> Self {
        let sum = a.wrapping_add(b);
        let part = ((i64::from(sum) * i64::from(PART)) >> 16) as i32;
        let lift = sum.wrapping_mul(i32::from(WHOLE)).wrapping_add(part);
        if BACK { self.wrapping_sub(lift) } else { self.wrapping_add(lift) }
    }
}

/// Calls a function with the constants of a step.
macro_rules! with_step {
    ($step:expr, $back:ident, $call:ident::<$type:ty>($($arg:expr),*)) => {
        match $step {
            0 => $call::<$type, { STEPS[0].0 }, { STEPS[0].1 }, $back>($($arg),*),
            1 => $call::<$type, { STEPS[1].0 }, { STEPS[1].1 }, $back>($($arg),*),
            2 => $call::<$type, { STEPS[2].0 }, { STEPS[2].1 }, $back>($($arg),*),
            _ => $call::<$type, { STEPS[3].0 }, { STEPS[3].1 }, $back>($($arg),*),
        }
    };
}

/// One step for whole rows: `to` from its neighbours `a` and `b`.
#[inline(always)]
fn rows<T: Sample, const WHOLE: i16, const PART: i16, const BACK: bool>(
    to: &mut [T],
    a: &[T],
    b: &[T],
) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = to.lift::<WHOLE, PART, BACK>(*a, *b);
    }
}

/// Steps of a transform in the order in which they are taken, with the half (0 even, 1 odd) that each changes.
#[inline(always)]
fn steps(back: bool) -> [(usize, usize); 4] {
    match back {
        false => [(0, 1), (1, 0), (2, 1), (3, 0)],
        true => [(3, 0), (2, 1), (1, 0), (0, 1)],
    }
}

/// Strides of the levels of a packet in the order in which they are transformed.
#[inline(always)]
fn strides(levels: usize, back: bool) -> impl Iterator<Item = usize> {
    (0..levels).map(move |at| 1 << if back { levels - 1 - at } else { at })
}

/// The wavelet packet of the columns of a tile: `count` rows of `width` that stand `stride` samples apart in `data`.
///
/// Every level splits all bands of the one before. In place: of the first level, even rows become the low band and
/// odd ones the high band; the next level does the same among the rows of each band.
#[inline(always)]
fn columns<T: Sample, const BACK: bool>(
    data: &mut [T],
    stride: usize,
    width: usize,
    count: usize,
    levels: usize,
) {
    for apart in strides(levels, BACK) {
        for (step, half) in steps(BACK) {
            let last = count / apart;
            for band in 0..apart {
                for at in (half..last).step_by(2) {
                    let before = if at == 0 { 1 } else { at - 1 };
                    let after = if at + 1 == last { at - 1 } else { at + 1 };
                    let row = |at: usize| {
                        let start = (band + at * apart) * stride;
                        start..start + width
                    };
                    if let Some((to, a, b)) = three(data, row(at), row(before), row(after)) {
                        with_step!(step, BACK, rows::<T>(to, a, b));
                    }
                }
            }
        }
    }
}

/// The wavelet packet of one row that is cut into phases: phase `p` holds the samples `p`, `p + 2^levels`, ... of it,
/// and there are as many of each as `room` has place for.
#[inline(always)]
fn row<T: Sample, const BACK: bool>(data: &mut [T], levels: usize, room: &mut [T]) {
    let n = room.len();
    for apart in strides(levels, BACK) {
        for (step, half) in steps(BACK) {
            let last = (1 << levels) / apart;
            for band in 0..apart {
                for at in (half..last).step_by(2) {
                    let phase = |at: usize| {
                        let start = (band + at * apart) * n;
                        start..start + n
                    };
                    // The neighbour of the first phase is the last one a sample earlier, and the other way round.
                    let (before, after) = ((at + last - 1) % last, (at + 1) % last);
                    let neighbours = three(data, phase(at), phase(before), phase(after));
                    let Some((to, a, b)) = neighbours else { continue };
                    if at == 0 {
                        later(a, b, room);
                        with_step!(step, BACK, rows::<T>(to, room, b));
                    } else if at + 1 == last {
                        earlier(b, a, room);
                        with_step!(step, BACK, rows::<T>(to, a, room));
                    } else {
                        with_step!(step, BACK, rows::<T>(to, a, b));
                    }
                }
            }
        }
    }
}

/// A phase a sample later; before its first stands the `mirror`'s.
#[inline(always)]
fn later<T: Sample>(phase: &[T], mirror: &[T], to: &mut [T]) {
    if let ([first, rest @ ..], [mirrored, ..], [heads @ .., _]) = (to, mirror, phase) {
        *first = *mirrored;
        rest.copy_from_slice(heads);
    }
}

/// A phase a sample earlier; behind its last stands the `mirror`'s.
#[inline(always)]
fn earlier<T: Sample>(phase: &[T], mirror: &[T], to: &mut [T]) {
    if let ([rest @ .., last], [.., mirrored], [_, tails @ ..]) = (to, mirror, phase) {
        *last = *mirrored;
        rest.copy_from_slice(tails);
    }
}

/// A range to write and two to read, which may be one.
#[inline(always)]
fn three<T>(
    data: &mut [T],
    to: std::ops::Range<usize>,
    a: std::ops::Range<usize>,
    b: std::ops::Range<usize>,
) -> Option<(&mut [T], &[T], &[T])> {
    if a == b {
        let [to, a] = data.get_disjoint_mut([to, a]).ok()?;
        return Some((to, a, a));
    }
    let [to, a, b] = data.get_disjoint_mut([to, a, b]).ok()?;
    Some((to, a, b))
}

/// Defines the transform of rows of one kind of samples.
macro_rules! rows {
    ($type:ty, $name:ident) => {
        lanes! {
            /// The packets of the rows in `data`, each cut into `2^levels` phases of `n` samples.
            pub(crate) fn $name(data: &mut [$type], n: usize, levels: usize, back: bool) {
                let mut room = vec![<$type>::default(); n];
                for phases in data.chunks_exact_mut((n << levels).max(1)) {
                    match back {
                        false => row::<$type, false>(phases, levels, &mut room),
                        true => row::<$type, true>(phases, levels, &mut room),
                    }
                }
            }
        }
    };
}

/// Defines the transform of columns of one kind of samples.
macro_rules! columns {
    ($type:ty, $name:ident) => {
        lanes! {
            /// The packets of the columns of `data`, whose rows have `stride` samples.
            pub(crate) fn $name(data: &mut [$type], stride: usize, levels: usize, back: bool) {
                let count = data.len() / stride.max(1);
                // A tile of all rows stays in the second-level cache for all steps.
                let tile = (TILE / count.max(1)).clamp(64, 1024).next_multiple_of(32);
                for start in (0..stride).step_by(tile) {
                    let width = tile.min(stride - start);
                    let Some(data) = data.get_mut(start..) else { continue };
                    match back {
                        false => columns::<$type, false>(data, stride, width, count, levels),
                        true => columns::<$type, true>(data, stride, width, count, levels),
                    }
                }
            }
        }
    };
}
/// Samples of a tile.
const TILE: usize = 128 << 10;

rows!(i16, rows16);
rows!(i32, rows32);
columns!(i16, columns16);
#[cfg(test)]
columns!(i32, columns32);

/// What makes the coefficient of a phase one of a nearly orthonormal transform: the high bands of its `levels` are
/// the bits of the phase that are set.
pub(crate) fn scale(phase: usize, levels: usize) -> f64 {
    let high = (phase & ((1 << levels) - 1)).count_ones() as i32;
    ORTHONORMAL.powi(levels as i32 - 2 * high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The samples of a row by phase.
    fn phases(row: &[i32], levels: usize) -> Vec<i32> {
        let phases = 1 << levels;
        (0..phases).flat_map(|phase| row.iter().skip(phase).step_by(phases).copied()).collect()
    }

    /// The same transform sample by sample, as it is written in the literature.
    fn plain(signal: &[f64]) -> Vec<f64> {
        let mut x = signal.to_vec();
        let factors = [-1.586_134_342, -0.052_980_118, 0.882_911_075, 0.443_506_852];
        for (step, factor) in factors.into_iter().enumerate() {
            for at in ((1 - step % 2)..x.len()).step_by(2) {
                let before = if at == 0 { 1 } else { at - 1 };
                let after = if at + 1 == x.len() { at - 1 } else { at + 1 };
                x[at] += factor * (x[before] + x[after]);
            }
        }
        x
    }

    proptest! {
        #[test]
        fn rows_and_columns_come_back_exactly(
            blocks in 1_usize..5,
            levels in 1_usize..5,
            rows in 1_usize..4,
            seed in 0_u64..1000,
        ) {
            let n = blocks << levels;
            let mut random = crate::random::Random::new(seed);
            let data: Vec<i32> = (0..n * rows).map(|_| random.below(65_536) as i32 - 32_768).collect();
            let mut there = data.clone();
            rows32(&mut there, blocks, levels, false);
            rows32(&mut there, blocks, levels, true);
            prop_assert_eq!(&there, &data);
            // The same numbers as columns, `rows` beside one another.
            columns32(&mut there, rows, levels, false);
            columns32(&mut there, rows, levels, true);
            prop_assert_eq!(&there, &data);
        }

        #[test]
        fn rows_columns_and_the_literature_agree(blocks in 1_usize..9, seed in 0_u64..1000) {
            let n = blocks * 2;
            let mut random = crate::random::Random::new(seed);
            let data: Vec<i32> = (0..n).map(|_| random.below(65_536) as i32 - 32_768).collect();
            let expected = plain(&data.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            let mut columns = data.clone();
            columns32(&mut columns, 1, 1, false);
            for (found, expected) in columns.iter().zip(&expected) {
                // Steps round down, and multiples have 16 bits.
                prop_assert!((f64::from(*found) - expected).abs() < 12.0, "{found} {expected}");
            }
            let mut rows = phases(&data, 1);
            rows32(&mut rows, blocks, 1, false);
            prop_assert_eq!(rows, phases(&columns, 1));
        }

        #[test]
        fn packets_of_rows_and_columns_are_the_same(blocks in 1_usize..5, levels in 1_usize..5, seed in 0_u64..1000) {
            let n = blocks << levels;
            let mut random = crate::random::Random::new(seed);
            let data: Vec<i32> = (0..n).map(|_| random.below(4096) as i32 - 2048).collect();
            let mut columns = data.clone();
            columns32(&mut columns, 1, levels, false);
            let mut rows = phases(&data, levels);
            rows32(&mut rows, blocks, levels, false);
            prop_assert_eq!(&rows, &phases(&columns, levels));
            // 16 bits and 32 agree where nothing saturates.
            let mut narrow: Vec<i16> = data.iter().map(|x| (*x / 8) as i16).collect();
            let mut wide: Vec<i32> = narrow.iter().map(|x| i32::from(*x)).collect();
            columns16(&mut narrow, 1, levels, false);
            columns32(&mut wide, 1, levels, false);
            prop_assert_eq!(narrow.iter().map(|x| i32::from(*x)).collect::<Vec<_>>(), wide);
        }
    }

    #[test]
    fn a_constant_has_low_frequencies_only() {
        let mut data = vec![1000_i32; 64];
        columns32(&mut data, 1, 3, false);
        for (at, found) in data.into_iter().enumerate() {
            let expected = if at % 8 == 0 { 1000.0 * LOW.powi(3) } else { 0.0 };
            assert!((f64::from(found) - expected).abs() < 12.0, "{at}: {found}, not {expected}");
        }
    }

    #[test]
    fn bands_keep_the_energy_of_noise() {
        let mut random = crate::random::Random::new(1);
        let noise: Vec<i32> = (0..8192).map(|_| (random.normal() * 1000.0) as i32).collect();
        let energy = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
        let before = energy(&noise.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
        let mut data = noise;
        columns32(&mut data, 1, 3, false);
        let scaled = |(at, x): (usize, &i32)| f64::from(*x) * scale(at % 8, 3);
        let after = energy(&data.iter().enumerate().map(scaled).collect::<Vec<_>>());
        assert!((after / before - 1.0).abs() < 0.1, "{}", after / before);
    }
}
