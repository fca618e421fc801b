//! Trained models as files: a folder of `weights.safetensors` and `card.json`.
//!
//! The card says what the model is, what it was trained on and what it was measured to do, and has the SHA-256 of
//! every file. Opening checks everything: hashes, the shape and kind of every tensor against the architecture, that
//! wires lead somewhere and that weights are numbers.
//!
//! ```
//! use anabranch_models::artifact::architecture::{Architecture, FeedForward, Head, Inputs};
//! use anabranch_models::artifact::{Artifact, Card, Tensor};
//!
//! let architecture = Architecture {
//!     width: 4,
//!     heads: 2,
//!     layers: 1,
//!     inputs: Inputs::Tokens { vocabulary: 3, context: 2 },
//!     head: Head::NextToken,
//!     feed_forward: FeedForward::None,
//! };
//! let tensors = architecture
//!     .tensors()
//!     .into_iter()
//!     .map(|wanted| {
//!         let zeros = vec![0.0_f32; wanted.elements()];
//!         (wanted.name, Tensor::new(&wanted.shape, zeros))
//!     })
//!     .collect();
//! let artifact = Artifact::new(Card::new("nothing learned", architecture), tensors)?;
//! let folder = std::env::temp_dir().join(format!("anabranch-artifact-{}", std::process::id()));
//! artifact.save(&folder)?;
//! assert_eq!(Artifact::open(&folder)?.card().name, "nothing learned");
//! # std::fs::remove_dir_all(folder).unwrap();
//! # Ok::<(), anabranch_models::artifact::ArtifactError>(())
//! ```

pub mod architecture;
mod card;
mod check;
mod error;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

pub use card::{Accuracy, Card, FORMAT, FileFacts, Training};
pub use error::ArtifactError;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
pub use tensor::{Tensor, Values};

use self::architecture::Architecture;

/// The file that holds the tensors.
pub const WEIGHTS: &str = "weights.safetensors";
/// The file that says what they are.
pub const CARD: &str = "card.json";

/// A model as it is kept: what it is, and its tensors. All of it is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    card: Card,
    tensors: BTreeMap<String, Tensor>,
}

impl Artifact {
    /// A model of these tensors. The facts of the card that can be computed are.
    ///
    /// # Errors
    ///
    /// Sizes that do not fit together, a tensor that is missing, unknown or of another shape or kind, a value that
    /// means nothing.
    pub fn new(mut card: Card, tensors: BTreeMap<String, Tensor>) -> Result<Self, ArtifactError> {
        card.count();
        card.check()?;
        check::tensors(&card, &tensors)?;
        let weights = serialize(&tensors)?;
        card.files = BTreeMap::from([(WEIGHTS.to_owned(), FileFacts::of(&weights))]);
        Ok(Self { card, tensors })
    }

    /// An artifact from its two files.
    ///
    /// # Errors
    ///
    /// As [`Artifact::open`].
    pub fn from_bytes(card: &[u8], weights: &[u8]) -> Result<Self, ArtifactError> {
        let card = Card::read(card)?;
        let Some(facts) = card.files.get(WEIGHTS) else {
            return Err(ArtifactError::NoHash { file: WEIGHTS });
        };
        facts.check(WEIGHTS, weights)?;
        let foreign = |source| ArtifactError::Weights { source };
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(weights).map_err(foreign)?.iter() {
            tensors.insert(name.to_owned(), Tensor::of(name, &view)?);
        }
        check::tensors(&card, &tensors)?;
        Ok(Self { card, tensors })
    }

    /// Reads a folder.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is damaged, cut off, of another version or of something else; a tensor that is
    /// missing, unknown or of another shape or kind; a value that means nothing. The message names the folder.
    pub fn open(folder: &Path) -> Result<Self, ArtifactError> {
        let read = |file: &'static str| {
            std::fs::read(folder.join(file)).map_err(|source| ArtifactError::Read { file, source })
        };
        read(CARD)
            .and_then(|card| Self::from_bytes(&card, &read(WEIGHTS)?))
            .map_err(|error| error.at(folder))
    }

    /// The two files: the card, then the weights.
    ///
    /// # Errors
    ///
    /// A card or tensors that cannot be written; none that [`Artifact::new`] took.
    pub fn to_bytes(&self) -> Result<(Vec<u8>, Vec<u8>), ArtifactError> {
        Ok((self.card.seal()?, serialize(&self.tensors)?))
    }

    /// Writes a folder, which is made where it is missing. The card is written last, and each file under another
    /// name first: a folder whose writing was cut off does not open.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), ArtifactError> {
        let write = |file: &'static str, bytes: &[u8]| {
            let part = folder.join(format!("{file}.part"));
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&part, bytes))
                .and_then(|()| std::fs::File::open(&part)?.sync_all())
                .and_then(|()| std::fs::rename(&part, folder.join(file)))
                .map_err(|source| ArtifactError::Write { file, source })
        };
        let files = self.to_bytes();
        files
            .and_then(|(card, weights)| write(WEIGHTS, &weights).and_then(|()| write(CARD, &card)))
            .map_err(|error| error.at(folder))
    }

    /// What the model is.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Its sizes.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.card.architecture
    }

    /// All tensors by name.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// A tensor by name.
    ///
    /// # Errors
    ///
    /// The architecture has no such tensor.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, ArtifactError> {
        let missing = || ArtifactError::Missing { tensors: name.to_owned() };
        self.tensors.get(name).ok_or_else(missing)
    }
}

/// Tensors as one file. Equal tensors give equal bytes.
fn serialize(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, ArtifactError> {
    safetensors::serialize(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)), None)
        .map_err(|source| ArtifactError::Weights { source })
}

/// SHA-256 in hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
