//! The bytes of a record.
//!
//! | bytes | |
//! | --- | --- |
//! | 2 | `AB 4C` |
//! | 1 | version (1) in the high half, kind (1 picture, 2 sound) in the low half |
//! | 4 | the first bytes of the SHA-256 of the codec's file |
//! | 1 | channels of latents that are stored |
//! | varint, twice | a picture's width and height; a sound's frames per second and frames |
//! | varint | channels of the media |
//! | 2 | the low half of the CRC-32 of all other bytes, little-endian |
//! | the rest | the [stream](super::entropy) |
//!
//! Varints are little-endian in groups of seven bits, the high bit of a byte saying that another follows.

use super::{Extent, Kind, LatentError};

/// The version that is written and read.
pub const VERSION: u8 = 1;
const MAGIC: [u8; 2] = [0xab, 0x4c];

/// The first bytes of the SHA-256 of a codec's file.
pub type Name = [u8; 4];

/// What stands before the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which codec the record is of.
    pub codec: Name,
    /// How large the media are.
    pub extent: Extent,
    /// Channels of the media.
    pub channels: u16,
    /// Channels of latents that are stored.
    pub stored: u8,
}

/// Whether bytes begin like a record of latents.
#[must_use]
pub fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) && bytes.get(2).is_some_and(|kind| matches!(kind & 15, 1 | 2))
}

impl Header {
    /// Reads what stands before the stream, and gives the stream with it. Nothing is allocated; whoever allocates looks
    /// at the extent first.
    ///
    /// # Errors
    /// Bytes of something else or of another version, a header that is cut off or declares what no record has.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), LatentError> {
        let (header, checksum, stream) = Self::split(bytes)?;
        let _ = checksum;
        Ok((header, stream))
    }

    /// Whether all bytes of the record are as they were written; those of a prefix are not.
    ///
    /// # Errors
    /// As [`Header::parse`], and a wrong checksum.
    pub fn verify(bytes: &[u8]) -> Result<(Self, &[u8]), LatentError> {
        let (header, checksum, stream) = Self::split(bytes)?;
        let ahead = bytes.len() - stream.len() - 2;
        match sum(bytes.get(..ahead).unwrap_or_default(), stream) == checksum {
            true => Ok((header, stream)),
            false => Err(LatentError::Damaged),
        }
    }

    fn split(bytes: &[u8]) -> Result<(Self, u16, &[u8]), LatentError> {
        if !recognises(bytes) {
            return Err(LatentError::Foreign);
        }
        let (head, mut rest) = bytes.split_first_chunk::<8>().ok_or(LatentError::Truncated)?;
        let [_, _, kind, a, b, c, d, stored] = *head;
        if kind >> 4 != VERSION {
            return Err(LatentError::Version { found: kind >> 4 });
        }
        let [first, second, channels] =
            [varint(&mut rest)?, varint(&mut rest)?, varint(&mut rest)?];
        let (checksum, stream) = rest.split_first_chunk::<2>().ok_or(LatentError::Truncated)?;
        let wrong = |what: String| LatentError::Header { what };
        let small = |number: u64, what: &str| {
            u32::try_from(number).map_err(|_| wrong(format!("{number} {what}")))
        };
        let extent = match kind & 15 {
            1 => {
                Extent::Picture { width: small(first, "columns")?, height: small(second, "rows")? }
            }
            _ => Extent::Sound { rate: small(first, "frames per second")?, frames: second },
        };
        if extent.samples() == 0 || stored == 0 {
            return Err(wrong("nothing".to_owned()));
        }
        let most = if extent.kind() == Kind::Picture { 4 } else { 255 };
        let channels = u16::try_from(channels).ok().filter(|count| (1..=most).contains(count));
        let channels =
            channels.ok_or_else(|| wrong("more channels than there can be".to_owned()))?;
        let header = Self { codec: [a, b, c, d], extent, channels, stored };
        Ok((header, u16::from_le_bytes(*checksum), stream))
    }

    /// Writes the header before a stream that `write` appends.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = bytes.len();
        let (kind, first, second) = match self.extent {
            Extent::Picture { width, height } => (1, u64::from(width), u64::from(height)),
            Extent::Sound { rate, frames } => (2, u64::from(rate), frames),
        };
        bytes.extend(MAGIC);
        bytes.push(VERSION << 4 | kind);
        bytes.extend(self.codec);
        bytes.push(self.stored);
        for mut number in [first, second, u64::from(self.channels)] {
            while number >= 128 {
                bytes.push(number as u8 | 128);
                number >>= 7;
            }
            bytes.push(number as u8);
        }
        let at = bytes.len();
        bytes.extend([0; 2]);
        write(bytes);
        let (head, stream) = bytes.split_at(at + 2);
        let checksum = sum(head.get(start..at).unwrap_or_default(), stream);
        if let Some(place) = bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

fn sum(head: &[u8], stream: &[u8]) -> u16 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(stream);
    hasher.finalize() as u16
}

fn varint(bytes: &mut &[u8]) -> Result<u64, LatentError> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(LatentError::Truncated)?;
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Ok(number);
        }
    }
    Err(LatentError::Header { what: "a number of more than 63 bits".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(header: Header) -> Vec<u8> {
        let mut bytes = b"before".to_vec();
        header.write(&mut bytes, |bytes| bytes.extend(b"stream"));
        bytes.split_off(6)
    }

    #[test]
    fn headers_come_back_and_damage_of_any_byte_shows() {
        let picture = Extent::Picture { width: 300, height: 7 };
        let sound = Extent::Sound { rate: 44_100, frames: 1 << 40 };
        for extent in [picture, sound] {
            let header = Header { codec: [1, 2, 3, 4], extent, channels: 2, stored: 12 };
            let bytes = record(header);
            assert_eq!(Header::verify(&bytes).unwrap(), (header, b"stream".as_slice()));
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 16;
                assert!(Header::verify(&damaged).is_err(), "{at}");
                let _ = Header::parse(&bytes[..at]);
            }
        }
    }

    #[test]
    fn other_versions_and_empty_media_are_told() {
        let extent = Extent::Picture { width: 1, height: 1 };
        let mut bytes = record(Header { codec: [0; 4], extent, channels: 1, stored: 1 });
        bytes[2] = 0x91;
        assert!(matches!(Header::parse(&bytes), Err(LatentError::Version { found: 9 })));
        assert!(matches!(Header::parse(b"RIFF...."), Err(LatentError::Foreign)));
        let extent = Extent::Picture { width: 0, height: 1 };
        let bytes = record(Header { codec: [0; 4], extent, channels: 1, stored: 1 });
        assert!(matches!(Header::parse(&bytes), Err(LatentError::Header { .. })));
    }
}
