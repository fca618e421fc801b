//! Products of floats by a matrix.
//!
//! Weights are packed once: blocks of four groups of sixteen outputs (the last block may have fewer groups), and
//! within a block the weights of each input, so that they are read as one stream. A tile of a few tokens and groups
//! keeps its sums in registers. Each output is summed over its inputs in order, so that a token gets the same bits
//! in any tile.

#![expect(
    clippy::indexing_slicing,
    reason = "tiles are cut from slices whose lengths are asserted at the entry"
)]

use super::for_each_level;
use super::lanes::Lanes;

/// Groups of a block.
const BLOCK: usize = 4;

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
        let groups = outputs.div_ceil(16);
        let mut packed = vec![[0.0; 16]; groups * inputs];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (block, group) = (output / 64 * 4, output / 16 % 4);
            let per = (groups - block).min(BLOCK);
            let lanes = packed.iter_mut().skip(block * inputs + group).step_by(per);
            lanes.zip(row).for_each(|(lanes, weight)| lanes[output % 16] = *weight);
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
        (3, 2) => tiles::<L, 3, 2, 4>(matrix, x, stride, to),
        _ => tiles::<L, 2, 1, 1>(matrix, x, stride, to),
    }
}

/// Tiles of T tokens by G groups, which divide a block, then those of one token by S groups.
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
        groups::<L, T, G, G>(matrix, x, to, width);
    }
    let done = x.len() / (stride * T) * T;
    let rest = xs.remainder().chunks_exact(stride).zip(to[done * width..].chunks_exact_mut(width));
    for (x, to) in rest {
        groups::<L, 1, S, G>(matrix, [&x[..matrix.inputs]], to, width);
    }
}

/// All groups, as long as possible S at a time, then G, then one.
#[inline(always)]
fn groups<L: Lanes, const T: usize, const S: usize, const G: usize>(
    matrix: &Matrix,
    x: [&[f32]; T],
    to: &mut [f32],
    width: usize,
) {
    let (all, inputs) = (width / 16, matrix.inputs);
    let mut group = 0;
    while group < all {
        let block = group / BLOCK * BLOCK;
        let per = (all - block).min(BLOCK);
        let weights = &matrix.weights[block * inputs + group % BLOCK..];
        let to = &mut to[group * 16..];
        // Larger tiles stand at the start of whole blocks, or within one.
        let whole = (all - block) / BLOCK * BLOCK;
        if group == block && whole >= S {
            tile::<L, T, S>(x, weights, per, to, width);
            group += S;
        } else if per == BLOCK && group % G == 0 {
            tile::<L, T, G>(x, weights, per, to, width);
            group += G;
        } else {
            tile::<L, T, 1>(x, weights, per, to, width);
            group += 1;
        }
    }
}

/// T tokens by G groups. Weights start at the first group; those of an input are `per` groups apart.
#[inline(always)]
fn tile<L: Lanes, const T: usize, const G: usize>(
    x: [&[f32]; T],
    weights: &[[f32; 16]],
    per: usize,
    to: &mut [f32],
    width: usize,
) {
    let inputs = x[0].len();
    let first = |group: usize| group / BLOCK * BLOCK * inputs + group % BLOCK;
    assert!(inputs > 0 && first(G - 1) + (inputs - 1) * per < weights.len());
    assert!(x.iter().all(|x| x.len() == inputs));
    let mut sums = [[L::splat(0.0); G]; T];
    for input in 0..inputs {
        let mut lanes = [L::splat(0.0); G];
        for (group, lanes) in lanes.iter_mut().enumerate() {
            // SAFETY: the last weight is there, which is asserted.
            *lanes = L::load(unsafe { weights.get_unchecked(first(group) + input * per) });
        }
        for (sums, x) in sums.iter_mut().zip(x) {
            // SAFETY: every slice has `inputs` elements, which is asserted.
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
