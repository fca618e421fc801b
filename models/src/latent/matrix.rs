//! Linear maps in fixed point: 16-bit weights and inputs, 32-bit sums, one rounding shift.
//!
//! `y[r] = clamp16((sum over c of weight[r, c] * x[c] + bias[r] + 2^(shift[r] - 1)) >> shift[r])`
//!
//! The shift is arithmetic. A [`Matrix`] exists only when no input can make a sum leave 32 bits, so the same numbers
//! come out in any order of summation, on every machine.

use super::LatentError;
use crate::engine::Level;

/// A linear map of vectors of `columns` numbers to vectors of `rows`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    weights: Vec<i16>,
    bias: Vec<i32>,
    shift: Vec<u8>,
}

impl Matrix {
    /// A map of `bias.len()` rows of weights, row-major.
    ///
    /// # Errors
    /// Lengths that do not fit together, a shift that is not 1 to 30, weights that could overflow 32 bits.
    pub fn new(weights: Vec<i16>, bias: Vec<i32>, shift: Vec<u8>) -> Result<Self, LatentError> {
        let rows = bias.len();
        let columns = weights.len() / rows.max(1);
        let wrong = |what: String| Err(LatentError::Matrix { what });
        if rows == 0 || columns == 0 || columns * rows != weights.len() || shift.len() != rows {
            let (weights, shifts) = (weights.len(), shift.len());
            return wrong(format!("{weights} weights, {rows} biases and {shifts} shifts"));
        }
        for (row, ((weights, bias), shift)) in
            weights.chunks_exact(columns).zip(&bias).zip(&shift).enumerate()
        {
            if !(1..=30).contains(shift) {
                return wrong(format!("a shift of {shift} in row {row}"));
            }
            let sum: i64 = weights.iter().map(|weight| i64::from(weight.unsigned_abs())).sum();
            let half = 1_i64 << (shift - 1);
            if sum * 32_768 + i64::from(bias.unsigned_abs()) + half > i64::from(i32::MAX) {
                return wrong(format!("weights that overflow 32 bits in row {row}"));
            }
        }
        Ok(Self { rows, columns, weights, bias, shift })
    }

    /// The nearest map to `weights * x + bias` in fixed point. The weights of each row get as many bits as fit.
    ///
    /// # Errors
    /// Lengths that do not fit together, or numbers that are not finite or too large for 16 bits.
    pub fn nearest(weights: &[f64], bias: &[f64]) -> Result<Self, LatentError> {
        let columns = (weights.len() / bias.len().max(1)).max(1);
        let mut whole = Vec::with_capacity(weights.len());
        let (mut biases, mut shifts) = (Vec::new(), Vec::new());
        for (row, bias) in weights.chunks_exact(columns).zip(bias) {
            let sum: f64 = row.iter().map(|weight| weight.abs()).sum();
            let largest = row.iter().fold(0.0_f64, |most, weight| most.max(weight.abs()));
            let fits = |shift: &u8| {
                let scale = f64::from(1_u32 << shift);
                let rounding = row.len() as f64 / 2.0;
                largest * scale < 32_767.0
                    && (sum * scale + rounding) * 32_768.0 + bias.abs() * scale + scale
                        < f64::from(i32::MAX)
            };
            let Some(shift) = (1..=30).rev().find(fits) else {
                let what = format!("weights as large as {largest:.0} and a bias of {bias:.0}");
                return Err(LatentError::Matrix { what });
            };
            let scale = f64::from(1_u32 << shift);
            whole.extend(row.iter().map(|weight| (weight * scale).round() as i16));
            biases.push((bias * scale).round() as i32);
            shifts.push(shift);
        }
        Self::new(whole, biases, shifts)
    }

    /// Numbers that come out.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers that go in.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Weights, row-major.
    pub fn weights(&self) -> &[i16] {
        &self.weights
    }

    /// What is added to each row's sum.
    pub fn bias(&self) -> &[i32] {
        &self.bias
    }

    /// By how many bits each row's sum is shifted.
    pub fn shift(&self) -> &[u8] {
        &self.shift
    }

    /// The first `rows` rows and `columns` columns, as the kernels read them.
    pub(crate) fn pack(&self, rows: usize, columns: usize) -> Packed {
        let (rows, columns) = (rows.min(self.rows), columns.min(self.columns));
        let pair = |pair: &[i16]| match pair {
            [first, second, ..] => [*first, *second],
            [first] => [*first, 0],
            [] => [0, 0],
        };
        let all = self.weights.chunks_exact(self.columns).take(rows);
        let weights = all
            .flat_map(|row| row.get(..columns).unwrap_or_default().chunks(2).map(pair))
            .collect();
        let ends = self.bias.iter().zip(&self.shift).take(rows);
        Packed {
            rows,
            pairs: columns.div_ceil(2),
            weights,
            ends: ends.map(|(bias, shift)| (bias + (1 << (shift - 1)), *shift)).collect(),
        }
    }
}

/// A map with its weights in pairs.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    rows: usize,
    pairs: usize,
    /// `[rows, pairs]`.
    weights: Vec<[i16; 2]>,
    /// Of each row, the bias with half a unit, and the shift.
    ends: Vec<(i32, u8)>,
}

/// Vectors that are worked on at once.
pub(crate) const STEP: usize = 16;
/// Rows that are summed at once, so that an input is loaded once for all of them.
const BLOCK: usize = 6;

impl Packed {
    /// Numbers that come out.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Pairs of inputs of a vector.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// `y = map(x)` for `n` vectors, a multiple of [`STEP`]: `x` is `[pairs, n]`, `y` is `[rows, n]` of some of the
    /// first rows.
    ///
    /// # Panics
    /// When the lengths do not fit, which is a mistake in the caller.
    pub(crate) fn apply(&self, level: Level, x: &[[i16; 2]], n: usize, y: &mut [i16]) {
        assert!(n.is_multiple_of(STEP) && x.len() == self.pairs * n && y.len() <= self.rows * n);
        if n == 0 {
            return;
        }
        let blocks = self.weights.chunks(self.pairs.max(1) * BLOCK);
        let ends = self.ends.get(..y.len() / n).unwrap_or_default().chunks(BLOCK);
        for ((weights, ends), y) in blocks.zip(ends).zip(y.chunks_mut(BLOCK * n)) {
            match ends.len() {
                1 => block::<1>(level, weights, ends, x, n, y),
                2 => block::<2>(level, weights, ends, x, n, y),
                3 => block::<3>(level, weights, ends, x, n, y),
                4 => block::<4>(level, weights, ends, x, n, y),
                5 => block::<5>(level, weights, ends, x, n, y),
                _ => block::<6>(level, weights, ends, x, n, y),
            }
        }
    }
}

/// `R` rows.
fn block<const R: usize>(
    level: Level,
    weights: &[[i16; 2]],
    ends: &[(i32, u8)],
    x: &[[i16; 2]],
    n: usize,
    y: &mut [i16],
) {
    let pairs = x.len() / n;
    let weights = weights.get(..R * pairs).unwrap_or_default();
    for start in (0..n).step_by(STEP) {
        let Some(x) = x.get(start..) else { continue };
        let sums: [[i32; STEP]; R] = sums(level, weights, pairs, x, n);
        for ((sums, (bias, shift)), y) in sums.iter().zip(ends).zip(y.chunks_exact_mut(n)) {
            for (y, sum) in y.iter_mut().skip(start).zip(sums) {
                *y = ((sum + bias) >> shift).clamp(-32_768, 32_767) as i16;
            }
        }
    }
}

#[inline(always)]
fn sums<const R: usize>(
    level: Level,
    weights: &[[i16; 2]],
    pairs: usize,
    x: &[[i16; 2]],
    n: usize,
) -> [[i32; STEP]; R] {
    // What the pointers of the kernels rely on.
    assert!(weights.len() == R * pairs && (pairs == 0 || x.len() >= (pairs - 1) * n + STEP));
    #[cfg(target_arch = "x86_64")]
    {
        if level.is_avx512() {
            // SAFETY: a level exists only where the processor has its instructions; lengths were checked.
            return unsafe { x86::avx512(weights, pairs, x, n) };
        }
        if level.is_avx2() {
            // SAFETY: likewise.
            return unsafe { x86::avx2(weights, pairs, x, n) };
        }
    }
    let _ = level;
    let mut sums = [[0; STEP]; R];
    for (pair, x) in x.chunks(n).take(pairs).enumerate() {
        for (sums, weights) in sums.iter_mut().zip(weights.chunks_exact(pairs)) {
            let [u, v] = weights.get(pair).copied().unwrap_or_default();
            for (sum, [a, b]) in sums.iter_mut().zip(x) {
                *sum += i32::from(u) * i32::from(*a) + i32::from(v) * i32::from(*b);
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::STEP;

    /// # Safety
    ///
    /// The processor has the instructions; `weights` has `R * pairs` pairs and `x` has `(pairs - 1) * n + 16`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn avx512<const R: usize>(
        weights: &[[i16; 2]],
        pairs: usize,
        x: &[[i16; 2]],
        n: usize,
    ) -> [[i32; STEP]; R] {
        let (weights, x) = (weights.as_ptr().cast::<i32>(), x.as_ptr());
        let mut sums = [_mm512_setzero_si512(); R];
        for pair in 0..pairs {
            // SAFETY: `pair` is below `pairs`, and rows below `R`; loads need no alignment.
            unsafe {
                let x = _mm512_loadu_si512(x.add(pair * n).cast());
                for (row, sum) in sums.iter_mut().enumerate() {
                    let weight = weights.add(row * pairs + pair).read_unaligned();
                    *sum = _mm512_dpwssd_epi32(*sum, x, _mm512_set1_epi32(weight));
                }
            }
        }
        let mut out = [[0; STEP]; R];
        for (out, sum) in out.iter_mut().zip(sums) {
            // SAFETY: `out` has sixteen numbers.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sum) };
        }
        out
    }

    /// # Safety
    ///
    /// As [`avx512`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2<const R: usize>(
        weights: &[[i16; 2]],
        pairs: usize,
        x: &[[i16; 2]],
        n: usize,
    ) -> [[i32; STEP]; R] {
        let (weights, x) = (weights.as_ptr().cast::<i32>(), x.as_ptr());
        let mut out = [[0; STEP]; R];
        for half in 0..2 {
            let mut sums = [_mm256_setzero_si256(); R];
            for pair in 0..pairs {
                // SAFETY: `pair` is below `pairs`, rows below `R`, and both halves stand in `x`.
                unsafe {
                    let x = _mm256_loadu_si256(x.add(pair * n + half * 8).cast());
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let weight = weights.add(row * pairs + pair).read_unaligned();
                        let product = _mm256_madd_epi16(x, _mm256_set1_epi32(weight));
                        *sum = _mm256_add_epi32(*sum, product);
                    }
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                // SAFETY: `out` has two halves of eight numbers.
                unsafe { _mm256_storeu_si256(out.as_mut_ptr().add(half * 8).cast(), sum) };
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_level_gives_what_the_formula_says(
            rows in 1_usize..15,
            columns in 1_usize..20,
            steps in 1_usize..4,
            seed in 0_u64..1000,
        ) {
            let mut random = crate::random::Random::new(seed);
            let n = steps * STEP;
            let weights: Vec<i16> = (0..rows * columns).map(|_| random.below(6000) as i16 - 3000).collect();
            let bias: Vec<i32> = (0..rows).map(|_| random.below(2_000_000) as i32 - 1_000_000).collect();
            let shift: Vec<u8> = (0..rows).map(|_| random.below(16) as u8 + 1).collect();
            let x: Vec<Vec<i16>> =
                (0..columns).map(|_| (0..n).map(|_| random.next() as i16).collect()).collect();
            let matrix = Matrix::new(weights.clone(), bias.clone(), shift.clone()).unwrap();
            let packed = matrix.pack(rows, columns);
            let pairs: Vec<[i16; 2]> = (0..packed.pairs())
                .flat_map(|pair| {
                    let x = &x;
                    (0..n).map(move |at| [x[2 * pair][at], x.get(2 * pair + 1).map_or(0, |x| x[at])])
                })
                .collect();
            for level in Level::available() {
                let mut y = vec![0; rows * n];
                packed.apply(level, &pairs, n, &mut y);
                for (at, y) in y.iter().enumerate() {
                    let (row, at) = (at / n, at % n);
                    let sum: i64 = (0..columns)
                        .map(|c| i64::from(weights[row * columns + c]) * i64::from(x[c][at]))
                        .sum();
                    let sum = (sum + i64::from(bias[row]) + (1 << (shift[row] - 1))) >> shift[row];
                    prop_assert_eq!(i64::from(*y), sum.clamp(-32_768, 32_767), "{} {}", level, row);
                }
            }
        }
    }

    #[test]
    fn weights_keep_as_many_bits_as_fit_and_none_overflows() {
        let matrix = Matrix::nearest(&[0.5, -0.25, 1e-3, 2e-3], &[10.0, 0.0]).unwrap();
        let real = |at: usize| {
            f64::from(matrix.weights()[at]) / f64::from(1_u32 << matrix.shift()[at / 2])
        };
        assert!((real(0) - 0.5).abs() < 1e-4 && (real(3) - 2e-3).abs() < 1e-7);
        assert!(Matrix::nearest(&[40_000.0], &[0.0]).is_err());
        assert!(Matrix::nearest(&[f64::NAN], &[0.0]).is_err());
        assert!(Matrix::new(vec![32_767; 3], vec![0], vec![1]).is_err());
        assert!(Matrix::new(vec![1; 3], vec![0; 2], vec![1; 2]).is_err());
        assert!(Matrix::new(vec![1], vec![0], vec![0]).is_err());
    }
}
