//! Scaled dot-product attention over all heads as one operation, without moving heads in memory.

use rayon::prelude::*;

use super::{Kernel, Matrix, Output, View, dot, exp, lanes, multiply};

/// `softmax(q k^T / sqrt(width of a head)) v`, heads side by side: `qkv [batch, tokens, 3 width]`
/// gives `[batch, tokens, width]`. `causal` lets a token see itself and what came before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    /// The number of heads; it divides the width.
    pub(crate) heads: usize,
    /// Whether later tokens are hidden.
    pub(crate) causal: bool,
}

/// The sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    tokens: usize,
    width: usize,
    head: usize,
    scale: f32,
}

impl Attention {
    fn sizes(self, qkv: View<'_>) -> Sizes {
        let width = qkv.width() / 3;
        let tokens = match qkv.shape {
            [_, tokens, _] => *tokens,
            _ => qkv.rows(),
        };
        let head = width / self.heads.max(1);
        Sizes { tokens, width, head, scale: 1.0 / (head as f32).sqrt() }
    }
}

impl Sizes {
    /// Query, key or value (0, 1, 2) of one head, inside `[tokens, 3 width]`.
    fn part<'a>(&self, values: &'a [f32], part: usize, head: usize) -> Matrix<'a> {
        let from = part * self.width + head * self.head;
        let values = values.get(from..).unwrap_or_default();
        Matrix::strided(values, self.tokens, self.head, 3 * self.width)
    }

    fn part_mut<'a>(&self, values: &'a mut [f32], part: usize, head: usize) -> &'a mut [f32] {
        values.get_mut(part * self.width + head * self.head..).unwrap_or_default()
    }
}

lanes! {
    /// Softmax over every row of scores; what a causal row may not see becomes zero.
    fn softmax(scores: &mut [f32], tokens: usize, causal: bool) {
        for (i, row) in scores.chunks_exact_mut(tokens).enumerate() {
            let seen = if causal { (i + 1).min(row.len()) } else { row.len() };
            let (row, hidden) = row.split_at_mut(seen);
            let mut largest = f32::NEG_INFINITY;
            for x in row.iter() {
                largest = largest.max(*x);
            }
            for x in row.iter_mut() {
                *x = exp(*x - largest);
            }
            let scale = 1.0 / super::sum(row);
            for x in row.iter_mut() {
                *x *= scale;
            }
            hidden.fill(0.0);
        }
    }
}

lanes! {
    /// The gradient by the scores, in place of the gradient by the shares.
    fn unsoftmax(gradient: &mut [f32], shares: &[f32], tokens: usize) {
        for (g, p) in gradient.chunks_exact_mut(tokens).zip(shares.chunks_exact(tokens)) {
            let along = dot(g, p);
            for (g, p) in g.iter_mut().zip(p) {
                *g = (*g - along) * p;
            }
        }
    }
}

impl Kernel<1> for Attention {
    /// The shares of attention, `[batch, heads, tokens, tokens]`.
    type Saved = Vec<f32>;

    fn forward(&self, [qkv]: [View<'_>; 1], _tracked: bool) -> Output<Self::Saved> {
        let sizes @ Sizes { tokens, width, head, scale } = self.sizes(qkv);
        let batch = qkv.values.len() / (tokens * 3 * width).max(1);
        let mut out = vec![0.0; batch * tokens * width];
        let mut shares = vec![0.0; batch * self.heads * tokens * tokens];
        out.par_chunks_mut(tokens * width)
            .zip(shares.par_chunks_mut(self.heads * tokens * tokens))
            .zip(qkv.values.par_chunks(tokens * 3 * width))
            .for_each(|((out, shares), qkv)| {
                for (h, shares) in shares.chunks_exact_mut(tokens * tokens).enumerate() {
                    let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, part, h));
                    multiply(shares, tokens, q, k.transposed(), scale, false);
                    softmax(shares, tokens, self.causal);
                    let out = out.get_mut(h * head..).unwrap_or_default();
                    multiply(out, width, Matrix::new(shares, tokens, tokens), v, 1.0, false);
                }
            });
        Output::new(out, &[batch, tokens, width], shares)
    }

    fn backward(
        &self,
        [qkv]: [View<'_>; 1],
        shares: &Self::Saved,
        gradient: View<'_>,
        _wanted: [bool; 1],
    ) -> [Option<Vec<f32>>; 1] {
        let sizes @ Sizes { tokens, width, head, scale } = self.sizes(qkv);
        let mut by_qkv = vec![0.0; qkv.values.len()];
        by_qkv
            .par_chunks_mut(tokens * 3 * width)
            .zip(qkv.values.par_chunks(tokens * 3 * width))
            .zip(shares.par_chunks(self.heads * tokens * tokens))
            .zip(gradient.values.par_chunks(tokens * width))
            .for_each(|(((by_qkv, qkv), shares), gradient)| {
                let mut by_scores = vec![0.0; tokens * tokens];
                let stride = 3 * width;
                for (h, shares) in shares.chunks_exact(tokens * tokens).enumerate() {
                    let [q, k, v] = [0, 1, 2].map(|part| sizes.part(qkv, part, h));
                    let gradient = gradient.get(h * head..).unwrap_or_default();
                    let gradient = Matrix::strided(gradient, tokens, head, width);
                    let seen = Matrix::new(shares, tokens, tokens);
                    let by_v = sizes.part_mut(by_qkv, 2, h);
                    multiply(by_v, stride, seen.transposed(), gradient, 1.0, false);
                    multiply(&mut by_scores, tokens, gradient, v.transposed(), 1.0, false);
                    unsoftmax(&mut by_scores, shares, tokens);
                    let by_scores = Matrix::new(&by_scores, tokens, tokens);
                    multiply(sizes.part_mut(by_qkv, 0, h), stride, by_scores, k, scale, false);
                    let by_k = sizes.part_mut(by_qkv, 1, h);
                    multiply(by_k, stride, by_scores.transposed(), q, scale, false);
                }
            });
        [Some(by_qkv)]
    }
}
