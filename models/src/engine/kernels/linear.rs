//! Products of floats by a matrix.
//!
//! Weights are packed once: groups of sixteen outputs, and within a group the sixteen weights of each input. A
//! tile of a few tokens and groups keeps its sums in registers. Each output is summed over its inputs in order, so
//! that a token gets the same bits in any tile.

#![expect(
    clippy::indexing_slicing,
    reason = "tiles are cut from slices whose lengths are asserted at the entry"
)]

use super::for_each_level;
use super::lanes::Lanes;

/// A matrix `[out, in]`, packed.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    weights: Vec<[f32; 16]>,
}

impl Matrix {
    /// Packs row-major weights.
    pub(crate) fn pack(weights: &[f32], inputs: usize) -> Self {
        let inputs = inputs.max(1);
        let outputs = weights.len() / inputs;
        let mut packed = vec![[0.0; 16]; outputs.div_ceil(16) * inputs];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let group = packed.chunks_exact_mut(inputs).nth(output / 16).unwrap_or_default();
            for (lanes, weight) in group.iter_mut().zip(row) {
                if let Some(lane) = lanes.get_mut(output % 16) {
                    *lane = *weight;
                }
            }
        }
        Self { inputs, outputs, weights: packed }
    }

    /// Floats that a token's outputs take: whole lanes.
    pub(crate) fn stride(&self) -> usize {
        self.outputs.next_multiple_of(16)
    }
}

for_each_level! {
    /// `to = matrix * x` for each token. A token of `x` has `stride` floats, one of `to` has `matrix.stride()`.
    fn linear(matrix: &Matrix, x: &[f32], stride: usize, to: &mut [f32]) = product
}

#[inline(always)]
fn product<L: Lanes>(matrix: &Matrix, x: &[f32], stride: usize, to: &mut [f32]) {
    let tokens = x.len() / stride.max(1);
    assert!(stride >= matrix.inputs && to.len() >= tokens * matrix.stride());
    // The tiles of each set of instructions, by name: a constant of a trait cannot be the length of an array.
    match (L::TOKENS, L::GROUPS) {
        (6, 4) => tiles::<L, 6, 4, 12>(matrix, x, stride, to),
        (3, 2) => tiles::<L, 3, 2, 6>(matrix, x, stride, to),
        _ => tiles::<L, 2, 1, 2>(matrix, x, stride, to),
    }
}

/// Tiles of T tokens by G groups, then those of one token by S groups.
#[inline(always)]
fn tiles<L: Lanes, const T: usize, const G: usize, const S: usize>(
    matrix: &Matrix,
    x: &[f32],
    stride: usize,
    to: &mut [f32],
) {
    let width = matrix.stride();
    let mut xs = x.chunks_exact(stride * T);
    let mut tos = to.chunks_exact_mut(width * T);
    for (x, to) in xs.by_ref().zip(tos.by_ref()) {
        let x = std::array::from_fn::<_, T, _>(|token| &x[token * stride..][..matrix.inputs]);
        let mut first = 0;
        for groups in matrix.weights.chunks(matrix.inputs * G) {
            if groups.len() == matrix.inputs * G {
                tile::<L, T, G>(x, groups, matrix.inputs, &mut to[first..], width);
            } else {
                for (index, group) in groups.chunks_exact(matrix.inputs).enumerate() {
                    let to = &mut to[first + index * 16..];
                    tile::<L, T, 1>(x, group, matrix.inputs, to, width);
                }
            }
            first += G * 16;
        }
    }
    let done = x.len() / (stride * T) * T;
    for (x, to) in
        xs.remainder().chunks_exact(stride).zip(to[done * width..].chunks_exact_mut(width))
    {
        let x = [&x[..matrix.inputs]];
        let mut first = 0;
        for groups in matrix.weights.chunks(matrix.inputs * S) {
            if groups.len() == matrix.inputs * S {
                tile::<L, 1, S>(x, groups, matrix.inputs, &mut to[first..], width);
            } else {
                let mut first = first;
                for groups in groups.chunks(matrix.inputs * G) {
                    if groups.len() == matrix.inputs * G {
                        tile::<L, 1, G>(x, groups, matrix.inputs, &mut to[first..], width);
                    } else {
                        for (index, group) in groups.chunks_exact(matrix.inputs).enumerate() {
                            let to = &mut to[first + index * 16..];
                            tile::<L, 1, 1>(x, group, matrix.inputs, to, width);
                        }
                    }
                    first += G * 16;
                }
            }
            first += S * 16;
        }
    }
}

#[inline(always)]
fn tile<L: Lanes, const T: usize, const G: usize>(
    x: [&[f32]; T],
    groups: &[[f32; 16]],
    inputs: usize,
    to: &mut [f32],
    width: usize,
) {
    let weights = std::array::from_fn::<_, G, _>(|group| &groups[group * inputs..][..inputs]);
    let mut sums = [[L::splat(0.0); G]; T];
    for input in 0..inputs {
        let mut lanes = [L::splat(0.0); G];
        for (lanes, weights) in lanes.iter_mut().zip(weights) {
            // SAFETY: every slice has `inputs` elements.
            *lanes = L::load(unsafe { weights.get_unchecked(input) });
        }
        for (sums, x) in sums.iter_mut().zip(x) {
            // SAFETY: likewise.
            let x = L::splat(unsafe { *x.get_unchecked(input) });
            for (sum, weight) in sums.iter_mut().zip(lanes) {
                *sum = x.mul_add(weight, *sum);
            }
        }
    }
    for (token, sums) in sums.into_iter().enumerate() {
        let (to, _) = to[token * width..].as_chunks_mut();
        for (to, sum) in to.iter_mut().zip(sums) {
            sum.store(to);
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
        fn products_are_close_to_their_definition(
            inputs in 1_usize..70,
            outputs in 1_usize..230,
            tokens in 1_usize..15,
            spare in 0_usize..5,
            seed in any::<u32>(),
        ) {
            let value = |i: usize| {
                let mixed = (i as u32 ^ seed).wrapping_mul(2_654_435_761);
                (mixed >> 16) as f32 / 65536.0 - 0.5
            };
            let stride = inputs + spare;
            let weights = (0..inputs * outputs).map(value).collect::<Vec<_>>();
            let x = (0..tokens * stride).map(|i| value(i + 77)).collect::<Vec<_>>();
            let matrix = Matrix::pack(&weights, inputs);
            each_level(|level| {
                let mut to = vec![9.0; tokens * matrix.stride()];
                linear(level, &matrix, &x, stride, &mut to);
                for token in 0..tokens {
                    let x = &x[token * stride..][..inputs];
                    for output in 0..outputs {
                        let row = &weights[output * inputs..][..inputs];
                        let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
                        let expected = x.iter().zip(row).map(product).sum::<f64>();
                        let found = f64::from(to[token * matrix.stride() + output]);
                        assert!((found - expected).abs() < 2e-5, "{level}: {found} {expected}");
                    }
                    // A token alone has the same bits.
                    let mut alone = vec![9.0; matrix.stride()];
                    linear(level, &matrix, x, inputs, &mut alone);
                    assert_eq!(alone, &to[token * matrix.stride()..][..matrix.stride()]);
                }
            });
        }
    }
}
