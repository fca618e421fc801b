//! Blocks one after the other, over tokens that lie side by side.

use super::feed_forward::{FeedForward, Scratch};
use super::kernels::attention::{Cache, Sight, attend};
use super::kernels::linear::{Matrix, linear};
use super::kernels::norm::{Norm, norm};
use super::kernels::sums::{add, add_with_bias};
use super::load::Tensors;
use super::{EngineError, Level, Options};
use crate::artifact::Artifact;
use crate::artifact::architecture::{Architecture, Head};

/// Tokens of a product at once: a multiple of every tile.
const TOKENS: usize = 48;

/// Blocks, the last norm and the head.
#[derive(Debug)]
pub(super) struct Transformer {
    pub(super) level: Level,
    pub(super) architecture: Architecture,
    blocks: Vec<Block>,
    norm: Norm,
    head: Matrix,
    head_bias: Option<Vec<f32>>,
}

#[derive(Debug)]
struct Block {
    norm: Norm,
    qkv: Matrix,
    out: Matrix,
    feed_forward: Option<FeedForward>,
}

/// Tokens of a sequence that lie side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) tokens: usize,
    /// Tokens of the same sequence whose keys and values are kept.
    pub(super) before: usize,
}

/// Where keys and values go.
pub(super) enum Caches<'a> {
    /// Nobody asks for them again.
    Dropped(&'a mut Cache),
    /// One sequence, layer by layer.
    Kept(&'a mut [Cache]),
}

/// What is looked at while tokens go through the blocks.
pub(super) enum Look<'a> {
    /// Nothing.
    Away,
    /// What the tables of each block see.
    Grids(&'a mut Vec<Vec<u8>>),
    /// What each block leaves behind, a stride from token to token.
    Blocks(&'a mut Vec<Vec<f32>>),
}

/// Room to work in, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Room {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    scratch: Scratch,
}

impl Transformer {
    pub(super) fn load(artifact: &Artifact, options: Options) -> Result<Self, EngineError> {
        let architecture = artifact.architecture().clone();
        let width = architecture.width;
        let tensors = Tensors::new(artifact);
        let blocks = (0..architecture.layers).map(|layer| {
            let block = tensors.under(format_args!("blocks.{layer}"));
            Ok(Block {
                norm: block.norm("norm1")?,
                qkv: block.matrix("attention.qkv", width)?,
                out: block.matrix("attention.out", width)?,
                feed_forward: FeedForward::load(&block, &architecture, options)?,
            })
        });
        let blocks = blocks.collect::<Result<_, EngineError>>()?;
        let head_bias = match architecture.head {
            Head::NextToken => None,
            Head::Classes(_) | Head::Masks(_) => Some(tensors.lanes("head.bias")?),
        };
        let (norm, head) = (tensors.norm("norm")?, tensors.matrix("head.weight", width)?);
        Ok(Self { level: options.level, architecture, blocks, norm, head, head_bias })
    }

    /// Floats between a token and the next one: the width up to whole lanes. Behind the width are zeros.
    pub(super) fn stride(&self) -> usize {
        self.norm.gain.len()
    }

    /// Keys and values of one layer, for so many tokens.
    pub(super) fn cache(&self, tokens: usize) -> Cache {
        Cache::new(self.architecture.heads, self.architecture.head_width(), tokens)
    }

    pub(super) fn feed_forward(&self, block: usize) -> Option<&FeedForward> {
        self.blocks.get(block)?.feed_forward.as_ref()
    }

    /// All blocks, in place.
    pub(super) fn forward(
        &self,
        x: &mut [f32],
        spans: &[Span],
        caches: &mut Caches<'_>,
        sight: Sight,
        room: &mut Room,
        mut look: Look<'_>,
    ) {
        let (level, stride) = (self.level, self.stride());
        let tokens = x.len() / stride;
        let Room { normed, qkv, attended, scratch } = room;
        attended.clear();
        attended.resize(tokens * stride, 0.0);
        for (layer, block) in self.blocks.iter().enumerate() {
            let qkv_stride = block.qkv.stride();
            qkv.resize(tokens * qkv_stride, 0.0);
            normed.resize(TOKENS * stride, 0.0);
            for (x, qkv) in x.chunks(TOKENS * stride).zip(qkv.chunks_mut(TOKENS * qkv_stride)) {
                let Some(normed) = normed.get_mut(..x.len()) else { continue };
                norm(level, &block.norm, x, normed);
                linear(level, &block.qkv, normed, stride, qkv);
            }
            let mut rest = (qkv.as_slice(), attended.as_mut_slice());
            for span in spans {
                let (qkv, qkvs) = rest.0.split_at(span.tokens * qkv_stride);
                let (to, tos) = rest.1.split_at_mut(span.tokens * stride);
                rest = (qkvs, tos);
                let cache = match caches {
                    Caches::Dropped(cache) => &mut **cache,
                    Caches::Kept(layers) => match layers.get_mut(layer) {
                        Some(cache) => cache,
                        None => continue,
                    },
                };
                attend(level, cache, sight, qkv, qkv_stride, span.before, to, stride);
            }
            let chunks = x.chunks_mut(TOKENS * stride).zip(attended.chunks(TOKENS * stride));
            for (x, attended) in chunks {
                let Some(out) = normed.get_mut(..x.len()) else { continue };
                linear(level, &block.out, attended, stride, out);
                add(level, x, out);
            }
            if let Some(feed_forward) = &block.feed_forward {
                if let Look::Grids(grids) = &mut look {
                    grids.push(feed_forward.grid(level, x));
                }
                feed_forward.add(level, x, scratch);
            }
            if let Look::Blocks(blocks) = &mut look {
                blocks.push(x.to_vec());
            }
        }
    }

    /// The logits of each token of `x`.
    pub(super) fn logits(&self, x: &[f32], room: &mut Room) -> Vec<f32> {
        let stride = self.stride();
        let tokens = x.len() / stride;
        room.normed.resize(tokens * stride, 0.0);
        norm(self.level, &self.norm, x, &mut room.normed);
        let mut logits = vec![0.0; tokens * self.head.stride()];
        linear(self.level, &self.head, &room.normed, stride, &mut logits);
        if let Some(bias) = &self.head_bias {
            let mut sums = vec![0.0; logits.len()];
            add_with_bias(self.level, &mut sums, &logits, bias);
            logits = sums;
        }
        // Lanes behind the last output are dropped.
        if self.head.stride() == self.head.outputs {
            return logits;
        }
        let rows = logits.chunks_exact(self.head.stride());
        rows.flat_map(|row| row.iter().take(self.head.outputs)).copied().collect()
    }
}
