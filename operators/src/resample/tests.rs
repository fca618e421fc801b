//! Resampling against sines, whose values at every rate are known.

use super::*;
use crate::codec::Pcm;
use crate::conformance::codec::snr;
use std::f64::consts::TAU;

fn sine(frequency: f64, rate: u32, frames: u64) -> Vec<f32> {
    let at = |at: u64| (0.5 * (TAU * frequency * at as f64 / f64::from(rate)).sin()) as f32;
    (0..frames).map(at).collect()
}

fn to_rate(rate: u32, lowest: u32) -> Resample {
    let options = ResampleOptions { column: String::new(), rate, lowest };
    Resample { options, filters: Mutex::default() }
}

fn resampled(samples: &[f32], channels: u16, from: u32, to: u32) -> (Vec<f32>, u64) {
    let mut bytes = Vec::new();
    Pcm::F32.extend(samples.iter().copied(), &mut bytes);
    let frames = samples.len() as u64 / u64::from(channels);
    let facts = Facts::Audio { format: Pcm::F32, rate: from, channels, frames };
    let resample = to_rate(to, 1000);
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
    let told = |rate| {
        let options = ResampleOptions { column: "a".into(), rate, lowest: lowest() };
        options.build().err().map(|e| e.0)
    };
    assert_eq!(told(16_000), None);
    assert!(told(0).is_some_and(|told| told.contains("1000 to 768000")));
    let resample = to_rate(48_000, lowest());
    for rate in [0, 1, 100] {
        let facts = Facts::Audio { format: Pcm::S16, rate, channels: 1, frames: 1 };
        let error = resample.apply(&Media { samples: &[0, 0], facts }, None, &mut Vec::new());
        assert!(error.unwrap_err().contains("256-fold"));
    }
}

#[test]
fn a_filter_is_small_whatever_the_rates() {
    let rates =
        [(4_095_999, 16_000), (44_101, 16_000), (96_001, 1000), (8000, 767_999), (1001, 256_000)];
    for (from, to) in rates {
        let size = Filter::new(from, to).size();
        assert!(size < 250_000, "{from} Hz to {to} Hz: {size} taps");
    }
    // Nothing is made for a sound of no frames.
    let resample = to_rate(16_000, lowest());
    let facts = Facts::Audio { format: Pcm::S16, rate: 4_095_999, channels: 1, frames: 0 };
    let after = resample.apply(&Media { samples: &[], facts }, None, &mut Vec::new()).unwrap();
    assert!(matches!(after, Facts::Audio { rate: 16_000, frames: 0, .. }));
    assert_eq!(resample.filters.lock().unwrap().len(), 0);
}

#[test]
fn what_would_grow_beyond_its_charge_is_refused() {
    let samples = vec![0; 2 * 1000];
    let of = |rate| Facts::Audio { format: Pcm::S16, rate, channels: 1, frames: 1000 };
    for (lowest, from, to) in [(8000, 8000, 48_000), (2000, 2000, 48_000), (8000, 4000, 2000)] {
        let resample = to_rate(to, lowest);
        let mut after = Vec::new();
        resample.apply(&Media { samples: &samples, facts: of(from) }, None, &mut after).unwrap();
        let Growth { factor, per_record } = resample.growth();
        assert!(after.len() as f64 <= factor * samples.len() as f64 + per_record as f64);
    }
    let low = Media { samples: &samples, facts: of(7999) };
    let error = to_rate(16_000, 8000).apply(&low, None, &mut Vec::new()).unwrap_err();
    assert!(error.contains("below `lowest = 8000`"), "{error}");
    let options = ResampleOptions { column: "a".into(), rate: 768_000, lowest: 1000 };
    assert!(options.build().err().unwrap().0.contains("3000 or more"));
}
