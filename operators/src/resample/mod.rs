//! `kind = "resample"`: decoded sounds to another sample rate.
//!
//! A windowed sinc filter, as the best setting of other tools: flat to 89 % of the lower of both half rates,
//! and 100 dB down where frequencies would fold back. A sound keeps its place in time: frame 0 stays frame 0.
//! What comes out depends on the sound alone, on every machine.
//!
//! ```toml
//! [operator.resample]
//! kind = "resample"
//! column = "audio"
//! rate = 16000
//! inputs = ["decode"]
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_pipelines::operator::{Growth, Operator};
use anabranch_pipelines::record::{Modality, RecordId};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{Facts, Media};
use crate::transform::{self, Sound, Transform};

mod filter;

use filter::Filter;

/// Options of `kind = "resample"`: decoded sounds get another sampling rate.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResampleOptions {
    /// The audio column, decoded.
    pub column: String,
    /// Frames per second of the result.
    pub rate: u32,
    /// The lowest rate that sounds come with, for which memory is planned. A sound below it that would rise is
    /// refused. Default 8000.
    #[serde(default = "lowest")]
    pub lowest: u32,
}

const fn lowest() -> u32 {
    8000
}

/// Rates that a job may ask for.
const RATES: std::ops::RangeInclusive<u32> = 1000..=768_000;
/// How many times a rate may rise or fall; beyond, a header lies.
const FOLD: u32 = 256;
/// Filters that are kept, one for each rate that sounds came with lately.
const KEPT: usize = 8;

impl ResampleOptions {
    /// The operator.
    ///
    /// # Errors
    /// When the rate is out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        if !RATES.contains(&self.rate) {
            let (least, most) = (RATES.start(), RATES.end());
            return Err(OptionsError(format!("`rate = {}`: it is {least} to {most}", self.rate)));
        }
        let least = self.rate.div_ceil(FOLD);
        if self.lowest < least {
            let (lowest, rate) = (self.lowest, self.rate);
            return Err(OptionsError(format!(
                "`lowest = {lowest}`: a rate rises {FOLD}-fold at most, so for `rate = {rate}` it is {least} \
                 or more"
            )));
        }
        Ok(transform::operator(Resample { options: self, filters: Mutex::default() }))
    }
}

struct Resample {
    options: ResampleOptions,
    /// The one that was needed last comes last.
    filters: Mutex<Vec<(u32, Arc<Filter>)>>,
}

impl Resample {
    fn filter(&self, from: u32) -> Arc<Filter> {
        let filters = || self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = filters().iter().find(|(rate, _)| *rate == from).map(|(_, f)| Arc::clone(f));
        // Made while nobody waits: two that need the same at once make it twice.
        let filter = kept.unwrap_or_else(|| Arc::new(Filter::new(from, self.options.rate)));
        let mut filters = filters();
        filters.retain(|(rate, _)| *rate != from);
        if filters.len() == KEPT {
            filters.remove(0);
        }
        filters.push((from, Arc::clone(&filter)));
        filter
    }
}

impl Transform for Resample {
    fn kind(&self) -> &'static str {
        "resample"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn column(&self) -> &str {
        &self.options.column
    }

    fn modality(&self) -> Modality {
        Modality::Audio
    }

    fn growth(&self) -> Growth {
        // One frame more than the ratio says, of up to 8 channels of 4 bytes.
        Growth {
            factor: (f64::from(self.options.rate) / f64::from(self.options.lowest)).max(1.0),
            per_record: 32,
        }
    }

    fn apply(
        &self,
        media: &Media<'_>,
        _: Option<RecordId>,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, String> {
        let sound = Sound::of(media)?;
        let rate = self.options.rate;
        if sound.rate == rate {
            samples.extend_from_slice(media.samples);
            return Ok(media.facts);
        }
        let (least, most) = (sound.rate.min(rate), sound.rate.max(rate));
        if least == 0 || most / least > FOLD {
            return Err(format!("from {} Hz to {rate} Hz is more than {FOLD}-fold", sound.rate));
        }
        // What it would grow by was not charged.
        let lowest = self.options.lowest.min(rate);
        if sound.rate < lowest {
            return Err(format!(
                "its {} Hz are below `lowest = {}`, for which memory is planned; lower that, if they are no \
                 mistake",
                sound.rate, self.options.lowest
            ));
        }
        if sound.frames == 0 {
            return Ok(Sound { rate, ..sound }.facts());
        }
        let filter = self.filter(sound.rate);
        let floats = sound.format.floats(media.samples);
        let channels = usize::from(sound.channels);
        let frames = filter.length(sound.frames);
        let mut after = vec![0.0; frames as usize * channels];
        for channel in 0..channels {
            let one: Vec<f32> = floats.iter().skip(channel).step_by(channels).copied().collect();
            let out = after.iter_mut().skip(channel).step_by(channels);
            filter.run(&one, out);
        }
        sound.format.extend(after, samples);
        Ok(Sound { rate, frames, ..sound }.facts())
    }
}

#[cfg(test)]
mod tests;
