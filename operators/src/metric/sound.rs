//! Sounds: how much of the power is error, and how far spectra are apart.
//!
//! A codec may return a sound a little early or late, which nobody hears and which would ruin every comparison sample
//! by sample. So both are first put on top of each other: by the delay, of a twentieth of a second at most, at which
//! their product is largest, the same for all channels. What then has no partner at the ends is left out.

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use super::MetricError;
use crate::codec::{Facts, Media};

/// Power below which a spectrum is cut off: 100 dB under that of a full-scale constant.
const FLOOR: f64 = 1e-10;

/// Scale-invariant signal-to-distortion ratio in decibels, the mean over channels.
///
/// With `a` the factor that brings the original nearest to the decoded sound, it is the power of `a` times the
/// original over that of the rest. Infinite when nothing is left, negative infinity when nothing of the original is.
/// A channel that is silent in both is left out.
///
/// # Errors
/// When one is no sound, they differ in rate or channels, a sample is no number, or the original is silent.
pub fn si_sdr(original: &Media<'_>, decoded: &Media<'_>) -> Result<f64, MetricError> {
    let pair = Pair::of("SI-SDR", original, decoded)?;
    let (mut sum, mut channels) = (0.0, 0);
    for (one, other) in pair.channels() {
        let power = dot(one, one);
        if power == 0.0 && dot(other, other) == 0.0 {
            continue;
        }
        if power == 0.0 {
            return Ok(f64::NEG_INFINITY);
        }
        let factor = dot(one, other) / power;
        let rest: f64 = one.iter().zip(other).map(|(a, b)| (factor * a - b).powi(2)).sum();
        let target = factor * factor * power;
        // Nothing of the original, and nothing else either: silence came back.
        sum += if target == 0.0 { f64::NEG_INFINITY } else { 10.0 * (target / rest).log10() };
        channels += 1;
    }
    if channels == 0 { Err(MetricError::Silent) } else { Ok(sum / f64::from(channels)) }
}

/// Samples of a frame at most: a header may claim any rate.
const LONGEST: f64 = 8192.0;

/// Log-spectral distance in decibels: the root mean square, over frequencies, of how far log power spectra are
/// apart, and of that the mean over frames and channels.
///
/// Frames are Hann windows of about 32 ms (a power of two of samples), half over each other; a shorter sound is one
/// frame, with silence behind it. Power is per squared window weight, and cut off 100 dB below full scale.
///
/// # Errors
/// When one is no sound, they differ in rate or channels, have no frames, or a sample is no number.
pub fn log_spectral_distance(
    original: &Media<'_>,
    decoded: &Media<'_>,
) -> Result<f64, MetricError> {
    let pair = Pair::of("log-spectral distance", original, decoded)?;
    let size = (0.032 * f64::from(pair.rate)).clamp(16.0, LONGEST).log2().round().exp2() as usize;
    let turn = std::f64::consts::TAU / size as f64;
    let window: Vec<f64> = (0..size).map(|at| 0.5 - 0.5 * (turn * at as f64).cos()).collect();
    let scale = dot(&window, &window);
    let transform = RealFftPlanner::<f64>::new().plan_fft_forward(size);
    let decibels = |samples: &[f64]| -> Vec<f64> {
        let mut frame: Vec<f64> = samples.iter().zip(&window).map(|(s, w)| s * w).collect();
        frame.resize(size, 0.0);
        let mut spectrum = transform.make_output_vec();
        // Both have the lengths that the plan asked for.
        let _ = transform.process(&mut frame, &mut spectrum);
        let power = |bin: &Complex<f64>| 10.0 * (bin.norm_sqr() / scale).max(FLOOR).log10();
        spectrum.iter().map(power).collect()
    };
    let (mut sum, mut frames) = (0.0, 0);
    for (one, other) in pair.channels() {
        let last = one.len().saturating_sub(size);
        for start in (0..=last).step_by(size / 2) {
            let of = |sound: &[f64]| {
                sound.get(start..(start + size).min(sound.len())).unwrap_or_default().to_vec()
            };
            let (one, other) = (decibels(&of(one)), decibels(&of(other)));
            let squares: f64 = one.iter().zip(&other).map(|(a, b)| (a - b).powi(2)).sum();
            sum += (squares / one.len() as f64).sqrt();
            frames += 1;
        }
    }
    Ok(sum / f64::from(frames.max(1)))
}

/// Two sounds on top of each other, channel by channel.
struct Pair {
    rate: u32,
    original: Vec<Vec<f64>>,
    decoded: Vec<Vec<f64>>,
}

impl Pair {
    fn of(
        metric: &'static str,
        original: &Media<'_>,
        decoded: &Media<'_>,
    ) -> Result<Self, MetricError> {
        let sound = |media: &Media<'_>| match media.facts {
            Facts::Audio { format, rate, channels, .. } => Ok((format, rate, channels)),
            Facts::Image { .. } => Err(MetricError::Modality { metric, what: "sounds" }),
        };
        let ((format, rate, channels), (other, other_rate, other_channels)) =
            (sound(original)?, sound(decoded)?);
        if (rate, channels) != (other_rate, other_channels) {
            return Err(MetricError::Unlike { original: original.facts, decoded: decoded.facts });
        }
        let (one, other) = (format.floats(original.samples), other.floats(decoded.samples));
        if let Some(at) = one.iter().chain(&other).position(|sample| !sample.is_finite()) {
            return Err(MetricError::NotFinite { at });
        }
        let split = |samples: &[f32]| -> Vec<Vec<f64>> {
            let channels = usize::from(channels);
            let channel =
                |at| samples.iter().skip(at).step_by(channels).map(|s| f64::from(*s)).collect();
            (0..channels).map(channel).collect()
        };
        let (mut original, mut decoded) = (split(&one), split(&other));
        if [&original, &decoded].into_iter().any(|sound| sound.iter().all(Vec::is_empty)) {
            return Err(MetricError::TooSmall { metric, least: "one frame" });
        }
        let delay = delay(&original, &decoded, rate as usize / 20);
        let late = |sounds: &mut Vec<Vec<f64>>, by: usize| {
            sounds.iter_mut().for_each(|sound| drop(sound.drain(..by.min(sound.len()))));
        };
        late(&mut decoded, delay.max(0).unsigned_abs());
        late(&mut original, delay.min(0).unsigned_abs());
        for (one, other) in original.iter_mut().zip(&mut decoded) {
            let length = one.len().min(other.len());
            one.truncate(length);
            other.truncate(length);
        }
        Ok(Self { rate, original, decoded })
    }

    fn channels(&self) -> impl Iterator<Item = (&[f64], &[f64])> {
        self.original.iter().map(Vec::as_slice).zip(self.decoded.iter().map(Vec::as_slice))
    }
}

/// By how many frames the decoded sound is late, `most` at most: where the product of both is largest, whatever its
/// sign. Among equals the smallest delay counts.
fn delay(original: &[Vec<f64>], decoded: &[Vec<f64>], most: usize) -> isize {
    let longest = original.iter().chain(decoded).map(Vec::len).max().unwrap_or(0);
    let most = most.min(longest.saturating_sub(1));
    let size = (longest + most).next_power_of_two().max(2);
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, back) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
    let spectrum = |sound: &[f64]| {
        let mut padded = sound.to_vec();
        padded.resize(size, 0.0);
        let mut spectrum = forward.make_output_vec();
        let _ = forward.process(&mut padded, &mut spectrum);
        spectrum
    };
    let mut products = forward.make_output_vec();
    for (one, other) in original.iter().zip(decoded) {
        for (sum, (one, other)) in
            products.iter_mut().zip(spectrum(one).into_iter().zip(spectrum(other)))
        {
            *sum += one.conj() * other;
        }
    }
    // The first and the last are real, but for rounding.
    if let [first, .., last] = products.as_mut_slice() {
        (first.im, last.im) = (0.0, 0.0);
    }
    let mut correlation = back.make_output_vec();
    let _ = back.process(&mut products, &mut correlation);
    let at = |delay: isize| {
        let index = if delay < 0 { size - delay.unsigned_abs() } else { delay.unsigned_abs() };
        correlation.get(index).copied().unwrap_or(0.0).abs()
    };
    let most = most as isize;
    let mut best = (at(0), 0);
    for delay in (1..=most).flat_map(|delay| [delay, -delay]) {
        // A little more is rounding.
        if at(delay) > best.0 * (1.0 + 1e-9) {
            best = (at(delay), delay);
        }
    }
    best.1
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}
