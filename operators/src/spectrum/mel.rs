//! Bands of a sound that are as wide as ears tell them apart.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use crate::codec::Media;
use crate::transform::Sound;

/// What the logarithm of silence is taken of.
const FLOOR: f32 = 1e-10;

/// Samples of a window, unless something else is said.
pub(crate) const fn window() -> usize {
    256
}

/// Samples from one window to the next, unless something else is said.
pub(crate) const fn hop() -> usize {
    128
}

/// The size of a log-mel spectrum, and of what sounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bands {
    /// Samples per second that all sounds have.
    pub(crate) rate: u32,
    /// Frames of each spectrum.
    pub(crate) frames: usize,
    /// Values of a frame.
    pub(crate) bands: usize,
    /// Samples of a window.
    pub(crate) window: usize,
    /// Samples from one window to the next.
    pub(crate) hop: usize,
}

impl Bands {
    /// What makes spectra of this size.
    ///
    /// # Errors
    /// When a number is out of its range, as a sentence.
    pub(crate) fn filters(self) -> Result<Mel, String> {
        let wrong = [
            (!(1..=1_000_000).contains(&self.rate), "`rate` is from 1 to 1,000,000"),
            (!(1..=65_536).contains(&self.frames), "`frames` is from 1 to 65,536"),
            (!(16..=65_536).contains(&self.window), "`window` is from 16 to 65,536 samples"),
            (!(1..=self.window).contains(&self.hop), "`hop` is from 1 to `window`"),
            (
                !(1..=self.window / 4).contains(&self.bands),
                "`bands` is from 1 to a quarter of `window`: narrower ones would be empty",
            ),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, message)) => Err((*message).to_owned()),
            None => Ok(Mel::new(self)),
        }
    }
}

/// Makes log-mel spectra of sounds.
pub(crate) struct Mel {
    transform: Arc<dyn RealToComplex<f32>>,
    hann: Vec<f32>,
    /// Of each band the first bin, and the weights from there on.
    filters: Vec<(usize, Vec<f32>)>,
    size: Bands,
}

impl Mel {
    fn new(size: Bands) -> Self {
        Self {
            transform: RealFftPlanner::new().plan_fft_forward(size.window),
            hann: hann(size.window),
            filters: filters(size.rate, size.window, size.bands),
            size,
        }
    }

    /// The mean of the channels of a sound.
    ///
    /// # Errors
    /// When it has another rate, or a sample of it is no finite number.
    pub(crate) fn mono(&self, media: &Media<'_>) -> Result<Vec<f32>, String> {
        let sound = Sound::of(media)?;
        let rate = self.size.rate;
        if sound.rate != rate {
            return Err(format!(
                "it has {} samples per second, not {rate}; put a `resample` before the spectrum",
                sound.rate
            ));
        }
        let floats = sound.format.floats(media.samples);
        if let Some(at) = floats.iter().position(|sample| !sample.is_finite()) {
            return Err(format!("its sample {at} is no finite number"));
        }
        let channels = usize::from(sound.channels);
        let share = f32::from(sound.channels).recip();
        Ok(floats.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * share).collect())
    }

    /// Appends the spectrum of a sound, frame by frame.
    ///
    /// # Errors
    /// When it has another rate, or a sample of it is no finite number; `values` may then end in a part.
    pub(crate) fn append(&self, media: &Media<'_>, values: &mut Vec<f32>) -> Result<(), String> {
        let Bands { frames, window, hop, .. } = self.size;
        let mono = self.mono(media)?;
        let (mut input, mut bins) = (vec![0.0; window], self.transform.make_output_vec());
        // A full tone has this much power in its bin, of a window whose mean is a half.
        let full = (window as f32 / 4.0).powi(2);
        for frame in 0..frames {
            let some = mono.get(frame * hop..).unwrap_or_default().iter();
            let some = some.copied().chain(std::iter::repeat(0.0)).zip(&self.hann);
            input.iter_mut().zip(some).for_each(|(to, (sample, weight))| *to = sample * weight);
            self.transform.process(&mut input, &mut bins).map_err(|e| e.to_string())?;
            for (first, weights) in &self.filters {
                let bins = bins.get(*first..).unwrap_or_default().iter().zip(weights);
                let power: f32 = bins.map(|(bin, weight)| bin.norm_sqr() * weight).sum();
                if !power.is_finite() {
                    return Err(format!("it is louder than a spectrum holds, in frame {frame}"));
                }
                values.push(1.0 + (power / full + FLOOR).log10() / 5.0);
            }
        }
        Ok(())
    }
}

/// The periodic window: of two that lie half over each other the sum is 1.
pub(super) fn hann(window: usize) -> Vec<f32> {
    let angle = std::f32::consts::TAU / window as f32;
    (0..window).map(|at| 0.5 - 0.5 * (angle * at as f32).cos()).collect()
}

/// Triangles that overlap by half, equally wide in mel, from 0 to half the rate.
fn filters(rate: u32, window: usize, bands: usize) -> Vec<(usize, Vec<f32>)> {
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let hertz = |mel: f64| 700.0 * (10_f64.powf(mel / 2595.0) - 1.0);
    let top = mel(f64::from(rate) / 2.0);
    let width = f64::from(rate) / window as f64;
    // Places in bins, which need not be whole.
    let corner = |at: usize| hertz(top * at as f64 / (bands + 1) as f64) / width;
    let band = |band: usize| {
        let (low, middle, high) = (corner(band), corner(band + 1), corner(band + 2));
        let weight = |bin: usize| {
            let bin = bin as f64;
            let up = (bin - low) / (middle - low);
            up.min((high - bin) / (high - middle)).max(0.0) as f32
        };
        let (first, last) = (low.ceil() as usize, (high.floor() as usize).min(window / 2));
        let weights: Vec<f32> = (first..=last).map(weight).collect();
        if weights.iter().any(|weight| *weight > 0.0) {
            return (first, weights);
        }
        // Narrower than a bin: what is nearest.
        ((middle.round() as usize).min(window / 2), vec![1.0])
    };
    (0..bands).map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Facts, Pcm};

    fn of(samples: &[f32], channels: u16, rate: u32) -> Result<Vec<f32>, String> {
        let samples: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let frames = (samples.len() / 4 / usize::from(channels)) as u64;
        let facts = Facts::Audio { format: Pcm::F32, rate: 8000, channels, frames };
        let size = Bands { rate, frames: 4, bands: 20, window: window(), hop: hop() };
        let mut values = Vec::new();
        let media = Media { samples: &samples, facts };
        size.filters()?.append(&media, &mut values).map(|()| values)
    }

    fn tone(hertz: f32, samples: usize) -> Vec<f32> {
        let angle = std::f32::consts::TAU * hertz / 8000.0;
        (0..samples).map(|at| (angle * at as f32).sin()).collect()
    }

    fn loudest(frame: &[f32]) -> usize {
        (0..frame.len()).max_by(|a, b| frame[*a].total_cmp(&frame[*b])).unwrap()
    }

    #[test]
    fn a_tone_is_loudest_in_its_band_and_silence_is_minus_one() {
        let mel = |hertz: f32| 2595.0 * (1.0 + hertz / 700.0).log10();
        let mut last = 0;
        for hertz in [300.0, 900.0, 1800.0, 3300.0] {
            let values = of(&tone(hertz, 400), 1, 8000).unwrap();
            let band = loudest(&values[..20]);
            let expected = (mel(hertz) / mel(4000.0) * 21.0).round() as usize;
            assert!(band.abs_diff(expected - 1) <= 1, "{hertz} Hz in band {band}");
            assert!(band > last && (values[band] - 1.0).abs() < 0.1, "{}", values[band]);
            // 400 samples end in the fourth frame's window.
            assert_eq!(values.len(), 80);
            last = band;
        }
        assert_eq!(of(&[], 1, 8000).unwrap(), [-1.0; 80]);
    }

    #[test]
    fn channels_are_averaged_and_another_rate_is_refused() {
        let one = tone(500.0, 700);
        let both: Vec<f32> = one.iter().flat_map(|sample| [*sample, *sample]).collect();
        assert_eq!(of(&one, 1, 8000), of(&both, 2, 8000));
        assert!(of(&one, 1, 16_000).unwrap_err().contains("not 16000"));
    }

    #[test]
    fn samples_that_are_no_numbers_are_told_and_clipped_ones_are_loud() {
        let mut sound = tone(500.0, 700);
        sound[300] = f32::NAN;
        assert!(of(&sound, 1, 8000).unwrap_err().contains("sample 300"));
        sound[300] = f32::MAX;
        assert!(of(&sound, 1, 8000).unwrap_err().contains("louder"));
        let clipped: Vec<f32> = tone(500.0, 700).iter().map(|s| s.signum()).collect();
        assert!(of(&clipped, 1, 8000).unwrap().iter().all(|value| value.is_finite()));
    }
}
