//! Convolutions over pieces, in products: `[pieces, rows, across, features]`.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};

use super::super::Kind;
use super::super::residual::{self, Block, Layer, Residual};
use super::moved;
use crate::random::Random;
use crate::train::Parameter;

/// Numbers of a position inside of a decoder, and its blocks.
pub(super) const WIDTH: usize = 32;
const BLOCKS: usize = 2;

/// A layer around every position, or at it.
#[derive(Module, Debug)]
pub(super) struct Convolution {
    /// `[taps * in, out]`.
    weight: Param<Tensor<2>>,
    /// `[out]`.
    bias: Param<Tensor<1>>,
}

impl Convolution {
    fn new(
        taps: usize,
        [inputs, outputs]: [usize; 2],
        gain: f32,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let fan = taps * inputs;
        let values = random.normals(fan * outputs, gain * (2.0 / fan as f32).sqrt());
        Self {
            weight: Param::from_data(TensorData::new(values, [fan, outputs]), device),
            bias: Param::from_data(TensorData::new(vec![0.0_f32; outputs], [outputs]), device),
        }
    }

    fn forward(&self, x: Tensor<4>, kind: Kind) -> Tensor<4> {
        let [pieces, rows, across, inputs] = x.dims();
        let [fan, outputs] = self.weight.val().dims();
        let x = if fan == inputs { x } else { around(&x, kind) };
        let x = x.reshape([pieces * rows * across, fan]).matmul(self.weight.val());
        (x + self.bias.val().unsqueeze::<2>()).reshape([pieces, rows, across, outputs])
    }
}

/// What stands at all taps, one after the other.
fn around(x: &Tensor<4>, kind: Kind) -> Tensor<4> {
    let beside = |x: &Tensor<4>, right: isize| match right {
        0 => x.clone(),
        _ => moved(x, 2, right < 0),
    };
    let taps = residual::taps(kind).into_iter().map(|(down, right)| match down {
        0 => beside(x, right),
        _ => beside(&moved(x, 1, down < 0), right),
    });
    Tensor::cat(taps.collect(), 3)
}

#[derive(Module, Debug)]
struct Residuals {
    spatial: Convolution,
    mix: Convolution,
}

/// The [decoder](residual) while it learns.
#[derive(Module, Debug)]
pub(super) struct Network {
    enter: Convolution,
    blocks: Vec<Residuals>,
    leave: Convolution,
}

impl Network {
    /// One that corrects nothing yet.
    pub(super) fn new(
        kind: Kind,
        channels: usize,
        bands: usize,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let taps = residual::taps(kind).len();
        let mut layer = |taps, sizes, gain| Convolution::new(taps, sizes, gain, random, device);
        Self {
            enter: layer(taps, [channels, WIDTH], 1.0),
            blocks: (0..BLOCKS)
                .map(|_| Residuals {
                    spatial: layer(taps, [WIDTH; 2], 1.0),
                    mix: layer(1, [WIDTH; 2], 0.3),
                })
                .collect(),
            leave: layer(1, [WIDTH, bands], 0.0),
        }
    }

    pub(super) fn forward(&self, latents: Tensor<4>, kind: Kind) -> Tensor<4> {
        let mut hidden = self.enter.forward(latents, kind);
        for block in &self.blocks {
            let inner = activation::relu(block.spatial.forward(hidden.clone(), kind));
            hidden = hidden + block.mix.forward(inner, kind);
        }
        self.leave.forward(activation::relu(hidden), kind)
    }
}

/// The decoder of these parameters, of which the first layer takes latents divided by `inputs` and the last gives
/// corrections divided by `outputs`.
pub(super) fn exported(
    found: &BTreeMap<String, Parameter>,
    kind: Kind,
    inputs: &[f32],
    outputs: &[f32],
) -> Residual {
    let taps = residual::taps(kind).len();
    let layer = |name: &str, taps: usize, before: &[f32], after: &[f32]| {
        let values = |part: &str| {
            let found = found.get(&format!("{name}.{part}"));
            found.map(|found| found.values.as_slice()).unwrap_or_default()
        };
        let (count, outputs) = (before.len(), after.len());
        let (weights, mut turned) = (values("weight"), Vec::new());
        for tap in weights.chunks_exact((count * outputs).max(1)).take(taps) {
            for (output, after) in after.iter().enumerate() {
                let of = tap.iter().skip(output).step_by(outputs).zip(before);
                turned.extend(of.map(|(weight, before)| weight / before * after));
            }
        }
        let bias = values("bias").iter().zip(after).map(|(bias, after)| bias * after).collect();
        Layer { weight: turned, bias }
    };
    let inner = [1.0; WIDTH];
    let blocks = (0..BLOCKS).map(|at| Block {
        spatial: layer(&format!("blocks.{at}.spatial"), taps, &inner, &inner),
        mix: layer(&format!("blocks.{at}.mix"), 1, &inner, &inner),
    });
    Residual {
        enter: layer("enter", taps, inputs, &inner),
        blocks: blocks.collect(),
        leave: layer("leave", 1, &inner, outputs),
    }
}

/// What tells media from what a decoder made of their latents, position by position.
#[derive(Module, Debug)]
pub(super) struct Judge {
    first: Convolution,
    second: Convolution,
    third: Convolution,
}

impl Judge {
    pub(super) fn new(kind: Kind, inputs: usize, random: &mut Random, device: &Device) -> Self {
        let taps = residual::taps(kind).len();
        let mut layer = |taps, sizes, gain| Convolution::new(taps, sizes, gain, random, device);
        Self {
            first: layer(1, [inputs, WIDTH], 1.0),
            second: layer(taps, [WIDTH; 2], 1.0),
            third: layer(1, [WIDTH, 1], 0.3),
        }
    }

    /// Towards 1 for media, towards 0 for what was made.
    pub(super) fn forward(&self, vectors: Tensor<4>, latents: Tensor<4>, kind: Kind) -> Tensor<4> {
        let x = Tensor::cat(vec![vectors, latents], 3);
        let x = activation::leaky_relu(self.first.forward(x, kind), 0.2);
        let x = activation::leaky_relu(self.second.forward(x, kind), 0.2);
        self.third.forward(x, kind)
    }
}
