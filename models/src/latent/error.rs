//! Why latents cannot be made, read or understood.

use thiserror::Error;

use crate::train::TrainError;

/// Why a codec or one of its records cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LatentError {
    /// The bytes are of something else.
    #[error("it does not begin like a record of latents")]
    Foreign,
    /// A record of another version of this program.
    #[error(
        "it is a record of latents of version {found}; this program reads version {}",
        super::format::VERSION
    )]
    Version {
        /// Its version.
        found: u8,
    },
    /// A record that ends early.
    #[error("the record of latents is cut off")]
    Truncated,
    /// A record whose checksum or coder's state is wrong.
    #[error("the record of latents is damaged")]
    Damaged,
    /// A header that declares what no record has.
    #[error("the record of latents declares {what}")]
    Header {
        /// What it declares.
        what: String,
    },
    /// A record of another codec.
    #[error("it needs the latent codec {wanted}, and this is {found}")]
    Other {
        /// The first digits of the hash of its codec.
        wanted: String,
        /// Those of the codec that was asked.
        found: String,
    },
    /// Media that this codec was not made for.
    #[error("{what}")]
    Media {
        /// What does not fit.
        what: String,
    },
    /// Nothing to learn from.
    #[error("{what}")]
    Sample {
        /// What is missing.
        what: String,
    },
    /// A training whose loss is no number any more.
    #[error("the latent codec cannot be trained: {0}")]
    Training(#[from] TrainError),
    /// A linear map that is none, or could overflow.
    #[error("a linear map of the latent codec has {what}")]
    Matrix {
        /// What is wrong.
        what: String,
    },
    /// Distributions that are none.
    #[error("the distributions of the latent codec are damaged: {what}")]
    Distributions {
        /// What is wrong.
        what: String,
    },
    /// A file that is no latent codec.
    #[error("it is no latent codec: {what}")]
    Artifact {
        /// What is wrong.
        what: String,
    },
    /// A codec of another version of this program.
    #[error(
        "it is a latent codec of format {found}; this program reads format {}",
        super::artifact::FORMAT
    )]
    Format {
        /// Its format.
        found: u64,
    },
}
