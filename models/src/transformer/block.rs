//! One block: attention, then a feed-forward half that may be an MLP, look-up tables or nothing.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::layer::{self, Affine, DEVIATION, Norm};
use super::model::Start;
use super::plain;
use crate::artifact::architecture::{Architecture, FeedForward, Inputs, Wires};
use crate::kernel::{self, attention, mlp};
use crate::lut::{Bits, BitsOptions, Rows, RowsOptions, Wiring};
use crate::random::Random;

/// `x + attention(norm1(x))`, then `x + feed_forward(norm2(x))`.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: Norm,
    /// Attention.
    pub attention: Attention,
    /// Before the feed-forward half, when there is one.
    pub norm2: Option<Norm>,
    /// The feed-forward half, when it is an MLP.
    pub mlp: Option<Mlp>,
    /// The feed-forward half, when it is tables of rows.
    pub rows: Option<Rows>,
    /// The feed-forward half, when it is 1-bit tables.
    pub bits: Option<Bits>,
}

impl Block {
    pub(super) fn new(
        architecture: &Architecture,
        start: &Start,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let width = architecture.width;
        let residual = DEVIATION / (2.0 * architecture.layers as f32).sqrt();
        let mut block = Self {
            norm1: Norm::new(width, device),
            attention: Attention {
                qkv: layer::normal([3 * width, width], DEVIATION, random, device),
                out: layer::normal([width, width], residual, random, device),
                heads: architecture.heads,
                causal: matches!(architecture.inputs, Inputs::Tokens { .. }),
            },
            norm2: None,
            mlp: None,
            rows: None,
            bits: None,
        };
        block.set_feed_forward(architecture, start, random, device);
        block
    }

    /// Replaces the feed-forward half by a new one; norm and attention stay.
    pub(super) fn set_feed_forward(
        &mut self,
        architecture: &Architecture,
        start: &Start,
        random: &mut Random,
        device: &Device,
    ) {
        let width = architecture.width;
        (self.mlp, self.rows, self.bits) = (None, None, None);
        match &architecture.feed_forward {
            FeedForward::None => self.norm2 = None,
            _ if self.norm2.is_none() => self.norm2 = Some(Norm::new(width, device)),
            _ => (),
        }
        match &architecture.feed_forward {
            FeedForward::None => (),
            FeedForward::Mlp { hidden } => {
                let residual = DEVIATION / (2.0 * architecture.layers as f32).sqrt();
                self.mlp = Some(Mlp {
                    up: Affine::new([width, *hidden], DEVIATION, random, device),
                    down: Affine::new([*hidden, width], residual, random, device),
                });
            }
            FeedForward::Rows(rows) => {
                let options = RowsOptions {
                    width,
                    nodes: rows.nodes,
                    inputs: rows.inputs,
                    projected: rows.wires == Wires::Projected,
                    damping: start.damping,
                    deviation: start.deviation.unwrap_or(RowsOptions::default().deviation),
                };
                let wires = rows.nodes * rows.inputs;
                let wiring = match start.choices {
                    0 | 1 => Wiring::permutations(width, wires, random),
                    choices => Wiring::learned(width, wires, choices, random),
                };
                self.rows = Some(Rows::new(&options, &wiring, random, device));
            }
            FeedForward::Bits(bits) => {
                let options = BitsOptions {
                    width,
                    levels: bits.levels,
                    nodes: bits.nodes.clone(),
                    inputs: bits.inputs,
                    choices: start.choices,
                };
                self.bits = Some(Bits::new(&options, width, None, random, device));
            }
        }
    }

    /// `[batch, tokens, width]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_with(x, |_, normal| self.feed_forward(normal))
    }

    /// The block with another feed-forward half: a function of the output of `norm2`,
    /// `[batch * tokens, width]`. It is not called when the block has none.
    pub(crate) fn forward_with(
        &self,
        x: Tensor<3>,
        feed_forward: impl FnOnce(&Self, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<3> {
        let x = x.clone() + self.attention.forward(self.norm1.forward(x));
        let Some(norm2) = &self.norm2 else { return x };
        let [batch, tokens, width] = x.dims();
        let normal = norm2.forward(x.clone()).reshape([batch * tokens, width]);
        x + feed_forward(self, normal).reshape([batch, tokens, width])
    }

    /// The feed-forward half alone, `[rows, width]` to the same; zero when there is none.
    pub fn feed_forward(&self, x: Tensor<2>) -> Tensor<2> {
        match (&self.mlp, &self.rows, &self.bits) {
            (Some(mlp), _, _) => mlp.forward(x),
            (_, Some(rows), _) => rows.forward(x),
            (_, _, Some(bits)) => bits.forward(x),
            _ => x.zeros_like(),
        }
    }
}

/// Multi-head attention; its linear layers have no bias.
#[derive(Module, Debug)]
pub struct Attention {
    /// Query, key and value in one, `[3 width, width]`.
    pub qkv: Param<Tensor<2>>,
    /// `[width, width]`.
    pub out: Param<Tensor<2>>,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    causal: bool,
}

impl Attention {
    /// `[batch, tokens, width]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let qkv = layer::linear(x, self.qkv.val());
        let mixed = if kernel::native(&qkv) {
            let attention = attention::Attention { heads: self.heads, causal: self.causal };
            kernel::apply(attention, [qkv.into_dispatch()])
        } else {
            plain::attention(qkv, self.heads, self.causal)
        };
        layer::linear(mixed, self.out.val())
    }
}

/// `down(gelu(up(x)))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Width to hidden.
    pub up: Affine,
    /// Hidden to width.
    pub down: Affine,
}

impl Mlp {
    /// `[rows, width]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        if kernel::native(&x) {
            let inputs = [
                x.into_dispatch(),
                self.up.weight.val().into_dispatch(),
                self.up.bias.val().into_dispatch(),
                self.down.weight.val().into_dispatch(),
                self.down.bias.val().into_dispatch(),
            ];
            return kernel::apply(mlp::Mlp, inputs);
        }
        self.down.forward(plain::gelu(self.up.forward(x)))
    }
}
