//! Training by gradient: a codec that starts at the principal components, and decoders that know more than it says.
//!
//! First the linear maps are trained [together](mod@maps), against the bytes that latents take and the error of what comes
//! back, after which they are put on the integer grid as those of a fit are: records have the same bytes everywhere.
//! Then the synthesis is solved for exactly, from latents as they are stored ([`squares`]). With the analysis frozen, a
//! [decoder](mod@decoder) may learn what a linear one leaves out; data that were written stay valid when it improves.
//!
//! The recipes are those of WaLLoC (arXiv 2412.09405) and LiVeAction (arXiv 2605.06628), with another measure of rate,
//! since ours are coded with contexts and theirs are not.

mod crops;
mod decoder;
mod maps;
mod network;
mod rate;
mod squares;

use burn::tensor::{Device, Tensor, TensorData};

pub(crate) use self::crops::Example;
pub(super) use self::decoder::decoder;
pub(super) use self::maps::maps;
pub(super) use self::squares::refit;
use crate::random::Random;
use crate::train::Options;

/// Positions of a step, about.
const POSITIONS: usize = 2048;

/// The schedule of a training.
fn options(rate: f32, steps: u64, seed: u64) -> Options {
    Options {
        rate,
        last: 0.02,
        warm_up: steps / 20,
        steps,
        betas: [0.9, 0.99],
        decay: 0.0,
        clip: 0.0,
        seed,
        ..Options::default()
    }
}

/// A tensor of these numbers.
fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// `x` moved by one along a dimension, towards its end or its start; what comes in is zero.
fn moved(x: &Tensor<4>, dimension: usize, forwards: bool) -> Tensor<4> {
    let mut shape = x.dims();
    let mut length = 0;
    if let Some(size) = shape.get_mut(dimension) {
        length = std::mem::replace(size, 1);
    }
    let zeros = Tensor::zeros(shape, &x.device());
    if length < 2 {
        return zeros;
    }
    let kept = x.clone().narrow(dimension, usize::from(!forwards), length - 1);
    Tensor::cat(if forwards { vec![zeros, kept] } else { vec![kept, zeros] }, dimension)
}

/// Uniform numbers from -1/2 to 1/2.
fn noise<const D: usize>(shape: [usize; D], random: &mut Random, device: &Device) -> Tensor<D> {
    let values = (0..shape.iter().product()).map(|_| random.uniform() - 0.5).collect();
    tensor(values, shape, device)
}
