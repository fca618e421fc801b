//! A small model of digits, trained on originals of all speakers but one.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anabranch_models::artifact::architecture::{
    Architecture, AudioTokens, FeedForward, Head, Inputs,
};
use anabranch_models::random::Random;
use anabranch_operators::SpectrumOptions;
use anabranch_operators::task::{Spectra, Task, TaskOptions};
use anabranch_pipelines::operator::{Allocation, Context};
use arrow::array::{Array, AsArray};
use arrow::datatypes::Float32Type;

use super::recordings::Recording;
use crate::network::Network;
use crate::records;

const RATE: u32 = 8000;
/// Half a second of 16 ms.
const FRAMES: usize = 32;
const BANDS: usize = 32;
pub(crate) const WIDTH: usize = 64;
pub(crate) const STEPS: u64 = 3000;
/// How recordings become spectra.
pub(crate) const SPECTRA: Spectra = Spectra { rate: RATE, window: 256, hop: 128 };
/// A sound is heard up to so many frames later, another time than the last.
const SHIFT: usize = 6;
/// And up to so much faster or slower.
const SPEED: f32 = 1.3;
/// And its bands are up to so much closer together or farther apart.
const THROAT: f32 = 1.2;

/// A network of digits.
pub(crate) fn network(seed: u64, width: usize, steps: u64) -> Network {
    let audio = AudioTokens { bands: BANDS, frames: FRAMES, frames_per_token: 2 };
    let architecture = Architecture {
        width,
        heads: 4,
        layers: 3,
        inputs: Inputs::Modalities { image: None, audio: Some(audio), text: None },
        head: Head::Classes(10),
        feed_forward: FeedForward::Mlp { hidden: 4 * width },
    };
    Network { name: "digits", architecture, batch: 32, rate: 3e-3, steps, seed }
}

/// Trains a network on these recordings and saves it into a folder.
pub(crate) fn train_on(
    recordings: &[&Recording],
    network: &Network,
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    let spectra = spectra(recordings)?;
    let draw = |random: &mut Random| {
        let at = random.below(recordings.len());
        let spectrum = spectra.get(at).ok_or("no recording to train on")?;
        let mut audio = Vec::new();
        heard(spectrum, random, &mut audio);
        Ok((audio, recordings.iter().skip(at).take(1).map(|recording| recording.digit).collect()))
    };
    network.train(folder, draw)?;
    Ok(())
}

/// The task that asks the network in a folder.
pub(crate) fn task(folder: &Path) -> Result<Arc<dyn Task>, Box<dyn Error>> {
    let options = serde_json::json!({
        "kind": "classify", "model": folder, "label": "digit", "spectrum": SPECTRA,
    });
    Ok(serde_json::from_value::<TaskOptions>(options)?.build()?)
}

/// Appends a spectrum as another voice in another room might have made it: later, faster or slower, of a longer or
/// shorter throat, louder or softer, of another timbre, with noise under it, and with a piece of it missed. Without this
/// the model learns the five speakers by heart.
fn heard(spectrum: &[f32], random: &mut Random, audio: &mut Vec<f32>) {
    let later = random.below(SHIFT + 1);
    let faster = SPEED.powf(2.0 * random.uniform() - 1.0);
    let longer = THROAT.powf(2.0 * random.uniform() - 1.0);
    let (louder, brighter) = (0.15 * random.normal(), 0.3 * random.normal());
    let noise = -1.0 + 0.6 * random.uniform().powi(2);
    let (frames, bands) = (missed(FRAMES, random), missed(BANDS, random));
    for frame in 0..FRAMES {
        let from = frame.checked_sub(later).map(|frame| (frame as f32 * faster) as usize);
        let values = from.and_then(|from| spectrum.chunks_exact(BANDS).nth(from));
        audio.extend((0..BANDS).map(|band| {
            let from = ((band as f32 * longer) as usize).min(BANDS - 1);
            let value = values.and_then(|values| values.get(from)).copied().unwrap_or(-1.0);
            let tilt = brighter * (band as f32 / BANDS as f32 - 0.5);
            let is_missed = frames.contains(&frame) || bands.contains(&band);
            if is_missed { noise } else { (value + louder + tilt).max(noise) }
        }));
    }
}

/// A stretch of up to a fifth that is not heard (SpecAugment, arXiv 1904.08779).
fn missed(of: usize, random: &mut Random) -> Range<usize> {
    let length = random.below(of / 5 + 1);
    let start = random.below(of - length + 1);
    start..start + length
}

/// The spectra that the model takes, by the operator that users make them with.
fn spectra(recordings: &[&Recording]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let batch = records::batch(&[("audio", recordings.iter().map(|r| r.media()).collect())])?;
    let options = serde_json::json!({ "rate": RATE, "frames": FRAMES, "bands": BANDS });
    let spectrum = serde_json::from_value::<SpectrumOptions>(options)?.build()?;
    let outcome = spectrum.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
    if let Some(refused) = outcome.refused.first() {
        return Err(refused.error.clone().into());
    }
    let lists = outcome.records.column_by_name("spectrum").ok_or("no spectrum")?;
    let lists = lists.as_fixed_size_list();
    let of = |row| lists.value(row).as_primitive::<Float32Type>().values().to_vec();
    Ok((0..lists.len()).map(of).collect())
}
