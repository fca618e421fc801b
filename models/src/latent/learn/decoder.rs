//! The decoders that are not linear, trained with the analysis frozen, on latents as they are stored.
//!
//! `Residual` learns what the linear decoder leaves out, in the least-squares sense. `Adversarial` begins like it, and in
//! the second half of its steps a judge that sees both tells media from what was decoded (least squares, Mao et al.,
//! arXiv 1611.04076; on latents conditioned, as in HiFiC, arXiv 2006.09965): what it makes looks sharper and is
//! further from the original.

use burn::tensor::{Device, Tensor};

use super::super::Kind;
use super::super::artifact::{Card, Decoder};
use super::super::compand::value;
use super::super::linear::Linear;
use super::super::residual::{Residual, Scratch};
use super::super::{LatentError, Training};
use super::crops::{Crops, Example};
use super::network::{Judge, Network, exported};
use super::{options, tensor};
use crate::random::Random;
use crate::train::{Trainer, parameters};

const RATE: f32 = 1e-3;
/// What being told from media costs a decoder, in shares of what the linear one leaves out.
const CONVINCING: f32 = 0.3;

/// Mean squares of what goes in and comes out, for networks that like numbers around 1.
struct Sizes {
    /// Of latents, by channel.
    latents: Vec<f32>,
    /// Of what the linear decoder leaves out, and of all there is, by band, in steps.
    rest: Vec<f32>,
    all: Vec<f32>,
}

/// Trains a decoder that is not linear.
///
/// # Errors
/// When the loss is no number any more.
pub(crate) fn decoder(
    linear: &Linear,
    examples: &[Example],
    (card, scales): (&Card, &[f64]),
    training: &Training,
) -> Result<Residual, LatentError> {
    let (kind, step) = (card.kind, card.step);
    let device = Device::flex().autodiff();
    let steps = |numbers: &[f64]| numbers.iter().map(|x| (x / step) as f32).collect::<Vec<_>>();
    let (offsets, factors) = (steps(&linear.origin), steps(scales));
    let (channels, bands) = (linear.synthesis.len(), scales.len());
    let synthesis: Vec<f32> = linear.synthesis.iter().flat_map(|row| steps(row)).collect();
    let sizes = Sizes::of(examples, &synthesis, (&offsets, &factors), channels);
    let synthesis = tensor::<2>(synthesis, [channels, bands], &device);
    let inverse = |sizes: &[f32]| {
        let values = sizes.iter().map(|size| 1.0 / size).collect();
        tensor::<4>(values, [1, 1, 1, sizes.len()], &device)
    };
    let (latent_size, all_size) = (inverse(&sizes.latents), inverse(&sizes.all));
    let rest_size = tensor::<4>(sizes.rest.clone(), [1, 1, 1, bands], &device);
    let left: f32 = sizes.rest.iter().map(|size| size * size).sum();

    let mut random = Random::new(!training.seed);
    let network = Network::new(kind, channels, bands, &mut random, &device);
    let judge = Judge::new(kind, bands + channels, &mut random, &device);
    let mut trainer = Trainer::new(network, options(RATE, training.steps, training.seed));
    let convinced = training.steps / 2;
    let mut judging =
        Trainer::new(judge, options(RATE / 2.0, training.steps - convinced, training.seed));
    let crops = Crops::of(examples);
    for at in 0..training.steps {
        let places = crops.draw(trainer.random());
        let x = crops.vectors(&places, (&offsets, &factors), &device);
        let q = crops.latents(&places, &device);
        let [pieces, rows, across, _] = x.dims();
        let positions = pieces * rows * across;
        let flat = q.clone().reshape([positions, channels]).matmul(synthesis.clone());
        let linear = flat.reshape([pieces, rows, across, bands]);
        let rest = x.clone() - linear.clone();
        let q = q * latent_size.clone();
        let adversarial = training.decoder == Decoder::Adversarial && at >= convinced;
        let judge = judging.model().clone();
        let made = |network: &Network| network.forward(q.clone(), kind) * rest_size.clone();
        if adversarial {
            let fake = (linear.clone() + made(trainer.model())).detach() * all_size.clone();
            judging.step_with(|judge, _| {
                let real = judge.forward(x.clone() * all_size.clone(), q.clone(), kind);
                let fake = judge.forward(fake, q.clone(), kind);
                Ok(square(real - 1.0) + square(fake))
            })?;
        }
        trainer.step_with(|network, _| {
            let correction = made(network);
            let error = rest.clone() - correction.clone();
            let error = (error.clone() * error).sum() / (positions as f32 * left);
            if !adversarial {
                return Ok(error);
            }
            let fake = (linear.clone() + correction) * all_size.clone();
            let unconvinced = square(judge.forward(fake, q.clone(), kind) - 1.0);
            Ok(error + unconvinced * CONVINCING)
        })?;
    }
    let outputs: Vec<f32> = sizes
        .rest
        .iter()
        .zip(scales)
        .map(|(size, scale)| (f64::from(*size) * step / scale) as f32)
        .collect();
    let found = parameters(&trainer.into_model());
    let mut residual = exported(&found, kind, &sizes.latents, &outputs);
    if training.decoder == Decoder::Residual {
        weigh(&mut residual, kind, linear, examples, scales);
    }
    Ok(residual)
}

/// Scales the corrections of each coefficient by what they are worth on the examples, by least squares from 0 to 1: a
/// network that has learned little corrects little, and nothing gets worse than the linear decoder gives it.
fn weigh(
    residual: &mut Residual,
    kind: Kind,
    linear: &Linear,
    examples: &[Example],
    scales: &[f64],
) {
    let bands = scales.len();
    let mut sums = vec![(0.0, 0.0); bands];
    let mut scratch = Scratch::default();
    for example in examples {
        let (rows, across) = (example.rows, example.across);
        let plane = (rows * across).max(1);
        residual.correct(kind, &example.latents, (rows, across), &mut scratch);
        let corrections = Residual::lines(kind, (rows, across), &scratch);
        let of_bands = corrections.zip(&mut sums).zip(scales).zip(&linear.origin).enumerate();
        for (band, (((lines, sum), scale), origin)) in of_bands {
            let mut left: Vec<f64> = example
                .vectors
                .iter()
                .skip(band)
                .step_by(bands)
                .map(|x| f64::from(*x) * scale - origin)
                .collect();
            for (latents, row) in example.latents.chunks_exact(plane).zip(&linear.synthesis) {
                let by = row.get(band).copied().unwrap_or_default();
                let latents = left.iter_mut().zip(latents);
                latents.for_each(|(left, latent)| *left -= f64::from(value(*latent)) * by);
            }
            for (correction, left) in lines.flatten().zip(&left) {
                let correction = f64::from(*correction) * scale;
                sum.0 += left * correction;
                sum.1 += correction * correction;
            }
        }
    }
    let width = residual.enter.bias.len().max(1);
    let rows = residual.leave.weight.chunks_exact_mut(width).zip(&mut residual.leave.bias);
    for ((weights, bias), (along, square)) in rows.zip(sums) {
        let worth = if square > 0.0 { (along / square).clamp(0.0, 1.0) as f32 } else { 0.0 };
        weights.iter_mut().chain([bias]).for_each(|x| *x *= worth);
    }
}

fn square(x: Tensor<4>) -> Tensor<1> {
    (x.clone() * x).mean()
}

impl Sizes {
    fn of(
        examples: &[Example],
        synthesis: &[f32],
        (offsets, factors): (&[f32], &[f32]),
        channels: usize,
    ) -> Self {
        let bands = factors.len();
        let all: usize = examples.iter().map(|example| example.rows * example.across).sum();
        let every = all.div_ceil(8192).max(1);
        let mut sums = [vec![0.0; channels], vec![0.0; bands], vec![0.0; bands]];
        let [latents, rest, whole] = &mut sums;
        let (mut next, mut count) = (0, 0.0_f64);
        for example in examples {
            let plane = example.rows * example.across;
            while next < plane {
                let vector = example.vectors.get(next * bands..).unwrap_or_default();
                let scaled = vector.iter().zip(offsets).zip(factors);
                let mut left: Vec<f32> =
                    scaled.map(|((x, offset), by)| f32::from(*x) * by - offset).collect();
                whole.iter_mut().zip(&left).for_each(|(sum, x)| *sum += f64::from(x * x));
                let of = example.latents.iter().skip(next).step_by(plane).zip(latents.iter_mut());
                for ((latent, sum), row) in of.zip(synthesis.chunks_exact(bands)) {
                    let q = value(*latent) as f32;
                    *sum += f64::from(q * q);
                    left.iter_mut().zip(row).for_each(|(left, s)| *left -= q * s);
                }
                rest.iter_mut().zip(&left).for_each(|(sum, x)| *sum += f64::from(x * x));
                count += 1.0;
                next += every;
            }
            next -= plane;
        }
        // What hardly varies is not made large: a latent of a channel that is nearly always 0 would be an outlier.
        let [mut latents, rest, all] = sums.map(|sums: Vec<f64>| {
            let sizes: Vec<f32> = sums.iter().map(|s| (s / count.max(1.0)).sqrt() as f32).collect();
            let least = sizes.iter().fold(0.0_f32, |most, size| most.max(*size)) * 1e-3;
            sizes.into_iter().map(|size| size.max(least).max(1e-6)).collect::<Vec<f32>>()
        });
        latents.iter_mut().for_each(|size| *size = size.max(1.0));
        Self { latents, rest, all }
    }
}
