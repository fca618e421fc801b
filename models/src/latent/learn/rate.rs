//! What latents cost, as a function that has a gradient.
//!
//! The coder knows of a latent how it is predicted and how busy its neighbourhood is. Here a difference is a whole
//! number from a logistic distribution whose width is `exp(a) + exp(b) m` with `m` the magnitude of the neighbourhood
//! as in [`entropy`](super::super::entropy), and `a` and `b` learned for each channel. So a map is rewarded for
//! energy that comes together, as the coder is.

use burn::tensor::{Device, Tensor};

use super::super::entropy::Predictor;
use super::{moved, tensor};

/// Widths below this cost nothing to speak of.
const NARROWEST: f32 = 0.08;
/// Magnitudes above this count as this one.
const BUSIEST: f32 = 31.0;
/// Widths are learned as their logarithms over this: they may change faster than weights.
const FASTER: f32 = 16.0;

/// What is subtracted of the neighbours before, above and at the corner, by channel.
#[derive(Debug)]
pub(super) struct Prediction([Tensor<4>; 3]);

impl Prediction {
    pub(super) fn new(predictors: &[Predictor], device: &Device) -> Self {
        let mask = |of: fn(&Predictor) -> f32| {
            tensor(predictors.iter().map(of).collect(), [1, 1, 1, predictors.len()], device)
        };
        Self([
            mask(|p| f32::from(u8::from(matches!(p, Predictor::Before | Predictor::Plane)))),
            mask(|p| f32::from(u8::from(matches!(p, Predictor::Above | Predictor::Plane)))),
            mask(|p| -f32::from(u8::from(matches!(p, Predictor::Plane)))),
        ])
    }

    fn differences(&self, latents: Tensor<4>) -> Tensor<4> {
        let Self([before, above, corner]) = self;
        let over = moved(&latents, 1, true);
        let left = moved(&latents, 2, true);
        let diagonal = moved(&over, 2, true);
        latents - left * before.clone() - over * above.clone() - diagonal * corner.clone()
    }
}

/// Logarithms of widths at the start, as they are learned: `[2, channels]`.
pub(super) fn widths(channels: usize) -> Vec<f32> {
    let start = [0.25_f32, 0.06].map(|width| width.ln() / FASTER);
    start.into_iter().flat_map(|width| std::iter::repeat_n(width, channels)).collect()
}

/// Bits of a position's latents `[pieces, rows, across, channels]`, noise in place of rounding: shape `[1]`.
pub(super) fn bits(latents: Tensor<4>, widths: Tensor<2>, prediction: &Prediction) -> Tensor<1> {
    let [pieces, rows, across, channels] = latents.dims();
    let far = prediction.differences(latents).abs();
    let near = far.clone().detach().clamp_max(BUSIEST);
    let above = moved(&near, 1, true);
    let busy =
        moved(&above, 2, true) + moved(&above, 2, false) + (above + moved(&near, 3, true)) * 2.0;
    let width =
        |at: usize| (widths.clone().narrow(0, at, 1) * FASTER).exp().reshape([1, 1, 1, channels]);
    let width = (width(0) + busy * width(1)).clamp_min(NARROWEST);
    // The probability of a whole number d is sinh(h) / (cosh(d / s) + cosh(h)) with h = 1 / 2s, here in logarithms.
    let half = width.clone().recip() * 0.5;
    let far = far / width;
    let sinh = half.clone() + ((half.clone() * -2.0).exp() * -1.0 + 1.0).log();
    let both = (far.clone() * -2.0).exp()
        + (half.clone() - far.clone()).exp()
        + (half * -1.0 - far.clone()).exp()
        + 1.0;
    let nats = far + both.log() - sinh;
    nats.sum() / ((pieces * rows * across) as f32 * std::f32::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn probabilities_of_all_whole_numbers_add_up_to_one() {
        let device = Device::flex();
        for width in [0.1_f32, 0.5, 4.0] {
            let widths = tensor(vec![width.ln() / FASTER, -100.0], [2, 1], &device);
            let prediction = Prediction::new(&[Predictor::Nothing], &device);
            let sum: f64 = (-300..=300)
                .map(|d| {
                    let one = tensor(vec![d as f32], [1, 1, 1, 1], &device);
                    let bits = bits(one, widths.clone(), &prediction).into_scalar::<f32>();
                    (-f64::from(bits)).exp2()
                })
                .sum();
            assert!((sum - 1.0).abs() < 1e-3, "{width}: {sum}");
        }
    }

    #[test]
    fn what_is_predicted_is_cheap_and_calm_places_are_cheaper_than_busy_ones() {
        let device = Device::flex();
        let mut random = Random::new(3);
        let cost = |values: Vec<f32>, predictor| {
            let latents = tensor(values, [1, 16, 16, 1], &device);
            let prediction = Prediction::new(&[predictor], &device);
            bits(latents, tensor(widths(1), [2, 1], &device), &prediction).into_scalar::<f32>()
        };
        let plane: Vec<f32> = (0..256).map(|at| (at / 16 * 3 + at % 16 * 2) as f32).collect();
        assert!(cost(plane.clone(), Predictor::Plane) * 3.0 < cost(plane, Predictor::Nothing));
        // The same numbers, spread or in one corner.
        let busy: Vec<f32> = (0..256)
            .map(
                |at| if at / 16 < 6 && at % 16 < 6 { (random.normal() * 6.0).round() } else { 0.0 },
            )
            .collect();
        let mut spread = busy.clone();
        random.shuffle(&mut spread);
        assert!(cost(busy, Predictor::Nothing) * 1.2 < cost(spread, Predictor::Nothing));
    }
}
