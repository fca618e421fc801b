//! Resampling against sines, whose values at every rate are known.

use super::*;
use crate::codec::Pcm;
use crate::conformance::codec::snr;
use std::f64::consts::TAU;

fn sine(frequency: f64, rate: u32, frames: u64) -> Vec<f32> {
    let at = |at: u64| (0.5 * (TAU * frequency * at as f64 / f64::from(rate)).sin()) as f32;
    (0..frames).map(at).collect()
}

fn resampled(samples: &[f32], channels: u16, from: u32, to: u32) -> (Vec<f32>, u64) {
    let mut bytes = Vec::new();
    Pcm::F32.extend(samples.iter().copied(), &mut bytes);
    let frames = samples.len() as u64 / u64::from(channels);
    let facts = Facts::Audio { format: Pcm::F32, rate: from, channels, frames };
    let options = ResampleOptions { column: String::new(), rate: to };
    let resample = Resample { options, filters: Mutex::default() };
    let mut after = Vec::new();
    let facts = resample.apply(&Media { samples: &bytes, facts }, None, &mut after).unwrap();
    let Facts::Audio { rate, frames, .. } = facts else { panic!("{facts:?}") };
    assert_eq!((rate, facts.bytes()), (to, after.len() as u64));
    (Pcm::F32.floats(&after), frames)
}

#[test]
fn a_sine_comes_out_as_that_sine_at_the_other_rate() {
    // The last pair has no common factor that is worth a table.
    for (from, to) in
        [(44_100, 16_000), (16_000, 44_100), (48_000, 16_000), (8000, 48_000), (44_101, 16_000)]
    {
        let lower = f64::from(from.min(to)) / 2.0;
        for frequency in [100.0, lower * 0.5, lower * 0.88] {
            let (after, frames) = resampled(&sine(frequency, from, u64::from(from)), 1, from, to);
            assert_eq!(frames, u64::from(to));
            let expected = sine(frequency, to, frames);
            // At both ends the filter meets the silence around the sound.
            let middle = after.len() / 10..after.len() * 9 / 10;
            let likeness = snr(&expected[middle.clone()], &after[middle]);
            assert!(likeness > 85.0, "{from} to {to} at {frequency:.0} Hz: {likeness:.1} dB");
        }
    }
}

#[test]
fn what_would_fold_back_is_gone() {
    let (after, _) = resampled(&sine(9000.0, 48_000, 48_000), 1, 48_000, 16_000);
    let middle = &after[2000..14_000];
    assert!(
        middle.iter().all(|sample| sample.abs() < 1e-4),
        "{:?}",
        middle.iter().fold(0f32, |a, b| a.max(b.abs()))
    );
}

#[test]
fn channels_stay_apart_and_lengths_are_rounded_up() {
    let left = sine(440.0, 8000, 801);
    let both: Vec<f32> = left.iter().flat_map(|sample| [*sample, -sample]).collect();
    let (one, frames) = resampled(&left, 1, 8000, 11_025);
    assert_eq!(frames, (801u64 * 441).div_ceil(320));
    let (two, _) = resampled(&both, 2, 8000, 11_025);
    assert!(two.chunks(2).zip(&one).all(|(two, one)| two == [*one, -one]));
    for frames in [0, 1, 2] {
        let expected = (frames as u64 * 441).div_ceil(320);
        assert_eq!(resampled(&left[..frames], 1, 8000, 11_025).1, expected);
    }
}

#[test]
fn rates_that_no_sound_has_are_refused() {
    let told = |rate| ResampleOptions { column: "a".into(), rate }.build().err().map(|e| e.0);
    assert_eq!(told(16_000), None);
    assert!(told(0).is_some_and(|told| told.contains("1000 to 768000")));
    let options = ResampleOptions { column: String::new(), rate: 48_000 };
    let resample = Resample { options, filters: Mutex::default() };
    for rate in [0, 1, 100] {
        let facts = Facts::Audio { format: Pcm::S16, rate, channels: 1, frames: 1 };
        let error = resample.apply(&Media { samples: &[0, 0], facts }, None, &mut Vec::new());
        assert!(error.unwrap_err().contains("256-fold"));
    }
}
