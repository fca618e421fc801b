//! Layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450) with gain and bias.

use rayon::prelude::*;

use super::{Kernel, Output, View, dot, lanes, sum};

/// Added to the variance.
pub(crate) const EPSILON: f32 = 1e-5;

/// Rows of one task.
const ROWS: usize = 64;

/// `(x - mean) / sqrt(variance + 1e-5) * gain + bias` over the last dimension: `x [.., width]`,
/// `gain [width]`, `bias [width]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm;

lanes! {
    fn normalise(x: &[f32], gain: &[f32], bias: &[f32], out: &mut [f32], saved: &mut [[f32; 2]]) {
        let width = gain.len();
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(saved);
        for ((x, out), saved) in rows {
            let mean = sum(x) / width as f32;
            for (out, x) in out.iter_mut().zip(x) {
                *out = x - mean;
            }
            let scale = 1.0 / (dot(out, out) / width as f32 + EPSILON).sqrt();
            for ((out, gain), bias) in out.iter_mut().zip(gain).zip(bias) {
                *out = *out * scale * gain + bias;
            }
            *saved = [mean, scale];
        }
    }
}

lanes! {
    /// Writes the gradient by `x`; adds to the gradients by gain and bias.
    fn unnormalise(
        x: &[f32],
        gain: &[f32],
        gradient: &[f32],
        saved: &[[f32; 2]],
        by_x: &mut [f32],
        by_gain: &mut [f32],
        by_bias: &mut [f32],
    ) {
        let width = gain.len();
        let mut normal = vec![0.0; width];
        let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
        for (((x, g), [mean, scale]), by_x) in rows.zip(saved).zip(by_x.chunks_exact_mut(width)) {
            for (normal, x) in normal.iter_mut().zip(x) {
                *normal = (x - mean) * scale;
            }
            for ((by_gain, by_bias), (g, normal)) in
                by_gain.iter_mut().zip(&mut *by_bias).zip(g.iter().zip(&normal))
            {
                *by_gain += g * normal;
                *by_bias += g;
            }
            for ((by_x, g), gain) in by_x.iter_mut().zip(g).zip(gain) {
                *by_x = g * gain;
            }
            let mean = sum(by_x) / width as f32;
            let along = dot(by_x, &normal) / width as f32;
            for (by_x, normal) in by_x.iter_mut().zip(&normal) {
                *by_x = (*by_x - mean - normal * along) * scale;
            }
        }
    }
}

impl Kernel<3> for Norm {
    /// Mean and reciprocal deviation of every row.
    type Saved = Vec<[f32; 2]>;

    fn forward(&self, [x, gain, bias]: [View<'_>; 3], _tracked: bool) -> Output<Self::Saved> {
        let width = x.width();
        let mut out = vec![0.0; x.values.len()];
        let mut saved = vec![[0.0; 2]; x.rows()];
        out.par_chunks_mut(ROWS * width)
            .zip(x.values.par_chunks(ROWS * width))
            .zip(saved.par_chunks_mut(ROWS))
            .for_each(|((out, x), saved)| normalise(x, gain.values, bias.values, out, saved));
        Output::new(out, x.shape, saved)
    }

    fn backward(
        &self,
        [x, gain, _]: [View<'_>; 3],
        saved: &Self::Saved,
        gradient: View<'_>,
        _wanted: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let width = x.width();
        let mut by_x = vec![0.0; x.values.len()];
        let parts: Vec<(Vec<f32>, Vec<f32>)> = by_x
            .par_chunks_mut(ROWS * width)
            .zip(x.values.par_chunks(ROWS * width))
            .zip(gradient.values.par_chunks(ROWS * width))
            .zip(saved.par_chunks(ROWS))
            .map(|(((by_x, x), gradient), saved)| {
                let (mut by_gain, mut by_bias) = (vec![0.0; width], vec![0.0; width]);
                unnormalise(x, gain.values, gradient, saved, by_x, &mut by_gain, &mut by_bias);
                (by_gain, by_bias)
            })
            .collect();
        let (mut by_gain, mut by_bias) = (vec![0.0; width], vec![0.0; width]);
        for (gain, bias) in &parts {
            super::add(&mut by_gain, gain);
            super::add(&mut by_bias, bias);
        }
        [Some(by_x), Some(by_gain), Some(by_bias)]
    }
}
