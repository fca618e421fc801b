//! Learned wiring: every wire compares the best of its candidates.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;

use super::address::difference;
use super::{Surrogate, Wiring};
use crate::kernel::{self, Kernel, LANES, Output, View, fold, lanes};
use crate::random::Random;

/// The candidates of all wires, wire by wire.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    /// The value that a candidate reads.
    pub(crate) features: Arc<[u32]>,
    /// The threshold that it compares with.
    pub(crate) thresholds: Arc<[u32]>,
    /// Candidates per wire.
    pub(crate) choices: usize,
}

/// `x [rows, values]`, `thresholds [..]`, `scores [wires, choices]` give `[rows, wires]`: value minus
/// threshold of each wire's best candidate.
///
/// Scores get DWN's gradient: every candidate is credited as if it had been chosen, with the sign of
/// its own bit (`dScore = sum over rows of +-gradient`). Values and thresholds get theirs through the
/// [`Surrogate::Triangle`], where they were chosen; so what follows passes gradients unchanged.
#[derive(Clone, Debug)]
pub(crate) struct Choose {
    pub(crate) candidates: Candidates,
}

/// The first of the largest scores.
fn best(scores: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, score) in scores.iter().enumerate() {
        if *score > best.1 {
            best = (i, *score);
        }
    }
    best.0
}

/// The value that each wire reads under these scores.
pub(crate) fn chosen(wiring: &Wiring, scores: &[f32]) -> Vec<u32> {
    let choices = wiring.choices();
    let wires = wiring.candidates().chunks_exact(choices).zip(scores.chunks_exact(choices));
    wires.filter_map(|(values, scores)| values.get(best(scores)).copied()).collect()
}

/// Scores that training starts from: uniform in `[0, 1)`.
pub(crate) fn scores(wiring: &Wiring, random: &mut Random) -> Vec<f32> {
    (0..wiring.wires() * wiring.choices()).map(|_| random.uniform()).collect()
}

impl Choose {
    fn chosen(&self, scores: &[f32]) -> Vec<(u32, u32)> {
        let Candidates { features, thresholds, choices } = &self.candidates;
        let wires = scores.chunks_exact(*choices).enumerate();
        wires
            .filter_map(|(wire, scores)| {
                let at = wire * choices + best(scores);
                Some((*features.get(at)?, *thresholds.get(at)?))
            })
            .collect()
    }
}

impl Kernel<3> for Choose {
    /// The chosen values and thresholds.
    type Saved = Vec<(u32, u32)>;

    fn forward(&self, inputs: [View<'_>; 3], _tracked: bool) -> Output<Self::Saved> {
        let [x, thresholds, scores] = inputs;
        let chosen = self.chosen(scores.values);
        let mut out = vec![0.0; x.rows() * chosen.len()];
        out.par_chunks_mut(chosen.len().max(1)).zip(x.values.par_chunks(x.width())).for_each(
            |(out, x)| {
                for (out, (feature, limit)) in out.iter_mut().zip(&chosen) {
                    *out = difference(x, thresholds.values, *feature, *limit);
                }
            },
        );
        Output::new(out, &[x.rows(), chosen.len()], chosen)
    }

    fn backward(
        &self,
        inputs: [View<'_>; 3],
        chosen: &Self::Saved,
        gradient: View<'_>,
        [by_x, by_thresholds, by_scores]: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let [x, thresholds, scores] = inputs;
        let wires = chosen.len().max(1);
        let slope = |x: &[f32], (feature, limit): (u32, u32)| {
            Surrogate::Triangle.slope(difference(x, thresholds.values, feature, limit))
        };
        [
            by_x.then(|| {
                let mut out = vec![0.0; x.values.len()];
                out.par_chunks_mut(x.width())
                    .zip(x.values.par_chunks(x.width()))
                    .zip(gradient.values.par_chunks(wires))
                    .for_each(|((out, x), gradient)| {
                        for (wire, g) in chosen.iter().zip(gradient) {
                            if let Some(sum) = out.get_mut(wire.0 as usize) {
                                *sum += g * slope(x, *wire);
                            }
                        }
                    });
                out
            }),
            by_thresholds.then(|| {
                let mut out = vec![0.0; thresholds.values.len()];
                for (x, gradient) in
                    x.values.chunks_exact(x.width()).zip(gradient.values.chunks_exact(wires))
                {
                    for (wire, g) in chosen.iter().zip(gradient) {
                        if let Some(sum) = out.get_mut(wire.1 as usize) {
                            *sum -= g * slope(x, *wire);
                        }
                    }
                }
                out
            }),
            by_scores.then(|| {
                let Candidates { features, thresholds: limits, choices } = &self.candidates;
                let columns = columns(x);
                let rows = x.rows().max(1);
                let mut out = vec![0.0; scores.values.len()];
                out.par_chunks_mut(*choices)
                    .zip(features.par_chunks(*choices).zip(limits.par_chunks(*choices)))
                    .enumerate()
                    .for_each(|(wire, (out, (features, limits)))| {
                        let gradient: Vec<f32> =
                            gradient.values.iter().skip(wire).step_by(wires).copied().collect();
                        for (out, (feature, limit)) in
                            out.iter_mut().zip(features.iter().zip(limits))
                        {
                            let from = *feature as usize * rows;
                            let column = columns.get(from..from + rows).unwrap_or_default();
                            let limit = thresholds.values.get(*limit as usize);
                            *out = credit(column, limit.copied().unwrap_or(0.0), &gradient);
                        }
                    });
                out
            }),
        ]
    }
}

lanes! {
    /// The sum of gradients, each with the sign of `x > limit`.
    fn credit(x: &[f32], limit: f32, gradient: &[f32]) -> f32 {
        let (chunks, tail) = x.as_chunks::<LANES>();
        let (gradients, gradient_tail) = gradient.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for (x, gradient) in chunks.iter().zip(gradients) {
            for ((sum, x), g) in sums.iter_mut().zip(x).zip(gradient) {
                *sum += if *x > limit { *g } else { -*g };
            }
        }
        let tail = tail.iter().zip(gradient_tail);
        fold(sums) + tail.map(|(x, g)| if *x > limit { *g } else { -*g }).sum::<f32>()
    }
}

/// The columns of `x`, one after the other.
fn columns(x: View<'_>) -> Vec<f32> {
    let mut out = vec![0.0; x.values.len()];
    out.par_chunks_mut(x.rows().max(1)).enumerate().for_each(|(column, out)| {
        for (out, value) in out.iter_mut().zip(x.values.iter().skip(column).step_by(x.width())) {
            *out = *value;
        }
    });
    out
}

/// The differences of all wires, `[rows, wires]`.
pub(crate) fn choose(
    x: Tensor<2>,
    thresholds: Tensor<1>,
    scores: Tensor<2>,
    candidates: Candidates,
) -> Tensor<2> {
    if kernel::native(&x) {
        let inputs = [x.into_dispatch(), thresholds.into_dispatch(), scores.into_dispatch()];
        return kernel::apply(Choose { candidates }, inputs);
    }
    plain(x, thresholds, scores, &candidates)
}

/// [`Choose`] in plain operations.
pub(crate) fn plain(
    x: Tensor<2>,
    thresholds: Tensor<1>,
    scores: Tensor<2>,
    candidates: &Candidates,
) -> Tensor<2> {
    let [rows, _] = x.dims();
    let [wires, choices] = scores.dims();
    let device = x.device();
    let index = |values: &[u32]| {
        let values: Vec<i64> = values.iter().map(|v| i64::from(*v)).collect();
        Tensor::<1, Int>::from_data(TensorData::from(values.as_slice()), &device)
    };
    let limits = thresholds.select(0, index(&candidates.thresholds)).unsqueeze::<2>();
    let z = (x.select(1, index(&candidates.features)) - limits).reshape([rows, wires, choices]);
    let best = scores.clone().detach().argmax(1).reshape([1, wires, 1]).repeat_dim(0, rows);
    let taken = z.clone().gather(2, best).reshape([rows, wires]);
    let slope = (taken.clone().detach().abs().neg() + 1.0).clamp_min(0.0);
    let soft = taken.clone() * slope;
    let signs = z.detach().greater_elem(0.0).float() * 2.0 - 1.0;
    let zero = (scores.clone() - scores.detach()).reshape([1, wires, choices]);
    let credit = (signs * zero).sum_dim(2).reshape([rows, wires]);
    taken.detach() + (soft.clone() - soft.detach()) + credit
}
