//! Vorbis in Ogg, which is only decoded.

use anabranch_pipelines::record::Modality;
use symphonia::core::codecs::audio::well_known::CODEC_ID_VORBIS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoderOptions};
use symphonia::default::codecs::VorbisDecoder;

use super::packets::Packets;
use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm, ogg};

pub(super) struct Vorbis;

/// How the first packet begins.
const MAGIC: &[u8] = b"\x01vorbis";

impl Codec for Vorbis {
    fn name(&self) -> &'static str {
        "ogg"
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
        ogg::begins(bytes, MAGIC)
    }

    fn encode(&self, _: &Media<'_>, _: Option<u16>, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Err(CodecError::only_decoded("Vorbis"))
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let corrupt = |e: &dyn std::fmt::Display| CodecError::corrupt("Vorbis", e);
        let packets = ogg::packets("Vorbis", bytes)?;
        let [head, _comments, setup, sound @ ..] = packets.as_slice() else {
            return Err(corrupt(&"it ends before its sound"));
        };
        let (channels, rate) = identify(&head.data).ok_or_else(|| corrupt(&"no header"))?;
        let end = ogg::end("Vorbis", &packets)?;
        limits.check_audio(end, rate, u64::from(channels) * Pcm::S16.bytes() as u64)?;
        let mut parameters = AudioCodecParameters::new();
        let headers = [head.data.as_slice(), &setup.data].concat();
        parameters.for_codec(CODEC_ID_VORBIS).with_extra_data(headers.into_boxed_slice());
        let mut decoder = VorbisDecoder::try_new(&parameters, &AudioDecoderOptions::default())
            .map_err(|e| corrupt(&e))?;
        let mut decoded = Packets::new("Vorbis", &mut decoder, limits, samples);
        let mut begin = None;
        for packet in sound {
            let frames = decoded.decode(&packet.data)?;
            // The first page tells where the sound begins: before 0 what is to be left out, or behind it
            // when the stream was cut from a longer one. The last page may end before its packets do.
            if let Some(position) = packet.position.filter(|position| *position < end) {
                begin.get_or_insert(i128::from(position) - i128::from(frames));
            }
        }
        let begin = begin.unwrap_or(0);
        let skip = u64::try_from(-begin).unwrap_or(0);
        let length = u64::try_from(i128::from(end) - begin.max(0));
        let length = length.map_err(|_| corrupt(&"it ends before it begins"))?;
        decoded.finish(skip, Some(length))
    }
}

/// Channels and rate, from the first packet.
fn identify(head: &[u8]) -> Option<(u8, u32)> {
    let [_version, _, _, _, channels, rate @ ..] = head.strip_prefix(MAGIC)?.first_chunk::<9>()?;
    Some((*channels, u32::from_le_bytes(*rate)))
}
