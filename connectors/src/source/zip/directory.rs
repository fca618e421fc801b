//! An archive's directory, which stands at its end and says what is where.

use std::collections::HashSet;
use std::io::{self, Read};

use anabranch_pipelines::quantity::ByteSize;
use globset::GlobMatcher;

use super::entry::{Entry, Fields};
use crate::source::object::{Failure, Object};
use crate::source::repeats::hash;

/// The record at the end of every archive, without its comment.
const END: u64 = 22;
/// A comment's length at most.
const COMMENT: u64 = 65_535;
/// What says where the larger record of an archive beyond 4 GiB or 65535 members stands.
const LOCATOR: u64 = 20;
/// That record.
const END64: u64 = 56;
/// Size of a directory at most: some millions of members.
const LARGEST: u64 = 512 << 20;

/// Members of an archive that are files and that a pattern lets through.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) entries: Vec<Entry>,
    /// Where it begins, and members end.
    pub(super) start: u64,
    /// Why there may be more members than these, if so.
    pub(super) damage: Option<String>,
}

impl Directory {
    /// Reads it from an archive's end.
    pub(super) fn read(
        object: &mut Object,
        pattern: Option<&GlobMatcher>,
    ) -> Result<Self, Failure> {
        let end = End::find(object)?;
        let start = end.at.checked_sub(end.size).filter(|start| *start >= end.start);
        let Some(start) = start else {
            return Err(damaged("it says of its directory what cannot be; it may be cut"));
        };
        if end.size > LARGEST {
            let (size, most) = (ByteSize(end.size), ByteSize(LARGEST));
            return Err(damaged(&format!("its directory has {size}, of at most {most}")));
        }
        // What stands before the archive, such as a program that unpacks it, moves everything.
        let moved = start - end.start;
        let mut directory = Self { entries: Vec::new(), start, damage: None };
        match directory.fill(object, &end, moved, pattern) {
            Ok(()) => Ok(directory),
            Err(error) => match object.failure(error) {
                Failure::Damaged(damage) => Ok(Self { damage: Some(damage), ..directory }),
                store => Err(store),
            },
        }
    }

    /// Bytes that it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let names: usize = self.entries.iter().map(|entry| entry.name.capacity()).sum();
        names + self.entries.capacity() * size_of::<Entry>()
    }

    fn fill(
        &mut self,
        object: &mut Object,
        end: &End,
        moved: u64,
        pattern: Option<&GlobMatcher>,
    ) -> io::Result<()> {
        object.seek(self.start)?;
        let limit = object.limit();
        let (mut passed, mut members, mut unpacked) = (0, 0_u64, 0_u64);
        let mut names = HashSet::new();
        while passed < end.size {
            let (mut entry, bytes) = Entry::read(object)?;
            passed += bytes;
            members += 1;
            if !entry.file || pattern.is_some_and(|pattern| !pattern.is_match(&entry.name)) {
                continue;
            }
            unpacked = unpacked.saturating_add(entry.size);
            if unpacked > limit {
                let message = format!(
                    "its members unpack to more than {limit} bytes; if that is right, raise `max_unpacked`"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            entry.at = entry.at.saturating_add(moved);
            entry.repeated = !names.insert(hash(&entry.name));
            self.entries.push(entry);
        }
        // The small record counts up to 65535 and then from 0 again.
        let same = members == end.members || (!end.large && members % 65_536 == end.members);
        if passed != end.size || !same {
            let message = format!(
                "its directory lists {members} members in {passed} bytes, and should list {} in {}",
                end.members, end.size
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(())
    }
}

/// What an archive's last record says.
struct End {
    /// Where this record stands, or the larger one before it: where the directory ends.
    at: u64,
    members: u64,
    size: u64,
    /// Where the directory begins, as whoever wrote the archive counted.
    start: u64,
    large: bool,
}

impl End {
    fn find(object: &mut Object) -> Result<Self, Failure> {
        let Some(size) = object.size() else {
            return Err(damaged("a packed archive cannot be read from its end; unpack it first"));
        };
        let from = size.saturating_sub(END + COMMENT + LOCATOR + END64);
        let tail = read(object, from, size - from)?;
        let records = tail.windows(END as usize).enumerate().rev();
        let found = records.filter(|(_, record)| record.starts_with(b"PK\x05\x06")).find_map(
            |(at, record)| {
                let mut fields = Fields(record.get(4..)?);
                let (disk, first) = (fields.u16(), fields.u16());
                let (here, members) = (fields.u16(), fields.u16());
                let (bytes, start, comment) = (fields.u32(), fields.u32(), fields.u16());
                let at = from + at as u64;
                let fits = at + END + u64::from(comment) <= size;
                // 65535 says to look into the larger record.
                let one = matches!((disk, first), (0, 0) | (u16::MAX, _) | (_, u16::MAX))
                    && here == members;
                let (members, bytes, start) = (members.into(), bytes.into(), start.into());
                fits.then_some((Self { at, members, size: bytes, start, large: false }, one))
            },
        );
        match found {
            None => Err(damaged("it is no zip archive, or its end is missing")),
            Some((_, false)) => Err(damaged("it is one of several volumes; join them first")),
            Some((end, true)) => end.enlarged(object),
        }
    }

    /// The larger record, where there is one.
    fn enlarged(self, object: &mut Object) -> Result<Self, Failure> {
        let Some(locator) = self.at.checked_sub(LOCATOR) else { return Ok(self) };
        let found = read(object, locator, LOCATOR)?;
        if !found.starts_with(b"PK\x06\x07") {
            return Ok(self);
        }
        let written = Fields(found.get(8..).unwrap_or_default()).u64();
        let before = locator.checked_sub(END64);
        for at in [Some(written).filter(|at| *at <= locator), before].into_iter().flatten() {
            let found = read(object, at, END64)?;
            if found.starts_with(b"PK\x06\x06") {
                let mut fields = Fields(found.get(32..).unwrap_or_default());
                let (members, size, start) = (fields.u64(), fields.u64(), fields.u64());
                return Ok(Self { at, members, size, start, large: true });
            }
        }
        Err(damaged("its zip64 record is missing; it may be cut"))
    }
}

/// Some bytes of an archive, fewer at its end.
fn read(object: &mut Object, at: u64, count: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = object.seek(at).and_then(|()| object.by_ref().take(count).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(object.failure(error)),
    }
}

fn damaged(message: &str) -> Failure {
    Failure::Damaged(message.to_owned())
}
