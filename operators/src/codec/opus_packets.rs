//! Opus without Ogg: what a short sound in a table takes.
//!
//! A file of Opus has two pages before its sound, each with a header, and one more header for every second: about 150
//! bytes, which are a third of a spoken digit at 6 kb/s. Here a record is
//!
//! | bytes | |
//! | --- | --- |
//! | 2 | `AB 4F` |
//! | 1 | version (1) in the high half; in the low half channels - 1, and twice the place of the rate among 8, 12, 16, 24 and 48 kHz |
//! | varint | frames of the sound |
//! | varint | frames before it that are not part of it |
//! | the rest | packets as RFC 6716 has them, of 60 ms and at the end less; before each its length, a varint |
//!
//! Varints are little-endian in groups of seven bits, the high bit of a byte saying that another follows. Other programs
//! do not know this layout, and any Opus library decodes the packets; shards of tables carry checksums, so records have
//! none. It sounds like `opus` at the same bitrate.

use anabranch_pipelines::record::Modality;
use ropus::{DecodeMode, Decoder};

use super::opus::{BITRATES, RATES, Sound, layout};
use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm};

pub(super) struct OpusPackets;

const MAGIC: [u8; 2] = [0xab, 0x4f];
const VERSION: u8 = 1;
const NAME: &str = "opus_packets";

impl Codec for OpusPackets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn modality(&self) -> Modality {
        Modality::Audio
    }

    fn lossless(&self, _: Option<u16>) -> bool {
        false
    }

    fn ladder(&self) -> Option<Ladder> {
        Some(Ladder { option: "bitrate", steps: BITRATES })
    }

    fn known_elsewhere(&self) -> bool {
        false
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC) && bytes.get(2).is_some_and(|kind| kind >> 4 == VERSION)
    }

    fn encode(
        &self,
        media: &Media<'_>,
        bitrate: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let sound = Sound::of(media, bitrate)?;
        let place = RATES.iter().position(|rate| *rate == sound.rate).unwrap_or_default() as u8;
        bytes.extend(MAGIC);
        bytes.push(VERSION << 4 | place << 1 | (sound.channels as u8 - 1));
        write(sound.frames, bytes);
        write(sound.delay(), bytes);
        let step = sound.rate as usize / 50;
        let size = move |left: usize| left.div_ceil(step).min(3) * step;
        sound.packets(size, |_, packet| {
            write(packet.len() as u64, bytes);
            bytes.extend(packet);
            Ok(())
        })
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let corrupt = |e: &dyn std::fmt::Display| CodecError::corrupt(NAME, e);
        let short = || corrupt(&"it is cut off");
        if !self.recognises(bytes) {
            return Err(corrupt(&"it begins otherwise"));
        }
        let kind = bytes.get(2).copied().ok_or_else(short)?;
        let mut rest = bytes.get(3..).ok_or_else(short)?;
        let rate = RATES.get(usize::from(kind >> 1 & 7)).copied();
        let rate = rate.ok_or_else(|| corrupt(&"it declares a rate that Opus has not"))?;
        let channels = u16::from(kind & 1) + 1;
        let frames = read(&mut rest).ok_or_else(short)?;
        let skip = read(&mut rest).ok_or_else(short)?;
        let frame = u64::from(channels) * Pcm::S16.bytes() as u64;
        let all = frames.saturating_add(skip);
        limits.check_audio(all, rate, frame)?;
        let layout = layout(channels).ok_or_else(short)?;
        let mut decoder = Decoder::new(rate, layout).map_err(|e| corrupt(&e))?;
        let mut buffer =
            vec![0i16; decoder.max_frame_samples_per_channel() * usize::from(channels)];
        let (start, mut decoded, step) = (samples.len(), 0u64, u64::from(rate / 50));
        while decoded < all.max(1) {
            let length = read(&mut rest).ok_or_else(short)?;
            let length = usize::try_from(length).map_err(|_| short())?;
            let (packet, behind) = rest.split_at_checked(length).ok_or_else(short)?;
            rest = behind;
            let got = decoder.decode(packet, &mut buffer, DecodeMode::Normal);
            let got = got.map_err(|e| corrupt(&e))?;
            let new = buffer.get(..got * usize::from(channels)).unwrap_or_default();
            samples.extend(new.iter().flat_map(|sample| sample.to_le_bytes()));
            let expected = (all.max(1) - decoded).div_ceil(step).min(3) * step;
            if got as u64 != expected {
                return Err(corrupt(&format!("a packet holds {got} frames instead of {expected}")));
            }
            decoded += got as u64;
        }
        if !rest.is_empty() {
            return Err(corrupt(&"there is more behind its last packet"));
        }
        samples.drain(start..start + (skip * frame) as usize);
        samples.truncate(start + (frames * frame) as usize);
        Ok(Facts::Audio { format: Pcm::S16, rate, channels, frames })
    }
}

fn write(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        if *byte < 128 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::named;
    use crate::conformance::codec::{Example, check, examples};

    #[test]
    fn it_keeps_to_what_every_codec_must() {
        let mut all = examples(&OpusPackets);
        // Lengths around whole packets.
        all.extend([0, 108, 428, 429, 4000].map(|frames| Example::sound(Pcm::S16, 1, frames)));
        check(&OpusPackets, &all).unwrap();
    }

    #[test]
    fn a_short_sound_takes_little_more_than_its_packets() {
        let Example { samples, facts } = Example::sound(Pcm::S16, 1, 3440);
        let media = Media { samples: &samples, facts };
        let size = |codec: &dyn Codec| {
            let mut bytes = Vec::new();
            codec.encode(&media, Some(6), &mut bytes).unwrap();
            bytes.len()
        };
        let (lean, file) = (size(&OpusPackets), size(named("opus").unwrap()));
        assert!(lean + 140 < file, "{lean} and {file}");
    }

    #[test]
    fn bytes_beyond_the_last_packet_or_of_another_version_are_refused() {
        let Example { samples, facts } = Example::sound(Pcm::S16, 1, 1000);
        let mut bytes = Vec::new();
        OpusPackets.encode(&Media { samples: &samples, facts }, None, &mut bytes).unwrap();
        let mut other = bytes.clone();
        other[2] ^= 0x30;
        assert!(!OpusPackets.recognises(&other));
        let decode = |bytes: &[u8]| OpusPackets.decode(bytes, &Limits::default(), &mut Vec::new());
        assert!(decode(&bytes).is_ok() && decode(&other).is_err());
        bytes.push(0);
        assert!(decode(&bytes).unwrap_err().0.contains("more behind"));
    }
}
