//! Codecs: how one record's media is stored.
//!
//! A codec turns the samples of one record into bytes and back. It is found by name for encoding, and
//! recognised by its first bytes for decoding, since a file's name may lie. Limits are checked on the
//! header, before anything is allocated: an image that declares 60,000 x 60,000 pixels in 100 bytes is
//! refused at once.
//!
//! ```
//! use anabranch_operators::codec::{self, Facts, Limits, Media};
//!
//! let facts = Facts::Image { width: 4, height: 4, channels: 3 };
//! let png = codec::named("png").unwrap();
//! let mut bytes = Vec::new();
//! png.encode(&Media { samples: &[7; 4 * 4 * 3], facts }, None, &mut bytes)?;
//! assert_eq!(codec::sniff(&bytes).unwrap().name(), "png");
//!
//! let mut samples = Vec::new();
//! assert_eq!(png.decode(&bytes, &Limits::default(), &mut samples)?, facts);
//! assert_eq!(samples, [7; 4 * 4 * 3]);
//! # Ok::<(), codec::CodecError>(())
//! ```
//!
//! Codecs append to the caller's buffer, so that the media of a whole batch are decoded into one column
//! without a copy.

use std::ops::RangeInclusive;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::Modality;
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod aac;
mod flac;
mod floats;
mod jpeg;
mod latent;
mod m4a;
mod mp3;
mod ogg;
mod opus;
mod opus_packets;
mod packets;
mod png;
mod qoi;
mod setting;
mod vorbis;
mod wav;
mod webp;

pub use latent::Latent;
pub(crate) use latent::{LATENT, with_samples};
pub(crate) use setting::{Setting, no_such};

/// The decoded media of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media<'a> {
    /// 8-bit samples of a picture, interleaved, row by row; or little-endian samples of a sound, interleaved.
    pub samples: &'a [u8],
    /// What they are samples of.
    pub facts: Facts,
}

/// What is known of media without looking at its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facts {
    /// A picture.
    Image {
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
        /// 1 (grey), 3 (RGB) or 4 (RGBA).
        channels: u8,
    },
    /// A sound.
    Audio {
        /// The format of its samples.
        format: Pcm,
        /// Frames per second.
        rate: u32,
        /// Samples per frame.
        channels: u16,
        /// Frames, each of one sample per channel.
        frames: u64,
    },
}

impl Facts {
    /// Bytes of the samples.
    pub fn bytes(&self) -> u64 {
        match *self {
            Self::Image { width, height, channels } => {
                (u64::from(width) * u64::from(height)).saturating_mul(channels.into())
            }
            Self::Audio { format, channels, frames, .. } => {
                frames.saturating_mul(u64::from(channels) * format.bytes() as u64)
            }
        }
    }

    /// The value of `NAME_encoding` for the samples themselves.
    pub const fn encoding(&self) -> &'static str {
        match self {
            Self::Image { .. } => RAW,
            Self::Audio { format, .. } => format.name(),
        }
    }
}

/// The encoding of pictures that are stored as their samples.
pub const RAW: &str = "raw";

/// Formats of decoded sound. Integers keep their width, so nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pcm {
    /// 16 bits.
    S16,
    /// 24 bits in three bytes.
    S24,
    /// 32 bits.
    S32,
    /// 32-bit floats.
    F32,
}

impl Pcm {
    /// The value of `NAME_encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S16 => "pcm_s16le",
            Self::S24 => "pcm_s24le",
            Self::S32 => "pcm_s32le",
            Self::F32 => "pcm_f32le",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::S16, Self::S24, Self::S32, Self::F32]
            .into_iter()
            .find(|format| format.name() == name)
    }

    /// Bytes of a sample.
    pub const fn bytes(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::S24 => 3,
            Self::S32 | Self::F32 => 4,
        }
    }

    /// Integer samples, sign-extended; `None` for floats.
    pub fn integers(self, samples: &[u8]) -> Option<Vec<i32>> {
        Some(match (self, samples) {
            (Self::S16, bytes) => {
                bytes.as_chunks::<2>().0.iter().map(|b| i32::from(i16::from_le_bytes(*b))).collect()
            }
            (Self::S24, bytes) => {
                let wide = |b: &[u8; 3]| i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8;
                bytes.as_chunks::<3>().0.iter().map(wide).collect()
            }
            (Self::S32, bytes) => {
                bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
            }
            (Self::F32, _) => return None,
        })
    }

    /// Appends an integer sample.
    pub fn push(self, sample: i32, samples: &mut Vec<u8>) {
        let [a, b, c, d] = sample.to_le_bytes();
        match self {
            Self::S16 => samples.extend([a, b]),
            Self::S24 => samples.extend([a, b, c]),
            Self::S32 | Self::F32 => samples.extend([a, b, c, d]),
        }
    }
}

/// What decoding one record may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Pixels of a picture.
    pub pixels: u64,
    /// Seconds of a sound.
    pub seconds: f64,
    /// Bytes of either, when decoded and before.
    #[schemars(with = "String")]
    pub bytes: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pixels: 100_000_000, seconds: 3600.0, bytes: ByteSize(512 << 20) }
    }
}

impl Limits {
    /// The bytes of a picture's samples.
    fn check_image(&self, width: u32, height: u32, channels: u8) -> Result<usize, CodecError> {
        let pixels = u64::from(width) * u64::from(height);
        let bytes = Facts::Image { width, height, channels }.bytes();
        if pixels > self.pixels || bytes > self.bytes.0 {
            return Err(CodecError(format!(
                "it declares {width} x {height} pixels, more than the limit of {} pixels or {}; raise \
                 `limits` if that is no mistake",
                self.pixels, self.bytes
            )));
        }
        usize::try_from(bytes).map_err(|_| CodecError(format!("{bytes} bytes are too many here")))
    }

    fn check_audio(&self, frames: u64, rate: u32, frame_bytes: u64) -> Result<(), CodecError> {
        let seconds = frames as f64 / f64::from(rate.max(1));
        if seconds > self.seconds || frames.saturating_mul(frame_bytes) > self.bytes.0 {
            return Err(CodecError(format!(
                "it declares {seconds:.0} s of sound, more than the limit of {} s or {}; raise `limits` if \
                 that is no mistake",
                self.seconds, self.bytes
            )));
        }
        Ok(())
    }
}

/// Why a record could not be encoded or decoded, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CodecError(pub String);

impl CodecError {
    fn corrupt(codec: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("not a whole {codec}: {error}"))
    }

    fn only_decoded(codec: &str) -> Self {
        let names: Vec<&str> = encoders().map(Codec::name).collect();
        Self(format!("{codec} is only decoded here; what encodes is {}", names.join(", ")))
    }
}

/// The option of `encode` by which a codec that loses something is told how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// Its name: `quality`, `bitrate` in kilobits per second, or `channels` of a latent codec.
    pub option: &'static str,
    /// What it may be.
    pub steps: RangeInclusive<u16>,
}

impl Ladder {
    const QUALITY: Self = Self { option: "quality", steps: 1..=100 };
}

/// A way to store the media of one record. See the [module documentation](self).
pub trait Codec: Send + Sync {
    /// The name in job files and in `NAME_encoding`.
    fn name(&self) -> &'static str;

    /// What it stores.
    fn modality(&self) -> Modality;

    /// Whether decoding gives back exactly what was encoded, at this step of its ladder.
    fn lossless(&self, step: Option<u16>) -> bool;

    /// How it is told what to keep; `None` when there is nothing to tell.
    fn ladder(&self) -> Option<Ladder>;

    /// Whether it encodes too: some formats are only read here.
    fn encodes(&self) -> bool {
        true
    }

    /// Whether other programs know the layout. What only we read is never chosen without being named.
    fn known_elsewhere(&self) -> bool {
        true
    }

    /// Whether bytes begin like this codec's.
    fn recognises(&self, bytes: &[u8]) -> bool;

    /// Encodes the media of one record and appends it to `bytes`. The step is one of its ladder, or `None`
    /// for the codec's own choice.
    ///
    /// # Errors
    /// When the codec cannot hold this media, or only decodes; `bytes` may then end in a part of it.
    fn encode(
        &self,
        media: &Media<'_>,
        step: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError>;

    /// Decodes one record, appends its samples to `samples` and says what they are.
    ///
    /// # Errors
    /// When the bytes are damaged or declare more than the limits allow; `samples` may then end in a part
    /// of them.
    fn decode(
        &self,
        bytes: &[u8],
        limits: &Limits,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, CodecError>;
}

/// All codecs that files are stored with.
pub const ALL: &[&dyn Codec] = &[
    &jpeg::Jpeg,
    &png::Png,
    &webp::WebP,
    &qoi::Qoi,
    &wav::Wav,
    &flac::Flac,
    &opus::Opus,
    &opus_packets::OpusPackets,
    &mp3::Mp3,
    &vorbis::Vorbis,
    &aac::Aac,
    &m4a::M4a,
];

/// Those of them that encode.
pub fn encoders() -> impl Iterator<Item = &'static dyn Codec> + Clone {
    ALL.iter().copied().filter(|codec| codec.encodes())
}

/// The codec of this name.
pub fn named(name: &str) -> Option<&'static dyn Codec> {
    ALL.iter().find(|codec| codec.name() == name).copied()
}

/// The codec whose bytes begin like these.
pub fn sniff(bytes: &[u8]) -> Option<&'static dyn Codec> {
    ALL.iter().find(|codec| codec.recognises(bytes)).copied()
}

#[cfg(test)]
mod tests;
