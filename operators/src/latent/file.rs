//! A latent codec that is tried beside others.

use serde::{Deserialize, Serialize};

use super::{is_url, same};
use crate::OptionsError;
use crate::codec::Latent;

/// A learned latent codec, by its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatentFile {
    /// The file, as a path: the `artifact` of an earlier `encode`, or what one decided,
    /// `TABLE/_anabranch/runs/RUN/decisions/OPERATOR`.
    pub artifact: String,
    /// Its SHA-256. Taken when the job starts; a job that says it runs with that very codec or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl LatentFile {
    /// Reads it, and notes its hash. Gives its content too.
    ///
    /// # Errors
    /// When it cannot be read, is another than was said, or is none.
    pub(crate) fn read(&mut self) -> Result<(&'static Latent, Vec<u8>), OptionsError> {
        let file = &self.artifact;
        let wrong = |error: &dyn std::fmt::Display| {
            OptionsError(format!("the latent codec: `{file}`: {error}"))
        };
        if is_url(file) {
            return Err(wrong(&"it is tried before the run begins: name a local copy"));
        }
        let bytes = std::fs::read(file).map_err(|e| wrong(&e))?;
        let found = same(&bytes, self.sha256.as_deref()).map_err(|e| wrong(&e))?;
        let codec = Latent::lasting(&bytes).map_err(|e| wrong(&e))?;
        self.sha256 = Some(found);
        Ok((codec, bytes))
    }
}
