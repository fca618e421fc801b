//! Codecs against the suite, and against what files in the wild look like.

use super::*;
use crate::conformance::codec::{Example, check, examples};
use std::io::Cursor;

mod sounds;

#[test]
fn every_codec_passes_the_conformance_suite() {
    for codec in encoders() {
        check(codec, &examples(codec)).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn codecs_hold_the_channels_and_formats_that_they_say() {
    let cases = [
        ("jpeg", vec![Example::picture(20, 10, 1)]),
        ("png", vec![Example::picture(20, 10, 1), Example::picture(20, 10, 4)]),
        ("webp", vec![Example::picture(20, 10, 4)]),
        ("qoi", vec![Example::picture(20, 10, 4)]),
        ("wav", vec![Example::sound(Pcm::F32, 2, 300), Example::sound(Pcm::S32, 1, 300)]),
        ("flac", vec![Example::sound(Pcm::S32, 1, 300), Example::sound(Pcm::S24, 2, 300)]),
    ];
    for (name, examples) in cases {
        check(named(name).unwrap(), &examples).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

fn decode(bytes: &[u8]) -> Result<(Vec<u8>, Facts), CodecError> {
    let mut samples = Vec::new();
    let facts = sniff(bytes).unwrap().decode(bytes, &Limits::default(), &mut samples)?;
    assert_eq!(samples.len() as u64, facts.bytes());
    Ok((samples, facts))
}

fn png(colour: ::png::ColorType, depth: ::png::BitDepth, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, 2, 2);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == ::png::ColorType::Indexed {
        encoder.set_palette(vec![1, 2, 3, 40, 50, 60]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn png_of_any_colour_and_depth() {
    use ::png::{BitDepth, ColorType};
    let image = |channels| Facts::Image { width: 2, height: 2, channels };
    let wide = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0];
    let grey16 = png(ColorType::Grayscale, BitDepth::Sixteen, &wide);
    assert_eq!(decode(&grey16).unwrap(), (vec![0x12, 0x56, 0x9a, 0xde], image(1)));
    let bits = png(ColorType::Grayscale, BitDepth::One, &[0b1000_0000, 0b0100_0000]);
    assert_eq!(decode(&bits).unwrap(), (vec![255, 0, 0, 255], image(1)));
    let alpha = png(ColorType::GrayscaleAlpha, BitDepth::Eight, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let spread = vec![1, 1, 1, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7, 7, 7, 8];
    assert_eq!(decode(&alpha).unwrap(), (spread, image(4)));
    let palette = png(ColorType::Indexed, BitDepth::Eight, &[0, 1, 1, 0]);
    let colours = vec![1, 2, 3, 40, 50, 60, 40, 50, 60, 1, 2, 3];
    assert_eq!(decode(&palette).unwrap(), (colours, image(3)));
}

#[test]
fn jpeg_progressive_cmyk_and_with_more_behind_its_end() {
    let Example { samples, facts } = Example::picture(33, 21, 3);
    let encode = |progressive: bool| {
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
        encoder.set_progressive(progressive);
        encoder.encode(&samples, 33, 21, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    };
    let baseline = decode(&encode(false)).unwrap();
    assert_eq!(baseline.1, facts);
    assert_eq!(decode(&encode(true)).unwrap(), baseline);
    let mut padded = encode(false);
    padded.extend(b"more, as some cameras write");
    assert_eq!(decode(&padded).unwrap(), baseline);

    let mut cmyk = Vec::new();
    let white = [0u8; 16 * 16 * 4];
    jpeg_encoder::Encoder::new(&mut cmyk, 90)
        .encode(&white, 16, 16, jpeg_encoder::ColorType::Cmyk)
        .unwrap();
    let (pixels, facts) = decode(&cmyk).unwrap();
    assert_eq!(facts, Facts::Image { width: 16, height: 16, channels: 3 });
    assert!(pixels.iter().all(|sample| *sample > 250), "{:?}", &pixels[..3]);
}

#[test]
fn wav_of_8_bits_and_with_chunks_of_other_programs() {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 8,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    [-128, 0, 127].into_iter().for_each(|sample: i32| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    let bytes = file.into_inner();
    let (samples, facts) = decode(&bytes).unwrap();
    let Facts::Audio { format: Pcm::S16, frames: 3, .. } = facts else { panic!("{facts:?}") };
    assert_eq!(Pcm::S16.integers(&samples).unwrap(), [-32768, 0, 127 << 8]);

    // A chunk of odd length (it is padded) before the samples, and one behind them.
    let at = bytes.windows(4).position(|name| name == b"data").unwrap();
    let mut more = bytes[..at].to_vec();
    more.extend(b"LIST\x05\0\0\0INFOx\0");
    more.extend(&bytes[at..]);
    more.extend(b"\0note\x02\0\0\0hi");
    assert_eq!(decode(&more).unwrap().0, samples);
}

#[test]
fn an_animated_webp_is_refused_by_name() {
    let mut bytes = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00".to_vec();
    bytes.extend([0b10, 0, 0, 0, 9, 0, 0, 9, 0, 0]);
    bytes.extend(b"ANIM\x06\x00\x00\x00\0\0\0\0\0\0");
    let size = (bytes.len() - 8) as u32;
    bytes[4..8].copy_from_slice(&size.to_le_bytes());
    let error = decode(&bytes).unwrap_err();
    assert!(error.0.contains("animated"), "{error}");
}

#[test]
fn sixty_thousand_pixels_square_in_a_hundred_bytes_are_refused_at_once() {
    let mut png = png(::png::ColorType::Rgb, ::png::BitDepth::Eight, &[0; 12]);
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut crc = crc32(&png[12..29]).to_be_bytes();
    png[29..33].swap_with_slice(&mut crc);
    let error = decode(&png).unwrap_err();
    assert!(error.0.contains("60000 x 60000"), "{error}");
}

/// CRC-32 as PNG has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}
