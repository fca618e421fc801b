//! AdamW (Loshchilov and Hutter, arXiv 1711.05101) over one parameter, in one pass over memory.

use rayon::prelude::*;

use crate::kernel::lanes;

/// Numbers of one task.
const TASK: usize = 1 << 15;
/// Keeps the division finite.
const EPSILON: f32 = 1e-8;

/// The two moments of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moments {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
}

impl Moments {
    pub(super) fn new(count: usize) -> Self {
        Self { first: vec![0.0; count], second: vec![0.0; count] }
    }
}

/// What one update does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    pub(super) rate: f32,
    pub(super) decay: f32,
    pub(super) betas: [f32; 2],
    /// Updates of the parameter before this one.
    pub(super) step: u64,
    /// The factor on the gradient: the clipped global norm.
    pub(super) scale: f32,
    /// Whether values stay in `[-1, 1]`.
    pub(super) clamped: bool,
}

lanes! {
    fn update(
        values: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        betas: &[f32; 2],
        scale: f32,
        kept: f32,
        rate: f32,
        root: f32,
    ) {
        let [b1, b2] = *betas;
        for (((value, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * scale;
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *value = *value * kept - rate * *m / (v.sqrt() * root + EPSILON);
        }
    }
}

/// Updates values in place.
pub(super) fn apply(values: &mut [f32], gradient: &[f32], moments: &mut Moments, by: &Update) {
    let [b1, b2] = by.betas;
    let step = i32::try_from(by.step + 1).unwrap_or(i32::MAX);
    let rate = by.rate / (1.0 - b1.powi(step));
    let root = 1.0 / (1.0 - b2.powi(step)).sqrt();
    let kept = 1.0 - by.rate * by.decay;
    values
        .par_chunks_mut(TASK)
        .zip(gradient.par_chunks(TASK))
        .zip(moments.first.par_chunks_mut(TASK))
        .zip(moments.second.par_chunks_mut(TASK))
        .for_each(|(((values, gradient), first), second)| {
            update(values, gradient, first, second, &by.betas, by.scale, kept, rate, root);
            if by.clamped {
                for value in values {
                    *value = value.clamp(-1.0, 1.0);
                }
            }
        });
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn two_updates_follow_the_published_formula() {
        let (mut values, gradients) = (vec![1.0_f32], [[0.5_f32], [-0.2]]);
        let mut moments = Moments::new(1);
        let (mut w, mut m, mut v) = (1.0_f64, 0.0_f64, 0.0_f64);
        for (step, gradient) in gradients.iter().enumerate() {
            let by = Update {
                rate: 0.1,
                decay: 0.01,
                betas: [0.9, 0.99],
                step: step as u64,
                scale: 2.0,
                clamped: false,
            };
            apply(&mut values, gradient, &mut moments, &by);
            let g = 2.0 * f64::from(gradient[0]);
            m = 0.9 * m + 0.1 * g;
            v = 0.99 * v + 0.01 * g * g;
            let t = step as i32 + 1;
            let (m, v) = (m / (1.0 - 0.9_f64.powi(t)), v / (1.0 - 0.99_f64.powi(t)));
            w = w - 0.1 * 0.01 * w - 0.1 * m / (v.sqrt() + 1e-8);
        }
        assert!((f64::from(values[0]) - w).abs() < 1e-6, "{} {w}", values[0]);
    }
}
