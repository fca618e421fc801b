//! Transformers over tokens, images and any subset of modalities, one block for all of them.
//!
//! The feed-forward half of a block is an MLP, look-up tables ([`crate::lut`]) or nothing; everything
//! else is the same, so that their losses can be compared. Sizes come from
//! [`Architecture`](crate::artifact::architecture::Architecture). A [`Transformer`] trains and
//! computes in `f32`; [`crate::train::export`] puts it on the integer grid of the engine.
//!
//! ```
//! use anabranch_models::artifact::architecture::{Architecture, FeedForward, Head, Inputs};
//! use anabranch_models::transformer::{Input, Start, Transformer};
//! use burn::tensor::Device;
//!
//! let architecture = Architecture {
//!     width: 16,
//!     heads: 2,
//!     layers: 1,
//!     inputs: Inputs::Tokens { vocabulary: 5, context: 8 },
//!     head: Head::NextToken,
//!     feed_forward: FeedForward::Mlp { hidden: 64 },
//! };
//! let model = Transformer::new(&architecture, &Start::default(), 1, &Device::flex())?;
//! let logits = model.forward(&Input::Tokens { ids: vec![0, 1, 2, 3, 4, 0], length: 3 })?;
//! assert_eq!(logits.dims(), [6, 5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
mod embedding;
mod input;
mod layer;
mod model;
mod plain;
#[cfg(test)]
mod tests;

pub use block::{Attention, Block, Mlp};
pub use embedding::{Embedding, Projected, Tokens};
pub use input::{Input, InputError, Modality};
pub use layer::{Affine, Norm, binary_cross_entropy, cross_entropy};
pub use model::{FeedForwardPass, Outputs, Start, Transformer};
