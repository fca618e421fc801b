//! Learned wiring: every wire takes the best of its candidates.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;

use super::Wiring;
use crate::kernel::{self, Kernel, Output, View};

/// `x [rows, values]`, `scores [wires, choices]` give `[rows, wires]`: the value of each wire's best
/// candidate.
///
/// Scores get DWN's gradient: every candidate is credited as if it had been chosen, with the sign of
/// its value (`dScore = sum over rows of sign(x) * gradient`); values get theirs where they were
/// chosen.
#[derive(Clone, Debug)]
pub(crate) struct Choose {
    /// The candidates.
    pub(crate) wiring: Wiring,
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

impl Kernel<2> for Choose {
    /// The chosen values.
    type Saved = Vec<u32>;

    fn forward(&self, [x, scores]: [View<'_>; 2], _tracked: bool) -> Output<Vec<u32>> {
        let chosen = chosen(&self.wiring, scores.values);
        let mut out = vec![0.0; x.rows() * chosen.len()];
        out.par_chunks_mut(chosen.len().max(1)).zip(x.values.par_chunks(x.width())).for_each(
            |(out, x)| {
                for (out, value) in out.iter_mut().zip(&chosen) {
                    *out = x.get(*value as usize).copied().unwrap_or(f32::NAN);
                }
            },
        );
        Output::new(out, &[x.rows(), chosen.len()], chosen)
    }

    fn backward(
        &self,
        [x, scores]: [View<'_>; 2],
        chosen: &Vec<u32>,
        gradient: View<'_>,
        [by_x, by_scores]: [bool; 2],
    ) -> [Option<Vec<f32>>; 2] {
        let wires = chosen.len().max(1);
        [
            by_x.then(|| {
                let mut out = vec![0.0; x.values.len()];
                out.par_chunks_mut(x.width()).zip(gradient.values.par_chunks(wires)).for_each(
                    |(out, gradient)| {
                        for (value, g) in chosen.iter().zip(gradient) {
                            if let Some(sum) = out.get_mut(*value as usize) {
                                *sum += g;
                            }
                        }
                    },
                );
                out
            }),
            by_scores.then(|| {
                let choices = self.wiring.choices();
                let mut out = vec![0.0; scores.values.len()];
                out.par_chunks_mut(choices)
                    .zip(self.wiring.candidates().par_chunks(choices))
                    .enumerate()
                    .for_each(|(wire, (out, candidates))| {
                        let gradient = gradient.values.iter().skip(wire).step_by(wires);
                        for (x, g) in x.values.chunks_exact(x.width()).zip(gradient) {
                            for (sum, value) in out.iter_mut().zip(candidates) {
                                let x = x.get(*value as usize).copied().unwrap_or(0.0);
                                *sum += if x > 0.0 { *g } else { -*g };
                            }
                        }
                    });
                out
            }),
        ]
    }
}

/// The values of all wires, `[rows, wires]`.
pub(crate) fn choose(x: Tensor<2>, scores: Tensor<2>, wiring: &Wiring) -> Tensor<2> {
    if kernel::native(&x) {
        let kernel = Choose { wiring: wiring.clone() };
        return kernel::apply(kernel, [x.into_dispatch(), scores.into_dispatch()]);
    }
    plain(x, scores, wiring)
}

/// [`Choose`] in plain operations.
pub(crate) fn plain(x: Tensor<2>, scores: Tensor<2>, wiring: &Wiring) -> Tensor<2> {
    let [rows, _] = x.dims();
    let [wires, choices] = scores.dims();
    let candidates: Vec<i64> = wiring.candidates().iter().map(|v| i64::from(*v)).collect();
    let candidates =
        Tensor::<1, Int>::from_data(TensorData::from(candidates.as_slice()), &x.device());
    let values = x.select(1, candidates).reshape([rows, wires, choices]);
    let best = scores.clone().detach().argmax(1).reshape([1, wires, 1]).repeat_dim(0, rows);
    let taken = values.clone().gather(2, best).reshape([rows, wires]);
    let signs = values.detach().greater_elem(0.0).float() * 2.0 - 1.0;
    let zero = (scores.clone() - scores.detach()).reshape([1, wires, choices]);
    taken + (signs * zero).sum_dim(2).reshape([rows, wires])
}

/// Scores that training starts from: uniform in `[0, 1)`.
pub(crate) fn scores(wiring: &Wiring, random: &mut crate::random::Random) -> Vec<f32> {
    (0..wiring.wires() * wiring.choices()).map(|_| random.uniform()).collect()
}

/// Keeps what a wiring without choices reads.
pub(crate) fn fixed(wiring: &Wiring) -> Option<Arc<[u32]>> {
    (wiring.choices() == 1).then(|| Arc::clone(wiring.candidates()))
}
