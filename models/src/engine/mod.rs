//! Inference on processors: a trained artifact, its tables as data, nothing compiled for it and no Burn.
//!
//! ```
//! use anabranch_models::artifact::architecture::{
//!     Architecture, FeedForward, Head, Inputs, Rows, Wires,
//! };
//! use anabranch_models::engine::{Engine, Sampling, example};
//!
//! let artifact = example::random(&Architecture {
//!     width: 32,
//!     heads: 2,
//!     layers: 2,
//!     inputs: Inputs::Tokens { vocabulary: 50, context: 16 },
//!     head: Head::NextToken,
//!     feed_forward: FeedForward::Rows(Rows { nodes: 16, inputs: 4, wires: Wires::Axis }),
//! })?;
//! let Engine::Gpt(gpt) = Engine::load(&artifact)? else { panic!("it takes tokens") };
//! let sampling = Sampling { temperature: 0.8, top_k: Some(10), seed: 1 };
//! let text = gpt.generate(&[3, 1, 4], 40, &sampling)?;
//! assert_eq!(text.len(), 40);
//! # Ok::<(), anabranch_models::engine::EngineError>(())
//! ```
//!
//! A GPT keeps keys and values ([`Gpt::prefill`], [`Gpt::step`]); a ViT and the encoder of several modalities are
//! an [`Encoder`]. Kernels exist for AVX-512 (with VBMI and VNNI), AVX2 and every other processor; [`Level`] is
//! found at run time. Bits of tables are the same at every level, and a token gets the same bits alone as in a
//! batch. One call runs on one thread; models are shared between threads.

mod continuation;
mod embedding;
mod encoder;
mod error;
pub mod example;
pub mod feed_forward;
mod gpt;
mod kernels;
mod load;
mod network;
mod sampling;
#[cfg(test)]
mod tests;
mod transformer;

pub use continuation::Continuation;
pub use encoder::{Encoder, Features, Input};
pub use error::EngineError;
pub use gpt::{Gpt, State};
pub use kernels::Level;
pub use network::{Network, NetworkError, NetworkLayer};
pub use sampling::Sampling;

use crate::artifact::Artifact;
use crate::artifact::architecture::{Architecture, Inputs};

/// How a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// With which instructions.
    pub level: Level,
    /// Whether MLPs run in int8 (a scale for each output and for each token) instead of f32.
    pub int8: bool,
}

/// A model that runs.
#[derive(Debug)]
pub enum Engine {
    /// It takes tokens one after the other.
    Gpt(Box<Gpt>),
    /// It takes whole records.
    Encoder(Box<Encoder>),
}

impl Default for Options {
    fn default() -> Self {
        Self { level: Level::detect(), int8: false }
    }
}

impl Engine {
    /// The model of an artifact, with the best instructions that this processor has.
    ///
    /// # Errors
    ///
    /// None for an artifact that was opened or made: all of it was checked then.
    pub fn load(artifact: &Artifact) -> Result<Self, EngineError> {
        Self::load_with(artifact, Options::default())
    }

    /// The model of an artifact, run in a way.
    ///
    /// # Errors
    ///
    /// As [`Engine::load`].
    pub fn load_with(artifact: &Artifact, options: Options) -> Result<Self, EngineError> {
        Ok(match artifact.architecture().inputs {
            Inputs::Tokens { .. } => Self::Gpt(Box::new(Gpt::load_with(artifact, options)?)),
            Inputs::Image(_) | Inputs::Modalities { .. } => {
                Self::Encoder(Box::new(Encoder::load_with(artifact, options)?))
            }
        })
    }

    /// The sizes of the model.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        match self {
            Self::Gpt(gpt) => gpt.architecture(),
            Self::Encoder(encoder) => encoder.architecture(),
        }
    }
}
