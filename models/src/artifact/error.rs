//! Why a folder is no artifact of this program.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::architecture::ArchitectureError;
use super::card::FORMAT;

/// Why an artifact cannot be opened or saved.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// Where it happened.
    #[error("artifact {}: {problem}", folder.display())]
    At {
        /// The folder.
        folder: PathBuf,
        /// What happened.
        #[source]
        problem: Box<Self>,
    },
    /// A file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// Which file.
        file: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{file} cannot be written: {source}")]
    Write {
        /// Which file.
        file: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The card is of another program.
    #[error("card.json is no card of an artifact: {reason}")]
    ForeignCard {
        /// What is wrong.
        reason: String,
    },
    /// The card is of another version of this program.
    #[error("card.json has format {found}; this program reads format {FORMAT}")]
    OtherFormat {
        /// What it says.
        found: u64,
    },
    /// The card is not as it was written.
    #[error(
        "card.json was damaged, cut off or edited after it was written; copy the artifact again"
    )]
    DamagedCard,
    /// A fact of the card contradicts another.
    #[error(
        "card.json: {fact} does not follow from the architecture; it was written by another program"
    )]
    Contradiction {
        /// Which fact.
        fact: &'static str,
    },
    /// A number of the card is none, or out of its range.
    #[error("card.json: {what} is {found}, {wanted}")]
    CardValue {
        /// Which number.
        what: String,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// Sizes that no model has.
    #[error("card.json: {0}")]
    Architecture(#[from] ArchitectureError),
    /// The card says nothing of a file.
    #[error("card.json has no hash of {file}")]
    NoHash {
        /// Which file.
        file: &'static str,
    },
    /// A file of another length.
    #[error(
        "{file} has {found} bytes, not the {expected} that card.json says; copy the artifact again"
    )]
    Length {
        /// Which file.
        file: &'static str,
        /// How many it has.
        found: u64,
        /// How many it had.
        expected: u64,
    },
    /// A file of another content.
    #[error(
        "{file} is damaged: its SHA-256 is {found}, not the {expected} that card.json says; copy the artifact again"
    )]
    Hash {
        /// Which file.
        file: &'static str,
        /// What it is.
        found: String,
        /// What it was.
        expected: String,
    },
    /// The weights are of another program.
    #[error("weights.safetensors is not in the format of safetensors: {source}")]
    Weights {
        /// What is wrong.
        source: safetensors::SafeTensorError,
    },
    /// Tensors that the architecture has and the file has not.
    #[error("weights.safetensors lacks {tensors}, which the architecture of card.json has")]
    Missing {
        /// Their names.
        tensors: String,
    },
    /// Tensors that the file has and the architecture has not.
    #[error(
        "weights.safetensors holds {tensors}, which the architecture of card.json does not have"
    )]
    Unknown {
        /// Their names.
        tensors: String,
    },
    /// A tensor of another kind or shape.
    #[error("tensor {name} is {found}; the architecture of card.json wants {expected}")]
    Shape {
        /// Its name.
        name: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A value that means nothing.
    #[error("tensor {name} holds {found} at element {element}; {wanted}")]
    Value {
        /// Its name.
        name: String,
        /// Where.
        element: usize,
        /// The value.
        found: String,
        /// What it must be.
        wanted: String,
    },
}

impl ArtifactError {
    /// The same error with the folder.
    pub(super) fn at(self, folder: &Path) -> Self {
        Self::At { folder: folder.to_owned(), problem: Box::new(self) }
    }
}
