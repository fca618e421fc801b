//! The MLP in f32.

use super::Scratch;
use crate::engine::kernels::curves::gelu;
use crate::engine::kernels::linear::{Matrix, linear};
use crate::engine::kernels::norm::{Norm, norm};
use crate::engine::kernels::sums::add_with_bias;
use crate::engine::load::Tensors;
use crate::engine::{EngineError, Level};

/// Tokens at once: what is between the layers stays in the second cache.
const TOKENS: usize = 48;

#[derive(Debug)]
pub(in crate::engine) struct Mlp {
    up: Matrix,
    up_bias: Vec<f32>,
    down: Matrix,
    down_bias: Vec<f32>,
}

impl Mlp {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        width: usize,
        hidden: usize,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            up: tensors.matrix("up.weight", width)?,
            up_bias: tensors.lanes("up.bias")?,
            down: tensors.matrix("down.weight", hidden)?,
            down_bias: tensors.lanes("down.bias")?,
        })
    }

    pub(super) fn add(&self, level: Level, before: &Norm, x: &mut [f32], scratch: &mut Scratch) {
        let stride = before.gain.len().max(1);
        for x in x.chunks_mut(TOKENS * stride) {
            let tokens = x.len() / stride;
            scratch.floats.resize(tokens * stride, 0.0);
            norm(level, before, x, &mut scratch.floats);
            scratch.hidden.resize(tokens * self.up.stride(), 0.0);
            linear(level, &self.up, &scratch.floats, stride, &mut scratch.hidden);
            gelu(level, &mut scratch.hidden, &self.up_bias);
            linear(level, &self.down, &scratch.hidden, self.up.stride(), &mut scratch.floats);
            add_with_bias(level, x, &scratch.floats, &self.down_bias);
        }
    }
}
