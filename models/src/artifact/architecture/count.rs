//! Parameters, bytes and operations, counted from the shapes.
//!
//! A multiplication is one of matrix products, of norms (three for each feature: its square, the inverse
//! deviation, the gain), of scores, of activations (six for a GELU) and of the integer grid (one for each feature in
//! and out). Look-ups, comparisons, exponentials, divisions and roots are none. Additions are counted alike; adding
//! a row of a table is one for each feature.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, FeedForward, Inputs, Wires};

/// What an input of full length takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operations {
    /// Tokens of the input.
    pub tokens: u64,
    /// Multiplications for all of them.
    pub multiplications: u64,
    /// Additions for all of them.
    pub additions: u64,
}

/// What the feed-forward of all blocks weighs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bytes {
    /// As an artifact holds it.
    pub exported: u64,
    /// The MLP of four times the width in f32.
    pub mlp_f32: u64,
    /// The same with int8 weights: a scale for each output, biases in f32.
    pub mlp_int8: u64,
}

impl Operations {
    /// Multiplications for a token of an input of full length, on average.
    #[must_use]
    pub fn multiplications_per_token(&self) -> f64 {
        self.multiplications as f64 / self.tokens.max(1) as f64
    }

    /// Additions for a token of an input of full length, on average.
    #[must_use]
    pub fn additions_per_token(&self) -> f64 {
        self.additions as f64 / self.tokens.max(1) as f64
    }

    fn add(&mut self, times: u64, (multiplications, additions): (u64, u64)) {
        self.multiplications += times * multiplications;
        self.additions += times * additions;
    }
}

impl Architecture {
    /// Elements of the tensors that training sets: all but wires.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let learned = |name: &str| !name.ends_with(".wires") && !name.ends_with("_scale");
        let tensors = self.tensors();
        let counts = tensors.iter().filter(|tensor| learned(&tensor.name)).map(|tensor| {
            // A word is 64 entries of a table.
            let bits = tensor.name.contains(".bits.") && tensor.name.ends_with(".table");
            let scale = tensor.name.ends_with(".scale");
            match (&self.feed_forward, bits, scale) {
                (FeedForward::Bits(block), true, _) => {
                    (tensor.elements() / block.words()) << block.inputs
                }
                // Scales are made at export.
                (_, _, true) => 0,
                _ => tensor.elements(),
            }
        });
        counts.map(size).sum()
    }

    /// What the whole model takes for an input of full length. A token of a text attends to those before it and to
    /// itself, any other token to all.
    #[must_use]
    pub fn operations(&self) -> Operations {
        let mut operations = self.feed_forward_operations();
        let (width, tokens) = (size(self.width), operations.tokens);
        let causal = matches!(self.inputs, Inputs::Tokens { .. });
        let pairs = if causal { tokens * (tokens + 1) / 2 } else { tokens * tokens };
        let norm = (3 * width, 4 * width);
        let mut embed = |times: u64, values: usize| {
            operations.add(times, linear(size(values), width));
            operations.add(times, (0, 2 * width));
        };
        match &self.inputs {
            Inputs::Tokens { .. } => embed(tokens, 0),
            Inputs::Image(image) => embed(size(image.tokens()), image.values()),
            Inputs::Modalities { image, audio, text } => {
                if let Some(image) = image {
                    embed(size(image.tokens()), image.values());
                }
                if let Some(audio) = audio {
                    embed(size(audio.tokens()), audio.values());
                }
                if let Some(text) = text {
                    embed(size(text.length), 0);
                }
            }
        }
        let layers = size(self.layers);
        operations.add(layers * tokens, norm);
        operations.add(layers * tokens, linear(width, 3 * width));
        operations.add(layers * tokens, linear(width, width));
        operations.add(layers * tokens, (0, width));
        // Scores and the weighted sum of values; for each head and pair a scale, a difference and a part of the sum.
        let heads = size(self.heads);
        operations.add(layers * pairs, (2 * width + heads, 2 * width + 2 * heads));
        let heads_read = size(self.answers());
        operations.add(heads_read, norm);
        operations.add(heads_read, linear(width, size(self.outputs())));
        operations
    }

    /// What the feed-forward of all blocks takes of it, with its norm and the addition to the residual.
    #[must_use]
    pub fn feed_forward_operations(&self) -> Operations {
        let width = size(self.width);
        let mut operations = Operations { tokens: size(self.tokens()), ..Operations::default() };
        let times = size(self.layers) * operations.tokens;
        // Onto the grid and back from it.
        let grid = (2 * width, 2 * width);
        match &self.feed_forward {
            FeedForward::None => return operations,
            FeedForward::Mlp { hidden } => {
                operations.add(times, linear(width, size(*hidden)));
                operations.add(times, (6 * size(*hidden), 2 * size(*hidden)));
                operations.add(times, linear(size(*hidden), width));
            }
            FeedForward::Bits(bits) => {
                // Every row of the output may be added.
                let last = bits.nodes.last().copied().unwrap_or_default();
                operations.add(times, grid);
                operations.add(times, (0, size(last) * width));
            }
            FeedForward::Rows(rows) => {
                operations.add(times, grid);
                operations.add(times, (0, size(rows.nodes) * width));
                if rows.wires == Wires::Projected {
                    operations.add(times, linear(width, size(rows.nodes * rows.inputs)));
                }
            }
        }
        operations.add(times, (3 * width, 4 * width));
        operations.add(times, (0, width));
        operations
    }

    /// The share, 0 to 1, of the multiplications of the same model with an MLP of four times the width that this
    /// one does without.
    #[must_use]
    pub fn replaced_share(&self) -> f64 {
        let with_mlp = self.with_mlp().operations().multiplications;
        let without = with_mlp.saturating_sub(self.operations().multiplications);
        without as f64 / with_mlp.max(1) as f64
    }

    /// What the feed-forward of all blocks weighs, norms not counted.
    #[must_use]
    pub fn feed_forward_bytes(&self) -> Bytes {
        let parts = [".mlp.", ".bits.", ".rows."];
        let tensors = self.tensors();
        let exported = tensors
            .iter()
            .filter(|tensor| parts.iter().any(|part| tensor.name.contains(part)))
            .map(|tensor| size(tensor.bytes()))
            .sum();
        let (width, layers) = (size(self.width), size(self.layers));
        let (weights, outputs) = (8 * width * width, 5 * width);
        Bytes {
            exported,
            mlp_f32: layers * 4 * (weights + outputs),
            mlp_int8: layers * (weights + 8 * outputs),
        }
    }
}

/// Multiplications and additions of a product by a matrix, with a bias or without: the first sum is free then.
fn linear(from: u64, to: u64) -> (u64, u64) {
    (from * to, from * to)
}

fn size(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{Bits, Head, ImageTokens, Rows};
    use super::*;

    fn gpt(feed_forward: FeedForward) -> Architecture {
        let inputs = Inputs::Tokens { vocabulary: 65, context: 64 };
        Architecture {
            width: 128,
            heads: 4,
            layers: 4,
            inputs,
            head: Head::NextToken,
            feed_forward,
        }
    }

    #[test]
    fn nano_gpt_counted_by_hand() {
        let mlp = gpt(FeedForward::Mlp { hidden: 512 });
        // Embeddings, then for each block two norms, attention and the MLP with its biases, norm, head.
        let block = 2 * 256 + 4 * 128 * 128 + 2 * 128 * 512 + 512 + 128;
        assert_eq!(mlp.parameters(), 65 * 128 + 64 * 128 + 4 * block + 256 + 65 * 128);
        let attention = 3 * 128 + 4 * 128 * 128;
        let scores = 65 * (2 * 128 + 4) / 2;
        let ffn = 3 * 128 + 2 * 128 * 512 + 6 * 512;
        let head = 3 * 128 + 65 * 128;
        let operations = mlp.operations();
        assert_eq!(operations.multiplications, 64 * (4 * (attention + scores + ffn) + head));
        assert_eq!(mlp.feed_forward_operations().multiplications, 64 * 4 * ffn);
        assert!(mlp.replaced_share().abs() < 1e-12);
    }

    #[test]
    fn rows_replace_what_the_mlp_multiplied() {
        let axis = Rows { nodes: 64, inputs: 6, wires: Wires::Axis };
        let axis = gpt(FeedForward::Rows(axis));
        assert_eq!(axis.feed_forward_operations().multiplications, 64 * 4 * 5 * 128);
        assert_eq!(axis.feed_forward_operations().additions, 64 * 4 * (64 + 7) * 128);
        assert!((0.60..0.66).contains(&axis.replaced_share()), "{}", axis.replaced_share());
        let projected = Rows { nodes: 64, inputs: 6, wires: Wires::Projected };
        let projected = gpt(FeedForward::Rows(projected));
        assert!(projected.replaced_share() < axis.replaced_share() - 0.2);
        let bytes = axis.feed_forward_bytes();
        assert_eq!(bytes.exported, 4 * (64 * 64 * 128 + 64 * 6 * 3 + 2 * 4 * 128));
        assert_eq!(bytes.mlp_f32, 4 * 4 * (2 * 128 * 512 + 512 + 128));
        assert_eq!(bytes.mlp_int8, 4 * (2 * 128 * 512 + 8 * (512 + 128)));
    }

    #[test]
    fn a_head_of_masks_is_read_at_every_patch() {
        let image = ImageTokens { height: 20, width: 30, channels: 3, patch: 10 };
        let of = |head| Architecture {
            width: 16,
            heads: 2,
            layers: 1,
            inputs: Inputs::Image(image),
            head,
            feed_forward: FeedForward::None,
        };
        let (masks, classes) = (of(Head::Masks(100)), of(Head::Classes(100)));
        assert_eq!((masks.answers(), masks.outputs(), classes.answers()), (6, 100, 1));
        // Six patches, with a norm and the linear layer each, where there was one class token.
        let more = masks.operations().multiplications - classes.operations().multiplications;
        assert_eq!(more, 5 * (3 * 16 + 16 * 100));
        assert_eq!(masks.parameters(), classes.parameters());
    }

    #[test]
    fn the_papers_share_of_i_vit_tiny() {
        // I-ViT-T of arXiv 2411.01818: about 55 % of all multiplications stand in the MLPs.
        let image = ImageTokens { height: 224, width: 224, channels: 3, patch: 16 };
        let bits = Bits { levels: 8, nodes: vec![256, 512], inputs: 6 };
        let vit = Architecture {
            width: 192,
            heads: 3,
            layers: 12,
            inputs: Inputs::Image(image),
            head: Head::Classes(10),
            feed_forward: FeedForward::Bits(bits),
        };
        assert!((0.54..0.57).contains(&vit.replaced_share()), "{}", vit.replaced_share());
    }
}
