//! FLAC: lossless, 16, 24 and 32-bit integers.

use std::io::Cursor;

use anabranch_pipelines::record::Modality;
use flac_codec::decode::FlacSampleReader;
use flac_codec::encode::{FlacSampleWriter, Options};
use flac_codec::metadata::Metadata;

use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm};

pub(super) struct Flac;

impl Codec for Flac {
    fn name(&self) -> &'static str {
        "flac"
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
        bytes.starts_with(b"fLaC")
    }

    fn encode(
        &self,
        media: &Media<'_>,
        _: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let Facts::Audio { format, rate, channels, .. } = media.facts else {
            return Err(CodecError("FLAC holds sound only".to_owned()));
        };
        let error = |e: flac_codec::Error| CodecError(format!("FLAC cannot encode it: {e}"));
        let integers = format.integers(media.samples).ok_or_else(|| {
            CodecError("FLAC holds integers only; this sound is in floats".to_owned())
        })?;
        let channels = u8::try_from(channels)
            .map_err(|_| CodecError(format!("{channels} channels are more than FLAC holds (8)")))?;
        let mut file = Cursor::new(Vec::with_capacity(media.samples.len() / 2));
        let bits = format.bytes() as u32 * 8;
        let total = Some(integers.len() as u64);
        let options = Options::default().no_padding().no_seektable();
        let mut writer = FlacSampleWriter::new(&mut file, options, rate, bits, channels, total)
            .map_err(error)?;
        writer.write(&integers).map_err(error)?;
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
        let corrupt = |e: &dyn std::fmt::Display| CodecError::corrupt("FLAC", e);
        let mut reader = FlacSampleReader::new(Cursor::new(bytes)).map_err(|e| corrupt(&e))?;
        let (rate, channels) = (reader.sample_rate(), u16::from(reader.channel_count()));
        let format = match reader.bits_per_sample() {
            0..=16 => Pcm::S16,
            17..=24 => Pcm::S24,
            _ => Pcm::S32,
        };
        let shift = format.bytes() as u32 * 8 - reader.bits_per_sample().min(32);
        let frame = u64::from(channels) * format.bytes() as u64;
        let declared = reader.total_samples();
        limits.check_audio(declared.unwrap_or(0), rate, frame)?;
        let start = samples.len();
        loop {
            let some = reader.fill_buf().map_err(|e| corrupt(&e))?;
            if some.is_empty() {
                break;
            }
            some.iter().for_each(|sample| format.push(sample << shift, samples));
            let read = some.len();
            reader.consume(read);
            // The header may not declare a length, or a false one, so what comes is counted too.
            let frames = (samples.len() - start) as u64 / frame.max(1);
            limits.check_audio(frames, rate, frame)?;
            if declared.is_some_and(|declared| declared != 0 && frames > declared) {
                return Err(corrupt(&"it holds more frames than it declares"));
            }
        }
        let frames = (samples.len() - start) as u64 / frame.max(1);
        if declared.is_some_and(|declared| declared != 0 && declared != frames) {
            return Err(corrupt(&format!(
                "it declares {} frames and holds {frames}",
                declared.unwrap_or(0)
            )));
        }
        Ok(Facts::Audio { format, rate, channels, frames })
    }
}
