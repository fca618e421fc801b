//! Codecs: how one record's media is stored.
//!
//! A codec turns the samples of one record into bytes and back. It is found by name for encoding, and
//! recognised by its first bytes for decoding, since a file's name may lie. Limits are checked on the
//! header, before anything is allocated: an image that declares 60,000 x 60,000 pixels in 100 bytes is
//! refused at once.
//!
//! ```
//! use anabranch_operators::codec::{self, Limits, Media};
//!
//! let picture = Media::Image { pixels: vec![7; 4 * 4 * 3], width: 4, height: 4, channels: 3 };
//! let png = codec::named("png").unwrap();
//! let bytes = png.encode(&picture, None)?;
//! assert_eq!(codec::sniff(&bytes).unwrap().name(), "png");
//! assert_eq!(png.decode(&bytes, &Limits::default())?, picture);
//! # Ok::<(), codec::CodecError>(())
//! ```

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::Modality;
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod flac;
mod jpeg;
mod png;
mod wav;
mod webp;

/// The decoded media of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// A picture.
    Image {
        /// 8-bit samples, interleaved, row by row.
        pixels: Vec<u8>,
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
        /// 1 (grey), 3 (RGB) or 4 (RGBA).
        channels: u8,
    },
    /// A sound.
    Audio {
        /// Little-endian samples of `format`, interleaved.
        samples: Vec<u8>,
        /// Their format.
        format: Pcm,
        /// Frames per second.
        rate: u32,
        /// Samples per frame.
        channels: u16,
    },
}

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
    /// Bytes of either when decoded.
    #[schemars(with = "String")]
    pub bytes: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pixels: 100_000_000, seconds: 3600.0, bytes: ByteSize(512 << 20) }
    }
}

impl Limits {
    fn check_image(&self, width: u64, height: u64, channels: u64) -> Result<(), CodecError> {
        let pixels = width.saturating_mul(height);
        if pixels > self.pixels || pixels.saturating_mul(channels) > self.bytes.0 {
            return Err(CodecError(format!(
                "it declares {width} x {height} pixels, more than the limit of {} pixels or {}; raise \
                 `limits` if that is no mistake",
                self.pixels, self.bytes
            )));
        }
        Ok(())
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
}

/// A way to store the media of one record. See the [module documentation](self).
pub trait Codec: Send + Sync {
    /// The name in job files and in `NAME_encoding`.
    fn name(&self) -> &'static str;

    /// What it stores.
    fn modality(&self) -> Modality;

    /// Whether decoding gives back exactly what was encoded, at this quality.
    fn lossless(&self, quality: Option<u8>) -> bool;

    /// The quality that `None` stands for; `None` when the codec has no quality.
    fn default_quality(&self) -> Option<u8>;

    /// Whether bytes begin like this codec's.
    fn recognises(&self, bytes: &[u8]) -> bool;

    /// Encodes the media of one record. The quality is 1 to 100.
    ///
    /// # Errors
    /// When the codec cannot hold this media.
    fn encode(&self, media: &Media, quality: Option<u8>) -> Result<Vec<u8>, CodecError>;

    /// Decodes one record.
    ///
    /// # Errors
    /// When the bytes are damaged or declare more than the limits allow.
    fn decode(&self, bytes: &[u8], limits: &Limits) -> Result<Media, CodecError>;
}

/// All codecs that files are stored with.
pub const ALL: &[&dyn Codec] = &[&jpeg::Jpeg, &png::Png, &webp::WebP, &wav::Wav, &flac::Flac];

/// The codec of this name.
pub fn named(name: &str) -> Option<&'static dyn Codec> {
    ALL.iter().find(|codec| codec.name() == name).copied()
}

/// The codec whose bytes begin like these.
pub fn sniff(bytes: &[u8]) -> Option<&'static dyn Codec> {
    ALL.iter().find(|codec| codec.recognises(bytes)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(width: u32, height: u32, channels: u8) -> Media {
        let wave = |at: u32| ((f64::from(at) * 0.05).sin() * 90.0 + 128.0) as u8;
        let samples = width * height * u32::from(channels);
        Media::Image { pixels: (0..samples).map(wave).collect(), width, height, channels }
    }

    fn sound(format: Pcm, channels: u16, frames: u32) -> Media {
        let mut samples = Vec::new();
        for at in 0..frames * u32::from(channels) {
            format.push(((f64::from(at) * 0.03).sin() * 20_000.0) as i32, &mut samples);
        }
        Media::Audio { samples, format, rate: 8000, channels }
    }

    fn examples(codec: &dyn Codec) -> Vec<Media> {
        match codec.modality() {
            Modality::Image => {
                [(1, 1), (17, 9), (64, 48)].into_iter().map(|(w, h)| picture(w, h, 3)).collect()
            }
            _ => vec![sound(Pcm::S16, 1, 1), sound(Pcm::S16, 2, 4000), sound(Pcm::S24, 1, 500)],
        }
    }

    #[test]
    fn what_is_lossless_comes_back_and_what_is_not_comes_close() {
        for codec in ALL {
            for media in examples(*codec) {
                let bytes = codec.encode(&media, None).unwrap();
                assert_eq!(sniff(&bytes).unwrap().name(), codec.name());
                let back = codec.decode(&bytes, &Limits::default()).unwrap();
                if codec.lossless(None) {
                    assert_eq!(back, media, "{}", codec.name());
                } else if let (Media::Image { pixels: a, .. }, Media::Image { pixels: b, .. }) =
                    (&media, &back)
                {
                    let error: f64 =
                        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
                    let psnr =
                        10.0 * (255.0f64.powi(2) / (error / a.len() as f64).max(1e-9)).log10();
                    assert!(psnr > 25.0, "{}: {psnr} dB", codec.name());
                }
            }
        }
    }

    #[test]
    fn truncated_and_foreign_bytes_are_refused_without_panic() {
        for codec in ALL {
            for media in examples(*codec) {
                let bytes = codec.encode(&media, None).unwrap();
                for keep in 0..bytes.len().min(200) {
                    let _ = codec.decode(&bytes[..keep], &Limits::default());
                }
                assert!(
                    codec.decode(&bytes[..bytes.len() / 2], &Limits::default()).is_err()
                        || bytes.len() < 64,
                    "{}",
                    codec.name()
                );
                assert!(codec.decode(b"", &Limits::default()).is_err());
                assert!(codec.decode(b"not media at all", &Limits::default()).is_err());
            }
        }
    }

    #[test]
    fn more_than_the_limits_is_refused() {
        let tight = Limits { pixels: 100, seconds: 0.01, bytes: ByteSize(1000) };
        for codec in ALL {
            let media = examples(*codec).into_iter().nth(1).unwrap();
            let bytes = codec.encode(&media, None).unwrap();
            let error = codec.decode(&bytes, &tight).unwrap_err();
            assert!(error.0.contains("limit"), "{}: {error}", codec.name());
        }
    }

    proptest! {
        #[test]
        fn flipped_bits_never_panic(at in 0usize..4000, bit in 0u8..8) {
            for codec in ALL {
                let media = examples(*codec).into_iter().nth(1).unwrap();
                let mut bytes = codec.encode(&media, None).unwrap();
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
                let _ = codec.decode(&bytes, &Limits { pixels: 1 << 20, ..Limits::default() });
            }
        }
    }
}
