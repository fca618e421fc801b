//! WAV: 16, 24 and 32-bit integers and 32-bit floats; 8 bits are widened to 16.

use std::io::Cursor;

use anabranch_pipelines::record::Modality;
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use super::{Codec, CodecError, Facts, Limits, Media, Pcm};

pub(super) struct Wav;

impl Codec for Wav {
    fn name(&self) -> &'static str {
        "wav"
    }

    fn modality(&self) -> Modality {
        Modality::Audio
    }

    fn lossless(&self, _: Option<u8>) -> bool {
        true
    }

    fn default_quality(&self) -> Option<u8> {
        None
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE")
    }

    fn encode(
        &self,
        media: &Media<'_>,
        _: Option<u8>,
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
        let corrupt = |e: hound::Error| CodecError::corrupt("WAV", e);
        let mut reader = WavReader::new(Cursor::new(bytes)).map_err(corrupt)?;
        let WavSpec { channels, sample_rate: rate, bits_per_sample, sample_format } = reader.spec();
        let format = match (sample_format, bits_per_sample) {
            (SampleFormat::Int, 1..=16) => Pcm::S16,
            (SampleFormat::Int, 17..=24) => Pcm::S24,
            (SampleFormat::Int, 25..=32) => Pcm::S32,
            (SampleFormat::Float, 32) => Pcm::F32,
            _ => {
                return Err(CodecError(format!(
                    "WAV of {bits_per_sample}-bit samples is not supported"
                )));
            }
        };
        let frame = u64::from(channels) * format.bytes() as u64;
        limits.check_audio(u64::from(reader.duration()), rate, frame)?;
        // A header may declare more than there is; the samples themselves then end early and are refused.
        let start = samples.len();
        samples.reserve(bytes.len());
        match sample_format {
            SampleFormat::Int => {
                // 8-bit samples become 16-bit ones of the same loudness.
                let shift = (format.bytes() as u16 * 8 - bits_per_sample).min(31);
                for sample in reader.samples::<i32>() {
                    format.push(sample.map_err(corrupt)? << shift, samples);
                }
            }
            SampleFormat::Float => {
                for sample in reader.samples::<f32>() {
                    samples.extend(sample.map_err(corrupt)?.to_le_bytes());
                }
            }
        }
        let frames = (samples.len() - start) as u64 / frame.max(1);
        Ok(Facts::Audio { format, rate, channels, frames })
    }
}
