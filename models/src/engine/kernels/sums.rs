//! What is added to the residual, and integers on the way there and back.

use super::curves::{ROUND, gelu_lanes};
use super::for_each_level;
use super::lanes::Lanes;

for_each_level! {
    /// `x += y`. Both are whole lanes long.
    fn add(x: &mut [f32], y: &[f32]) = add_lanes
}

for_each_level! {
    /// `x += y + bias` for each token. All are whole lanes long.
    fn add_with_bias(x: &mut [f32], y: &[f32], bias: &[f32]) = add_rows_with_bias
}

for_each_level! {
    /// `x += bias + scale * sum` for each token. All are whole lanes long. Equal bits at every level.
    fn add_scaled(x: &mut [f32], sums: &[i32], scale: &[f32], bias: &[f32]) = add_scaled_rows
}

for_each_level! {
    /// Each token of `stride` floats as bytes around 128, and the scale that they have. A token of `to` has
    /// `to_stride` bytes, of which the first ones are written.
    fn quantise(x: &[f32], stride: usize, to: &mut [u8], to_stride: usize, scales: &mut [f32]) = quantise_rows
}

for_each_level! {
    /// `gelu(bias + scale of the token * scale * (sum - zero))`.
    fn restore_gelu(
        sums: &[i32],
        zero: &[i32],
        scale: &[f32],
        bias: &[f32],
        scales: &[f32],
        to: &mut [f32],
    ) = restore_gelu_rows
}

for_each_level! {
    /// `x += bias + scale of the token * scale * (sum - zero)`.
    fn restore_add(
        sums: &[i32],
        zero: &[i32],
        scale: &[f32],
        bias: &[f32],
        scales: &[f32],
        to: &mut [f32],
    ) = restore_add_rows
}

#[inline(always)]
fn add_lanes<L: Lanes>(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.as_chunks_mut().0.iter_mut().zip(y.as_chunks().0) {
        L::load(x).add(L::load(y)).store(x);
    }
}

#[inline(always)]
fn add_rows_with_bias<L: Lanes>(x: &mut [f32], y: &[f32], bias: &[f32]) {
    let stride = bias.len().max(1);
    for (x, y) in x.chunks_exact_mut(stride).zip(y.chunks_exact(stride)) {
        let lanes = x.as_chunks_mut().0.iter_mut().zip(y.as_chunks().0).zip(bias.as_chunks().0);
        for ((x, y), bias) in lanes {
            L::load(x).add(L::load(y).add(L::load(bias))).store(x);
        }
    }
}

#[inline(always)]
fn add_scaled_rows<L: Lanes>(x: &mut [f32], sums: &[i32], scale: &[f32], bias: &[f32]) {
    let stride = bias.len().max(1);
    for (x, sums) in x.chunks_exact_mut(stride).zip(sums.chunks_exact(stride)) {
        let lanes = x.as_chunks_mut().0.iter_mut().zip(sums.as_chunks().0);
        let lanes = lanes.zip(scale.as_chunks().0).zip(bias.as_chunks().0);
        for (((x, sums), scale), bias) in lanes {
            let scaled = L::of_integers(sums, &[0; 16]).mul(L::load(scale));
            L::load(x).add(scaled.add(L::load(bias))).store(x);
        }
    }
}

#[inline(always)]
fn quantise_rows<L: Lanes>(
    x: &[f32],
    stride: usize,
    to: &mut [u8],
    to_stride: usize,
    scales: &mut [f32],
) {
    let tokens = x.chunks_exact(stride.max(1)).zip(to.chunks_exact_mut(to_stride.max(1)));
    for ((x, to), scale) in tokens.zip(scales) {
        let zero = L::splat(0.0);
        let mut largest = zero;
        for x in x.as_chunks().0 {
            let x = L::load(x);
            largest = largest.max(x).max(zero.sub(x));
        }
        let largest = largest.largest();
        *scale = largest / 127.0;
        let inverse = L::splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
        for (to, x) in to.as_chunks_mut().0.iter_mut().zip(x.as_chunks().0) {
            *to = L::load(x).mul_add(inverse, L::splat(ROUND + 128.0)).low_bytes();
        }
    }
}

#[inline(always)]
fn restore_gelu_rows<L: Lanes>(
    sums: &[i32],
    zero: &[i32],
    scale: &[f32],
    bias: &[f32],
    scales: &[f32],
    to: &mut [f32],
) {
    restore::<L, true>(sums, zero, scale, bias, scales, to);
}

#[inline(always)]
fn restore_add_rows<L: Lanes>(
    sums: &[i32],
    zero: &[i32],
    scale: &[f32],
    bias: &[f32],
    scales: &[f32],
    to: &mut [f32],
) {
    restore::<L, false>(sums, zero, scale, bias, scales, to);
}

#[inline(always)]
fn restore<L: Lanes, const GELU: bool>(
    sums: &[i32],
    zero: &[i32],
    scale: &[f32],
    bias: &[f32],
    scales: &[f32],
    to: &mut [f32],
) {
    let stride = bias.len().max(1);
    let tokens = sums.chunks_exact(stride).zip(to.chunks_exact_mut(stride)).zip(scales);
    for ((sums, to), token) in tokens {
        let token = L::splat(*token);
        let lanes = to.as_chunks_mut().0.iter_mut().zip(sums.as_chunks().0);
        let lanes = lanes.zip(zero.as_chunks().0).zip(scale.as_chunks().0).zip(bias.as_chunks().0);
        for ((((to, sums), zero), scale), bias) in lanes {
            let scale = L::load(scale).mul(token);
            let value = L::of_integers(sums, zero).mul_add(scale, L::load(bias));
            if GELU {
                gelu_lanes(value).store(to);
            } else {
                L::load(to).add(value).store(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::each_level;
    use super::*;

    #[test]
    fn bytes_are_within_half_a_step() {
        each_level(|level| {
            let x = (0..96).map(|i| (i * 37 % 96) as f32 - 40.0).collect::<Vec<_>>();
            let (mut bytes, mut scales) = ([0; 128], [0.0; 2]);
            quantise(level, &x, 48, &mut bytes, 64, &mut scales);
            for (token, scale) in scales.into_iter().enumerate() {
                for (x, byte) in x[token * 48..][..48].iter().zip(&bytes[token * 64..]) {
                    let back = (f32::from(*byte) - 128.0) * scale;
                    assert!((back - x).abs() <= scale * 0.501, "{level}: {x} {back}");
                }
            }
            quantise(level, &[0.0; 16], 16, &mut bytes, 16, &mut scales);
            assert_eq!((bytes[0], scales[0]), (128, 0.0));
        });
    }

    #[test]
    fn what_was_scaled_is_restored() {
        each_level(|level| {
            let sums = (0..32).map(|i| i * 1000 - 7000).collect::<Vec<_>>();
            let zero = [100; 16];
            let (scale, bias, scales) = ([0.01; 16], [0.5; 16], [1.0, 2.0]);
            let mut to = [1.0; 32];
            restore_add(level, &sums, &zero, &scale, &bias, &scales, &mut to);
            for (i, found) in to.iter().enumerate() {
                let scale = if i < 16 { 0.01 } else { 0.02 };
                let expected = 1.0 + (sums[i] - 100) as f32 * scale + 0.5;
                assert!((found - expected).abs() < 1e-3, "{level}: {found} {expected}");
            }
            let mut to = [1.0; 32];
            add_scaled(level, &mut to, &sums, &scale, &bias);
            assert_eq!(to[3], 1.0 + (-4000.0 * 0.01 + 0.5));
            let mut to = [9.0; 32];
            restore_gelu(level, &sums, &zero, &[0.0; 16], &bias, &scales, &mut to);
            assert!(to.iter().all(|to| (to - 0.345_714).abs() < 1e-5), "{to:?}");
            let mut to = [1.0; 32];
            add(level, &mut to, &[0.25; 32]);
            add_with_bias(level, &mut to, &[0.5; 32], &[2.0; 16]);
            assert_eq!(to, [3.75; 32]);
        });
    }
}
