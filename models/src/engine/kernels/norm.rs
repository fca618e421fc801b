//! LayerNorm, to floats or onto the integer grid. Equal bits at every level.

use super::curves::ROUND;
use super::for_each_level;
use super::lanes::Lanes;
use crate::artifact::architecture::NORM_EPSILON;

/// Gain and bias of a norm, each filled up with zeros to whole lanes.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) width: usize,
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

for_each_level! {
    /// Each row of `x`, normalised. Rows are as long as the gain; behind the width they hold zeros.
    fn norm(norm: &Norm, x: &[f32], to: &mut [f32]) = norm_rows
}

for_each_level! {
    /// Each row of `x`, normalised and put onto the grid: `q = clamp(round_half_even(32 y) + 128, 0, 255)`.
    /// A row of `to` has `stride` bytes, of which the first ones are written.
    fn norm_to_grid(norm: &Norm, x: &[f32], to: &mut [u8], stride: usize) = norm_rows_to_grid
}

#[inline(always)]
fn norm_rows<L: Lanes>(norm: &Norm, x: &[f32], to: &mut [f32]) {
    let stride = norm.gain.len().max(1);
    let (gains, biases) = (norm.gain.as_chunks().0, norm.bias.as_chunks().0);
    for (x, to) in x.chunks_exact(stride).zip(to.chunks_exact_mut(stride)) {
        let x = x.as_chunks().0;
        let (mean, inverse) = moments::<L>(norm, x);
        let lanes = x.iter().zip(to.as_chunks_mut().0).zip(gains).zip(biases);
        for (((x, to), gain), bias) in lanes {
            scaled(x, mean, inverse, gain, bias).store(to);
        }
    }
}

#[inline(always)]
fn norm_rows_to_grid<L: Lanes>(norm: &Norm, x: &[f32], to: &mut [u8], stride: usize) {
    let (gains, biases) = (norm.gain.as_chunks().0, norm.bias.as_chunks().0);
    for (x, to) in x.chunks_exact(norm.gain.len().max(1)).zip(to.chunks_exact_mut(stride.max(1))) {
        let x = x.as_chunks().0;
        let (mean, inverse) = moments::<L>(norm, x);
        let lanes = x.iter().zip(to.as_chunks_mut().0).zip(gains).zip(biases);
        for (((x, to), gain), bias) in lanes {
            *to = grid(scaled(x, mean, inverse, gain, bias));
        }
    }
}

/// The mean of a row, and one by its deviation.
#[inline(always)]
fn moments<L: Lanes>(norm: &Norm, x: &[[f32; 16]]) -> (L, L) {
    let share = 1.0 / norm.width as f32;
    let (whole, part) = x.split_at(norm.width / 16);
    // Two sums at once, of every second sixteen: an addition need not wait for the one before.
    let (pairs, single) = whole.as_chunks::<2>();
    let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
    for [first, second] in pairs {
        even = even.add(L::load(first));
        odd = odd.add(L::load(second));
    }
    for x in single.iter().chain(part) {
        even = even.add(L::load(x));
    }
    let mean = L::splat(even.add(odd).sum() * share);
    let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
    for [first, second] in pairs {
        let (first, second) = (L::load(first).sub(mean), L::load(second).sub(mean));
        even = even.add(first.mul(first));
        odd = odd.add(second.mul(second));
    }
    for x in single {
        let difference = L::load(x).sub(mean);
        even = even.add(difference.mul(difference));
    }
    for x in part {
        // The zeros behind the width are no values.
        let mut kept = [0.0; 16];
        kept.iter_mut().take(norm.width % 16).for_each(|kept| *kept = 1.0);
        let difference = L::load(x).sub(mean).mul(L::load(&kept));
        even = even.add(difference.mul(difference));
    }
    let variance = even.add(odd).sum() * share;
    (mean, L::splat(1.0 / (variance + NORM_EPSILON).sqrt()))
}

#[inline(always)]
fn scaled<L: Lanes>(x: &[f32; 16], mean: L, inverse: L, gain: &[f32; 16], bias: &[f32; 16]) -> L {
    L::load(x).sub(mean).mul(inverse).mul(L::load(gain)).add(L::load(bias))
}

/// Sixteen values onto the grid.
#[inline(always)]
fn grid<L: Lanes>(y: L) -> [u8; 16] {
    let scaled = y.mul(L::splat(32.0)).min(L::splat(127.0)).max(L::splat(-128.0));
    scaled.add(L::splat(ROUND + 128.0)).low_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::each_level;
    use super::*;

    fn padded(values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        values.resize(values.len().next_multiple_of(16), 0.0);
        values
    }

    proptest! {
        #[test]
        fn rows_have_mean_0_and_deviation_1(
            width in 2_usize..200,
            tokens in 1_usize..4,
            seed in any::<u32>(),
        ) {
            let value = |i: usize| {
                ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / 1e6
            };
            let rows = (0..tokens).map(|t| (0..width).map(|i| value(t * width + i)).collect());
            let rows: Vec<Vec<f32>> = rows.collect();
            let x = rows.iter().flat_map(|row| padded(row)).collect::<Vec<_>>();
            let gain = padded(&(0..width).map(|i| 0.5 + i as f32 / 100.0).collect::<Vec<_>>());
            let bias = padded(&(0..width).map(|i| 1.0 - i as f32 / 50.0).collect::<Vec<_>>());
            let norm = Norm { width, gain, bias };
            each_level(|level| {
                let mut to = vec![9.0; x.len()];
                super::norm(level, &norm, &x, &mut to);
                let mut bytes = vec![9; tokens * 256];
                norm_to_grid(level, &norm, &x, &mut bytes, 256);
                let stride = norm.gain.len();
                for (token, row) in rows.iter().enumerate() {
                    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
                    let square = |x: &f32| (f64::from(*x) - mean).powi(2);
                    let variance = row.iter().map(square).sum::<f64>() / width as f64;
                    for (i, x) in row.iter().enumerate() {
                        let y = (f64::from(*x) - mean) / (variance + 1e-5).sqrt();
                        let y = y * f64::from(norm.gain[i]) + f64::from(norm.bias[i]);
                        let found = to[token * stride + i];
                        assert!((f64::from(found) - y).abs() < 1e-3, "{level}: {found} {y}");
                        let q = (found * 32.0).round_ties_even().clamp(-128.0, 127.0) + 128.0;
                        assert_eq!(f32::from(bytes[token * 256 + i]), q, "{level}");
                    }
                    assert!(to[token * stride + width..(token + 1) * stride].iter().all(|y| *y == 0.0));
                }
            });
            let mut results = Vec::new();
            for level in super::super::Level::available() {
                let mut to = vec![9.0; x.len()];
                super::norm(level, &norm, &x, &mut to);
                results.push(to.iter().map(|y| y.to_bits()).collect::<Vec<_>>());
            }
            for result in &results {
                prop_assert_eq!(result, &results[0]);
            }
        }
    }
}
