//! The MLP in int8: weights with a scale for each output, activations with one for each token, sums in 32 bits. It
//! is made from the MLP in f32 when it is loaded, and is what tables are compared with.

use super::Scratch;
use crate::engine::kernels::dot::{Bytes, dot};
use crate::engine::kernels::norm::{Norm, norm};
use crate::engine::kernels::sums::{quantise, restore_add, restore_gelu};
use crate::engine::load::Tensors;
use crate::engine::{EngineError, Level};

/// Tokens at once: a multiple of every tile.
const TOKENS: usize = 48;

#[derive(Debug)]
pub(in crate::engine) struct Int8 {
    up: Layer,
    down: Layer,
}

#[derive(Debug)]
struct Layer {
    weights: Bytes,
    /// 128 times the sum of the weights of each output: activations are bytes around 128.
    zero: Vec<i32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    fn quantise(weights: &[f32], inputs: usize, bias: Vec<f32>) -> Self {
        let mut bytes = Vec::with_capacity(weights.len());
        let mut zero = Vec::with_capacity(bias.len());
        let mut scale = Vec::with_capacity(bias.len());
        for row in weights.chunks_exact(inputs.max(1)) {
            let largest = row.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
            let step = largest.max(f32::MIN_POSITIVE) / 127.0;
            let row = row.iter().map(|weight| (weight / step).round_ties_even() as i8);
            let before = bytes.len();
            bytes.extend(row);
            let sum = bytes.iter().skip(before).map(|weight: &i8| i32::from(*weight)).sum::<i32>();
            zero.push(128 * sum);
            scale.push(step);
        }
        zero.resize(bias.len(), 0);
        scale.resize(bias.len(), 0.0);
        Self { weights: Bytes::pack(&bytes, inputs), zero, scale, bias }
    }
}

impl Int8 {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        width: usize,
        hidden: usize,
    ) -> Result<Self, EngineError> {
        let (up, down) = (tensors.get("up.weight")?, tensors.get("down.weight")?);
        Ok(Self {
            up: Layer::quantise(up, width, tensors.lanes("up.bias")?),
            down: Layer::quantise(down, hidden, tensors.lanes("down.bias")?),
        })
    }

    pub(super) fn add(&self, level: Level, before: &Norm, x: &mut [f32], scratch: &mut Scratch) {
        let stride = before.gain.len().max(1);
        let hidden = self.up.bias.len().max(1);
        let Scratch { floats, hidden: between, bytes, scales, sums, .. } = scratch;
        for x in x.chunks_mut(TOKENS * stride) {
            let tokens = x.len() / stride;
            floats.resize(tokens * stride, 0.0);
            norm(level, before, x, floats);
            scales.resize(tokens, 0.0);
            bytes.resize(tokens * stride, 0);
            quantise(level, floats, stride, bytes, stride, scales);
            sums.resize(tokens * hidden, 0);
            dot(level, &self.up.weights, bytes, stride, sums);
            between.resize(tokens * hidden, 0.0);
            let Layer { zero, scale, bias, .. } = &self.up;
            restore_gelu(level, sums, zero, scale, bias, scales, between);
            bytes.resize(tokens * hidden, 0);
            quantise(level, between, hidden, bytes, hidden, scales);
            sums.resize(tokens * stride, 0);
            dot(level, &self.down.weights, bytes, hidden, sums);
            let Layer { zero, scale, bias, .. } = &self.down;
            restore_add(level, sums, zero, scale, bias, scales, x);
        }
    }
}
