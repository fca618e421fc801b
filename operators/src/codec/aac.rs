//! AAC in ADTS, the stream of frames that radio uses, which is only decoded.
//!
//! Of HE-AAC the core is decoded, at half the rate. Frames are walked before anything is decoded, so that
//! one that is cut off is found; how many there should be, such a stream does not tell.

use anabranch_pipelines::record::Modality;
use symphonia::core::audio::layouts;
use symphonia::core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoderOptions};
use symphonia::default::codecs::AacDecoder;

use super::packets::Packets;
use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm};

pub(super) struct Aac;

/// Frames of sound in one of AAC.
const FRAMES: u64 = 1024;

impl Codec for Aac {
    fn name(&self) -> &'static str {
        "aac"
    }

    fn modality(&self) -> Modality {
        Modality::Audio
    }

    fn lossless(&self, _: Option<u16>) -> bool {
        false
    }

    fn ladder(&self) -> Option<Ladder> {
        None
    }

    fn encodes(&self) -> bool {
        false
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        let Some(first) = Header::parse(bytes) else { return false };
        match bytes.get(first.size..) {
            Some(next) => next.len() < Header::BYTES || Header::parse(next).is_some(),
            None => true,
        }
    }

    fn encode(&self, _: &Media<'_>, _: Option<u16>, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Err(CodecError::only_decoded("AAC"))
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let corrupt = |e: &dyn std::fmt::Display| CodecError::corrupt("AAC", e);
        let header = Header::parse(bytes).ok_or_else(|| corrupt(&"no frame at its beginning"))?;
        let frames = walk(bytes, &header)?;
        let length = frames.len() as u64 * FRAMES;
        limits.check_audio(
            length,
            header.rate,
            u64::from(header.channels) * Pcm::S16.bytes() as u64,
        )?;
        let layout = match header.channels {
            1 => layouts::CHANNEL_LAYOUT_MONO,
            2 => layouts::CHANNEL_LAYOUT_STEREO,
            channels => {
                return Err(CodecError(format!("AAC of {channels} channels is not supported")));
            }
        };
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_sample_rate(header.rate).with_channels(layout);
        let mut decoder = AacDecoder::try_new(&parameters, &AudioDecoderOptions::default())
            .map_err(|e| corrupt(&e))?;
        let mut packets = Packets::new("AAC", &mut decoder, limits, samples);
        for frame in frames {
            packets.decode(frame)?;
        }
        packets.finish(0, None)
    }
}

/// What the frames hold, without their headers.
fn walk<'a>(bytes: &'a [u8], header: &Header) -> Result<Vec<&'a [u8]>, CodecError> {
    let corrupt = |what: String| CodecError::corrupt("AAC", what);
    let (mut at, mut rest, mut frames) = (0, bytes, Vec::new());
    while !rest.is_empty() {
        let Some(next) = Header::parse(rest) else {
            return Err(corrupt(format!("byte {at} begins no frame")));
        };
        if (next.rate, next.channels) != (header.rate, header.channels) {
            return Err(corrupt("its rate or channels change on the way".to_owned()));
        }
        let (frame, after) = rest.split_at_checked(next.size).ok_or_else(|| {
            corrupt(format!("it is cut off in the frame that begins at byte {at}"))
        })?;
        frames.push(frame.get(next.head..).unwrap_or_default());
        at += next.size;
        rest = after;
    }
    Ok(frames)
}

/// What stands before a frame.
struct Header {
    rate: u32,
    channels: u8,
    /// Bytes of the frame with its header, and of the header alone.
    size: usize,
    head: usize,
}

const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000,
    7350,
];

impl Header {
    const BYTES: usize = 7;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let [sync, version, b2, b3, b4, b5, b6] = *bytes.first_chunk::<{ Self::BYTES }>()?;
        // Layer 0, which tells it from MP3, and the profile LC in one block per frame.
        if sync != 0xff || version & 0xf6 != 0xf0 || b2 >> 6 != 1 || b6 & 3 != 0 {
            return None;
        }
        let rate = *RATES.get(usize::from(b2 >> 2 & 15))?;
        let channels = (b2 & 1) << 2 | b3 >> 6;
        let size = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
        // A checksum follows the header when a bit is not set.
        let head = if version & 1 == 1 { Self::BYTES } else { Self::BYTES + 2 };
        (size > head && channels > 0).then_some(Self { rate, channels, size, head })
    }
}
