//! `kind = "mono"`: decoded sounds of several channels to one, their mean.
//!
//! ```toml
//! [operator.mono]
//! kind = "mono"
//! column = "audio"
//! inputs = ["decode"]
//! ```

use std::sync::Arc;

use anabranch_pipelines::operator::{Growth, Operator};
use anabranch_pipelines::record::{Modality, RecordId};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{Facts, Media};
use crate::transform::{self, Sound, Transform};

/// Options of `kind = "mono"`: the channels of decoded sounds become one.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MonoOptions {
    /// The audio column, decoded.
    pub column: String,
}

impl MonoOptions {
    /// The operator.
    ///
    /// # Errors
    /// Never; the signature is that of all operators.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        Ok(transform::operator(self))
    }
}

impl Transform for MonoOptions {
    fn kind(&self) -> &'static str {
        "mono"
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
        if sound.channels == 1 {
            samples.extend_from_slice(media.samples);
            return Ok(media.facts);
        }
        let floats = sound.format.floats(media.samples);
        let frames = floats.chunks_exact(usize::from(sound.channels));
        let share = f32::from(sound.channels).recip();
        sound.format.extend(frames.map(|frame| frame.iter().sum::<f32>() * share), samples);
        Ok(Sound { channels: 1, ..sound }.facts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Pcm;

    #[test]
    fn channels_become_their_mean_in_every_format() {
        for format in [Pcm::S16, Pcm::S24, Pcm::S32] {
            let mut stereo = Vec::new();
            [1000, 3000, -500, 501, 0, 0]
                .iter()
                .for_each(|sample| format.push(*sample, &mut stereo));
            let facts = Facts::Audio { format, rate: 8000, channels: 2, frames: 3 };
            let mut mono = Vec::new();
            let mean = MonoOptions { column: String::new() }.apply(
                &Media { samples: &stereo, facts },
                None,
                &mut mono,
            );
            assert_eq!(mean, Ok(Facts::Audio { format, rate: 8000, channels: 1, frames: 3 }));
            // Halves are rounded away from zero.
            assert_eq!(format.integers(&mono), Some(vec![2000, 1, 0]));
        }
    }
}
