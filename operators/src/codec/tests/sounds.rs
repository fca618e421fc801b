//! Sounds as other programs store them; `make.py` made the files.

use std::f64::consts::TAU;

use super::super::*;
use crate::conformance::codec::{Example, check_decoder, snr};

const RATE: u32 = 16_000;
const FRAMES: u64 = 8000;

const MONO_MP3: &[u8] = include_bytes!("mono.mp3");
const STEREO_MP3: &[u8] = include_bytes!("stereo.mp3");
const MONO_OGG: &[u8] = include_bytes!("mono.ogg");
const STEREO_OGG: &[u8] = include_bytes!("stereo.ogg");
const STEREO_OPUS: &[u8] = include_bytes!("stereo.opus");
const MONO_AAC: &[u8] = include_bytes!("mono.aac");
const STEREO_M4A: &[u8] = include_bytes!("stereo.m4a");
const FRONT_M4A: &[u8] = include_bytes!("front.m4a");

/// What is in every one of the files.
fn tones(channels: u16) -> Vec<f32> {
    let tone = |at: u64| {
        let time = at as f64 / f64::from(RATE);
        0.4 * (TAU * 440.0 * time).sin() + 0.2 * (TAU * 880.0 * time).sin()
    };
    let frame = |at| (0..channels).map(move |channel| tone(at) / f64::from(channel + 1));
    (0..FRAMES).flat_map(frame).map(|sample| sample as f32).collect()
}

fn decode(bytes: &[u8]) -> Result<Example, CodecError> {
    let mut samples = Vec::new();
    let facts = sniff(bytes).unwrap().decode(bytes, &Limits::default(), &mut samples)?;
    Ok(Example { samples, facts })
}

#[test]
fn every_file_passes_the_suite_and_is_what_was_stored_frame_by_frame() {
    let files = [
        ("mp3", MONO_MP3, 1, 0),
        ("mp3", STEREO_MP3, 2, 0),
        ("ogg", MONO_OGG, 1, 0),
        ("ogg", STEREO_OGG, 2, 0),
        ("opus", STEREO_OPUS, 2, 0),
        // Such a stream does not say how much silence its encoder put before the sound.
        ("aac", MONO_AAC, 1, 1024),
        ("m4a", STEREO_M4A, 2, 0),
        ("m4a", FRONT_M4A, 1, 0),
    ];
    for (name, bytes, channels, silence) in files {
        assert_eq!(sniff(bytes).map(Codec::name), Some(name));
        let decoded = check_decoder(named(name).unwrap(), bytes);
        let Example { samples, facts } = decoded.unwrap_or_else(|failure| panic!("{failure}"));
        let frames = if silence > 0 { 9 * 1024 } else { FRAMES };
        assert_eq!(
            facts,
            Facts::Audio { format: Pcm::S16, rate: RATE, channels, frames },
            "{name}"
        );
        let floats = Pcm::S16.floats(&samples);
        let likeness = snr(&tones(channels), &floats[silence * usize::from(channels)..]);
        assert!(likeness > 15.0, "{name} of {channels} channels comes back with {likeness:.1} dB");
    }
}

#[test]
fn mp3_with_tags_around_it_is_the_same() {
    let whole = decode(MONO_MP3).unwrap();
    let mut tagged = b"ID3\x03\0\0\0\0\x01\x04".to_vec();
    // A tag of 132 bytes, the zeros of a program that left room, and a tag of the first version.
    tagged.extend([7; 132]);
    tagged.extend([0; 1000]);
    tagged.extend(MONO_MP3);
    tagged.extend(b"TAG");
    tagged.extend([b' '; 125]);
    assert_eq!(decode(&tagged).unwrap(), whole);
}

#[test]
fn mp3_that_lost_whole_frames_or_has_others_between_them_is_refused() {
    // Frames of 48 kbit/s at 16 kHz take 216 bytes.
    let error = decode(&MONO_MP3[..MONO_MP3.len() - 216]).unwrap_err();
    assert!(error.0.contains("declares 16 frames and holds 15"), "{error}");
    let error = decode(&MONO_MP3[..MONO_MP3.len() - 100]).unwrap_err();
    assert!(error.0.contains("cut off in the frame"), "{error}");
    let mut torn = MONO_MP3.to_vec();
    torn.splice(2000..2003, []);
    let error = decode(&torn).unwrap_err();
    assert!(error.0.contains("begins no frame"), "{error}");
}

#[test]
fn mp3_without_the_tag_of_its_encoder_keeps_the_silence_around_its_sound() {
    let first = MONO_MP3.windows(4).position(|four| four == b"Info").unwrap() - 13;
    let Facts::Audio { frames, .. } = decode(&MONO_MP3[first + 216..]).unwrap().facts else {
        panic!("no sound")
    };
    assert_eq!(frames, 16 * 576);
}

#[test]
fn ogg_with_two_streams_or_without_its_end_is_refused() {
    let error = decode(&[MONO_OGG, STEREO_OGG].concat()).unwrap_err();
    assert!(error.0.contains("several streams"), "{error}");
    let page = MONO_OGG.windows(4).rposition(|four| four == b"OggS").unwrap();
    let error = decode(&MONO_OGG[..page]).unwrap_err();
    assert!(error.0.contains("last page is missing"), "{error}");
    let error = decode(&MONO_OGG[..page + 100]).unwrap_err();
    assert!(error.0.contains("cut off in one of its pages"), "{error}");
    let mut flipped = MONO_OGG.to_vec();
    flipped[page + 100] ^= 1;
    let error = decode(&flipped).unwrap_err();
    assert!(error.0.contains("checksum"), "{error}");
}

#[test]
fn opus_keeps_frames_of_all_rates_and_bitrates_change_its_size() {
    let sound = |rate: u32, channels: u16, bitrate: Option<u16>| {
        let example = Example::sound(Pcm::F32, channels, u64::from(rate / 4) + 1);
        let Facts::Audio { format, frames, .. } = example.facts else { unreachable!() };
        let facts = Facts::Audio { format, rate, channels, frames };
        let mut bytes = Vec::new();
        let media = Media { samples: &example.samples, facts };
        named("opus").unwrap().encode(&media, bitrate, &mut bytes).map(|()| (bytes, frames))
    };
    for rate in [8000, 12_000, 16_000, 24_000, 48_000] {
        for channels in [1, 2] {
            let (bytes, frames) = sound(rate, channels, None).unwrap();
            let expected = Facts::Audio { format: Pcm::S16, rate, channels, frames };
            assert_eq!(decode(&bytes).unwrap().facts, expected);
        }
    }
    let [small, large] = [12, 128].map(|rate| sound(48_000, 1, Some(rate)).unwrap().0.len());
    assert!(small * 3 < large, "{small} and {large} bytes");
    let error = sound(44_100, 1, None).unwrap_err();
    assert!(error.0.contains("44100 Hz; `resample`"), "{error}");
    let error = sound(48_000, 3, None).unwrap_err();
    assert!(error.0.contains("not 3; use `mono`"), "{error}");
}

#[test]
fn m4a_is_not_taken_for_a_picture_nor_a_picture_for_it() {
    let mut avif = FRONT_M4A.to_vec();
    avif[8..12].copy_from_slice(b"avif");
    assert!(sniff(&avif).is_none());
    let mut lost = FRONT_M4A.to_vec();
    let contents = lost.windows(4).position(|four| four == b"moov").unwrap();
    lost[contents..contents + 4].copy_from_slice(b"free");
    let error = decode(&lost).unwrap_err();
    assert!(error.0.contains("table of contents is missing"), "{error}");
}
