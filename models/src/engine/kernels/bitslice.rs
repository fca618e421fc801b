//! 1-bit tables for many tokens at once: a bit of 512 tokens is a plane of eight words, and a table is a tree of
//! choices between planes.
//!
//! The sixteen functions of the first two inputs are made once for a node; four bits of its table pick one of
//! them, and each further input chooses between two. With AVX-512 a plane is a register and a choice is one
//! instruction. The table is data: nothing is compiled for it.

#![expect(
    clippy::indexing_slicing,
    reason = "wires lead to planes, which is checked when an artifact is opened"
)]

use super::for_each_level;
use super::lanes::Lanes;

/// Tokens of a tile.
pub(crate) const TOKENS: usize = 512;
/// Words of a plane.
const WORDS: usize = TOKENS / 64;

/// A bit of each token of a tile.
pub(crate) type Plane = [u64; WORDS];

/// One bit of the thermometer: whether a feature is above a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Above {
    pub(crate) feature: u32,
    pub(crate) threshold: u8,
}

/// A layer of 1-bit tables.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) inputs: usize,
    /// Of each node, its planes.
    pub(crate) wires: Vec<u32>,
    /// Of each node, its table.
    pub(crate) tables: Vec<u64>,
    /// Words of a table.
    pub(crate) words: usize,
}

for_each_level! {
    /// A plane for each of these bits, of up to [`TOKENS`] tokens whose features are `stride` bytes apart. Columns
    /// are room to work in.
    fn thermometer(
        bits: &[Above],
        features: &[u8],
        stride: usize,
        columns: &mut Vec<[u8; 64]>,
        planes: &mut [Plane],
    ) = encode
}

for_each_level! {
    /// A plane for each node of a layer, from the planes before it.
    fn evaluate(layer: &Layer, from: &[Plane], to: &mut [Plane]) = evaluate_nodes
}

for_each_level! {
    /// Planes as bytes 0 and 1, `stride` bytes for each token: whole sixty-fours.
    fn spread(planes: &[Plane], to: &mut [u8], stride: usize) = spread_planes
}

#[inline(always)]
fn encode<L: Lanes>(
    bits: &[Above],
    features: &[u8],
    stride: usize,
    columns: &mut Vec<[u8; 64]>,
    planes: &mut [Plane],
) {
    planes.iter_mut().for_each(|plane| *plane = [0; WORDS]);
    columns.resize(stride.next_multiple_of(64), [0; 64]);
    for (word, features) in features.chunks(64 * stride).enumerate().take(WORDS) {
        turn(features, stride, columns);
        for (bit, plane) in bits.iter().zip(planes.iter_mut()) {
            plane[word] = L::above(&columns[bit.feature as usize], bit.threshold);
        }
    }
}

/// Rows of bytes as columns: eight tokens by sixty-four features at a time, whose bytes change places in words.
#[inline(always)]
fn turn(features: &[u8], stride: usize, columns: &mut [[u8; 64]]) {
    for (token, rows) in features.chunks(8 * stride).enumerate() {
        for (block, columns) in columns.chunks_exact_mut(64).enumerate() {
            let mut words = [[0_u64; 8]; 8];
            for (words, row) in words.iter_mut().zip(rows.chunks_exact(stride)) {
                let row = &row[block * 64..];
                let mut bytes = [0; 64];
                match row.first_chunk() {
                    Some(row) => bytes = *row,
                    None => bytes[..row.len()].copy_from_slice(row),
                }
                let eights = bytes.as_chunks::<8>().0;
                words
                    .iter_mut()
                    .zip(eights)
                    .for_each(|(word, eight)| *word = u64::from_le_bytes(*eight));
            }
            exchange(&mut words, 4, 0x0000_0000_ffff_ffff);
            exchange(&mut words, 2, 0x0000_ffff_0000_ffff);
            exchange(&mut words, 1, 0x00ff_00ff_00ff_00ff);
            for (feature, words) in words.iter().enumerate() {
                for (eight, word) in words.iter().enumerate() {
                    let column = &mut columns[8 * eight + feature];
                    column[8 * token..8 * token + 8].copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
}

/// The upper halves of some words change places with the lower halves of others, `apart` rows below.
#[inline(always)]
fn exchange<const R: usize>(rows: &mut [[u64; 8]; R], apart: usize, mask: u64) {
    let shift = 64 / R * apart;
    for rows in rows.chunks_exact_mut(2 * apart) {
        let (low, high) = rows.split_at_mut(apart);
        for (low, high) in low.iter_mut().zip(high) {
            for (low, high) in low.iter_mut().zip(high) {
                let changed = ((*low >> shift) ^ *high) & mask;
                *high ^= changed;
                *low ^= changed << shift;
            }
        }
    }
}

#[inline(always)]
fn evaluate_nodes<L: Lanes>(layer: &Layer, from: &[Plane], to: &mut [Plane]) {
    match layer.inputs {
        2 => nodes_of::<L, 2>(layer, from, to),
        3 => nodes_of::<L, 3>(layer, from, to),
        4 => nodes_of::<L, 4>(layer, from, to),
        5 => nodes_of::<L, 5>(layer, from, to),
        6 => nodes_of::<L, 6>(layer, from, to),
        7 => nodes_of::<L, 7>(layer, from, to),
        _ => nodes_of::<L, 8>(layer, from, to),
    }
}

#[inline(always)]
fn nodes_of<L: Lanes, const N: usize>(layer: &Layer, from: &[Plane], to: &mut [Plane]) {
    let (wires, _) = layer.wires.as_chunks::<N>();
    let (zero, all) = (L::load_plane(&[0; WORDS]), L::load_plane(&[u64::MAX; WORDS]));
    for ((wires, table), to) in wires.iter().zip(layer.tables.chunks_exact(layer.words)).zip(to) {
        let mut planes = [zero; N];
        for (plane, wire) in planes.iter_mut().zip(wires) {
            *plane = L::load_plane(&from[*wire as usize]);
        }
        // The sixteen functions of the first two inputs: function `f` is bit `a + 2 b` of `f`. Those of the first
        // alone, for the second 0 and 1, are two bits of `f` each.
        let first = [zero, L::choose(planes[0], all, zero), planes[0], all];
        let mut functions = [zero; 16];
        for (function, to) in functions.iter_mut().enumerate() {
            *to = L::choose(planes[1], first[function & 3], first[function >> 2]);
        }
        let leaves = Leaves { table, functions: &functions };
        let output = match N {
            2 => leaves.leaf::<L>(0),
            3 => leaves.three::<L, N>(&planes, 0),
            4 => leaves.four::<L, N>(&planes, 0),
            5 => leaves.five::<L, N>(&planes, 0),
            6 => leaves.six::<L, N>(&planes, 0),
            7 => leaves.seven::<L, N>(&planes, 0),
            _ => leaves.eight::<L, N>(&planes, 0),
        };
        L::store_plane(output, to);
    }
}

/// The leaves of a node's tree: functions of its first two inputs, of which each four bits of its table pick one.
struct Leaves<'a, P> {
    table: &'a [u64],
    functions: &'a [P; 16],
}

/// A subtree of so many inputs, from a leaf on.
macro_rules! subtree {
    ($name:ident, $input:literal, $below:ident) => {
        #[inline(always)]
        fn $name<L: Lanes<Plane = P>, const N: usize>(&self, planes: &[P; N], leaf: usize) -> P {
            let half = 1 << ($input - 2);
            let (zero, one) =
                (self.$below::<L, N>(planes, leaf), self.$below::<L, N>(planes, leaf + half));
            planes.get($input).map_or(zero, |select| L::choose(*select, zero, one))
        }
    };
}

impl<P: Copy> Leaves<'_, P> {
    #[inline(always)]
    fn leaf<L: Lanes<Plane = P>>(&self, leaf: usize) -> P {
        let nibble = self.table[leaf / 16] >> (leaf % 16 * 4) & 15;
        self.functions[nibble as usize]
    }

    #[inline(always)]
    fn two<L: Lanes<Plane = P>, const N: usize>(&self, _: &[P; N], leaf: usize) -> P {
        self.leaf::<L>(leaf)
    }

    subtree!(three, 2, two);
    subtree!(four, 3, three);
    subtree!(five, 4, four);
    subtree!(six, 5, five);
    subtree!(seven, 6, six);
    subtree!(eight, 7, seven);
}

#[inline(always)]
fn spread_planes<L: Lanes>(planes: &[Plane], to: &mut [u8], stride: usize) {
    for (at, planes) in planes.chunks(64).enumerate() {
        // Bit `j` of word `i` becomes bit `i` of word `j` (Hacker's Delight, section 7-3), eight words at a time.
        let mut square = [[0; WORDS]; 64];
        square.iter_mut().zip(planes).for_each(|(row, plane)| *row = *plane);
        let mut mask = 0x0000_0000_ffff_ffff_u64;
        let mut half = 32;
        while half > 0 {
            exchange(&mut square, half, mask);
            half /= 2;
            mask ^= mask << half;
        }
        for (token, words) in square.iter().enumerate() {
            for (word, bits) in words.iter().enumerate() {
                let from = (word * 64 + token) * stride + at * 64;
                if let Some(to) = to.get_mut(from..).and_then(<[u8]>::first_chunk_mut) {
                    L::spread(*bits, to);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::each_level;
    use super::*;

    fn random(seed: u32) -> impl Fn(usize) -> u64 {
        move |i| {
            let mixed = (i as u64 ^ u64::from(seed) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 3
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn planes_are_tables_bit_by_bit(
            inputs in 2_usize..9,
            bits in 1_usize..40,
            nodes in 1_usize..150,
            tokens in 1_usize..513,
            seed in any::<u32>(),
        ) {
            let random = random(seed);
            let stride = 128;
            let features = (0..tokens * stride).map(|i| random(i) as u8).collect::<Vec<_>>();
            let mut above = (0..bits)
                .map(|i| Above { feature: (random(i + 7) % 128) as u32, threshold: random(i + 9) as u8 })
                .collect::<Vec<_>>();
            above.sort();
            let words = (1_usize << inputs).div_ceil(64);
            let layer = Layer {
                inputs,
                wires: (0..nodes * inputs).map(|i| (random(i + 11) % bits as u64) as u32).collect(),
                tables: (0..nodes * words).map(|i| random(i + 13) << 3 ^ random(i + 17)).collect(),
                words,
            };
            each_level(|level| {
                let mut planes = vec![[7; WORDS]; bits];
                thermometer(level, &above, &features, stride, &mut Vec::new(), &mut planes);
                let mut outputs = vec![[7; WORDS]; nodes];
                evaluate(level, &layer, &planes, &mut outputs);
                let spread_stride = nodes.next_multiple_of(64);
                let mut bytes = vec![7; TOKENS * spread_stride];
                spread(level, &outputs, &mut bytes, spread_stride);
                for token in 0..tokens {
                    let bit = |wire: u32| {
                        let above = above[wire as usize];
                        features[token * stride + above.feature as usize] > above.threshold
                    };
                    for node in 0..nodes {
                        let wires = &layer.wires[node * inputs..][..inputs];
                        let address = (0..inputs).map(|k| usize::from(bit(wires[k])) << k).sum::<usize>();
                        let table = &layer.tables[node * words..][..words];
                        let expected = table[address / 64] >> (address % 64) & 1;
                        assert_eq!(u64::from(bytes[token * spread_stride + node]), expected, "{level}");
                    }
                }
            });
        }
    }
}
