//! What is written to the run log.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::treatment::Protected;
use crate::LatentFile;
use crate::choose::{Rule, Step};
use crate::codec::{Codec, LATENT, Latent, Setting, named};

/// The choice of a codec, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// For people: the choice and the reason, in a line.
    pub told: String,
    /// Which loss was bounded: [`Decision::Q_INFER`].
    pub loss: String,
    /// The chosen codec.
    pub codec: String,
    /// The step of its ladder.
    pub step: Option<u16>,
    /// What a setting had to keep to.
    pub rule: Rule,
    /// The task.
    pub task: String,
    /// SHA-256 of the card of its model.
    pub model: String,
    /// The file of the latent codec that was tried, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentFile>,
    /// What that file holds, in base64, if records are stored with it: who reads them needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_file: Option<String>,
    /// Records that put the settings in order.
    pub pilot: u64,
    /// Records that could decide.
    pub fresh: u64,
    /// Records of the sample that the model cannot take, or that have no label.
    pub skipped: u64,
    /// Which records get a better setting, if some do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<Protected>,
    /// Bytes, if a lossless setting could hold all records.
    pub sizes: Option<Sizes>,
    /// The settings that were looked at, from the best.
    pub steps: Vec<NamedStep>,
}

/// Bytes of a record of the pilot, on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// By the chosen setting.
    pub chosen: f64,
    /// By the smallest that loses nothing.
    pub lossless: f64,
}

/// A setting that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedStep {
    /// Its codec.
    pub codec: String,
    /// The step of its ladder.
    pub step: Option<u16>,
    /// What was found.
    pub found: Step,
}

impl NamedStep {
    pub(super) fn new(setting: Setting, found: Step) -> Self {
        Self { codec: setting.codec.name().to_owned(), step: setting.step(), found }
    }
}

impl Sizes {
    /// Of so many bytes of all records of the pilot.
    pub(super) fn of(chosen: u64, lossless: u64, records: usize) -> Self {
        let each = |bytes: u64| bytes as f64 / records.max(1) as f64;
        Self { chosen: each(chosen), lossless: each(lossless) }
    }
}

impl Decision {
    /// The model was trained on originals and is asked about what comes back.
    pub const Q_INFER: &'static str = "Q_infer";

    /// The chosen setting, with the latent codec that was tried.
    ///
    /// # Errors
    /// When this program has no such codec.
    pub(crate) fn setting(&self, latent: Option<&'static Latent>) -> Result<Setting, String> {
        setting(&self.codec, self.step, latent)
    }
}

/// The file of the latent codec that a decision holds, if these bytes are one.
pub(crate) fn latent_file(decision: &[u8]) -> Option<Vec<u8>> {
    let decision: Decision = serde_json::from_slice(decision).ok()?;
    BASE64_STANDARD.decode(decision.latent_file?).ok()
}

/// The setting that a decision names.
pub(super) fn setting(
    codec: &str,
    step: Option<u16>,
    latent: Option<&'static Latent>,
) -> Result<Setting, String> {
    let found = match codec {
        LATENT => latent.map(|latent| latent as &'static dyn Codec),
        name => named(name).filter(|codec| codec.encodes()),
    };
    let found = found.ok_or_else(|| format!("there is no codec {codec:?}"))?;
    let fits = |step: &u16| found.ladder().is_some_and(|ladder| ladder.steps.contains(step));
    match step.filter(|step| !fits(step)) {
        Some(step) => Err(format!("{codec} has no step {step}")),
        None => Ok(Setting::of(found, step)),
    }
}
