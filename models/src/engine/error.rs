//! Why a model does not answer.

use thiserror::Error;

use crate::artifact::ArtifactError;

/// Why a model does not answer.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The artifact lacks something.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A tensor of another kind or size than the architecture says.
    #[error("tensor {name} does not fit the architecture; open the artifact again")]
    Tensor {
        /// Which.
        name: String,
    },
    /// A model of other inputs.
    #[error("the model takes {found}, not {wanted}")]
    Inputs {
        /// What it takes.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// A token that is not in the vocabulary.
    #[error(
        "token {token} at position {position} is unknown: the vocabulary has {vocabulary} tokens, from 0"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// Where it stands in what was given.
        position: usize,
        /// How many there are.
        vocabulary: usize,
    },
    /// More tokens than the model sees.
    #[error(
        "{tokens} tokens are too many: {before} stand before them and the context has {context}"
    )]
    TooLong {
        /// How many were given.
        tokens: usize,
        /// How many were given before.
        before: usize,
        /// How many fit.
        context: usize,
    },
    /// Nothing to answer to.
    #[error("there is nothing to answer to: give at least one {0}")]
    Empty(&'static str),
    /// A record of another size.
    #[error(
        "record {record}: its {modality} has {found} values; the model takes {expected}, {shape}"
    )]
    Size {
        /// Which record of the batch.
        record: usize,
        /// Which modality.
        modality: &'static str,
        /// How many values it has.
        found: usize,
        /// How many it must have.
        expected: usize,
        /// How they are arranged.
        shape: String,
    },
    /// A record with something that the model has no use for.
    #[error("record {record}: the model takes no {modality}")]
    UnknownModality {
        /// Which record of the batch.
        record: usize,
        /// Which modality.
        modality: &'static str,
    },
    /// A value that is no number.
    #[error("record {record}: value {value} of its {modality} is {found}, not a finite number")]
    InputNotFinite {
        /// Which record of the batch.
        record: usize,
        /// Which modality.
        modality: &'static str,
        /// Which value.
        value: usize,
        /// What it is.
        found: f32,
    },
    /// Logits that are no numbers.
    #[error(
        "logit {output} of {subject} {index} is {found}: the weights are too large for f32; train again with a lower rate"
    )]
    NotFinite {
        /// `token` or `record`.
        subject: &'static str,
        /// Which of them.
        index: usize,
        /// Which logit.
        output: usize,
        /// What it is.
        found: f32,
    },
    /// A setting of sampling out of its range.
    #[error("{what} is {found}; {wanted}")]
    Sampling {
        /// Which setting.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
}
