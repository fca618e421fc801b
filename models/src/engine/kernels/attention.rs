//! Softmax attention over keys and values that are kept.
//!
//! Keys are kept feature by feature and values token by token, so that scores and sums both run along lanes. Sums
//! go over features and positions in order; what a token may not see adds exact zeros: a token gets the same bits
//! whether its past was computed with it or before.

#![expect(
    clippy::indexing_slicing,
    reason = "positions and heads are below what is asserted at the entry"
)]

use super::curves::exp;
use super::for_each_level;
use super::lanes::Lanes;

/// Queries of a tile.
const TILE: usize = 4;

/// Keys and values of one layer and one sequence.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    heads: usize,
    head_width: usize,
    /// Positions that it has room for: whole pairs of lanes.
    capacity: usize,
    /// `[head][feature][position]`.
    keys: Vec<f32>,
    /// `[head][position][feature]`, features up to whole pairs of lanes.
    values: Vec<f32>,
    /// Room for the weights of a tile of queries.
    weights: Vec<f32>,
}

impl Cache {
    pub(crate) fn new(heads: usize, head_width: usize, positions: usize) -> Self {
        let capacity = positions.next_multiple_of(32);
        Self {
            heads,
            head_width,
            capacity,
            keys: vec![0.0; heads * head_width * capacity],
            values: vec![0.0; heads * head_width.next_multiple_of(32) * capacity],
            weights: vec![0.0; TILE * capacity],
        }
    }
}

/// Which tokens see which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Those before it and itself.
    Past,
    /// All.
    All,
}

for_each_level! {
    /// Attention of new tokens from position `first` on. A token of `x` is query, key and value, `stride` floats
    /// apart; the result, heads side by side, goes to `to`, `to_stride` floats apart.
    fn attend(
        cache: &mut Cache,
        sight: Sight,
        x: &[f32],
        stride: usize,
        first: usize,
        to: &mut [f32],
        to_stride: usize,
    ) = attend_lanes
}

#[inline(always)]
fn attend_lanes<L: Lanes>(
    cache: &mut Cache,
    sight: Sight,
    x: &[f32],
    stride: usize,
    first: usize,
    to: &mut [f32],
    to_stride: usize,
) {
    let tokens = x.len() / stride.max(1);
    let width = cache.heads * cache.head_width;
    assert!(first + tokens <= cache.capacity && stride >= 3 * width && to_stride >= width);
    assert!(to.len() >= tokens * to_stride);
    keep(cache, x, stride, first);
    for head in 0..cache.heads {
        let mut token = 0;
        while token < tokens {
            let seen = |token: usize| match sight {
                Sight::Past => first + token + 1,
                Sight::All => first + tokens,
            };
            let many = tokens - token >= TILE;
            if many {
                let seen = std::array::from_fn(|query| seen(token + query));
                tile::<L, TILE>(
                    cache,
                    head,
                    seen,
                    &x[token * stride..],
                    stride,
                    &mut to[token * to_stride..],
                    to_stride,
                );
            } else {
                tile::<L, 1>(
                    cache,
                    head,
                    [seen(token)],
                    &x[token * stride..],
                    stride,
                    &mut to[token * to_stride..],
                    to_stride,
                );
            }
            token += if many { TILE } else { 1 };
        }
    }
}

/// Keeps keys and values of the new tokens.
#[inline(always)]
fn keep(cache: &mut Cache, x: &[f32], stride: usize, first: usize) {
    let (heads, head_width, capacity) = (cache.heads, cache.head_width, cache.capacity);
    let width = heads * head_width;
    let value_stride = head_width.next_multiple_of(32);
    for (position, x) in (first..).zip(x.chunks_exact(stride)) {
        let (keys, values) = x[width..3 * width].split_at(width);
        for (feature, key) in keys.iter().enumerate() {
            cache.keys[feature * capacity + position] = *key;
        }
        for (head, value) in values.chunks_exact(head_width).enumerate() {
            let at = (head * capacity + position) * value_stride;
            cache.values[at..at + head_width].copy_from_slice(value);
        }
    }
}

/// T queries of one head.
#[inline(always)]
fn tile<L: Lanes, const T: usize>(
    cache: &mut Cache,
    head: usize,
    seen: [usize; T],
    x: &[f32],
    stride: usize,
    to: &mut [f32],
    to_stride: usize,
) {
    let (head_width, capacity) = (cache.head_width, cache.capacity);
    let most = seen.into_iter().max().unwrap_or_default();
    let queries: [&[f32]; T] =
        std::array::from_fn(|query| &x[query * stride + head * head_width..][..head_width]);
    let keys = &cache.keys[head * head_width * capacity..][..head_width * capacity];
    let scale = L::splat(1.0 / (head_width as f32).sqrt());
    let weights = &mut cache.weights[..];
    for position in (0..most).step_by(32) {
        let mut sums = [[L::splat(0.0); 2]; T];
        for (feature, keys) in keys.chunks_exact(capacity).enumerate() {
            let keys = pair::<L>(keys, position);
            for (sums, query) in sums.iter_mut().zip(queries) {
                let query = L::splat(query[feature]);
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum = query.mul_add(key, *sum);
                }
            }
        }
        for (query, [low, high]) in sums.into_iter().enumerate() {
            let (to, _) = weights[query * capacity + position..].as_chunks_mut::<16>();
            if let [first, second, ..] = to {
                low.mul(scale).store(first);
                high.mul(scale).store(second);
            }
        }
    }
    // Loops, no closures: what is called in a closure may be compiled without the instructions.
    let mut inverse = [0.0; T];
    for (query, inverse) in inverse.iter_mut().enumerate() {
        let row = &mut weights[query * capacity..][..most.next_multiple_of(32)];
        *inverse = softmax::<L>(row, seen[query]);
    }
    let value_stride = head_width.next_multiple_of(32);
    let values = &cache.values[head * capacity * value_stride..][..capacity * value_stride];
    for feature in (0..head_width).step_by(32) {
        let mut sums = [[L::splat(0.0); 2]; T];
        for (position, values) in values.chunks_exact(value_stride).take(most).enumerate() {
            let values = pair::<L>(values, feature);
            for (query, sums) in sums.iter_mut().enumerate() {
                let weight = L::splat(weights[query * capacity + position]);
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = weight.mul_add(value, *sum);
                }
            }
        }
        for (query, [low, high]) in sums.into_iter().enumerate() {
            let inverse = L::splat(inverse[query]);
            let to = &mut to[query * to_stride + head * head_width..][..head_width];
            low.mul(inverse).store_part(&mut to[feature..]);
            if let Some(to) = to.get_mut(feature + 16..) {
                high.mul(inverse).store_part(to);
            }
        }
    }
}

/// Thirty-two values from here on.
#[inline(always)]
fn pair<L: Lanes>(values: &[f32], at: usize) -> [L; 2] {
    match values.get(at..).unwrap_or_default().as_chunks::<16>().0 {
        [low, high, ..] => [L::load(low), L::load(high)],
        _ => [L::splat(0.0); 2],
    }
}

/// Exponentials of the scores that are seen, less the largest; the others become 0. Returns one by their sum.
#[inline(always)]
fn softmax<L: Lanes>(scores: &mut [f32], seen: usize) -> f32 {
    // Only the last sixteen of those that are seen need care.
    let (scores, unseen) = scores.split_at_mut(seen.next_multiple_of(16));
    unseen.fill(0.0);
    scores[seen..].iter_mut().for_each(|score| *score = f32::NEG_INFINITY);
    let mut largest = L::splat(f32::NEG_INFINITY);
    for scores in scores.as_chunks::<16>().0 {
        largest = largest.max(L::load(scores));
    }
    let largest = L::splat(largest.largest());
    for scores in scores.as_chunks_mut::<16>().0 {
        exp(L::load(scores).sub(largest)).store(scores);
    }
    scores[seen..].iter_mut().for_each(|score| *score = 0.0);
    let mut sum = L::splat(0.0);
    for scores in scores.as_chunks::<16>().0 {
        sum = sum.add(L::load(scores));
    }
    1.0 / sum.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::each_level;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn attention_is_close_to_its_definition(
            heads in 1_usize..4,
            head_width in prop::sample::select(vec![1_usize, 8, 24, 32, 40, 70]),
            tokens in 1_usize..80,
            before in 0_usize..80,
            past: bool,
            seed in any::<u32>(),
        ) {
            let value = |i: usize| {
                let mixed = (i as u32 ^ seed).wrapping_mul(2_654_435_761).rotate_left(13);
                (mixed.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 4e6 - 2.0
            };
            let before = before.min(tokens - 1);
            let width = heads * head_width;
            let stride = 3 * width + 1;
            let x = (0..tokens * stride).map(value).collect::<Vec<_>>();
            let sight = if past { Sight::Past } else { Sight::All };
            each_level(|level| {
                let mut to = vec![9.0; tokens * width];
                let mut cache = Cache::new(heads, head_width, tokens);
                attend(level, &mut cache, sight, &x, stride, 0, &mut to, width);
                for token in 0..tokens {
                    let seen = if past { token + 1 } else { tokens };
                    for head in 0..heads {
                        let part = |token: usize, part: usize| {
                            &x[token * stride + part * width + head * head_width..][..head_width]
                        };
                        let query = part(token, 0);
                        let score = |position: usize| {
                            let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
                            let sum = query.iter().zip(part(position, 1)).map(product).sum::<f64>();
                            (sum / (head_width as f64).sqrt()).exp()
                        };
                        let weights = (0..seen).map(score).collect::<Vec<_>>();
                        let total = weights.iter().sum::<f64>();
                        for feature in 0..head_width {
                            let value = |p: usize| f64::from(part(p, 2)[feature]);
                            let sum = (0..seen).map(|p| weights[p] * value(p)).sum::<f64>();
                            let found = f64::from(to[token * width + head * head_width + feature]);
                            let error = (found - sum / total).abs();
                            assert!(error < 1e-4, "{level}: {found} {}", sum / total);
                        }
                    }
                }
                if past {
                    // In two parts, and the second token by token: the same bits.
                    let mut cache = Cache::new(heads, head_width, tokens);
                    let (first, rest) = x.split_at(before * stride);
                    let mut again = vec![9.0; before * width];
                    attend(level, &mut cache, sight, first, stride, 0, &mut again, width);
                    for (position, x) in (before..).zip(rest.chunks(stride)) {
                        let mut one = vec![9.0; width];
                        attend(level, &mut cache, sight, x, stride, position, &mut one, width);
                        again.extend(one);
                    }
                    assert_eq!(again, to, "{level}");
                }
            });
        }
    }
}
