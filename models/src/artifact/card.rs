//! What is said of a model: a JSON file that a person reads and a program checks.
//!
//! The last field, `seal`, is the SHA-256 of all that stands before it, so that a card that was damaged or edited
//! is noticed.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::architecture::{Architecture, Bytes, Operations};
use super::{ArtifactError, sha256};

/// The version of the format that is written and read.
pub const FORMAT: u64 = 1;

const SEAL: &str = ",\n  \"seal\": \"";

/// What is said of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The version of the format.
    pub format: u64,
    /// What the model is called.
    pub name: String,
    /// Its sizes.
    pub architecture: Architecture,
    /// Bits of the values of its tables, 4 to 8: with `b` bits none is beyond `2^(b - 1) - 1`. They are stored as
    /// bytes; the fewer bits, the more rows the engine adds at once.
    pub table_bits: u8,
    /// Where it comes from.
    pub training: Training,
    /// What it was measured to do.
    pub accuracy: Vec<Accuracy>,
    /// Numbers that training set. Computed.
    pub parameters: u64,
    /// Multiplications and additions of the whole model for an input of full length. Computed.
    pub operations: Operations,
    /// Multiplications of the same model with an MLP for an input of full length: what a share of replaced
    /// multiplications refers to. Computed.
    pub operations_with_mlp: Operations,
    /// What the feed-forward weighs. Computed.
    pub feed_forward_bytes: Bytes,
    /// The other files of the artifact. Computed.
    pub files: BTreeMap<String, FileFacts>,
}

/// Where a model comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The commit of the table that it was trained on, or what else identifies its data.
    pub data_commit: String,
    /// The seed of everything random.
    pub seed: u64,
    /// Steps of the optimiser.
    pub steps: u64,
    /// What it was trained for, by name.
    pub tasks: Vec<String>,
}

/// A measure of what a model does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// Of which task.
    pub task: String,
    /// What was measured: `accuracy`, `loss`, ...
    pub measure: String,
    /// Its mean.
    pub value: f64,
    /// Where its true value lies in 95 of 100 cases, from and to.
    pub interval: [f64; 2],
    /// Examples that it was measured on.
    pub examples: u64,
}

/// What identifies a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Card {
    /// A card that says only what can be computed.
    #[must_use]
    pub fn new(name: impl Into<String>, architecture: Architecture) -> Self {
        Self {
            format: FORMAT,
            name: name.into(),
            architecture,
            table_bits: 8,
            training: Training::default(),
            accuracy: Vec::new(),
            parameters: 0,
            operations: Operations::default(),
            operations_with_mlp: Operations::default(),
            feed_forward_bytes: Bytes::default(),
            files: BTreeMap::new(),
        }
    }

    /// The share, 0 to 1, of the multiplications of the same model with an MLP that this one does without.
    #[must_use]
    pub fn replaced_share(&self) -> f64 {
        let with_mlp = self.operations_with_mlp.multiplications;
        let without = with_mlp.saturating_sub(self.operations.multiplications);
        without as f64 / with_mlp.max(1) as f64
    }

    /// A card as it stands in its file, checked. The other files are not looked at.
    ///
    /// # Errors
    ///
    /// The file is of another program or version, was damaged, or says what cannot be true.
    pub fn read(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let card = Self::parse(bytes)?;
        card.check()?;
        Ok(card)
    }

    /// The JSON Schema of a card.
    #[must_use]
    pub fn schema() -> Schema {
        let mut schema = schemars::schema_for!(Card);
        let seal =
            json!({ "description": "SHA-256 of all that stands before it.", "type": "string" });
        if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            fields.insert("seal".to_owned(), seal);
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.push("seal".into());
        }
        schema
    }

    /// Fills in what can be computed, when the sizes fit together.
    pub(super) fn count(&mut self) {
        if self.architecture.check().is_ok() {
            self.parameters = self.architecture.parameters();
            self.operations = self.architecture.operations();
            self.operations_with_mlp = self.architecture.with_mlp().operations();
            self.feed_forward_bytes = self.architecture.feed_forward_bytes();
        }
    }

    /// Whether what it says can be true.
    pub(super) fn check(&self) -> Result<(), ArtifactError> {
        if self.format != FORMAT {
            return Err(ArtifactError::OtherFormat { found: self.format });
        }
        self.architecture.check()?;
        let mut counted = self.clone();
        counted.count();
        let contradiction = |fact| Err(ArtifactError::Contradiction { fact });
        if counted.parameters != self.parameters {
            return contradiction("parameters");
        }
        if (counted.operations, counted.operations_with_mlp)
            != (self.operations, self.operations_with_mlp)
        {
            return contradiction("operations");
        }
        if counted.feed_forward_bytes != self.feed_forward_bytes {
            return contradiction("feed_forward_bytes");
        }
        let value = |what: String, found: String, wanted| {
            Err(ArtifactError::CardValue { what, found, wanted })
        };
        if !(4..=8).contains(&self.table_bits) {
            return value("table_bits".to_owned(), self.table_bits.to_string(), "not from 4 to 8");
        }
        for Accuracy { task, measure, value: mean, interval: [low, high], .. } in &self.accuracy {
            let finite = [mean, low, high].into_iter().all(|number| number.is_finite());
            if !(finite && low <= mean && mean <= high) {
                let found = format!("{mean} in {low} to {high}");
                return value(
                    format!("{measure} of {task}"),
                    found,
                    "not a number in its interval",
                );
            }
        }
        Ok(())
    }

    /// The file.
    pub(super) fn seal(&self) -> Result<Vec<u8>, ArtifactError> {
        let unwritable =
            |e: serde_json::Error| ArtifactError::ForeignCard { reason: e.to_string() };
        let text = serde_json::to_string_pretty(self).map_err(unwritable)?;
        // The end of the object comes after the seal.
        let text = text.strip_suffix("\n}").unwrap_or(&text);
        let hash = sha256(text.as_bytes());
        Ok(format!("{text}{SEAL}{hash}\"\n}}\n").into_bytes())
    }

    /// Reads the file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ArtifactError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            format: u64,
        }
        let foreign = |e: serde_json::Error| ArtifactError::ForeignCard { reason: e.to_string() };
        let text = std::str::from_utf8(bytes)
            .map_err(|e| ArtifactError::ForeignCard { reason: e.to_string() })?;
        let versioned: Versioned = serde_json::from_str(text).map_err(foreign)?;
        if versioned.format != FORMAT {
            return Err(ArtifactError::OtherFormat { found: versioned.format });
        }
        let (said, seal) = text.rsplit_once(SEAL).ok_or(ArtifactError::DamagedCard)?;
        if seal != format!("{}\"\n}}\n", sha256(said.as_bytes())) {
            return Err(ArtifactError::DamagedCard);
        }
        serde_json::from_str(&format!("{said}\n}}")).map_err(foreign)
    }
}

impl FileFacts {
    /// Of a file of this content.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }

    /// Whether the file still has that content.
    pub(super) fn check(&self, file: &'static str, bytes: &[u8]) -> Result<(), ArtifactError> {
        let found = Self::of(bytes);
        if found.bytes != self.bytes {
            let (found, expected) = (found.bytes, self.bytes);
            return Err(ArtifactError::Length { file, found, expected });
        }
        if found.sha256 != self.sha256 {
            let (found, expected) = (found.sha256, self.sha256.clone());
            return Err(ArtifactError::Hash { file, found, expected });
        }
        Ok(())
    }
}
