//! AAC in MP4 (`.m4a`), which is only decoded.
//!
//! Boxes are walked before anything is decoded, so that a file that is cut off is found, wherever its table
//! of contents stands. The silence before the sound is left out as the file's edit list says.

use std::io::Cursor;

use anabranch_pipelines::record::Modality;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::probe::ProbeableFormat;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::default::codecs::AacDecoder;
use symphonia::default::formats::IsoMp4Reader;

use super::packets::Packets;
use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm};

pub(super) struct M4a;

/// Brands of files that may hold sound; others are pictures (`avif`, `heic`).
const BRANDS: [&[u8; 4]; 10] =
    [b"M4A ", b"M4B ", b"isom", b"iso2", b"iso5", b"iso6", b"mp41", b"mp42", b"dash", b"qt  "];

impl Codec for M4a {
    fn name(&self) -> &'static str {
        "m4a"
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
        bytes.get(4..8) == Some(b"ftyp")
            && bytes
                .get(8..)
                .and_then(<[u8]>::first_chunk)
                .is_some_and(|brand| BRANDS.contains(&brand))
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
        let corrupt = |e: &dyn std::fmt::Display| CodecError::corrupt("MP4", e);
        let edit = Edit::of(bytes)?;
        let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
        let mut file = IsoMp4Reader::try_probe_new(stream, FormatOptions::default())
            .map_err(|e| corrupt(&e))?;
        let track = file
            .default_track(TrackType::Audio)
            .ok_or_else(|| CodecError("the MP4 holds no sound".to_owned()))?;
        let (id, declared) = (track.id, track.num_frames);
        let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
        let parameters = parameters.ok_or_else(|| corrupt(&"it does not say what its sound is"))?;
        let rate = parameters.sample_rate.unwrap_or(1);
        let channels = parameters.channels.as_ref().map_or(1, |channels| channels.count());
        limits.check_audio(declared.unwrap_or(0), rate, (channels * Pcm::S16.bytes()) as u64)?;
        let mut decoder = AacDecoder::try_new(parameters, &AudioDecoderOptions::default())
            .map_err(|e| CodecError(format!("the sound in this MP4 is not supported: {e}")))?;
        let mut packets = Packets::new("MP4", &mut decoder, limits, samples);
        let mut frames = 0;
        while let Some(packet) = file.next_packet().map_err(|e| corrupt(&e))? {
            if packet.track_id == id {
                frames = packets.decode(&packet.data)?;
            }
        }
        if let Some(declared) = declared.filter(|declared| frames < *declared) {
            return Err(corrupt(&format!("it declares {declared} frames and holds {frames}")));
        }
        let skip = edit.skip.min(frames);
        let length = edit.length.or(declared.map(|declared| declared.saturating_sub(skip)));
        packets.finish(skip, length.map(|length| length.min(frames - skip)))
    }
}

/// The part of the decoded sound that is to be heard, in frames.
#[derive(Debug, Default)]
struct Edit {
    skip: u64,
    length: Option<u64>,
}

impl Edit {
    /// Of the sound's track; all of it when nothing is said.
    fn of(bytes: &[u8]) -> Result<Self, CodecError> {
        let file = boxes(bytes)?;
        let Some(movie) = find(&file, b"moov") else {
            return Err(CodecError::corrupt("MP4", "its table of contents is missing"));
        };
        let movie = boxes(movie)?;
        let timescale = find(&movie, b"mvhd").and_then(timescale);
        for (_, track) in movie.iter().filter(|(kind, _)| kind == b"trak") {
            let track = boxes(track)?;
            let media = find(&track, b"mdia").map(boxes).transpose()?.unwrap_or_default();
            let sound =
                find(&media, b"hdlr").and_then(|handler| handler.get(8..12)) == Some(b"soun");
            if !sound {
                continue;
            }
            let edits = find(&track, b"edts").map(boxes).transpose()?.unwrap_or_default();
            let rate = find(&media, b"mdhd").and_then(self::timescale);
            let list = find(&edits, b"elst");
            return Ok(list
                .and_then(|list| Self::parse(list, timescale?, rate?))
                .unwrap_or_default());
        }
        Ok(Self::default())
    }

    /// The only entry of an edit list. Several, or one that leaves a pause, are not followed.
    fn parse(list: &[u8], timescale: u32, rate: u32) -> Option<Self> {
        if number(list, 4)? != 1 {
            return None;
        }
        let (length, skip) = match list.first()? {
            0 => (u64::from(number(list, 8)?), i64::from(number(list, 12)? as i32)),
            _ => {
                let wide = |at| {
                    Some(u64::from(number(list, at)?) << 32 | u64::from(number(list, at + 4)?))
                };
                (wide(8)?, wide(16)? as i64)
            }
        };
        let frames = u128::from(length) * u128::from(rate) / u128::from(timescale.max(1));
        // A coarse timescale cannot say the length to the frame; the table of contents then does.
        let exact = timescale.is_multiple_of(rate.max(1)) && length > 0;
        let length = u64::try_from(frames).ok().filter(|_| exact);
        Some(Self { skip: u64::try_from(skip).ok()?, length })
    }
}

/// A box: its kind and its content.
type Part<'a> = ([u8; 4], &'a [u8]);

/// All boxes, which have to fill the bytes to the end.
fn boxes(bytes: &[u8]) -> Result<Vec<Part<'_>>, CodecError> {
    let cut = || CodecError::corrupt("MP4", "it is cut off in one of its boxes");
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let size = number(rest, 0).ok_or_else(cut)? as usize;
        let kind = *rest.get(4..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
        let (head, size) = match size {
            // To the end.
            0 => (8, rest.len()),
            1 => {
                let wide = rest.get(8..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
                (16, usize::try_from(u64::from_be_bytes(*wide)).map_err(|_| cut())?)
            }
            size => (8, size),
        };
        let (this, after) = rest.split_at_checked(size).ok_or_else(cut)?;
        found.push((kind, this.get(head..).ok_or_else(cut)?));
        rest = after;
    }
    Ok(found)
}

fn find<'a>(boxes: &[Part<'a>], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes.iter().find(|(this, _)| this == kind).map(|(_, content)| *content)
}

/// Units per second, of a movie or of a track.
fn timescale(header: &[u8]) -> Option<u32> {
    number(header, if header.first()? == &0 { 12 } else { 20 })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).map(|bytes| u32::from_be_bytes(*bytes))
}
