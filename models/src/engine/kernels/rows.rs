//! Sums of rows of bytes: what a block of tables spends its time on.
//!
//! A row is kept as unsigned bytes (each value plus the largest magnitude of the table), in lines of 64: bytes `2i`
//! and `2i + 1` of a line are its columns `i` and `32 + i`. Seen as words of 16 bits, adding the words and adding
//! their upper bytes gives both columns without unpacking a byte: the lower column is the sum of words less 256
//! times the sum of upper bytes, and nothing is lost below 2^16. Where values are small, several rows are first
//! added as bytes: 16 rows of 4-bit values fit. Integers up to the last step, which has one order: equal bits at
//! every level.

#![expect(
    clippy::indexing_slicing,
    reason = "indices run over arrays of registers, and columns over slices of one length"
)]

use super::{Level, Set};

/// Rows that are summed before words could overflow: 256 * 255 < 2^16.
const BLOCK: usize = 256;

/// A table of rows, packed.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Lines of a row.
    lines: usize,
    rows: usize,
    packed: Vec<Line>,
    /// What was added to each value.
    shift: i32,
    /// Rows that can be added as bytes: a power of two.
    group: usize,
    /// Of each column, with zeros up to whole lanes.
    scale: Vec<f32>,
    bias: Vec<f32>,
}

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Table {
    /// Packs row-major values of so many columns as there are scales.
    pub(crate) fn pack(values: &[i8], scale: &[f32], bias: &[f32]) -> Self {
        let width = scale.len().max(1);
        let (lines, rows) = (width.div_ceil(64), values.len() / width);
        let largest = values.iter().map(|v| v.unsigned_abs()).max().unwrap_or_default().max(1);
        let largest = largest.min(127);
        let group = [16, 8, 4, 2].into_iter().find(|group| 2 * group * usize::from(largest) <= 255);
        let mut packed = vec![Line([largest; 64]); rows * lines];
        let all = packed.chunks_exact_mut(lines).zip(values.chunks_exact(width));
        for (row, values) in all {
            for (line, values) in row.iter_mut().zip(values.chunks(64)) {
                for (column, value) in values.iter().enumerate() {
                    if let Some(byte) = line.0.get_mut(2 * (column % 32) + column / 32) {
                        *byte = largest.wrapping_add_signed(*value);
                    }
                }
            }
        }
        let filled = |values: &[f32]| {
            let mut values = values.to_vec();
            values.resize(width.next_multiple_of(16), 0.0);
            values
        };
        let (scale, bias) = (filled(scale), filled(bias));
        let (shift, group) = (i32::from(largest), group.unwrap_or(1));
        Self { lines, rows, packed, shift, group, scale, bias }
    }

    /// Rows that are added as bytes.
    #[cfg(test)]
    pub(crate) fn group(&self) -> usize {
        self.group
    }
}

/// `x += bias + scale * (sum of these rows)` for one token; `x` is whole lanes long.
pub(crate) fn add_rows(level: Level, table: &Table, rows: &[u32], x: &mut [f32]) {
    assert!(x.len() == table.scale.len() && table.packed.len() == table.rows * table.lines);
    debug_assert!(rows.iter().all(|row| (*row as usize) < table.rows));
    match level.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level exists only where the processor has its instructions; rows are below their number, which
        // whoever makes addresses takes care of: an address has as many bits as its node has rows.
        Set::Avx512 => unsafe { x86::avx512(table, rows, x) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: likewise.
        Set::Avx2 => unsafe { x86::avx2(table, rows, x) },
        Set::Portable => portable(table, rows, x),
    }
}

fn portable(table: &Table, rows: &[u32], x: &mut [f32]) {
    let shift = table.shift * i32::try_from(rows.len()).unwrap_or(i32::MAX);
    let columns = x.chunks_mut(64).zip(table.scale.chunks(64)).zip(table.bias.chunks(64));
    for (line, ((x, scale), bias)) in columns.enumerate() {
        let mut sums = [0_i32; 64];
        for rows in rows.chunks(BLOCK) {
            let (mut words, mut upper) = ([0_u16; 32], [0_u16; 32]);
            for row in rows {
                let Some(line) = table.packed.get(*row as usize * table.lines + line) else {
                    continue;
                };
                let pairs = line.0.as_chunks::<2>().0;
                for ((word, upper), pair) in words.iter_mut().zip(&mut upper).zip(pairs) {
                    let pair = u16::from_le_bytes(*pair);
                    *word = word.wrapping_add(pair);
                    *upper += pair >> 8;
                }
            }
            let (low, high) = sums.split_at_mut(32);
            for (((low, high), word), upper) in low.iter_mut().zip(high).zip(words).zip(upper) {
                *low += i32::from(word.wrapping_sub(upper << 8));
                *high += i32::from(upper);
            }
        }
        for (((x, sum), scale), bias) in x.iter_mut().zip(sums).zip(scale).zip(bias) {
            *x += (sum - shift) as f32 * scale + bias;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Table};

    /// # Safety
    ///
    /// The processor has the instructions, rows are below their number, and `x` has the table's columns.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn avx512(table: &Table, rows: &[u32], x: &mut [f32]) {
        let mut line = 0;
        while line < table.lines {
            // SAFETY: so many lines are left.
            line += unsafe {
                match (table.lines - line, table.group) {
                    (4.., 1) => lines512::<4, 1>(table, rows, x, line),
                    (4.., 2) => lines512::<4, 2>(table, rows, x, line),
                    (4.., 4) => lines512::<4, 4>(table, rows, x, line),
                    (4.., 8) => lines512::<4, 8>(table, rows, x, line),
                    (4.., _) => lines512::<4, 16>(table, rows, x, line),
                    (2.., 1) => lines512::<2, 1>(table, rows, x, line),
                    (2.., 2) => lines512::<2, 2>(table, rows, x, line),
                    (2.., 4) => lines512::<2, 4>(table, rows, x, line),
                    (2.., 8) => lines512::<2, 8>(table, rows, x, line),
                    (2.., _) => lines512::<2, 16>(table, rows, x, line),
                    (_, 1) => lines512::<1, 1>(table, rows, x, line),
                    (_, 2) => lines512::<1, 2>(table, rows, x, line),
                    (_, 4) => lines512::<1, 4>(table, rows, x, line),
                    (_, 8) => lines512::<1, 8>(table, rows, x, line),
                    (..) => lines512::<1, 16>(table, rows, x, line),
                }
            };
        }
    }

    /// The columns of L lines, G rows at a time; returns L.
    ///
    /// # Safety
    ///
    /// As [`avx512`], and the lines exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn lines512<const L: usize, const G: usize>(
        table: &Table,
        rows: &[u32],
        x: &mut [f32],
        line: usize,
    ) -> usize {
        // SAFETY: the line exists.
        let base = unsafe { table.packed.as_ptr().add(line) };
        // SAFETY: rows and their lines exist.
        let load = |row: u32, line: usize| unsafe {
            _mm512_load_si512(base.add(row as usize * table.lines + line).cast())
        };
        let zero = _mm512_setzero_si512();
        let mut sums = [[zero; 4]; L];
        for rows in rows.chunks(BLOCK) {
            let (mut words, mut upper) = ([zero; L], [zero; L]);
            let mut take = |line: usize, bytes: __m512i| {
                words[line] = _mm512_add_epi16(words[line], bytes);
                upper[line] = _mm512_add_epi16(upper[line], _mm512_srli_epi16::<8>(bytes));
            };
            let (groups, rest) = rows.as_chunks::<G>();
            for group in groups {
                for line in 0..L {
                    let mut bytes = load(group[0], line);
                    for row in &group[1..] {
                        bytes = _mm512_add_epi8(bytes, load(*row, line));
                    }
                    take(line, bytes);
                }
            }
            for row in rest {
                for line in 0..L {
                    take(line, load(*row, line));
                }
            }
            for ((sums, words), upper) in sums.iter_mut().zip(words).zip(upper) {
                let low = _mm512_sub_epi16(words, _mm512_slli_epi16::<8>(upper));
                let halves = [
                    _mm512_castsi512_si256(low),
                    _mm512_extracti64x4_epi64::<1>(low),
                    _mm512_castsi512_si256(upper),
                    _mm512_extracti64x4_epi64::<1>(upper),
                ];
                for (sum, half) in sums.iter_mut().zip(halves) {
                    *sum = _mm512_add_epi32(*sum, _mm512_cvtepu16_epi32(half));
                }
            }
        }
        let shift = _mm512_set1_epi32(table.shift * rows.len() as i32);
        let first = line * 64;
        let columns = x[first..].as_chunks_mut::<16>().0.iter_mut();
        let (scale, bias) = (&table.scale[first..], &table.bias[first..]);
        let (scale, bias) = (scale.as_chunks::<16>().0, bias.as_chunks::<16>().0);
        let columns = columns.zip(scale).zip(bias).zip(sums.as_flattened());
        for (((x, scale), bias), sum) in columns {
            // SAFETY: each chunk has sixteen floats.
            unsafe {
                let sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(*sum, shift));
                let scaled = _mm512_mul_ps(sum, _mm512_loadu_ps(scale.as_ptr()));
                let sum = _mm512_add_ps(scaled, _mm512_loadu_ps(bias.as_ptr()));
                _mm512_storeu_ps(x.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(x.as_ptr()), sum));
            }
        }
        L
    }

    /// # Safety
    ///
    /// As [`avx512`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(table: &Table, rows: &[u32], x: &mut [f32]) {
        for line in 0..table.lines {
            // SAFETY: the line exists.
            unsafe {
                match table.group {
                    1 => line256::<1>(table, rows, x, line),
                    2 => line256::<2>(table, rows, x, line),
                    4 => line256::<4>(table, rows, x, line),
                    8 => line256::<8>(table, rows, x, line),
                    _ => line256::<16>(table, rows, x, line),
                }
            }
        }
    }

    /// The columns of a line, G rows at a time.
    ///
    /// # Safety
    ///
    /// As [`avx512`], and the line exists.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn line256<const G: usize>(table: &Table, rows: &[u32], x: &mut [f32], line: usize) {
        // SAFETY: the line exists.
        let base = unsafe { table.packed.as_ptr().add(line) };
        // SAFETY: rows and their lines exist, and a line has two halves.
        let load = |row: u32, half: usize| unsafe {
            let line = base.add(row as usize * table.lines).cast::<__m256i>();
            _mm256_load_si256(line.add(half))
        };
        let zero = _mm256_setzero_si256();
        let mut sums = [zero; 8];
        for rows in rows.chunks(BLOCK) {
            let (mut words, mut upper) = ([zero; 2], [zero; 2]);
            let mut take = |half: usize, bytes: __m256i| {
                words[half] = _mm256_add_epi16(words[half], bytes);
                upper[half] = _mm256_add_epi16(upper[half], _mm256_srli_epi16::<8>(bytes));
            };
            let (groups, rest) = rows.as_chunks::<G>();
            for group in groups {
                for half in 0..2 {
                    let mut bytes = load(group[0], half);
                    for row in &group[1..] {
                        bytes = _mm256_add_epi8(bytes, load(*row, half));
                    }
                    take(half, bytes);
                }
            }
            for row in rest {
                for half in 0..2 {
                    take(half, load(*row, half));
                }
            }
            for half in 0..2 {
                let low = _mm256_sub_epi16(words[half], _mm256_slli_epi16::<8>(upper[half]));
                for (offset, words) in [(0, low), (4, upper[half])] {
                    let quarters =
                        [_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words)];
                    for (index, quarter) in quarters.into_iter().enumerate() {
                        let sum = &mut sums[offset + 2 * half + index];
                        *sum = _mm256_add_epi32(*sum, _mm256_cvtepu16_epi32(quarter));
                    }
                }
            }
        }
        let shift = _mm256_set1_epi32(table.shift * rows.len() as i32);
        let first = line * 64;
        let columns = x[first..].as_chunks_mut::<8>().0.iter_mut();
        let (scale, bias) = (&table.scale[first..], &table.bias[first..]);
        let (scale, bias) = (scale.as_chunks::<8>().0, bias.as_chunks::<8>().0);
        for (((x, scale), bias), sum) in columns.zip(scale).zip(bias).zip(sums) {
            // SAFETY: each chunk has eight floats.
            unsafe {
                let sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, shift));
                let scaled = _mm256_mul_ps(sum, _mm256_loadu_ps(scale.as_ptr()));
                let sum = _mm256_add_ps(scaled, _mm256_loadu_ps(bias.as_ptr()));
                _mm256_storeu_ps(x.as_mut_ptr(), _mm256_add_ps(_mm256_loadu_ps(x.as_ptr()), sum));
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
        fn sums_of_rows_are_exact(
            width in 1_usize..400,
            rows in 1_usize..40,
            count in 0_usize..600,
            largest in prop::sample::select(vec![127_i32, 63, 31, 7, 1]),
            seed in any::<u32>(),
        ) {
            let random = |i: usize| {
                (i as u32 ^ seed).wrapping_mul(2_654_435_761).rotate_left(11).wrapping_mul(0x9e37_79b9) >> 8
            };
            // Half of the values are extremes.
            let value = |i: usize| match random(i) % 4 {
                0 => largest,
                1 => -largest,
                _ => (random(i) / 4) as i32 % (largest + 1),
            };
            let values = (0..rows * width).map(|i| value(i) as i8).collect::<Vec<_>>();
            let scale = (0..width).map(|i| 0.01 + i as f32 / 1000.0).collect::<Vec<_>>();
            let bias = (0..width).map(|i| i as f32 / 7.0 - 3.0).collect::<Vec<_>>();
            let table = Table::pack(&values, &scale, &bias);
            let picked = (0..count).map(|i| random(i + 99) % rows as u32).collect::<Vec<_>>();
            each_level(|level| {
                let mut x = vec![1.5; width.next_multiple_of(16)];
                add_rows(level, &table, &picked, &mut x);
                for column in 0..width {
                    let value = |row: &u32| i32::from(values[*row as usize * width + column]);
                    let sum = picked.iter().map(value).sum::<i32>();
                    let expected = 1.5 + (sum as f32 * scale[column] + bias[column]);
                    assert_eq!(x[column].to_bits(), expected.to_bits(), "{level}");
                }
                assert!(x[width..].iter().all(|x| *x == 1.5));
            });
        }
    }

    #[test]
    fn small_values_are_added_as_bytes() {
        let group = |largest: i8| Table::pack(&[largest, -largest], &[1.0], &[0.0]).group();
        assert_eq!([127, 64, 63, 31, 15, 7].map(group), [1, 1, 2, 4, 8, 16]);
    }
}
