//! Operators: codecs and transforms over records.
//!
//! Every operator implements [`anabranch_pipelines::operator::Operator`]; every codec implements
//! [`codec::Codec`]. This crate knows no connector, no job file and not how a run moves batches.

mod arrays;
mod auto;
mod brightness;
pub mod choose;
pub mod codec;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod crop;
mod decode;
mod dedup;
mod derived;
mod digest;
mod encode;
pub mod evaluate;
mod filter;
pub mod infer;
mod join;
mod latent;
mod loudness;
pub mod metric;
mod mono;
mod normalise;
mod original;
mod quality;
mod resample;
mod resize;
mod rewrite;
mod round_trip;
mod select;
mod spectrum;
pub mod task;
mod tensor;
mod text;
mod tokenise;
mod train;
mod transcode;
mod transform;
mod trim;
mod utf8;
mod watch;

pub use arrays::Arrays;
pub use auto::{AutoOptions, CodecOption, Decision, NamedStep, Protected, Share, Sizes};
pub use crop::CropOptions;
pub use decode::DecodeOptions;
pub use dedup::DedupOptions;
pub use digest::DigestOptions;
pub use encode::EncodeOptions;
pub use filter::FilterOptions;
pub use infer::{Gate, InferOptions, Score};
pub use join::{How, JoinOptions, Matches, Names, Unmatched};
pub use latent::{LatentFile, LatentLearning};
pub use loudness::LoudnessOptions;
pub use mono::MonoOptions;
pub use normalise::{Form, NormaliseOptions, Whitespace};
pub use quality::QualityOptions;
pub use resample::ResampleOptions;
pub use resize::ResizeOptions;
pub use select::SelectOptions;
pub use spectrum::SpectrumOptions;
pub use tokenise::{TextTokens, TokenModel, TokeniseOptions, Training};
pub use train::{AudioInput, Half, ImageInput, LabelInput, TextInput, TokensInput, TrainOptions};
pub use transcode::TranscodeOptions;
pub use trim::TrimOptions;
pub use watch::WatchOptions;

use thiserror::Error;

/// Options that make no operator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct OptionsError(pub String);
