//! Products of bytes by a matrix of bytes, summed in 32 bits: `u8 * i8`.
//!
//! The int8 MLP, projected wires and the conditional sum of the paper's block are this. Weights are packed once:
//! blocks of four groups of sixteen outputs (the last block may have fewer groups), and within a block the weights
//! of four inputs for each output, which is what one instruction of VNNI takes. Integers: equal bits at every level.

#![expect(clippy::indexing_slicing, reason = "indices run over arrays of registers")]

use super::{Level, Set};

/// Groups of a block.
const BLOCK: usize = 4;

/// A matrix `[out, in]` of bytes, packed.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// For each block, each four inputs and each group: four weights for each of sixteen outputs.
    weights: Vec<Line>,
}

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([i8; 64]);

impl Bytes {
    /// Packs row-major weights.
    pub(crate) fn pack(weights: &[i8], inputs: usize) -> Self {
        let inputs = inputs.max(1);
        let outputs = weights.len() / inputs;
        let fours = inputs.div_ceil(4);
        let groups = outputs.div_ceil(16);
        let mut packed = vec![Line([0; 64]); groups * fours];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (first, per) = place(output / 16, groups, fours);
            let lines = packed.iter_mut().skip(first).step_by(per);
            for (line, four) in lines.zip(row.chunks(4)) {
                let lanes = line.0.iter_mut().skip(output % 16 * 4);
                lanes.zip(four).for_each(|(lane, weight)| *lane = *weight);
            }
        }
        Self { inputs, outputs, weights: packed }
    }

    /// Bytes that a token takes at least: whole fours. What stands behind the inputs counts nothing.
    pub(crate) fn input_stride(&self) -> usize {
        self.inputs.next_multiple_of(4)
    }

    /// Sums that a token's outputs take: whole lanes.
    pub(crate) fn stride(&self) -> usize {
        self.outputs.next_multiple_of(16)
    }

    fn fours(&self) -> usize {
        self.inputs.div_ceil(4)
    }
}

/// Where the lines of a group start, and how far they are apart.
fn place(group: usize, groups: usize, fours: usize) -> (usize, usize) {
    let block = group / BLOCK * BLOCK;
    (block * fours + group % BLOCK, (groups - block).min(BLOCK))
}

/// `to = matrix * x` for each token. A token of `x` has `stride` bytes, one of `to` has `matrix.stride()` sums.
pub(crate) fn dot(level: Level, matrix: &Bytes, x: &[u8], stride: usize, to: &mut [i32]) {
    let tokens = x.len() / stride.max(1);
    assert!(stride >= matrix.input_stride() && to.len() >= tokens * matrix.stride());
    match level.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level exists only where the processor has its instructions; the assertion is what it needs.
        Set::Avx512 => unsafe { x86::avx512(matrix, x, stride, to) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: likewise.
        Set::Avx2 => unsafe { x86::avx2(matrix, x, stride, to) },
        Set::Portable => portable(matrix, x, stride, to),
    }
}

fn portable(matrix: &Bytes, x: &[u8], stride: usize, to: &mut [i32]) {
    let to = to.chunks_exact_mut(matrix.stride().max(1));
    for (x, to) in x.chunks_exact(stride.max(1)).zip(to) {
        let (fours, _) = x.as_chunks::<4>();
        let groups = matrix.stride() / 16;
        for (group, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            *to = [0; 16];
            let (first, per) = place(group, groups, matrix.fours());
            let lines = matrix.weights.iter().skip(first).step_by(per).take(matrix.fours());
            for (line, x) in lines.zip(fours) {
                for (to, weights) in to.iter_mut().zip(line.0.as_chunks::<4>().0) {
                    let product = |(weight, x): (&i8, &u8)| i32::from(*weight) * i32::from(*x);
                    *to += weights.iter().zip(x).map(product).sum::<i32>();
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Bytes, Line, place};

    /// # Safety
    ///
    /// The processor has the instructions, `stride` is at least the matrix's, and `to` has room.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn avx512(matrix: &Bytes, x: &[u8], stride: usize, to: &mut [i32]) {
        let (tokens, fours, width) = (x.len() / stride, matrix.fours(), matrix.stride());
        let groups = width / 16;
        let (x, to, weights) = (x.as_ptr(), to.as_mut_ptr(), matrix.weights.as_ptr());
        let mut token = 0;
        while token < tokens {
            // SAFETY: tokens and groups stay below their numbers, which is what the pointers hold.
            unsafe {
                let (x, to) = (x.add(token * stride), to.add(token * width));
                let many = tokens - token >= 6;
                let mut group = 0;
                while group < groups {
                    let (first, per) = place(group, groups, fours);
                    let weights = Stream { weights: weights.add(first), per, fours };
                    let to = to.add(group * 16);
                    // Larger tiles stand at the start of whole blocks.
                    group += match (many, groups - group) {
                        (true, 4..) => tile512::<6, 4>(x, stride, weights, to, width),
                        (true, _) => tile512::<6, 1>(x, stride, weights, to, width),
                        (false, 8..) => tile512::<1, 8>(x, stride, weights, to, width),
                        (false, 4..) => tile512::<1, 4>(x, stride, weights, to, width),
                        (false, _) => tile512::<1, 1>(x, stride, weights, to, width),
                    };
                }
                token += if many { 6 } else { 1 };
            }
        }
    }

    /// Weights of some groups.
    #[derive(Clone, Copy)]
    struct Stream {
        /// The first line of the first group.
        weights: *const Line,
        /// How far the lines of a group are apart.
        per: usize,
        /// Lines of a group.
        fours: usize,
    }

    /// T tokens by G groups; returns G.
    ///
    /// # Safety
    ///
    /// The pointers hold so many tokens and groups.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn tile512<const T: usize, const G: usize>(
        x: *const u8,
        stride: usize,
        Stream { weights, per, fours }: Stream,
        to: *mut i32,
        width: usize,
    ) -> usize {
        let mut sums = [[_mm512_setzero_si512(); G]; T];
        for four in 0..fours {
            let mut lines = [_mm512_setzero_si512(); G];
            for (group, line) in lines.iter_mut().enumerate() {
                let at = group / BLOCK * BLOCK * fours + group % BLOCK + four * per;
                // SAFETY: the group and its fours exist.
                *line = unsafe { _mm512_load_si512(weights.add(at).cast()) };
            }
            for (token, sums) in sums.iter_mut().enumerate() {
                // SAFETY: a token has bytes for all fours.
                let x = unsafe { x.add(token * stride + 4 * four).cast::<i32>().read_unaligned() };
                let x = _mm512_set1_epi32(x);
                for (sum, line) in sums.iter_mut().zip(lines) {
                    *sum = _mm512_dpbusd_epi32(*sum, x, line);
                }
            }
        }
        for (token, sums) in sums.into_iter().enumerate() {
            for (group, sum) in sums.into_iter().enumerate() {
                // SAFETY: the outputs of the group exist.
                unsafe { _mm512_storeu_si512(to.add(token * width + group * 16).cast(), sum) };
            }
        }
        G
    }

    /// # Safety
    ///
    /// As [`avx512`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(matrix: &Bytes, x: &[u8], stride: usize, to: &mut [i32]) {
        let (tokens, fours, width) = (x.len() / stride, matrix.fours(), matrix.stride());
        let groups = width / 16;
        let (x, to, weights) = (x.as_ptr(), to.as_mut_ptr(), matrix.weights.as_ptr());
        let mut token = 0;
        while token < tokens {
            // SAFETY: tokens and groups stay below their numbers, which is what the pointers hold.
            unsafe {
                let (x, to) = (x.add(token * stride), to.add(token * width));
                let many = tokens - token >= 3;
                for group in 0..groups {
                    let (first, per) = place(group, groups, fours);
                    let weights = Stream { weights: weights.add(first), per, fours };
                    let to = to.add(group * 16);
                    if many {
                        tile256::<3>(x, stride, weights, to, width);
                    } else {
                        tile256::<1>(x, stride, weights, to, width);
                    }
                }
                token += if many { 3 } else { 1 };
            }
        }
    }

    /// T tokens by a group. Sums of two products of 16 bits cannot overflow, as those of `vpmaddubsw` can.
    ///
    /// # Safety
    ///
    /// The pointers hold so many tokens and a group.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn tile256<const T: usize>(
        x: *const u8,
        stride: usize,
        Stream { weights, per, fours }: Stream,
        to: *mut i32,
        width: usize,
    ) {
        let low_bytes = _mm256_set1_epi16(0xff);
        let mut sums = [[_mm256_setzero_si256(); 2]; T];
        for four in 0..fours {
            let mut even = [_mm256_setzero_si256(); 2];
            let mut odd = even;
            for half in 0..2 {
                // SAFETY: the line exists and has two halves.
                let line = unsafe {
                    _mm256_load_si256(weights.add(four * per).cast::<__m256i>().add(half))
                };
                even[half] = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(line));
                odd[half] = _mm256_srai_epi16::<8>(line);
            }
            for (token, sums) in sums.iter_mut().enumerate() {
                // SAFETY: a token has bytes for all fours.
                let x = unsafe { x.add(token * stride + 4 * four).cast::<i32>().read_unaligned() };
                let x = _mm256_set1_epi32(x);
                let (x_even, x_odd) = (_mm256_and_si256(x, low_bytes), _mm256_srli_epi16::<8>(x));
                for (sum, (even, odd)) in sums.iter_mut().zip(even.into_iter().zip(odd)) {
                    let even = _mm256_madd_epi16(even, x_even);
                    let odd = _mm256_madd_epi16(odd, x_odd);
                    *sum = _mm256_add_epi32(*sum, _mm256_add_epi32(even, odd));
                }
            }
        }
        for (token, sums) in sums.into_iter().enumerate() {
            for (half, sum) in sums.into_iter().enumerate() {
                // SAFETY: the outputs of the group exist.
                unsafe { _mm256_storeu_si256(to.add(token * width + half * 8).cast(), sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::each_level;
    use super::*;

    proptest! {
        #[test]
        fn products_are_exact(
            inputs in 1_usize..70,
            outputs in 1_usize..230,
            tokens in 1_usize..15,
            spare in 0_usize..5,
            seed in any::<u32>(),
            extreme: bool,
        ) {
            let byte = |i: usize| {
                let mixed = (i as u32 ^ seed).wrapping_mul(2_654_435_761) >> 24;
                if extreme { if mixed < 128 { 255 } else { 128 } } else { mixed as u8 }
            };
            let weights = (0..inputs * outputs).map(|i| byte(i).cast_signed()).collect::<Vec<_>>();
            let matrix = Bytes::pack(&weights, inputs);
            let stride = matrix.input_stride() + spare;
            let x = (0..tokens * stride).map(|i| byte(i + 77)).collect::<Vec<_>>();
            each_level(|level| {
                let mut to = vec![9; tokens * matrix.stride()];
                dot(level, &matrix, &x, stride, &mut to);
                for token in 0..tokens {
                    let x = &x[token * stride..][..inputs];
                    for output in 0..outputs {
                        let row = &weights[output * inputs..][..inputs];
                        let product = |(a, b): (&u8, &i8)| i32::from(*a) * i32::from(*b);
                        let expected = x.iter().zip(row).map(product).sum::<i32>();
                        assert_eq!(to[token * matrix.stride() + output], expected, "{level}");
                    }
                }
            });
        }
    }
}
