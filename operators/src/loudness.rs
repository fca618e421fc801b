//! `kind = "loudness"`: decoded sounds to one loudness, as broadcasters measure it (EBU R 128).
//!
//! The integrated loudness of ITU-R BS.1770 is measured, and the whole sound made louder or softer by the
//! difference. Its true peak never goes above `peak`: a sound that would clip is raised as far as it can be.
//! Less than 400 ms, for which the standard has no answer, count as one block without a gate. Silence stays
//! as it is.
//!
//! ```toml
//! [operator.loudness]
//! kind = "loudness"
//! column = "audio"
//! target = -23.0
//! inputs = ["decode"]
//! ```

use std::sync::Arc;

use anabranch_pipelines::operator::{Growth, Operator};
use anabranch_pipelines::record::{Modality, RecordId};
use ebur128::{EbuR128, Mode};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{Facts, Media};
use crate::transform::{self, Sound, Transform};

/// Options of `kind = "loudness"`: decoded sounds become equally loud, by ITU-R BS.1770.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoudnessOptions {
    /// The audio column, decoded.
    pub column: String,
    /// The loudness of the result in LUFS: -23 is that of European broadcasts, -14 that of music services.
    #[serde(default = "target")]
    pub target: f64,
    /// The highest true peak of the result, in decibels below full scale.
    #[serde(default = "peak")]
    pub peak: f64,
}

const fn target() -> f64 {
    -23.0
}

const fn peak() -> f64 {
    -1.0
}

impl LoudnessOptions {
    /// The operator.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        if !(-70.0..=0.0).contains(&self.target) {
            return Err(OptionsError(format!("`target = {}`: it is -70 to 0", self.target)));
        }
        if !(-70.0..=0.0).contains(&self.peak) {
            return Err(OptionsError(format!("`peak = {}`: it is -70 to 0", self.peak)));
        }
        Ok(transform::operator(self))
    }
}

impl Transform for LoudnessOptions {
    fn kind(&self) -> &'static str {
        "loudness"
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
        let floats = sound.format.floats(media.samples);
        let measured = measure(&sound, &floats).map_err(|e| {
            format!(
                "the loudness of {} channels at {} Hz cannot be measured: {e}",
                sound.channels, sound.rate
            )
        })?;
        let Some(Loudness { integrated, peak }) = measured else {
            samples.extend_from_slice(media.samples);
            return Ok(media.facts);
        };
        let wanted = decibels(self.target - integrated);
        let gain = wanted.min(decibels(self.peak) / peak.max(f64::MIN_POSITIVE)) as f32;
        sound.format.extend(floats.iter().map(|sample| sample * gain), samples);
        Ok(media.facts)
    }
}

fn decibels(gain: f64) -> f64 {
    10f64.powf(gain / 20.0)
}

struct Loudness {
    /// In LUFS.
    integrated: f64,
    /// The true peak, 1 for full scale.
    peak: f64,
}

/// `None` for silence.
fn measure(sound: &Sound, floats: &[f32]) -> Result<Option<Loudness>, ebur128::Error> {
    let mut meter = EbuR128::new(u32::from(sound.channels), sound.rate, Mode::I | Mode::TRUE_PEAK)?;
    meter.add_frames_f32(floats)?;
    // The meter's block of 400 ms. Silence fills it up, and what that dilutes is added again.
    let block = 4 * u64::from((sound.rate + 5) / 10);
    let missing = block.saturating_sub(sound.frames);
    let mut diluted = 0.0;
    if missing > 0 && sound.frames > 0 {
        let silence = vec![0.0; missing as usize * usize::from(sound.channels)];
        meter.add_frames_f32(&silence)?;
        diluted = 10.0 * (block as f64 / sound.frames as f64).log10();
    }
    let integrated = meter.loudness_global()? + diluted;
    let mut peak = 0f64;
    for channel in 0..u32::from(sound.channels) {
        peak = peak.max(meter.true_peak(channel)?);
    }
    Ok(integrated.is_finite().then_some(Loudness { integrated, peak }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Pcm;
    use std::f64::consts::TAU;

    fn sine(amplitude: f64, frames: u64, channels: u16) -> (Sound, Vec<f32>) {
        let sound = Sound { format: Pcm::F32, rate: 48_000, channels, frames };
        let sample = |at: u64| (amplitude * (TAU * 1000.0 * at as f64 / 48_000.0).sin()) as f32;
        let floats = (0..frames).flat_map(|at| vec![sample(at); usize::from(channels)]).collect();
        (sound, floats)
    }

    fn integrated(sound: &Sound, floats: &[f32]) -> f64 {
        measure(sound, floats).unwrap().unwrap().integrated
    }

    #[test]
    fn a_sine_has_the_loudness_that_the_standard_says() {
        // EBU Tech 3341: a stereo sine of 1 kHz at -23 dB below full scale has -23 LUFS.
        for level in [-23.0, -33.0] {
            let (sound, floats) = sine(decibels(level), 20 * 48_000, 2);
            assert!((integrated(&sound, &floats) - level).abs() < 0.1);
        }
        // A fifth of a second of it is as loud, nearly.
        let (sound, floats) = sine(decibels(-23.0), 9600, 2);
        assert!(
            (integrated(&sound, &floats) + 23.0).abs() < 0.3,
            "{}",
            integrated(&sound, &floats)
        );
    }

    fn normalised(target: f64, sound: Sound, floats: &[f32]) -> Vec<f32> {
        let mut samples = Vec::new();
        sound.format.extend(floats.iter().copied(), &mut samples);
        let mut after = Vec::new();
        let options = LoudnessOptions { column: String::new(), target, peak: -1.0 };
        let media = Media { samples: &samples, facts: sound.facts() };
        assert_eq!(options.apply(&media, None, &mut after), Ok(sound.facts()));
        sound.format.floats(&after)
    }

    #[test]
    fn the_result_has_the_target_unless_it_would_clip() {
        let (sound, floats) = sine(0.01, 48_000, 1);
        let after = normalised(-20.0, sound, &floats);
        assert!((integrated(&sound, &after) + 20.0).abs() < 0.05);
        // One loud moment in a soft sound is what bounds it.
        let mut spiked = floats;
        spiked[24_000] = 0.5;
        let after = normalised(-10.0, sound, &spiked);
        let peak = measure(&sound, &after).unwrap().unwrap().peak;
        assert!((peak - decibels(-1.0)).abs() < 0.01, "{peak}");
        assert!(integrated(&sound, &after) < -12.0);
    }

    #[test]
    fn silence_and_nothing_stay_as_they_are() {
        for frames in [0, 100, 48_000] {
            let (sound, floats) = sine(0.0, frames, 1);
            assert_eq!(normalised(-20.0, sound, &floats), floats);
        }
    }
}
