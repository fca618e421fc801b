//! WAV: 16, 24 and 32-bit integers and 32-bit floats; 8 bits are widened to 16.

use std::io::Cursor;

use anabranch_pipelines::record::Modality;
use hound::{SampleFormat, WavSpec, WavWriter};

use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm};

pub(super) struct Wav;

impl Codec for Wav {
    fn name(&self) -> &'static str {
        "wav"
    }

    fn modality(&self) -> Modality {
        Modality::Audio
    }

    fn lossless(&self, _: Option<u16>) -> bool {
        true
    }

    fn ladder(&self) -> Option<Ladder> {
        None
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE")
    }

    fn encode(
        &self,
        media: &Media<'_>,
        _: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let Facts::Audio { format, rate, channels, .. } = media.facts else {
            return Err(CodecError("WAV holds sound only".to_owned()));
        };
        let error = |e: hound::Error| CodecError(format!("WAV cannot encode it: {e}"));
        let spec = WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: format.bytes() as u16 * 8,
            sample_format: if format == Pcm::F32 { SampleFormat::Float } else { SampleFormat::Int },
        };
        let mut file = Cursor::new(Vec::with_capacity(media.samples.len() + 64));
        let mut writer = WavWriter::new(&mut file, spec).map_err(error)?;
        match format.integers(media.samples) {
            Some(integers) => {
                integers
                    .into_iter()
                    .try_for_each(|sample| writer.write_sample(sample))
                    .map_err(error)?;
            }
            None => {
                let floats =
                    media.samples.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
                floats
                    .into_iter()
                    .try_for_each(|sample| writer.write_sample(sample))
                    .map_err(error)?;
            }
        }
        writer.finalize().map_err(error)?;
        bytes.extend_from_slice(file.get_ref());
        Ok(())
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let Wave { format, wide, rate, channels, data } = Wave::parse(bytes)?;
        let frame = u64::from(channels) * format.bytes() as u64;
        let stored = usize::from(channels) * if wide { 1 } else { format.bytes() };
        if data.len() % stored != 0 {
            return Err(CodecError::corrupt("WAV", "its last frame is cut off"));
        }
        let frames = (data.len() / stored) as u64;
        limits.check_audio(frames, rate, frame)?;
        if wide {
            // 8-bit samples, the only unsigned ones, become 16-bit ones of the same loudness.
            data.iter().for_each(|byte| format.push((i32::from(*byte) - 128) << 8, samples));
        } else {
            samples.extend_from_slice(data);
        }
        Ok(Facts::Audio { format, rate, channels, frames })
    }
}

/// What a RIFF file says, and its samples.
struct Wave<'a> {
    format: Pcm,
    /// Whether the samples are of 8 bits and become 16.
    wide: bool,
    rate: u32,
    channels: u16,
    data: &'a [u8],
}

const INTEGERS: u16 = 1;
const FLOATS: u16 = 3;
/// The real tag then stands in the extension.
const EXTENSIBLE: u16 = 0xfffe;
/// What programs write that do not know the length when they begin.
const UNTIL_THE_END: u32 = u32::MAX;

impl<'a> Wave<'a> {
    /// Reads the chunks that matter and passes over those of other programs.
    fn parse(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let corrupt = |what: &str| CodecError::corrupt("WAV", what);
        let mut rest = bytes.get(12..).ok_or_else(|| corrupt("no header"))?;
        let mut header = None;
        loop {
            let (name, after) = rest
                .split_first_chunk::<4>()
                .ok_or_else(|| corrupt("it ends before its samples"))?;
            let (length, after) = after
                .split_first_chunk::<4>()
                .ok_or_else(|| corrupt("it ends before its samples"))?;
            let declared = u32::from_le_bytes(*length);
            let length = declared as usize;
            if name == b"data" {
                let (format, wide, rate, channels) =
                    header.ok_or_else(|| corrupt("its samples come before their format"))?;
                let data = match declared {
                    UNTIL_THE_END => Some(after),
                    _ => after.get(..length),
                };
                let data = data.ok_or_else(|| {
                    corrupt(&format!(
                        "it declares {length} bytes of samples and has {}",
                        after.len()
                    ))
                })?;
                return Ok(Self { format, wide, rate, channels, data });
            }
            let chunk = after.get(..length).ok_or_else(|| corrupt("a chunk is cut off"))?;
            if name == b"fmt " {
                header = Some(Self::header(chunk)?);
            }
            // Chunks are padded to even lengths.
            rest = after.get(length + length % 2..).unwrap_or_default();
        }
    }

    fn header(chunk: &[u8]) -> Result<(Pcm, bool, u32, u16), CodecError> {
        let short = || CodecError::corrupt("WAV", "its format is cut off");
        let two = |at: usize| {
            let bytes = chunk.get(at..).and_then(<[u8]>::first_chunk::<2>);
            bytes.map(|bytes| u16::from_le_bytes(*bytes)).ok_or_else(short)
        };
        let rate = chunk.get(4..).and_then(<[u8]>::first_chunk::<4>).ok_or_else(short)?;
        let (channels, bits) = (two(2)?, two(14)?);
        let tag = match two(0)? {
            EXTENSIBLE => two(24)?,
            tag => tag,
        };
        let (format, wide) = match (tag, bits) {
            (INTEGERS, 8) => (Pcm::S16, true),
            (INTEGERS, 9..=16) => (Pcm::S16, false),
            (INTEGERS, 17..=24) => (Pcm::S24, false),
            (INTEGERS, 25..=32) => (Pcm::S32, false),
            (FLOATS, 32) => (Pcm::F32, false),
            _ => {
                return Err(CodecError(format!(
                    "WAV of {bits}-bit samples in format {tag:#06x} is not supported"
                )));
            }
        };
        let frame = usize::from(channels) * if wide { 1 } else { format.bytes() };
        if channels == 0 || usize::from(two(12)?) != frame {
            return Err(CodecError(format!(
                "WAV with {channels} channels of {bits} bits in frames of {} bytes is not supported",
                two(12)?
            )));
        }
        Ok((format, wide, u32::from_le_bytes(*rate), channels))
    }
}
