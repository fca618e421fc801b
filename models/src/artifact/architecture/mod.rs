//! What a model is made of: the sizes that training, the engine and a card share.
//!
//! ```
//! use anabranch_models::artifact::architecture::{
//!     Architecture, FeedForward, Head, Inputs, Rows, Wires,
//! };
//!
//! let architecture = Architecture {
//!     width: 128,
//!     heads: 4,
//!     layers: 4,
//!     inputs: Inputs::Tokens { vocabulary: 65, context: 64 },
//!     head: Head::NextToken,
//!     feed_forward: FeedForward::Rows(Rows { nodes: 64, inputs: 6, wires: Wires::Axis }),
//! };
//! architecture.check()?;
//! assert!(architecture.replaced_share() > 0.6);
//! # Ok::<(), anabranch_models::artifact::architecture::ArchitectureError>(())
//! ```
//!
//! A block is pre-norm: `x + attention(norm1(x))`, then `x + feed_forward(norm2(x))`; the second half is missing
//! with [`FeedForward::None`]. A last norm stands before the head. Norms have a gain and a bias and
//! [`NORM_EPSILON`]; the linear layers of attention have no bias, and query, key and value are one layer.

mod check;
mod count;
mod tensors;

pub use check::ArchitectureError;
pub use count::{Bytes, Operations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use tensors::{Dtype, TensorShape};

/// What a norm adds to the variance.
pub const NORM_EPSILON: f32 = 1e-5;

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Features of a token between the blocks.
    pub width: usize,
    /// Heads of attention; they share the width.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// What goes in.
    pub inputs: Inputs,
    /// What comes out.
    pub head: Head,
    /// The second half of every block.
    pub feed_forward: FeedForward,
}

/// What goes into a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Inputs {
    /// Text whose tokens see what stands before them (GPT). Positions are learned.
    Tokens {
        /// How many different tokens.
        vocabulary: usize,
        /// Tokens that the model sees at most.
        context: usize,
    },
    /// One picture (ViT): a learned class token at position 0, then the patches. Positions are learned.
    Image(ImageTokens),
    /// Any subset of these, in this order behind a learned class token. Each has learned positions and a learned
    /// type embedding.
    Modalities {
        /// Pictures.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<ImageTokens>,
        /// Spectra.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audio: Option<AudioTokens>,
        /// Text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<TextTokens>,
    },
}

/// A picture as tokens: square patches, row by row. The values of a patch are ordered by row, column, channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageTokens {
    /// Pixels down.
    pub height: usize,
    /// Pixels across.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
    /// Side of a patch; it divides both sides of the picture.
    pub patch: usize,
}

/// A spectrogram as tokens: some frames make one. The values of a token are ordered by frame, band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AudioTokens {
    /// Values of a frame.
    pub bands: usize,
    /// Frames of a record.
    pub frames: usize,
    /// Frames of a token; it divides the frames.
    pub frames_per_token: usize,
}

/// Text as tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextTokens {
    /// How many different tokens.
    pub vocabulary: usize,
    /// Tokens of a record at most.
    pub length: usize,
}

/// What comes out of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// A logit for each token of the vocabulary: a linear layer without bias that shares nothing with the
    /// embedding. Only behind [`Inputs::Tokens`].
    NextToken,
    /// A logit for each of so many classes, read at the class token (behind [`Inputs::Tokens`]: at the last token).
    Classes(usize),
    /// For each token but the class token, a logit for each of so many bits that are decided independently: the
    /// pixels of a patch that show an object, the frequencies of a frame that a voice has. Only behind one picture, or
    /// one spectrum.
    Masks(usize),
}

/// The second half of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FeedForward {
    /// Nothing: the control of every table.
    None,
    /// `down(gelu(up(x)))` with biases; GELU in its tanh form.
    Mlp {
        /// Features between the two layers.
        hidden: usize,
    },
    /// 1-bit tables and a conditional sum (QuWeiT, arXiv 2411.01818).
    Bits(Bits),
    /// Tables that hold rows.
    Rows(Rows),
}

/// The paper's block: `thermometer -> 1-bit tables, layer by layer -> bias + sum of output[j] over set bits j`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bits {
    /// Thresholds of each feature.
    pub levels: usize,
    /// Tables of each layer.
    pub nodes: Vec<usize>,
    /// Bits that address a table, 2 to 8.
    pub inputs: usize,
}

/// Our block: `bias + sum over m of table[m][address m]`, where a wire (a bit of an address) is one number
/// against its own threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Tables.
    pub nodes: usize,
    /// Bits that address a table, 2 to 8.
    pub inputs: usize,
    /// What a wire looks at.
    pub wires: Wires,
}

/// What a wire looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wires {
    /// One feature.
    Axis,
    /// A learned projection of all features.
    Projected,
}

impl Architecture {
    /// The same model with another second half of its blocks.
    #[must_use]
    pub fn with_feed_forward(&self, feed_forward: FeedForward) -> Self {
        Self { feed_forward, ..self.clone() }
    }

    /// The same model with the MLP that a feed-forward of tables replaces: four times the width.
    #[must_use]
    pub fn with_mlp(&self) -> Self {
        self.with_feed_forward(FeedForward::Mlp { hidden: 4 * self.width })
    }

    /// Features of one head.
    #[must_use]
    pub fn head_width(&self) -> usize {
        self.width.checked_div(self.heads).unwrap_or_default()
    }

    /// Numbers that the head gives where it is read.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match (self.head, &self.inputs) {
            (Head::Classes(outputs) | Head::Masks(outputs), _) => outputs,
            (Head::NextToken, Inputs::Tokens { vocabulary, .. }) => *vocabulary,
            (Head::NextToken, _) => 0,
        }
    }

    /// Tokens of an input of full length at which the head is read.
    #[must_use]
    pub fn answers(&self) -> usize {
        match self.head {
            Head::NextToken => self.tokens(),
            Head::Classes(_) => 1,
            // The class token has no place in the record.
            Head::Masks(_) => self.tokens().saturating_sub(1),
        }
    }

    /// Tokens of an input of full length, the class token among them.
    #[must_use]
    pub fn tokens(&self) -> usize {
        match &self.inputs {
            Inputs::Tokens { context, .. } => *context,
            Inputs::Image(image) => 1 + image.tokens(),
            Inputs::Modalities { image, audio, text } => {
                1 + image.map_or(0, |image| image.tokens())
                    + audio.map_or(0, |audio| audio.tokens())
                    + text.map_or(0, |text| text.length)
            }
        }
    }
}

impl ImageTokens {
    /// Patches of a picture.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let along = |side: usize| side.checked_div(self.patch).unwrap_or_default();
        along(self.height) * along(self.width)
    }

    /// Values of a patch.
    #[must_use]
    pub fn values(&self) -> usize {
        self.patch * self.patch * self.channels
    }
}

impl AudioTokens {
    /// Tokens of a record.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.frames.checked_div(self.frames_per_token).unwrap_or_default()
    }

    /// Values of a token.
    #[must_use]
    pub fn values(&self) -> usize {
        self.bands * self.frames_per_token
    }
}
