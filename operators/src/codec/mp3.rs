//! MP3, which is only decoded.
//!
//! Its frames are walked before anything is decoded: one that is cut off, bytes between them that belong to
//! no frame, or fewer frames than the tag of its encoder counts, and the file is not whole. (Of a file
//! without such a tag that was cut exactly between two frames, nobody can tell.) The silence that encoders
//! put around the sound is left out when their tag says how long it is.

use anabranch_pipelines::record::Modality;
use symphonia::core::audio::layouts;
use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoderOptions};
use symphonia::default::codecs::MpaDecoder;

use super::packets::Packets;
use super::{Codec, CodecError, Facts, Ladder, Limits, Media};

pub(super) struct Mp3;

impl Codec for Mp3 {
    fn name(&self) -> &'static str {
        "mp3"
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
        let frames = bytes.get(behind_tags(bytes)..).unwrap_or_default();
        let Some(first) = Header::parse(frames) else { return false };
        // Two bytes may look like a frame by chance; what follows must look like the next one.
        match frames.get(first.size..) {
            Some(next) => next.len() < 4 || Header::parse(next).is_some() || is_tail(next),
            None => true,
        }
    }

    fn encode(&self, _: &Media<'_>, _: Option<u16>, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Err(CodecError::only_decoded("MP3"))
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let Stream { header, frames, skip, length } = Stream::walk(bytes)?;
        let there = frames.len() as u64 * u64::from(header.frames);
        let frame = u64::from(header.channels) * 2;
        limits.check_audio(length.unwrap_or(there), header.rate, frame)?;
        let layout = if header.channels == 1 {
            layouts::CHANNEL_LAYOUT_MONO
        } else {
            layouts::CHANNEL_LAYOUT_STEREO
        };
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_MP3).with_sample_rate(header.rate).with_channels(layout);
        let mut decoder = MpaDecoder::try_new(&parameters, &AudioDecoderOptions::default())
            .map_err(|e| CodecError::corrupt("MP3", e))?;
        let mut packets = Packets::new("MP3", &mut decoder, limits, samples);
        for frame in frames {
            packets.decode(frame)?;
        }
        packets.finish(skip, length)
    }
}

/// The frames of a file, and which part of what they decode to is the sound.
struct Stream<'a> {
    header: Header,
    frames: Vec<&'a [u8]>,
    skip: u64,
    length: Option<u64>,
}

impl<'a> Stream<'a> {
    fn walk(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let corrupt = |what: &str| CodecError::corrupt("MP3", what);
        let mut at = behind_tags(bytes);
        let mut rest = bytes.get(at..).unwrap_or_default();
        let header = Header::parse(rest).ok_or_else(|| corrupt("no frame at its beginning"))?;
        let mut frames = Vec::new();
        while !rest.is_empty() && !is_tail(rest) {
            let Some(next) = Header::parse(rest) else {
                return Err(corrupt(&format!("byte {at} begins no frame")));
            };
            if (next.rate, next.channels) != (header.rate, header.channels) {
                return Err(corrupt("its rate or channels change on the way"));
            }
            let (frame, after) = rest.split_at_checked(next.size).ok_or_else(|| {
                corrupt(&format!("it is cut off in the frame that begins at byte {at}"))
            })?;
            frames.push(frame);
            at += next.size;
            rest = after;
        }
        let sound: usize = frames.iter().map(|frame| frame.len()).sum();
        let tag = frames.first().and_then(|first| Tag::parse(first, &header));
        let Some(tag) = tag else { return Ok(Self { header, frames, skip: 0, length: None }) };
        frames.remove(0);
        let (declared, found) = (u64::from(tag.frames.unwrap_or(0)), frames.len() as u64);
        // Some encoders count the tag's own frame, so the bytes have to be too few as well, if they are told.
        if found < declared && tag.bytes.is_none_or(|bytes| sound < bytes as usize) {
            return Err(corrupt(&format!("it declares {declared} frames and holds {found}")));
        }
        let all = found * u64::from(header.frames);
        let length = match tag.padding {
            Some((delay, padding)) if found == declared => {
                Some(all.saturating_sub(delay + padding))
            }
            _ => None,
        };
        let skip = tag.padding.map_or(0, |(delay, _)| delay + DECODER_DELAY);
        // Padding is at least the decoder's delay, if the tag is right.
        let length = length.map(|length| length.min(all.saturating_sub(skip)));
        Ok(Self { header, frames, skip, length })
    }
}

/// Frames that every decoder gives before the first of the sound.
const DECODER_DELAY: u64 = 529;

/// What the four bytes before a frame say.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// MPEG 1, whose frames are twice as long as those of MPEG 2 and 2.5.
    first: bool,
    rate: u32,
    channels: u8,
    /// Bytes.
    size: usize,
    /// Frames of sound.
    frames: u32,
}

/// Kilobits per second of MPEG 1, and of MPEG 2 and 2.5.
const BITRATES: [[u32; 14]; 2] = [
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

impl Header {
    /// Reads the header of a frame of layer III.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [sync, version, rates, modes] = *bytes.first_chunk::<4>()?;
        if sync != 0xff || version & 0xe6 != 0xe2 {
            return None;
        }
        let divisor = match version >> 3 & 3 {
            3 => 1,
            2 => 2,
            0 => 4,
            _ => return None,
        };
        let first = divisor == 1;
        let rate = [44_100, 48_000, 32_000].get(usize::from(rates >> 2 & 3))? / divisor;
        // Step 0 is a bitrate that only the encoder knows; nothing writes it.
        let step = usize::from(rates >> 4).checked_sub(1)?;
        let [of_first, of_others] = &BITRATES;
        let bitrate = if first { of_first } else { of_others }.get(step)?;
        let frames = if first { 1152 } else { 576 };
        let size = (frames / 8 * bitrate * 1000 / rate + u32::from(rates >> 1 & 1)) as usize;
        Some(Self { first, rate, channels: if modes >> 6 == 3 { 1 } else { 2 }, size, frames })
    }
}

/// What an encoder says of its file in a first frame that holds no sound.
struct Tag {
    frames: Option<u32>,
    bytes: Option<u32>,
    /// Frames of sound that the encoder put before and behind it.
    padding: Option<(u64, u64)>,
}

impl Tag {
    fn parse(frame: &[u8], header: &Header) -> Option<Self> {
        let number = |at: usize| {
            frame
                .get(at..)
                .and_then(<[u8]>::first_chunk::<4>)
                .map(|bytes| u32::from_be_bytes(*bytes))
        };
        if frame.get(36..40) == Some(b"VBRI") {
            return Some(Self { frames: number(50), bytes: number(46), padding: None });
        }
        let mut at = match (header.first, header.channels) {
            (true, 1) | (false, 2) => 21,
            (true, _) => 36,
            (false, _) => 13,
        };
        // Two bytes of a checksum may stand before it.
        at += if frame.get(1)? & 1 == 0 { 2 } else { 0 };
        if !matches!(frame.get(at..at + 4)?, b"Xing" | b"Info") {
            return None;
        }
        let flags = number(at + 4)?;
        at += 8;
        // Frames, bytes, a table of contents, and quality: each is there when its flag is.
        let mut field = |flag: u32, size: usize| {
            let here = (flags & flag != 0).then_some(at)?;
            at += size;
            Some(here)
        };
        let frames = field(1, 4).and_then(number);
        let bytes = field(2, 4).and_then(number);
        field(4, 100);
        field(8, 4);
        let known =
            [b"LAME", b"Lavf", b"Lavc"].iter().any(|name| frame.get(at..at + 4) == Some(*name));
        let padding = number(at + 20).filter(|_| known).map(|both| {
            let both = u64::from(both & 0xff_ffff);
            (both >> 12, both & 0xfff)
        });
        Some(Self { frames, bytes, padding })
    }
}

/// Where frames begin: behind ID3 tags, and the zeros that some programs leave around them.
fn behind_tags(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        at += rest.iter().take_while(|byte| **byte == 0).count();
        let head = bytes.get(at..).and_then(<[u8]>::first_chunk::<10>);
        let Some([b'I', b'D', b'3', _, _, flags, size @ ..]) = head else { return at };
        // Seven bits of a byte count.
        let size = size.iter().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        at += 10 + size + if flags & 0x10 == 0 { 0 } else { 10 };
    }
}

/// Whether no more frames follow: tags stand there, or zeros.
fn is_tail(rest: &[u8]) -> bool {
    rest.starts_with(b"TAG") && rest.len() == 128
        || rest.starts_with(b"APETAGEX")
        || rest.starts_with(b"LYRICSBEGIN")
        || rest.iter().all(|byte| *byte == 0)
}
