//! Opus in Ogg: lossy, for speech and music, of 8, 12, 16, 24 or 48 kHz and one or two channels.
//!
//! What goes in comes out, frame by frame: the delay of the encoder is written into the file, and the end
//! too. Samples come back in 16 bits, at the rate that the file says it was made from if Opus has it, and
//! else at 48 kHz.

use std::ops::RangeInclusive;

use ::ogg::{PacketWriteEndInfo, PacketWriter};
use anabranch_pipelines::record::Modality;
use ropus::{Application, Bitrate, Channels, DecodeMode, Decoder, Encoder};

use super::{Codec, CodecError, Facts, Ladder, Limits, Media, Pcm, ogg as container};

pub(super) struct Opus;

/// How the first packet begins.
const MAGIC: &[u8] = b"OpusHead";
/// Rates that Opus has.
pub(super) const RATES: [u32; 5] = [8000, 12_000, 16_000, 24_000, 48_000];
/// Positions in a file count at this rate, whatever the sound's is.
const CLOCK: u32 = 48_000;
/// Kilobits per second.
pub(super) const BITRATES: RangeInclusive<u16> = 6..=510;
/// The largest packet, as the format's authors advise.
const PACKET: usize = 4000;
/// Packets on a page, each of 20 ms.
const PAGE: usize = 50;
/// The number of the only stream in a file.
const SERIAL: u32 = 1;

impl Codec for Opus {
    fn name(&self) -> &'static str {
        "opus"
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

    fn recognises(&self, bytes: &[u8]) -> bool {
        container::begins(bytes, MAGIC)
    }

    fn encode(
        &self,
        media: &Media<'_>,
        bitrate: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let sound = Sound::of(media, bitrate)?;
        let (delay, scale) = (sound.delay(), u64::from(CLOCK / sound.rate));
        let error = |e: &dyn std::fmt::Display| CodecError(format!("Opus cannot encode it: {e}"));
        let mut file = PacketWriter::new(bytes);
        let head = head(sound.channels as u8, (delay * scale) as u16, sound.rate);
        let failed = |e: std::io::Error| error(&e);
        file.write_packet(head, SERIAL, PacketWriteEndInfo::EndPage, 0).map_err(failed)?;
        file.write_packet(tags(), SERIAL, PacketWriteEndInfo::EndPage, 0).map_err(failed)?;
        let (end, frames) = (sound.frames + delay, sound.rate as usize / 50);
        let last = end.div_ceil(frames as u64).max(1) as usize - 1;
        sound.packets(
            |_| frames,
            |at, packet| {
                let (info, position) = match at {
                    at if at == last => (PacketWriteEndInfo::EndStream, end),
                    at if at % PAGE == PAGE - 1 => {
                        (PacketWriteEndInfo::EndPage, ((at + 1) * frames) as u64)
                    }
                    at => (PacketWriteEndInfo::NormalPacket, ((at + 1) * frames) as u64),
                };
                file.write_packet(packet.to_vec(), SERIAL, info, position * scale).map_err(failed)
            },
        )
    }

    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError> {
        let corrupt = |e: &dyn std::fmt::Display| CodecError::corrupt("Opus", e);
        let packets = container::packets("Opus", bytes)?;
        let [head, _tags, sound @ ..] = packets.as_slice() else {
            return Err(corrupt(&"it ends before its sound"));
        };
        let Head { channels, skip, rate, gain } = Head::parse(&head.data)?;
        let end = container::end("Opus", &packets)?;
        let scale = u64::from(CLOCK / rate);
        let frame = u64::from(channels) * Pcm::S16.bytes() as u64;
        limits.check_audio(end.saturating_sub(skip) / scale, rate, frame)?;
        let layout = layout(channels).ok_or_else(|| {
            CodecError(format!("Opus of {channels} channels is not supported, only of one or two"))
        })?;
        let mut decoder = Decoder::new(rate, layout).map_err(|e| corrupt(&e))?;
        decoder.set_gain(gain).map_err(|e| corrupt(&e))?;
        let mut buffer =
            vec![0i16; decoder.max_frame_samples_per_channel() * usize::from(channels)];
        let (start, mut decoded, mut begin) = (samples.len(), 0u64, None);
        for packet in sound {
            let frames = decoder.decode(&packet.data, &mut buffer, DecodeMode::Normal);
            let frames = frames.map_err(|e| corrupt(&e))?;
            decoded += frames as u64;
            let new = buffer.get(..frames * usize::from(channels)).unwrap_or_default();
            samples.extend(new.iter().flat_map(|sample| sample.to_le_bytes()));
            limits.check_audio(decoded.saturating_sub(skip / scale), rate, frame)?;
            // A stream that was cut from a longer one does not begin at 0.
            if let Some(position) = packet.position.filter(|position| *position < end) {
                begin.get_or_insert(position.saturating_sub(decoded * scale));
            }
        }
        let length = end.checked_sub(begin.unwrap_or(0) + skip);
        let length = length.ok_or_else(|| corrupt(&"it ends before it begins"))? / scale;
        let skip = skip / scale;
        if decoded < skip + length {
            let held = decoded.saturating_sub(skip);
            return Err(corrupt(&format!("it declares {length} frames and holds {held}")));
        }
        samples.drain(start..start + (skip * frame) as usize);
        samples.truncate(start + (length * frame) as usize);
        Ok(Facts::Audio { format: Pcm::S16, rate, channels, frames: length })
    }
}

/// A sound that is being encoded.
pub(super) struct Sound {
    encoder: Encoder,
    /// Interleaved.
    floats: Vec<f32>,
    pub(super) rate: u32,
    pub(super) channels: u16,
    pub(super) frames: u64,
}

impl Sound {
    /// # Errors
    /// When Opus does not hold such media.
    pub(super) fn of(media: &Media<'_>, bitrate: Option<u16>) -> Result<Self, CodecError> {
        let Facts::Audio { format, rate, channels, frames } = media.facts else {
            return Err(CodecError("Opus holds sound only".to_owned()));
        };
        if !RATES.contains(&rate) {
            return Err(CodecError(format!(
                "Opus holds 8, 12, 16, 24 or 48 kHz, and this sound has {rate} Hz; `resample` it first"
            )));
        }
        let layout = layout(channels).ok_or_else(|| {
            CodecError(format!(
                "Opus is written with one or two channels, not {channels}; use `mono`"
            ))
        })?;
        let bitrate =
            bitrate.map_or(Bitrate::Auto, |kilobits| Bitrate::Bits(u32::from(kilobits) * 1000));
        let encoder = Encoder::builder(rate, layout, Application::Audio).bitrate(bitrate).build();
        let encoder = encoder.map_err(|e| CodecError(format!("Opus cannot encode it: {e}")))?;
        Ok(Self { encoder, floats: format.floats(media.samples), rate, channels, frames })
    }

    /// Frames that the encoder puts before the sound.
    pub(super) fn delay(&self) -> u64 {
        u64::from(self.encoder.lookahead())
    }

    /// Hands out the packets of the sound, then of silence until its last frame has left the encoder. `size` says
    /// how many frames the next packet has, when so many are left.
    pub(super) fn packets(
        mut self,
        size: impl Fn(usize) -> usize,
        mut each: impl FnMut(usize, &[u8]) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let channels = usize::from(self.channels);
        let (mut left, mut at) = ((self.frames + self.delay()).max(1) as usize, 0);
        let mut rest = std::mem::take(&mut self.floats).into_iter();
        let (mut chunk, mut packet) = (Vec::new(), vec![0; PACKET]);
        while left > 0 {
            let frames = size(left);
            chunk.clear();
            chunk.extend(rest.by_ref().take(frames * channels));
            chunk.resize(frames * channels, 0.0);
            let size = self.encoder.encode_float(&chunk, &mut packet);
            let size = size.map_err(|e| CodecError(format!("Opus cannot encode it: {e}")))?;
            each(at, packet.get(..size).unwrap_or_default())?;
            (left, at) = (left.saturating_sub(frames), at + 1);
        }
        Ok(())
    }
}

pub(super) const fn layout(channels: u16) -> Option<Channels> {
    match channels {
        1 => Some(Channels::Mono),
        2 => Some(Channels::Stereo),
        _ => None,
    }
}

/// The first packet of a file (RFC 7845).
struct Head {
    channels: u16,
    /// Frames of [`CLOCK`] that the encoder put before the sound.
    skip: u64,
    rate: u32,
    /// In 1/256 dB.
    gain: i32,
}

impl Head {
    fn parse(packet: &[u8]) -> Result<Self, CodecError> {
        let fields = packet.strip_prefix(MAGIC).and_then(<[u8]>::first_chunk::<11>);
        let Some([version, channels, s0, s1, r0, r1, r2, r3, g0, g1, family]) = fields else {
            return Err(CodecError::corrupt("Opus", "no header"));
        };
        if version >> 4 != 0 {
            return Err(CodecError(format!("Opus of version {version} is not supported")));
        }
        if *family != 0 {
            let what = format!("Opus of {channels} channels in family {family} is not supported");
            return Err(CodecError(what));
        }
        let rate = u32::from_le_bytes([*r0, *r1, *r2, *r3]);
        Ok(Self {
            channels: u16::from(*channels),
            skip: u64::from(u16::from_le_bytes([*s0, *s1])),
            rate: if RATES.contains(&rate) { rate } else { CLOCK },
            gain: i32::from(i16::from_le_bytes([*g0, *g1])),
        })
    }
}

fn head(channels: u8, skip: u16, rate: u32) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend([1, channels]);
    head.extend(skip.to_le_bytes());
    head.extend(rate.to_le_bytes());
    // No gain, and the plain order of channels.
    head.extend([0, 0, 0]);
    head
}

/// The second packet: who made the file, and no comments.
fn tags() -> Vec<u8> {
    let vendor = b"anabranch";
    let mut tags = b"OpusTags".to_vec();
    tags.extend((vendor.len() as u32).to_le_bytes());
    tags.extend(vendor);
    tags.extend([0; 4]);
    tags
}
