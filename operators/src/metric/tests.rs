//! Against numbers that scikit-image 0.26 (PSNR, SSIM) and formulas in numpy 2.4 (all others but SSIMULACRA2) gave for
//! the same media, and against what follows on paper.

use super::*;
use crate::codec::Pcm;

const fn facts(width: u32, height: u32, channels: u8) -> Facts {
    Facts::Image { width, height, channels }
}

fn picture(facts: Facts, sample: impl Fn(u32, u32, u32) -> u32) -> Vec<u8> {
    let Facts::Image { width, height, channels } = facts else { panic!() };
    let mut samples = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        samples.extend((0..u32::from(channels)).map(|k| sample(x, y, k) as u8));
    }
    samples
}

fn rough(facts: Facts) -> Vec<u8> {
    picture(facts, |x, y, k| (x * x * 3 + y * y * 5 + x * y * 7 + k * 41 + x / 5 * 29) % 256)
}

fn smooth(facts: Facts) -> Vec<u8> {
    picture(facts, |x, y, k| (x * 2 + y * 3 + k * 50 + (x * y / 16) % 40) % 200)
}

/// The picture with noise.
fn worse(facts: Facts, samples: &[u8]) -> Vec<u8> {
    let noise = picture(facts, |x, y, k| (x * 13 + y * 7 + k * 3) % 23);
    let with = |(s, n): (&u8, u8)| (i32::from(*s) + i32::from(n) - 11).clamp(0, 255) as u8;
    samples.iter().zip(noise).map(with).collect()
}

/// PSNR, SSIM and MS-SSIM of a picture and its worse twin.
fn measured(facts: Facts, samples: &[u8]) -> [f64; 3] {
    let worse = worse(facts, samples);
    let (original, decoded) = (Media { samples, facts }, Media { samples: &worse, facts });
    [psnr, ssim, ms_ssim].map(|metric| metric(&original, &decoded).unwrap())
}

fn near(found: &[f64], expected: &[f64], within: f64) {
    let far = found.iter().zip(expected).any(|(a, b)| (a - b).abs() > within);
    assert!(!far && found.len() == expected.len(), "{found:?}, not {expected:?}");
}

#[test]
fn pictures_measure_what_scikit_image_measures() {
    let (a, b, c) = (facts(48, 40, 3), facts(33, 21, 1), facts(200, 180, 3));
    let expected = [31.792_158_062_874_89, 0.996_008_372_173_332, 0.997_949_933_931_188];
    near(&measured(a, &rough(a)), &expected, 1e-9);
    let expected = [31.721_273_717_356_18, 0.786_345_820_470_704, 0.786_345_820_470_704];
    near(&measured(b, &smooth(b)), &expected, 1e-9);
    let expected = [31.763_687_069_025_75, 0.916_863_819_406_541, 0.994_143_938_159_199];
    near(&measured(c, &smooth(c)), &expected, 1e-9);
}

#[test]
fn identical_pictures_are_identical_at_every_size() {
    for (width, height, channels) in [(1, 1, 3), (1, 40, 1), (7, 5, 3), (11, 11, 4), (12, 300, 1)] {
        let facts = facts(width, height, channels);
        let samples = rough(facts);
        let media = Media { samples: &samples, facts };
        assert_eq!(psnr(&media, &media), Ok(f64::INFINITY));
        near(&[ssim(&media, &media).unwrap(), ms_ssim(&media, &media).unwrap()], &[1.0; 2], 1e-12);
    }
}

#[test]
fn a_single_pixel_is_compared_by_its_brightness() {
    let facts = facts(1, 1, 1);
    let (one, other) = (Media { samples: &[200], facts }, Media { samples: &[100], facts });
    let expected = (2.0 * 200.0 * 100.0 + 6.5025) / (200.0 * 200.0 + 100.0 * 100.0 + 6.5025);
    near(&[ssim(&one, &other).unwrap(), ms_ssim(&one, &other).unwrap()], &[expected; 2], 1e-12);
    near(&[psnr(&one, &other).unwrap()], &[20.0 * 2.55_f64.log10()], 1e-12);
    let small = Err(MetricError::TooSmall { metric: "SSIMULACRA2", least: "8 x 8 pixels" });
    assert_eq!(ssimulacra2(&one, &other), small);
}

#[test]
fn ssimulacra2_is_100_for_identical_pictures_and_falls_with_noise() {
    let facts = facts(64, 48, 3);
    let original = smooth(facts);
    let noisy = worse(facts, &original);
    let (original, noisy) = (Media { samples: &original, facts }, Media { samples: &noisy, facts });
    near(&[ssimulacra2(&original, &original).unwrap()], &[100.0], 1e-6);
    let fallen = ssimulacra2(&original, &noisy).unwrap();
    assert!((0.0..80.0).contains(&fallen), "{fallen}");
}

#[test]
fn unlike_media_are_not_compared() {
    let (wide, high) = (facts(2, 1, 1), facts(1, 2, 1));
    let (one, other) =
        (Media { samples: &[0; 2], facts: wide }, Media { samples: &[0; 2], facts: high });
    assert!(matches!(psnr(&one, &other), Err(MetricError::Unlike { .. })));
    assert!(matches!(si_sdr(&one, &one), Err(MetricError::Modality { .. })));
    let none = Media { samples: &[], facts: facts(0, 0, 3) };
    assert!(matches!(ssim(&none, &none), Err(MetricError::TooSmall { .. })));
    let cut = Media { samples: &[0; 3], facts: wide };
    assert!(matches!(psnr(&cut, &cut), Err(MetricError::Unlike { .. })));
}

const FRAMES: i64 = 4_000;

fn sound(samples: impl Iterator<Item = f64>) -> (Vec<u8>, Facts) {
    let mut bytes = Vec::new();
    samples.for_each(|sample| Pcm::S16.push(sample as i32, &mut bytes));
    let frames = bytes.len() as u64 / 2;
    (bytes, Facts::Audio { format: Pcm::S16, rate: 8000, channels: 1, frames })
}

fn tone(t: i64) -> f64 {
    let turn = std::f64::consts::TAU * t as f64 / 8000.0;
    let fading = (-t as f64 / 3000.0).exp();
    (12_000.0 * (440.0 * turn).sin() * fading + 3000.0 * (1250.0 * turn).sin()).round_ties_even()
}

fn quieter(t: i64) -> f64 {
    (0.8 * tone(t)).round_ties_even() + ((t * t * 31 + t * 17) % 401 - 200) as f64
}

#[test]
fn sounds_measure_what_numpy_measures_also_when_they_come_late() {
    let (original, facts) = sound((0..FRAMES).map(tone));
    let original = Media { samples: &original, facts };
    for late in [0, 123] {
        let silence = std::iter::repeat_n(0.0, late);
        let (decoded, facts) = sound(silence.chain((0..FRAMES).map(quieter)));
        let decoded = Media { samples: &decoded, facts };
        near(&[si_sdr(&original, &decoded).unwrap()], &[31.335_569_318_038_62], 1e-4);
        near(
            &[log_spectral_distance(&original, &decoded).unwrap()],
            &[42.686_349_196_672_37],
            1e-3,
        );
        // The other way round it is early.
        assert!(si_sdr(&decoded, &original).unwrap() > 31.0);
    }
}

#[test]
fn silence_and_what_is_no_number_are_told() {
    let (quiet, facts) = sound((0..FRAMES).map(|_| 0.0));
    let (loud, _) = sound((0..FRAMES).map(tone));
    let (quiet, loud) = (Media { samples: &quiet, facts }, Media { samples: &loud, facts });
    assert_eq!(si_sdr(&loud, &loud), Ok(f64::INFINITY));
    assert_eq!(si_sdr(&loud, &quiet), Ok(f64::NEG_INFINITY));
    assert_eq!(si_sdr(&quiet, &loud), Ok(f64::NEG_INFINITY));
    assert_eq!(si_sdr(&quiet, &quiet), Err(MetricError::Silent));
    assert_eq!(log_spectral_distance(&quiet, &quiet), Ok(0.0));
    assert_eq!(log_spectral_distance(&loud, &loud), Ok(0.0));
    let facts = Facts::Audio { format: Pcm::F32, rate: 8000, channels: 1, frames: 1 };
    let nan = Media { samples: &f32::NAN.to_le_bytes(), facts };
    assert_eq!(si_sdr(&nan, &nan), Err(MetricError::NotFinite { at: 0 }));
    // A single frame is one window with silence behind it.
    let one = Media { samples: &0.5_f32.to_le_bytes(), facts };
    assert_eq!(log_spectral_distance(&one, &one), Ok(0.0));
    assert_eq!(si_sdr(&one, &one), Ok(f64::INFINITY));
}
