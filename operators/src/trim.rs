//! `kind = "trim"`: decoded sounds without the silence at both ends.
//!
//! Silence is what no sample of any channel exceeds. A sound that is silent throughout is refused: what is left
//! of it would be nothing.
//!
//! ```toml
//! [operator.trim]
//! kind = "trim"
//! column = "audio"
//! threshold = -45.0
//! margin = 0.05
//! inputs = ["decode"]
//! ```

use std::sync::Arc;

use anabranch_pipelines::operator::{Growth, Operator};
use anabranch_pipelines::record::{Modality, RecordId};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{Facts, Media};
use crate::transform::{self, Sound, Transform};

/// Options of `kind = "trim"`: silence at the ends of decoded sounds goes.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrimOptions {
    /// The audio column, decoded.
    pub column: String,
    /// The loudest silence, in decibels below full scale.
    #[serde(default = "threshold")]
    pub threshold: f64,
    /// Seconds of silence that stay at either end.
    #[serde(default)]
    pub margin: f64,
}

const fn threshold() -> f64 {
    -50.0
}

impl TrimOptions {
    /// The operator.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        if !(-200.0..0.0).contains(&self.threshold) {
            let message = format!("`threshold = {}`: it is -200 to below 0", self.threshold);
            return Err(OptionsError(message));
        }
        if !(0.0..=3600.0).contains(&self.margin) {
            return Err(OptionsError(format!("`margin = {}`: it is 0 to 3600", self.margin)));
        }
        Ok(transform::operator(self))
    }
}

impl Transform for TrimOptions {
    fn kind(&self) -> &'static str {
        "trim"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn column(&self) -> &str {
        &self.column
    }

    fn modality(&self) -> Modality {
        Modality::Audio
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn apply(
        &self,
        media: &Media<'_>,
        _: Option<RecordId>,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, String> {
        let sound = Sound::of(media)?;
        let least = 10f64.powf(self.threshold / 20.0) as f32;
        let floats = sound.format.floats(media.samples);
        let loud = |frame: &[f32]| frame.iter().any(|sample| sample.abs() > least);
        let mut frames = floats.chunks_exact(usize::from(sound.channels));
        let (Some(first), last) = (frames.clone().position(loud), frames.rposition(loud)) else {
            return Err(format!("it is silent: nothing exceeds {} dB", self.threshold));
        };
        let margin = (self.margin * f64::from(sound.rate)).round() as usize;
        let from = first.saturating_sub(margin);
        let to = last.unwrap_or(first).saturating_add(margin + 1).min(sound.frames as usize);
        let frame = sound.frame();
        samples.extend_from_slice(media.samples.get(from * frame..to * frame).unwrap_or_default());
        Ok(Sound { frames: (to - from) as u64, ..sound }.facts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Pcm;

    fn trimmed(sound: &[f32], channels: u16, margin: f64) -> Result<Vec<f32>, String> {
        let mut samples = Vec::new();
        Pcm::F32.extend(sound.iter().copied(), &mut samples);
        let frames = sound.len() as u64 / u64::from(channels);
        let facts = Facts::Audio { format: Pcm::F32, rate: 10, channels, frames };
        let options = TrimOptions { column: String::new(), threshold: -40.0, margin };
        let mut rest = Vec::new();
        let facts = options.apply(&Media { samples: &samples, facts }, None, &mut rest)?;
        assert_eq!(facts.bytes(), rest.len() as u64);
        Ok(Pcm::F32.floats(&rest))
    }

    #[test]
    fn silence_goes_at_both_ends_and_stays_between() {
        let sound = [0.0, 0.009, 0.5, 0.0, -0.02, 0.01, 0.0];
        assert_eq!(trimmed(&sound, 1, 0.0).unwrap(), [0.5, 0.0, -0.02]);
        assert_eq!(trimmed(&sound, 1, 0.1).unwrap(), [0.009, 0.5, 0.0, -0.02, 0.01]);
        assert_eq!(trimmed(&sound, 1, 10.0).unwrap(), sound);
        // Any channel makes a frame loud.
        assert_eq!(trimmed(&[0.0, 0.0, 0.0, 0.3, 0.0, 0.0], 2, 0.0).unwrap(), [0.0, 0.3]);
    }

    #[test]
    fn nothing_but_silence_is_refused() {
        for sound in [&[0.0f32, 0.01, -0.01][..], &[]] {
            let error = trimmed(sound, 1, 0.0).unwrap_err();
            assert!(error.contains("nothing exceeds -40 dB"), "{error}");
        }
    }

    #[test]
    fn options_out_of_range() {
        for (threshold, margin) in [(0.0, 0.0), (f64::NAN, 0.0), (-40.0, -1.0)] {
            assert!(TrimOptions { column: "a".into(), threshold, margin }.build().is_err());
        }
    }
}
