//! One entry of an archive's directory: a member's name, size and place.

use std::io::{self, Read};

/// What an entry begins with.
const SIGNATURE: &[u8] = b"PK\x01\x02";
/// Bytes of an entry before its name.
const FIXED: usize = 46;
/// Flags of a member that cannot be read without a password.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
/// Flag of a name in UTF-8.
const UTF8: u16 = 1 << 11;

/// A member as the directory describes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) packing: Packing,
    pub(super) crc: u32,
    /// Bytes as stored.
    pub(super) packed: u64,
    /// Bytes when unpacked.
    pub(super) size: u64,
    /// Where its own header stands, counted from the archive's first byte.
    pub(super) at: u64,
    /// Whether it is a file, and no folder or link.
    pub(super) file: bool,
    /// Whether an entry before has this name.
    pub(super) repeated: bool,
}

/// How a member is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Stored,
    Deflate,
    Zstd,
    Encrypted,
    Unknown(u16),
}

impl Packing {
    fn of(flags: u16, method: u16) -> Self {
        match method {
            _ if flags & ENCRYPTED != 0 => Self::Encrypted,
            0 => Self::Stored,
            8 => Self::Deflate,
            93 => Self::Zstd,
            other => Self::Unknown(other),
        }
    }

    /// Why such a member is not read, if so.
    pub(super) fn fault(self) -> Option<String> {
        let name = match self {
            Self::Stored | Self::Deflate | Self::Zstd => return None,
            Self::Encrypted => return Some("it is encrypted; unpack it with its password".into()),
            Self::Unknown(9) => "Deflate64",
            Self::Unknown(12) => "bzip2",
            Self::Unknown(14) => "LZMA",
            Self::Unknown(95) => "xz",
            Self::Unknown(98) => "PPMd",
            Self::Unknown(other) => {
                return Some(format!("it is packed by method {other}, which is not known"));
            }
        };
        Some(format!("it is packed with {name}, which is not read; pack it with deflate or zstd"))
    }
}

impl Entry {
    /// The next entry, and how many bytes it took.
    pub(super) fn read(from: &mut impl Read) -> io::Result<(Self, u64)> {
        let mut fixed = [0; FIXED];
        from.read_exact(&mut fixed)?;
        if !fixed.starts_with(SIGNATURE) {
            let message = "its directory is damaged: something else stands where an entry begins";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut fields = Fields(fixed.get(4..).unwrap_or_default());
        let made_by = fields.u16();
        fields.skip(2);
        let (flags, method) = (fields.u16(), fields.u16());
        fields.skip(4);
        let (crc, packed, size) = (fields.u32(), fields.u32(), fields.u32());
        let (name, extra, comment) = (fields.u16(), fields.u16(), fields.u16());
        fields.skip(4);
        let (attributes, at) = (fields.u32(), fields.u32());
        let mut rest = vec![0; usize::from(name) + usize::from(extra) + usize::from(comment)];
        from.read_exact(&mut rest)?;
        let (name, behind) = rest.split_at_checked(usize::from(name)).unwrap_or_default();
        let extra = behind.get(..usize::from(extra)).unwrap_or_default();
        let mut entry = Self {
            name: text(name, flags),
            packing: Packing::of(flags, method),
            crc,
            packed: packed.into(),
            size: size.into(),
            at: at.into(),
            file: true,
            repeated: false,
        };
        entry.extend(extra, name);
        entry.name = entry.name.trim_start_matches("./").to_owned();
        // Archives made on Unix hold a file's mode; the kinds beside regular files hold no bytes of their own.
        let kind = (attributes >> 16) & 0o170_000;
        let unix = made_by >> 8 == 3 && !matches!(kind, 0 | 0o100_000);
        entry.file = !unix && !entry.name.ends_with(['/', '\\']);
        Ok((entry, (FIXED + rest.len()) as u64))
    }

    /// Takes over what did not fit into the fixed fields.
    fn extend(&mut self, extra: &[u8], name: &[u8]) {
        let mut fields = Fields(extra);
        while !fields.0.is_empty() {
            let (id, length) = (fields.u16(), fields.u16());
            let mut field = Fields(fields.take(length.into()));
            match id {
                // Zip64: whatever is too large for 32 bits stands here, in this order.
                1 => {
                    for value in [&mut self.size, &mut self.packed, &mut self.at] {
                        if *value == u64::from(u32::MAX) && field.0.len() >= 8 {
                            *value = field.u64();
                        }
                    }
                }
                // The name in UTF-8, valid as long as it belongs to the name in the fixed field.
                0x7075 if field.u8() == 1 && field.u32() == crc(name) => {
                    if let Ok(name) = str::from_utf8(field.0) {
                        self.name = name.to_owned();
                    }
                }
                _ => {}
            }
        }
    }
}

/// The checksum of an archive's bytes.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A name, which old archives write in the code page of the first PCs.
fn text(name: &[u8], flags: u16) -> String {
    const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌\
                         █▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";
    match str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) if flags & UTF8 != 0 => String::from_utf8_lossy(name).into_owned(),
        Err(_) => {
            let upper = |byte: u8| UPPER.chars().nth(usize::from(byte - 128)).unwrap_or('\u{fffd}');
            name.iter().map(|b| if b.is_ascii() { char::from(*b) } else { upper(*b) }).collect()
        }
    }
}

/// Little-endian fields one after the other; what is not there is zero.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.take(count);
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn u8(&mut self) -> u8 {
        self.number(1) as u8
    }

    pub(super) fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    pub(super) fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.number(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_old_archives_are_read_in_their_code_page() {
        assert_eq!(text(b"gr\x81n \xe1.png", 0), "grün ß.png");
        assert_eq!(text("grün".as_bytes(), 0), "grün");
        assert_eq!(text(b"gr\x81n", UTF8), "gr\u{fffd}n");
        assert_eq!(text(b"\xff\x80", 0), "\u{a0}Ç");
    }
}
