//! Analysis and synthesis, trained together.
//!
//! `loss = error / step^2 + SLOPE * bits`, both of one position. The slope is the one that rounding to steps has where
//! there are many bits (an error of `step^2 / 12`, a quarter of which one bit more leaves), so that training keeps
//! what a step means and `step` alone chooses the rate. The synthesis sees latents as they will be, rounded, with the
//! gradient of what was rounded; the rate sees noise instead (Minnen and Singh, arXiv 2007.08739).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::super::artifact::Card;
use super::super::entropy::Predictor;
use super::super::linear::{Linear, dot};
use super::super::{LatentError, Training};
use super::crops::{Crops, Example};
use super::rate::{self, Prediction};
use super::{noise, options};
use crate::train::{Trainer, parameters};

/// The loss that one bit is worth.
const SLOPE: f32 = 2.0 * std::f32::consts::LN_2 / 12.0;
const RATE: f32 = 1e-3;
/// How much further than half a step latents are rounded towards zero.
const DEAD: f32 = 0.125;

#[derive(Module, Debug)]
struct Maps {
    /// `[bands, channels]`.
    analysis: Param<Tensor<2>>,
    /// `[channels, bands]`.
    synthesis: Param<Tensor<2>>,
    /// `[2, channels]`.
    widths: Param<Tensor<2>>,
}

/// Trains the maps of a codec.
///
/// # Errors
/// When the loss is no number any more.
pub(crate) fn maps(
    linear: &mut Linear,
    examples: &[Example],
    (card, scales, predictors): (&Card, &[f64], &[Predictor]),
    training: &Training,
) -> Result<(), LatentError> {
    let device = Device::flex().autodiff();
    let step = card.step;
    let (bands, channels) = (linear.mean.len(), linear.analysis.len());
    let steps = |numbers: &[f64]| numbers.iter().map(|x| (x / step) as f32).collect::<Vec<_>>();
    let (offsets, factors) = (steps(&linear.mean), steps(scales));
    let turned = |band: usize| linear.analysis.iter().filter_map(move |row| row.get(band));
    let analysis = (0..bands).flat_map(turned).map(|x| (x * step) as f32).collect();
    let synthesis = linear.synthesis.iter().flat_map(|row| steps(row)).collect();
    let param = |values: Vec<f32>, shape| Param::from_data(TensorData::new(values, shape), &device);
    let start = Maps {
        analysis: param(analysis, [bands, channels]),
        synthesis: param(synthesis, [channels, bands]),
        widths: param(rate::widths(channels), [2, channels]),
    };
    let prediction = Prediction::new(predictors, &device);
    let crops = Crops::of(examples);
    let mut trainer = Trainer::new(start, options(RATE, training.steps, training.seed));
    for _ in 0..training.steps {
        trainer.step_with(|maps, random| {
            let places = crops.draw(random);
            let x = crops.vectors(&places, (&offsets, &factors), &device);
            let shape = [places.len(), crops.rows, crops.across, channels];
            let noise = noise(shape, random, &device);
            Ok(loss(maps, x, noise, &prediction))
        })?;
    }
    let found = parameters(&trainer.into_model());
    let read = |name: &str| {
        let values = found.get(name).map(|p| p.values.as_slice()).unwrap_or_default();
        values.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>()
    };
    let analysis = read("analysis");
    for (channel, row) in linear.analysis.iter_mut().enumerate() {
        let of = analysis.iter().skip(channel).step_by(channels);
        row.iter_mut().zip(of).for_each(|(to, x)| *to = x / step);
    }
    for (row, found) in linear.synthesis.iter_mut().zip(read("synthesis").chunks_exact(bands)) {
        row.iter_mut().zip(found).for_each(|(to, x)| *to = x * step);
    }
    by_energy(linear, examples, scales);
    Ok(())
}

fn loss(maps: &Maps, x: Tensor<4>, noise: Tensor<4>, prediction: &Prediction) -> Tensor<1> {
    let [pieces, rows, across, bands] = x.dims();
    let positions = pieces * rows * across;
    let x = x.reshape([positions, bands]);
    let latents = x.clone().matmul(maps.analysis.val());
    let exact = latents.clone().detach();
    let rounded = (exact.clone().abs() + (0.5 - DEAD)).floor() * exact.clone().sign();
    let stored = latents.clone() + (rounded - exact);
    let error = x - stored.matmul(maps.synthesis.val());
    let error = (error.clone() * error).sum() / positions as f32;
    let noisy = latents.reshape(noise.dims()) + noise;
    error + rate::bits(noisy, maps.widths.val(), prediction) * SLOPE
}

/// Channels in the order of the energy that they bring, so that a part of a record is worth the most.
fn by_energy(linear: &mut Linear, examples: &[Example], scales: &[f64]) {
    let bands = scales.len();
    let all: usize = examples.iter().map(|example| example.vectors.len() / bands.max(1)).sum();
    let every = all.div_ceil(4096).max(1);
    let vectors = examples.iter().flat_map(|example| example.vectors.chunks_exact(bands));
    let mut energies = vec![0.0; linear.analysis.len()];
    for vector in vectors.step_by(every) {
        let scaled = vector.iter().zip(scales).zip(&linear.mean);
        let centred: Vec<f64> =
            scaled.map(|((x, scale), mean)| f64::from(*x) * scale - mean).collect();
        for (energy, row) in energies.iter_mut().zip(&linear.analysis) {
            *energy += dot(row, &centred).powi(2);
        }
    }
    let analysis = std::mem::take(&mut linear.analysis);
    let synthesis = std::mem::take(&mut linear.synthesis);
    let mut channels: Vec<_> = energies
        .into_iter()
        .zip(analysis.into_iter().zip(synthesis))
        .map(|(energy, (analysis, synthesis))| {
            (energy * dot(&synthesis, &synthesis), analysis, synthesis)
        })
        .collect();
    channels.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
    for (_, analysis, synthesis) in channels {
        linear.analysis.push(analysis);
        linear.synthesis.push(synthesis);
    }
}
