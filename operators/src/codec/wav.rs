//! WAV: 16, 24 and 32-bit integers and 32-bit floats; 8 bits are widened to 16.

use std::io::{self, Seek, SeekFrom, Write};

use anabranch_pipelines::record::Modality;
use hound::{SampleFormat, WavSpec, WavWriter};

use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm};

pub(super) struct Wav;

/// Bytes of a header, at most.
const HEADER: usize = 68;

/// A file behind what a buffer already holds: headers are written again once the length is known.
struct Tail<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    at: usize,
}

impl<'a> Tail<'a> {
    fn of(bytes: &'a mut Vec<u8>) -> Self {
        Self { start: bytes.len(), at: bytes.len(), bytes }
    }
}

impl Write for Tail<'_> {
    // Called for every sample.
    #[inline]
    fn write(&mut self, new: &[u8]) -> io::Result<usize> {
        if self.at == self.bytes.len() {
            self.bytes.extend_from_slice(new);
            self.at += new.len();
            return Ok(new.len());
        }
        let (over, more) = new.split_at(new.len().min(self.bytes.len() - self.at));
        if let Some(there) = self.bytes.get_mut(self.at..self.at + over.len()) {
            there.copy_from_slice(over);
        }
        self.bytes.extend_from_slice(more);
        self.at += new.len();
        Ok(new.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Tail<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let file = (self.bytes.len() - self.start) as u64;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => file.checked_add_signed(by),
            SeekFrom::Current(by) => ((self.at - self.start) as u64).checked_add_signed(by),
        };
        let at = at.filter(|at| *at <= file).ok_or(io::ErrorKind::InvalidInput)?;
        self.at = self.start + at as usize;
        Ok(at)
    }
}

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
        let long = || CodecError("WAV holds no more than 4 GiB".to_owned());
        let spec = WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: format.bytes() as u16 * 8,
            sample_format: if format == Pcm::F32 { SampleFormat::Float } else { SampleFormat::Int },
        };
        bytes.reserve(media.samples.len() + HEADER);
        let mut writer = WavWriter::new(Tail::of(bytes), spec).map_err(error)?;
        let samples = media.samples;
        match format {
            // One write for all of them; other widths have no such writer.
            Pcm::S16 => {
                let samples = samples.as_chunks::<2>().0;
                let count = u32::try_from(samples.len());
                let mut all = writer.get_i16_writer(count.map_err(|_| long())?);
                samples.iter().for_each(|sample| all.write_sample(i16::from_le_bytes(*sample)));
                all.flush()
            }
            Pcm::S24 | Pcm::S32 => format
                .integers(samples)
                .unwrap_or_default()
                .into_iter()
                .try_for_each(|sample| writer.write_sample(sample)),
            Pcm::F32 => samples
                .as_chunks::<4>()
                .0
                .iter()
                .try_for_each(|sample| writer.write_sample(f32::from_le_bytes(*sample))),
        }
        .map_err(error)?;
        writer.finalize().map_err(error)?;
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
