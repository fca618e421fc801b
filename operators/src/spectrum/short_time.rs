//! Short-time spectra, and sounds made of them again.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Spectra of frames of a Hann window, as [`Mel`](super::Mel) places them: the first begins with the sound, and the sound
/// is as long as so many frames make it.
pub(crate) struct ShortTime {
    forward: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
    hann: Vec<f32>,
    hop: usize,
    frames: usize,
}

impl ShortTime {
    pub(crate) fn new(window: usize, hop: usize, frames: usize) -> Self {
        let mut planner = RealFftPlanner::new();
        Self {
            forward: planner.plan_fft_forward(window),
            back: planner.plan_fft_inverse(window),
            hann: super::mel::hann(window),
            hop,
            frames,
        }
    }

    /// Values of a frame.
    pub(crate) fn frequencies(&self) -> usize {
        self.hann.len() / 2 + 1
    }

    /// The spectra of all frames, one after the other; a shorter sound is filled up with silence.
    pub(crate) fn bins(&self, sound: &[f32]) -> Result<Vec<Complex<f32>>, String> {
        let mut all = Vec::with_capacity(self.frames * self.frequencies());
        let (mut input, mut bins) = (self.forward.make_input_vec(), self.forward.make_output_vec());
        for frame in 0..self.frames {
            let some = sound.get(frame * self.hop..).unwrap_or_default().iter();
            let some = some.copied().chain(std::iter::repeat(0.0)).zip(&self.hann);
            input.iter_mut().zip(some).for_each(|(to, (sample, weight))| *to = sample * weight);
            self.forward.process(&mut input, &mut bins).map_err(|e| e.to_string())?;
            all.extend_from_slice(&bins);
        }
        Ok(all)
    }

    /// The sum of all frames where they lie. Of [`bins`](Self::bins) that were not changed it is the sound times the sum
    /// of the windows over it, which is 1 where two lie half over each other.
    pub(crate) fn sound(&self, mut bins: Vec<Complex<f32>>) -> Result<Vec<f32>, String> {
        let window = self.hann.len();
        let mut sound = vec![0.0; self.frames.saturating_sub(1) * self.hop + window];
        let mut output = self.back.make_output_vec();
        let last = self.frequencies() - 1;
        for (frame, bins) in bins.chunks_exact_mut(self.frequencies()).enumerate() {
            // Of a real sound these have no imaginary part; the transform insists on it.
            for (at, bin) in bins.iter_mut().enumerate() {
                if at == 0 || (at == last && window.is_multiple_of(2)) {
                    bin.im = 0.0;
                }
            }
            self.back.process(bins, &mut output).map_err(|e| e.to_string())?;
            let from = sound.get_mut(frame * self.hop..).unwrap_or_default();
            from.iter_mut().zip(&output).for_each(|(to, sample)| *to += sample / window as f32);
        }
        Ok(sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_comes_back_from_its_spectra() {
        for (window, hop) in [(16, 8), (64, 32), (17, 5)] {
            let short = ShortTime::new(window, hop, 9);
            let length = 8 * hop + window;
            let sound: Vec<f32> = (0..length).map(|at| (at as f32 * 0.7).sin()).collect();
            let back = short.sound(short.bins(&sound).unwrap()).unwrap();
            assert_eq!(back.len(), length);
            let weight = |at: usize| -> f32 {
                let starts = (0..9).map(|frame| frame * hop);
                starts.filter_map(|start| short.hann.get(at.checked_sub(start)?)).sum()
            };
            for (at, (one, other)) in sound.iter().zip(&back).enumerate() {
                assert!((one * weight(at) - other).abs() < 1e-5, "{window} {at}: {one} {other}");
            }
            if hop * 2 == window {
                assert!((weight(3 * hop + 1) - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_frequency_alone_is_a_tone_of_it() {
        let short = ShortTime::new(64, 32, 5);
        let tone: Vec<f32> =
            (0..192).map(|at| (std::f32::consts::TAU * 8.0 * at as f32 / 64.0).cos()).collect();
        let noise: Vec<f32> =
            (0..192).map(|at| (std::f32::consts::TAU * 20.0 * at as f32 / 64.0).cos()).collect();
        let both: Vec<f32> = tone.iter().zip(&noise).map(|(a, b)| a + b).collect();
        let mut bins = short.bins(&both).unwrap();
        for frame in bins.chunks_exact_mut(short.frequencies()) {
            frame.iter_mut().skip(12).for_each(|bin| *bin = Complex::default());
        }
        let alone = short.sound(bins).unwrap();
        for (found, expected) in alone.iter().zip(&tone).skip(32).take(128) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
}
