//! Members by their number in the directory.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use flate2::bufread::DeflateDecoder;

use super::directory::Directory;
use super::entry::{Entry, Fields, Packing, crc};
use crate::source::member::{Body, Member, too_large};
use crate::source::object::{Failure, Object, WINDOW};
use crate::source::scan::{Bad, Found, Scanner};

/// Bytes of a member's own header before its name.
const HEADER: u64 = 30;

/// The members of one archive.
pub(super) struct Members {
    pub(super) object: Object,
    pub(super) directory: Arc<Directory>,
    /// The number of the next one.
    pub(super) next: u64,
    /// Whether keys begin with the archive's name.
    pub(super) folder: bool,
    pub(super) references: bool,
    pub(super) max_member: u64,
}

impl Scanner for Members {
    type Row = Member;

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        self.next = offset;
        Ok(())
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<Member>>, Failure> {
        let directory = Arc::clone(&self.directory);
        let at = usize::try_from(self.next).unwrap_or(usize::MAX);
        let Some(entry) = directory.entries.get(at) else {
            return match &directory.damage {
                Some(damage) => Err(Failure::Damaged(damage.clone())),
                None => Ok(None),
            };
        };
        let range = self.next..self.next + 1;
        self.next += 1;
        let read = too_large(entry.size, self.max_member).is_none();
        let bytes = if read { entry.size.max(entry.packed) } else { 0 };
        if measured {
            return Ok(Some(Found { range, bytes, row: None }));
        }
        let name = entry.name.clone();
        let key = match self.folder {
            true => format!("{}/{name}", self.object.split().name),
            false => name.clone(),
        };
        let row = match self.body(entry) {
            Ok(body) => Ok(Member { key, name, body }),
            // Another member stands elsewhere, and is none the worse for it.
            Err(Failure::Damaged(error)) => Err(Bad { key, error, bytes: None }),
            Err(store) => return Err(store),
        };
        Ok(Some(Found { range, bytes, row: Some(row) }))
    }

    fn position(&self) -> u64 {
        self.next
    }

    fn holds(&self) -> usize {
        self.directory.bytes()
    }
}

impl Members {
    fn body(&mut self, entry: &Entry) -> Result<Body, Failure> {
        let twice = || "the archive holds another member of this name before it".to_owned();
        let fault = entry.packing.fault().or_else(|| entry.repeated.then(twice));
        let fault = fault.or_else(|| too_large(entry.size, self.max_member));
        if let Some(fault) = fault {
            return Err(Failure::Damaged(fault));
        }
        let range = self.locate(entry).map_err(|e| self.object.failure(e))?;
        if self.references && entry.packing == Packing::Stored {
            return Ok(Body::At { uri: self.object.uri(), range });
        }
        let stored = self.object.by_ref().take(entry.packed);
        let read = match entry.packing {
            Packing::Deflate => unpack(DeflateDecoder::new(stored), entry),
            Packing::Zstd => zstd(stored, entry),
            _ => unpack(stored, entry),
        };
        read.map(Body::Bytes).map_err(|e| self.object.failure(e))
    }

    /// Where a member's bytes stand: behind a header of its own, whose length only reading it tells.
    fn locate(&mut self, entry: &Entry) -> io::Result<Range<u64>> {
        self.object.seek(entry.at)?;
        let mut header = [0; HEADER as usize];
        let missing = || wrong("its bytes are not where the archive's directory says".to_owned());
        self.object.read_exact(&mut header).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => missing(),
            _ => e,
        })?;
        let mut lengths = Fields(header.get(26..).unwrap_or_default());
        let names = u64::from(lengths.u16()) + u64::from(lengths.u16());
        let start = entry.at.saturating_add(HEADER + names);
        let end = start.saturating_add(entry.packed);
        if !header.starts_with(b"PK\x03\x04") || end > self.directory.start {
            return Err(missing());
        }
        self.object.seek(start)?;
        Ok(start..end)
    }
}

/// Unpacks a member, no further than it should be.
fn unpack(from: impl Read, entry: &Entry) -> io::Result<Vec<u8>> {
    // A directory may lie about the size; a lie costs growth of the buffer, not memory up front.
    let mut bytes = Vec::with_capacity(entry.size.min(1 << 20) as usize);
    from.take(entry.size + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != entry.size {
        let found = if bytes.len() as u64 > entry.size { "more" } else { "fewer" };
        return Err(wrong(format!(
            "it unpacks to {found} than the {} bytes that the archive's directory says",
            entry.size
        )));
    }
    if crc(&bytes) != entry.crc {
        return Err(wrong("its checksum is wrong: the archive is damaged here".to_owned()));
    }
    Ok(bytes)
}

fn zstd(stored: impl io::BufRead, entry: &Entry) -> io::Result<Vec<u8>> {
    let mut decoder = ::zstd::Decoder::with_buffer(stored)?;
    decoder.window_log_max(WINDOW)?;
    unpack(decoder, entry)
}

fn wrong(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
