//! Which row of each table a token picks.
//!
//! A wire is a number and its threshold, a bit is whether the one is above the other, and `n` bits are an address.
//! With AVX-512 sixty-four wires are a permutation of the features (`vpermi2b`), a comparison and a masked
//! addition. Integers: equal bits at every level.

#![expect(
    clippy::indexing_slicing,
    reason = "what is packed has one place for each wire, and slices are asserted at the entry"
)]

#[cfg(target_arch = "x86_64")]
use super::Set;
use super::lanes::Lanes;
use super::{Level, dot, for_each_level};

/// Beyond so many features it is quicker to load them one by one.
#[cfg(target_arch = "x86_64")]
const PERMUTED: usize = 2048;

/// Wires that look at one number each.
#[derive(Debug, Clone)]
pub(crate) struct Wires {
    features: usize,
    nodes: usize,
    /// Bits by which a node's number stands left of its address.
    shift: u32,
    /// Of each of the n bits, for each node up to whole sixty-fours: which number, also as its place in 128 and
    /// which 128.
    index: Vec<u32>,
    place: Vec<u8>,
    part: Vec<u8>,
    thresholds: Vec<u8>,
}

/// Bytes that a token's features take.
pub(crate) fn feature_stride(features: usize) -> usize {
    features.next_multiple_of(128)
}

impl Wires {
    /// Wires `[node][bit]` and their thresholds. Wires must lead to one of the features.
    pub(crate) fn pack(
        wires: impl Iterator<Item = (usize, u8)>,
        inputs: usize,
        features: usize,
        shift: u32,
    ) -> Self {
        let wires = wires.collect::<Vec<_>>();
        let nodes = wires.len() / inputs.max(1);
        assert!(wires.iter().all(|(feature, _)| *feature < features) && inputs <= 8);
        let stride = nodes.next_multiple_of(64);
        let mut packed = Self {
            features,
            nodes,
            shift,
            index: vec![0; stride * inputs],
            place: vec![0; stride * inputs],
            part: vec![0; stride * inputs],
            // Nothing is above it: the address of a node that does not exist is 0.
            thresholds: vec![255; stride * inputs],
        };
        for (at, (feature, threshold)) in wires.into_iter().enumerate() {
            let at = at % inputs * stride + at / inputs;
            packed.index[at] = feature as u32;
            packed.place[at] = (feature % 128) as u8;
            packed.part[at] = (feature / 128).min(255) as u8;
            packed.thresholds[at] = threshold;
        }
        packed
    }

    /// Rows that are written for a token: whole sixty-fours, of which the first ones are nodes.
    pub(crate) fn stride(&self) -> usize {
        self.nodes.next_multiple_of(64)
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(crate) fn shift(&self) -> u32 {
        self.shift
    }
}

/// The row `(node << shift) + address` of each node for one token, whose features take [`feature_stride`] bytes.
pub(crate) fn pick(level: Level, wires: &Wires, features: &[u8], rows: &mut [u32]) {
    assert!(features.len() >= feature_stride(wires.features) && rows.len() >= wires.stride());
    #[cfg(target_arch = "x86_64")]
    if level.0 == Set::Avx512 && wires.features <= PERMUTED {
        // SAFETY: a level exists only where the processor has its instructions; the assertion is what it needs.
        return unsafe { x86::pick(wires, features, rows) };
    }
    one_by_one(level, wires, features, rows);
}

for_each_level! {
    fn one_by_one(wires: &Wires, features: &[u8], rows: &mut [u32]) = load_each
}

#[inline(always)]
fn load_each<L: Lanes>(wires: &Wires, features: &[u8], rows: &mut [u32]) {
    let stride = wires.stride().max(1);
    let rows = &mut rows[..wires.stride()];
    rows.iter_mut().zip(0_u32..).for_each(|(row, node)| *row = node << wires.shift);
    let bits = wires.index.chunks_exact(stride).zip(wires.thresholds.chunks_exact(stride));
    for (bit, (index, thresholds)) in bits.enumerate() {
        for ((row, index), threshold) in rows.iter_mut().zip(index).zip(thresholds) {
            // SAFETY: wires lead to one of the features, which is checked when they are packed.
            let value = unsafe { *features.get_unchecked(*index as usize) };
            *row |= u32::from(value > *threshold) << bit;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Wires;

    /// # Safety
    ///
    /// The processor has the instructions, and slices have their strides.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) unsafe fn pick(wires: &Wires, features: &[u8], rows: &mut [u32]) {
        let stride = wires.stride();
        let inputs = wires.index.len() / stride.max(1);
        let parts = wires.features.div_ceil(128);
        // SAFETY: features come in whole 128s.
        let part = |part: usize| unsafe {
            let at = features.as_ptr().add(part * 128);
            (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(64).cast()))
        };
        let (low, high) = part(0);
        for first in (0..stride).step_by(64) {
            let mut addresses = _mm512_setzero_si512();
            for bit in 0..inputs {
                let at = bit * stride + first;
                // SAFETY: each of these has `stride` bytes for each bit.
                let (place, threshold, wanted) = unsafe {
                    (
                        _mm512_loadu_si512(wires.place.as_ptr().add(at).cast()),
                        _mm512_loadu_si512(wires.thresholds.as_ptr().add(at).cast()),
                        _mm512_loadu_si512(wires.part.as_ptr().add(at).cast()),
                    )
                };
                let mut values = _mm512_permutex2var_epi8(low, place, high);
                for index in 1..parts {
                    let here = _mm512_cmpeq_epi8_mask(wanted, _mm512_set1_epi8(index as i8));
                    let (low, high) = part(index);
                    let found = _mm512_permutex2var_epi8(low, place, high);
                    values = _mm512_mask_mov_epi8(values, here, found);
                }
                let above = _mm512_cmpgt_epu8_mask(values, threshold);
                let set = _mm512_set1_epi8((1_u8 << bit).cast_signed());
                addresses = set_bytes(addresses, above, set);
            }
            let sixteens = [
                _mm512_castsi512_si128(addresses),
                _mm512_extracti32x4_epi32::<1>(addresses),
                _mm512_extracti32x4_epi32::<2>(addresses),
                _mm512_extracti32x4_epi32::<3>(addresses),
            ];
            let count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            let shift = _mm_cvtsi32_si128(wires.shift.cast_signed());
            for (index, sixteen) in sixteens.into_iter().enumerate() {
                let node = first + 16 * index;
                let nodes = _mm512_add_epi32(count, _mm512_set1_epi32(node as i32));
                let address = _mm512_cvtepu8_epi32(sixteen);
                let row = _mm512_add_epi32(_mm512_sll_epi32(nodes, shift), address);
                // SAFETY: rows are whole sixty-fours.
                unsafe { _mm512_storeu_si512(rows.as_mut_ptr().add(node).cast(), row) };
            }
        }
    }

    /// Sets these bits where the mask says; they are not set yet.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn set_bytes(bytes: __m512i, mask: __mmask64, set: __m512i) -> __m512i {
        _mm512_mask_add_epi8(bytes, mask, bytes, set)
    }
}

/// Wires that look at projections of all features.
#[derive(Debug, Clone)]
pub(crate) struct Projections {
    nodes: usize,
    shift: u32,
    matrix: dot::Bytes,
    /// Of each of the n bits, for each node up to whole sixteens.
    thresholds: Vec<i32>,
}

impl Projections {
    /// Weights `[node][bit][feature]` and a threshold for each wire; a bit is whether the sum of `weight * (feature
    /// - 128)` is above it.
    pub(crate) fn pack(weights: &[i8], thresholds: &[i32], inputs: usize, shift: u32) -> Self {
        let features = weights.len() / thresholds.len().max(1);
        let nodes = thresholds.len() / inputs.max(1);
        let stride = nodes.next_multiple_of(16);
        let mut sorted = vec![0; stride * inputs * features];
        // Nothing is above it.
        let mut shifted = vec![i32::MAX; stride * inputs];
        let wires = weights.chunks_exact(features.max(1)).zip(thresholds);
        for (at, (row, threshold)) in wires.enumerate() {
            let at = at % inputs * stride + at / inputs;
            sorted[at * features..][..features].copy_from_slice(row);
            // Features are taken as they are, so 128 times the sum of weights moves to the threshold.
            let sum = row.iter().map(|weight| i32::from(*weight)).sum::<i32>();
            shifted[at] = threshold.saturating_add(128 * sum);
        }
        let matrix = dot::Bytes::pack(&sorted, features);
        Self { nodes, shift, matrix, thresholds: shifted }
    }

    /// Rows that are written for a token: whole sixteens, of which the first ones are nodes.
    pub(crate) fn stride(&self) -> usize {
        self.nodes.next_multiple_of(16)
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(crate) fn shift(&self) -> u32 {
        self.shift
    }
}

/// The row of each node for each token, by way of `sums`, which is given room.
pub(crate) fn pick_projected(
    level: Level,
    projections: &Projections,
    features: &[u8],
    stride: usize,
    sums: &mut Vec<i32>,
    rows: &mut [u32],
) {
    let tokens = features.len() / stride.max(1);
    sums.resize(tokens * projections.matrix.stride(), 0);
    dot::dot(level, &projections.matrix, features, stride, sums);
    assert!(rows.len() >= tokens * projections.stride());
    above(level, projections, sums, rows);
}

for_each_level! {
    fn above(projections: &Projections, sums: &[i32], rows: &mut [u32]) = compare
}

#[inline(always)]
fn compare<L: Lanes>(projections: &Projections, sums: &[i32], rows: &mut [u32]) {
    let stride = projections.stride().max(1);
    let tokens = sums.chunks_exact(projections.matrix.stride().max(1));
    for (sums, rows) in tokens.zip(rows.chunks_exact_mut(stride)) {
        rows.iter_mut().zip(0_u32..).for_each(|(row, node)| *row = node << projections.shift);
        let bits = sums.chunks_exact(stride).zip(projections.thresholds.chunks_exact(stride));
        for (bit, (sums, thresholds)) in bits.enumerate() {
            for ((row, sum), threshold) in rows.iter_mut().zip(sums).zip(thresholds) {
                *row |= u32::from(sum > threshold) << bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::each_level;
    use super::*;

    fn random(seed: u32) -> impl Fn(usize) -> usize {
        move |i| {
            let mixed = (i as u32 ^ seed).wrapping_mul(2_654_435_761).rotate_left(13);
            (mixed.wrapping_mul(0x9e37_79b9) >> 8) as usize
        }
    }

    proptest! {
        #[test]
        fn addresses_are_bits_above_thresholds(
            features in prop::sample::select(vec![1_usize, 16, 64, 100, 128, 129, 200, 256, 300, 700, 3000]),
            nodes in 1_usize..150,
            inputs in 2_usize..9,
            seed in any::<u32>(),
        ) {
            let random = random(seed);
            let wires = (0..nodes * inputs)
                .map(|i| (random(i) % features, random(i + 5000) as u8))
                .collect::<Vec<_>>();
            let mut x = (0..features).map(|i| random(i + 9000) as u8).collect::<Vec<_>>();
            x.resize(feature_stride(features), 77);
            let packed = Wires::pack(wires.iter().copied(), inputs, features, inputs as u32);
            each_level(|level| {
                let mut rows = vec![9; packed.stride()];
                pick(level, &packed, &x, &mut rows);
                for (node, wires) in wires.chunks(inputs).enumerate() {
                    let bit = |(k, (feature, threshold)): (usize, &(usize, u8))| {
                        usize::from(x[*feature] > *threshold) << k
                    };
                    let address = wires.iter().enumerate().map(bit).sum::<usize>();
                    assert_eq!(rows[node] as usize, (node << inputs) + address, "{level}");
                }
            });
        }

        #[test]
        fn projected_addresses_are_sums_above_thresholds(
            features in 1_usize..150,
            nodes in 1_usize..40,
            inputs in 2_usize..9,
            tokens in 1_usize..9,
            seed in any::<u32>(),
        ) {
            let random = random(seed);
            let weights = (0..nodes * inputs * features).map(|i| random(i) as u8).collect::<Vec<_>>();
            let weights = weights.iter().map(|w| w.cast_signed()).collect::<Vec<_>>();
            let thresholds = (0..nodes * inputs)
                .map(|i| random(i + 5000) as i32 % 40_000 - 20_000)
                .collect::<Vec<_>>();
            let stride = feature_stride(features);
            let x = (0..tokens * stride).map(|i| random(i + 9000) as u8).collect::<Vec<_>>();
            let packed = Projections::pack(&weights, &thresholds, inputs, inputs as u32);
            each_level(|level| {
                let mut rows = vec![9; tokens * packed.stride()];
                pick_projected(level, &packed, &x, stride, &mut Vec::new(), &mut rows);
                for token in 0..tokens {
                    for node in 0..nodes {
                        let bit = |k: usize| {
                            let wire = node * inputs + k;
                            let row = &weights[wire * features..][..features];
                            let product = |(w, x): (&i8, &u8)| i32::from(*w) * (i32::from(*x) - 128);
                            let sum = row.iter().zip(&x[token * stride..]).map(product).sum::<i32>();
                            usize::from(sum > thresholds[wire]) << k
                        };
                        let address = (0..inputs).map(bit).sum::<usize>();
                        let row = rows[token * packed.stride() + node] as usize;
                        assert_eq!(row, (node << inputs) + address, "{level}");
                    }
                }
            });
        }
    }
}
