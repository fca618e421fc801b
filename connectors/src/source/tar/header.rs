//! Headers of an archive: what stands before a member's bytes.

use std::io::{self, Read};

use ::tar::{EntryType, Header, PaxExtensions};

/// Size of the blocks that an archive consists of.
pub(super) const BLOCK: u64 = 512;
/// Size of a long name or a set of extended attributes, at most.
const ATTRIBUTES: u64 = 1 << 20;

/// A member as its headers describe it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A file with holes, whose bytes are not what is stored.
    Sparse,
    /// A folder, link or device.
    Other,
}

/// Reads headers up to the next member's bytes; `None` at the archive's end.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Entry>> {
    let (mut long_name, mut size) = (None, None);
    // What GNU tar says of a file with holes in POSIX headers, and what the file was called.
    let (mut holes, mut holed_name) = (false, None);
    loop {
        let Some(header) = block(from)? else {
            return match long_name {
                None => Ok(None),
                Some(_) => Err(damaged("the archive ends before a member that it names")),
            };
        };
        let stored = header.entry_size()?;
        match header.entry_type() {
            EntryType::GNULongName => {
                let mut name = attributes(from, stored)?;
                name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                long_name = Some(text(&name));
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => {
                attributes(from, stored)?;
            }
            EntryType::XHeader => {
                let attributes = attributes(from, stored)?;
                for attribute in PaxExtensions::new(&attributes) {
                    let attribute = attribute?;
                    match attribute.key_bytes() {
                        b"path" => long_name = Some(text(attribute.value_bytes())),
                        b"size" => size = attribute.value().ok().and_then(|size| size.parse().ok()),
                        b"GNU.sparse.name" => holed_name = Some(text(attribute.value_bytes())),
                        key => holes |= key.starts_with(b"GNU.sparse."),
                    }
                }
            }
            kind => {
                let name = holed_name.or(long_name).unwrap_or_else(|| text(&header.path_bytes()));
                let name = name.trim_start_matches("./").to_owned();
                let kind = match kind {
                    // Old archives mark a folder by its name alone.
                    EntryType::Regular if name.ends_with('/') => Kind::Other,
                    EntryType::Regular | EntryType::Continuous if holes => Kind::Sparse,
                    EntryType::Regular | EntryType::Continuous => Kind::File,
                    EntryType::GNUSparse => {
                        pass_maps(from, &header)?;
                        Kind::Sparse
                    }
                    _ => Kind::Other,
                };
                let size = match kind {
                    // A link may state the size of what it points to, and stores nothing.
                    Kind::Other if !header.entry_type().is_dir() && !holds_bytes(&header) => 0,
                    _ => size.unwrap_or(stored),
                };
                return Ok(Some(Entry { name, size, kind }));
            }
        }
    }
}

/// Byte of an old GNU header of a file with holes that says whether blocks with more of its map follow, and that of
/// each of these.
const MORE: (usize, usize) = (482, 504);

/// Passes what stands between the header of a file with holes and its bytes: more of the map that says where the
/// holes are.
fn pass_maps(from: &mut impl Read, header: &Header) -> io::Result<()> {
    let mut more = header.as_bytes().get(MORE.0) == Some(&1);
    while more {
        let mut block = [0; BLOCK as usize];
        from.read_exact(&mut block).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => damaged("the archive ends inside a header"),
            _ => e,
        })?;
        more = block.get(MORE.1) == Some(&1);
    }
    Ok(())
}

fn holds_bytes(header: &Header) -> bool {
    let kind = header.entry_type();
    !(kind.is_hard_link()
        || kind.is_symlink()
        || kind.is_character_special()
        || kind.is_block_special()
        || kind.is_fifo())
}

/// The next header; `None` at a block of zeros, which marks the end. An archive that just stops is cut, be it
/// between two members.
fn block(from: &mut impl Read) -> io::Result<Option<Header>> {
    let mut header = Header::new_old();
    let mut bytes = Vec::with_capacity(BLOCK as usize);
    from.by_ref().take(BLOCK).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Err(damaged("the archive ends without its end mark; it may be cut"));
    }
    if bytes.len() < BLOCK as usize {
        return Err(damaged("the archive ends inside a header"));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    header.as_mut_bytes().copy_from_slice(&bytes);
    // The checksum counts its own field as spaces.
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    match header.cksum() {
        Ok(stored) if stored == sum => Ok(Some(header)),
        _ => Err(damaged("a header's checksum is wrong")),
    }
}

/// The bytes behind a header that describes the next one.
fn attributes(from: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > ATTRIBUTES {
        return Err(damaged("a name or attribute is larger than 1 MiB"));
    }
    let padded = size.next_multiple_of(BLOCK);
    let mut bytes = Vec::new();
    from.by_ref().take(padded).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < padded {
        return Err(damaged("the archive ends inside a header"));
    }
    bytes.truncate(size as usize);
    Ok(bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn damaged(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
