use proptest::prelude::*;

use super::*;
use crate::random::Random;

/// A picture of soft blobs and a little noise.
fn picture(width: u32, height: u32, channels: u16, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let waves: Vec<[f32; 4]> =
        (0..6).map(|_| [0.3, 0.3, 6.0, 30.0].map(|most| random.uniform() * most)).collect();
    let mut samples = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for channel in 0..channels {
                let wave = |[a, b, phase, high]: &[f32; 4]| {
                    (a * x as f32 + b * y as f32 + phase + f32::from(channel) * 0.4).sin() * high
                };
                let sum: f32 = waves.iter().map(wave).sum();
                samples.push((128.0 + sum + random.normal() * 2.0).clamp(0.0, 255.0) as u8);
            }
        }
    }
    samples
}

/// Tones that fade in and out.
fn sound(frames: usize, channels: usize, seed: u64) -> Vec<i16> {
    let mut random = Random::new(seed);
    let tones: Vec<[f32; 3]> =
        (0..5).map(|_| [0.6, 0.003, 3000.0].map(|most| random.uniform() * most)).collect();
    (0..frames * channels)
        .map(|at| {
            let t = (at / channels) as f32;
            let tone =
                |[pitch, swell, loud]: &[f32; 3]| (t * pitch).sin() * (t * swell).cos() * loud;
            (tones.iter().map(tone).sum::<f32>() + random.normal() * 5.0) as i16
        })
        .collect()
}

fn of_picture(samples: &[u8], width: u32, channels: u16) -> Media<'_> {
    let height = samples.len() as u32 / width.max(1) / u32::from(channels);
    Media::Picture { width, height, channels, samples }
}

fn of_sound(samples: &[i16], channels: u16) -> Media<'_> {
    Media::Sound { rate: 8000, channels, samples }
}

fn pictures(options: Options) -> Vec<u8> {
    let mut fit = Fit::new(options);
    for seed in 0..12 {
        fit.add(&of_picture(&picture(72, 64, 3, seed), 72, 3)).unwrap();
    }
    fit.finish().unwrap().to_bytes().unwrap()
}

fn small() -> Options {
    Options { channels: 24, step: Some(8.0), levels: Some(2), ..Options::default() }
}

fn sounds() -> Vec<u8> {
    let mut fit =
        Fit::new(Options { channels: 40, step: Some(40.0), levels: Some(6), ..Options::default() });
    for seed in 0..6 {
        fit.add(&of_sound(&sound(3000, 1, seed), 1)).unwrap();
    }
    fit.finish().unwrap().to_bytes().unwrap()
}

fn encoded(codec: &Codec, media: &Media<'_>, channels: Option<usize>) -> Vec<u8> {
    let mut record = Vec::new();
    codec.encode(media, channels, &mut Scratch::default(), &mut record).unwrap();
    record
}

fn decoded(codec: &Codec, record: &[u8], channels: Option<usize>) -> Result<Vec<u8>, LatentError> {
    let mut samples = Vec::new();
    codec.decode_part(record, channels, &mut Scratch::default(), &mut samples)?;
    Ok(samples)
}

fn psnr(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    let error = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mean = one.iter().zip(other).map(error).sum::<f64>() / one.len() as f64;
    10.0 * (255.0_f64.powi(2) / mean.max(1e-9)).log10()
}

#[test]
fn unseen_pictures_come_back_close_and_fewer_channels_are_fewer_bytes() {
    let codec = Codec::from_bytes(&pictures(small())).unwrap();
    let original = picture(150, 93, 3, 99);
    let media = of_picture(&original, 150, 3);
    let record = encoded(&codec, &media, None);
    let likeness = psnr(&original, &decoded(&codec, &record, None).unwrap());
    assert!(likeness > 37.0, "{likeness}");
    assert!(record.len() * 8 < original.len(), "{} of {}", record.len(), original.len());
    let (mut bytes, mut last) = (0, 0.0);
    for channels in [1, 4, 12, 24] {
        let part = encoded(&codec, &media, Some(channels));
        let likeness = psnr(&original, &decoded(&codec, &part, None).unwrap());
        assert!(part.len() > bytes && likeness > last, "{channels}: {} {likeness}", part.len());
        // The first channels of the whole record are the same.
        assert_eq!(
            decoded(&codec, &record, Some(channels)).unwrap(),
            decoded(&codec, &part, None).unwrap()
        );
        (bytes, last) = (part.len(), likeness);
    }
}

#[test]
fn every_channel_at_a_small_step_is_nearly_lossless() {
    let options = Options { channels: 48, step: Some(1.0), levels: Some(2), ..Options::default() };
    let codec = Codec::from_bytes(&pictures(options)).unwrap();
    let original = picture(64, 40, 3, 5);
    let record = encoded(&codec, &of_picture(&original, 64, 3), None);
    let likeness = psnr(&original, &decoded(&codec, &record, None).unwrap());
    assert!(likeness > 48.0, "{likeness}");
}

#[test]
fn sounds_come_back_close() {
    let codec = Codec::from_bytes(&sounds()).unwrap();
    for frames in [1, 63, 64, 65, 5000] {
        let original = sound(frames, 1, 77);
        let record = encoded(&codec, &of_sound(&original, 1), None);
        let bytes = decoded(&codec, &record, None).unwrap();
        let back: Vec<f64> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| f64::from(i16::from_le_bytes(*bytes)))
            .collect();
        assert_eq!(back.len(), frames);
        let power: f64 = original.iter().map(|x| f64::from(*x).powi(2)).sum();
        let error: f64 = original.iter().zip(&back).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        let ratio = 10.0 * (power / error.max(1.0)).log10();
        assert!(frames < 100 || ratio > 25.0, "{frames}: {ratio}");
    }
}

#[test]
fn every_instruction_set_gives_the_same_bytes_and_samples() {
    let file = pictures(small());
    let original = picture(83, 61, 3, 31);
    let sets = Level::available().into_iter().map(|level| {
        let codec = Codec::from_bytes(&file).unwrap().at(level);
        let record = encoded(&codec, &of_picture(&original, 83, 3), None);
        let samples = decoded(&codec, &record, None).unwrap();
        (record, samples)
    });
    let sets: Vec<_> = sets.collect();
    assert!(sets.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_fit_is_the_same_file_again() {
    let file = pictures(small());
    assert_eq!(artifact::hash(&file), artifact::hash(&pictures(small())));
    let again = Artifact::from_bytes(&file).unwrap();
    assert_eq!(again.to_bytes().unwrap(), file);
}

#[test]
fn black_tiny_loud_and_silent_media_come_back() {
    let codec = Codec::from_bytes(&pictures(small())).unwrap();
    let black = vec![0; 96 * 40 * 3];
    let record = encoded(&codec, &of_picture(&black, 96, 3), None);
    assert!(psnr(&black, &decoded(&codec, &record, None).unwrap()) > 25.0);
    for (width, height) in [(1, 1), (1, 9), (17, 1), (3, 5)] {
        for level in [0_u8, 90, 255] {
            let flat = vec![level; (width * height * 3) as usize];
            let record = encoded(&codec, &of_picture(&flat, width, 3), None);
            let likeness = psnr(&flat, &decoded(&codec, &record, None).unwrap());
            assert!(likeness > 25.0, "{width} x {height} of {level}: {likeness}");
        }
    }
    let codec = Codec::from_bytes(&sounds()).unwrap();
    let silence = vec![0_i16; 4000];
    let record = encoded(&codec, &of_sound(&silence, 1), None);
    // The codec never heard silence.
    assert!(record.len() < 4000 * 2 / 8, "{}", record.len());
    let back = decoded(&codec, &record, None).unwrap();
    let numbers = back.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes));
    assert_eq!(numbers.map(i16::unsigned_abs).max(), Some(0));
    // As loud as it gets, and louder than all that the codec was made from.
    let clipped: Vec<i16> =
        (0..4000).map(|at| if at / 20 % 2 == 0 { 32_767 } else { -32_768 }).collect();
    let record = encoded(&codec, &of_sound(&clipped, 1), None);
    assert_eq!(decoded(&codec, &record, None).unwrap().len(), 8000);
}

#[test]
fn grey_pictures_fit_a_codec_of_colours() {
    let codec = Codec::from_bytes(&pictures(small())).unwrap();
    let original = picture(64, 48, 1, 40);
    let record = encoded(&codec, &of_picture(&original, 64, 1), None);
    assert!(psnr(&original, &decoded(&codec, &record, None).unwrap()) > 30.0);
}

#[test]
fn media_of_other_kinds_and_channels_are_told() {
    let codec = Codec::from_bytes(&pictures(small())).unwrap();
    let told = |media: Media<'_>| {
        let error = codec.encode(&media, None, &mut Scratch::default(), &mut Vec::new());
        error.unwrap_err().to_string()
    };
    assert!(told(of_sound(&[0; 10], 1)).contains("Picture"));
    assert!(told(of_picture(&[0; 16], 2, 4)).contains("4 channels"));
    assert!(told(of_picture(&[], 0, 3)).contains("samples"));
    let cut = Media::Picture { width: 4, height: 4, channels: 3, samples: &[0; 47] };
    assert!(told(cut).contains("47 samples"));
}

#[test]
fn another_codec_and_damaged_files_are_told() {
    let file = pictures(small());
    let codec = Codec::from_bytes(&file).unwrap();
    let other = Codec::from_bytes(&pictures(Options { channels: 5, ..small() })).unwrap();
    let original = picture(20, 20, 3, 1);
    let record = encoded(&codec, &of_picture(&original, 20, 3), None);
    let error = decoded(&other, &record, None).unwrap_err().to_string();
    assert!(
        error.contains(&digits(codec.name())) && error.contains(&digits(other.name())),
        "{error}"
    );
    for (from, to) in [("\\\"format\\\":1", "\\\"format\\\":7"), ("predictors", "predictorz")] {
        let text: Vec<u8> = file.clone();
        let at = text.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut changed = text;
        changed[at..at + to.len()].copy_from_slice(to.as_bytes());
        let error = Artifact::from_bytes(&changed).unwrap_err().to_string();
        assert!(error.contains("format 7") || error.contains("predictors"), "{error}");
    }
    for bytes in [&b""[..], b"not a codec", &file[..file.len() / 2]] {
        assert!(Artifact::from_bytes(bytes).is_err());
    }
}

#[test]
fn nothing_to_learn_from_and_impossible_options_are_told() {
    let told = |options: Options, sample: bool| {
        let mut fit = Fit::new(options);
        if sample {
            fit.add(&of_picture(&picture(16, 16, 1, 1), 16, 1)).unwrap();
        }
        fit.finish().unwrap_err().to_string()
    };
    assert!(told(small(), false).contains("no record"));
    assert!(told(Options { channels: 200, ..small() }, true).contains("1 to 16"));
    assert!(told(Options { levels: Some(9), ..small() }, true).contains("coefficients"));
    assert!(told(Options { channels: 4, step: Some(-1.0), ..small() }, true).contains("above 0"));
    let mut fit = Fit::new(small());
    assert!(fit.add(&of_picture(&[0; 8], 2, 4)).is_err());
    fit.add(&of_sound(&[0; 8], 1)).unwrap();
    assert!(fit.add(&of_picture(&[0; 4], 2, 1)).is_err());
}

#[test]
fn a_codec_learned_from_black_still_codes() {
    let mut fit = Fit::new(Options::default());
    fit.add(&of_picture(&[0; 64 * 64], 64, 1)).unwrap();
    let codec = Codec::from_bytes(&fit.finish().unwrap().to_bytes().unwrap()).unwrap();
    for samples in [vec![0; 400], picture(20, 20, 1, 3)] {
        let record = encoded(&codec, &of_picture(&samples, 20, 1), None);
        assert_eq!(decoded(&codec, &record, None).unwrap().len(), 400);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_records_are_errors_and_never_panic(
        flip in any::<prop::sample::Index>(),
        bit in 0_u8..8,
        keep in any::<prop::sample::Index>(),
    ) {
        use std::sync::OnceLock;
        static CODEC: OnceLock<(Codec, Vec<u8>)> = OnceLock::new();
        let (codec, record) = CODEC.get_or_init(|| {
            let codec = Codec::from_bytes(&pictures(small())).unwrap();
            let original = picture(40, 40, 3, 8);
            let record = encoded(&codec, &of_picture(&original, 40, 3), None);
            (codec, record)
        });
        let mut damaged = record.clone();
        let at = flip.index(record.len());
        damaged[at] ^= 1 << bit;
        // A header may declare sizes for which room must not be made here.
        let small = Header::parse(&damaged).is_ok_and(|(header, _)| header.extent.samples() < 1 << 20);
        prop_assert!(!small || decoded(codec, &damaged, None).is_err(), "byte {at}");
        prop_assert!(decoded(codec, &record[..keep.index(record.len())], None).is_err());
        let _ = small.then(|| decoded(codec, &damaged, Some(3)));
    }
}

/// A codec of the pictures of [`pictures`], trained.
fn trained(decoder: Decoder, steps: u64, seed: u64) -> Vec<u8> {
    pictures(Options { training: Training { steps, decoder, seed }, ..small() })
}

#[test]
fn a_training_is_the_same_file_again_and_another_seed_is_another() {
    for decoder in [Decoder::Linear, Decoder::Adversarial] {
        let file = trained(decoder, 4, 7);
        assert!(file == trained(decoder, 4, 7));
        assert!(file != trained(decoder, 4, 8));
        let again = Artifact::from_bytes(&file).unwrap();
        assert_eq!((again.card().decoder, again.card().trained), (decoder, 4));
        assert!(again.to_bytes().unwrap() == file);
    }
}

#[test]
fn what_is_stored_does_not_depend_on_the_decoder() {
    let original = picture(70, 50, 3, 77);
    let made = [Decoder::Linear, Decoder::Residual].map(|decoder| {
        let codec = Codec::from_bytes(&trained(decoder, 4, 3)).unwrap();
        let record = encoded(&codec, &of_picture(&original, 70, 3), None);
        let latents = codec.latents(&record, None, &mut Scratch::default()).unwrap().1;
        let few = decoded(&codec, &record, Some(4)).unwrap();
        (latents, few, decoded(&codec, &record, None).unwrap())
    });
    let [(linear, few, all), (residual, few_again, corrected)] = made;
    // A part of the channels is decoded linearly by both.
    assert_eq!((linear, few), (residual, few_again));
    assert!(all != corrected);
}

#[test]
fn sounds_are_trained_and_corrected_too() {
    let training = Training { steps: 60, decoder: Decoder::Residual, seed: 1 };
    let fitted = |training| {
        let levels = Some(5);
        let options = Options { channels: 12, step: Some(200.0), levels, training };
        let mut fit = Fit::new(options);
        for seed in 0..6 {
            fit.add(&of_sound(&sound(6000, 1, seed), 1)).unwrap();
        }
        Codec::from_bytes(&fit.finish().unwrap().to_bytes().unwrap()).unwrap()
    };
    let original = sound(6000, 1, 3);
    let error = |codec: &Codec| {
        let record = encoded(codec, &of_sound(&original, 1), None);
        let back = decoded(codec, &record, None).unwrap();
        let back = back.as_chunks::<2>().0.iter().map(|two| f64::from(i16::from_le_bytes(*two)));
        let squares = original.iter().zip(back).map(|(a, b)| (f64::from(*a) - b).powi(2));
        squares.sum::<f64>()
    };
    let (before, after) = (fitted(Training::default()), fitted(training));
    assert!(error(&after) < error(&before), "{} {}", error(&after), error(&before));
    // Silence stays what a decoder makes of nothing, and of the same length.
    let silence = encoded(&after, &of_sound(&[0; 100], 1), None);
    assert_eq!(decoded(&after, &silence, None).unwrap().len(), 200);
}

#[test]
fn decoders_that_are_missing_or_do_not_fit_are_told() {
    let untrained = Training { steps: 0, decoder: Decoder::Residual, seed: 1 };
    let mut fit = Fit::new(Options { training: untrained, ..small() });
    fit.add(&of_picture(&picture(16, 16, 3, 1), 16, 3)).unwrap();
    assert!(fit.finish().unwrap_err().to_string().contains("gradient steps"));
    let file = trained(Decoder::Residual, 1, 1);
    let parts = Artifact::from_bytes(&file).unwrap();
    let [analysis, synthesis] = [parts.analysis(), parts.synthesis()].map(Clone::clone);
    let with = |residual| {
        let distributions = parts.distributions().clone();
        let (analysis, synthesis) = (analysis.clone(), synthesis.clone());
        Artifact::new(parts.card().clone(), analysis, synthesis, distributions, residual)
    };
    assert!(with(None).unwrap_err().to_string().contains("not in it"));
    let mut other = parts.residual().cloned().unwrap();
    other.leave.bias.pop();
    assert!(with(Some(other)).is_err());
    let mut infinite = parts.residual().cloned().unwrap();
    infinite.enter.weight[0] = f32::NAN;
    assert!(with(Some(infinite)).is_err());
    let mut renamed = file.clone();
    let at = renamed.windows(14).position(|window| window == b"decoder.leave.").unwrap();
    renamed[at] = b'e';
    let error = Artifact::from_bytes(&renamed).unwrap_err().to_string();
    assert!(error.contains("decoder.leave"), "{error}");
}
