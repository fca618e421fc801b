//! Members one by one, each with its byte range.

use std::io::Read;
use std::ops::Range;

use globset::GlobMatcher;

use super::header::{self, BLOCK, Entry, Kind};
use crate::source::member::{Body, Member, too_large};
use crate::source::object::{Failure, Object};
use crate::source::scan::{Bad, Found, Scanner};

/// The members of one archive that a pattern lets through.
pub(super) struct Members {
    object: Object,
    pattern: Option<GlobMatcher>,
    /// Where the record after the last one begins.
    end: u64,
}

/// A member found; the object stands at its first byte.
pub(super) struct Located {
    pub(super) name: String,
    pub(super) sparse: bool,
    /// From the end of the record before to where the next header may stand.
    pub(super) range: Range<u64>,
    pub(super) body: Range<u64>,
}

impl Members {
    pub(super) fn new(object: Object, pattern: Option<GlobMatcher>) -> Self {
        Self { object, pattern, end: 0 }
    }

    /// The next member; what was not read of the one before is passed.
    pub(super) fn next(&mut self) -> Result<Option<Located>, Failure> {
        let start = self.end;
        let mut at = start;
        loop {
            self.pass_to(at)?;
            let entry = header::read(&mut self.object).map_err(|e| self.object.failure(e))?;
            let Some(Entry { name, size, kind }) = entry else { return Ok(None) };
            let from = self.object.position();
            let cut = || Failure::Damaged(format!("the archive ends inside `{name}`"));
            let to = from.checked_add(size).ok_or_else(cut)?;
            at = to.checked_next_multiple_of(BLOCK).ok_or_else(cut)?;
            if self.object.size().is_some_and(|size| to > size) {
                return Err(cut());
            }
            let wanted = self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&name));
            if wanted && kind != Kind::Other {
                self.end = at;
                let sparse = kind == Kind::Sparse;
                return Ok(Some(Located { name, sparse, range: start..at, body: from..to }));
            }
        }
    }

    /// Moves on, past bytes that must be there.
    fn pass_to(&mut self, to: u64) -> Result<(), Failure> {
        if self.object.position() == to {
            return Ok(());
        }
        self.object.seek(to).map_err(|e| self.object.failure(e))
    }

    /// Whether the bytes up to here are there, which in a packed archive only reading them tells.
    fn pass_body(&mut self, body: &Range<u64>, name: &str) -> Result<(), Failure> {
        if self.object.size().is_none() {
            self.pass_to(body.end)?;
            if self.object.position() < body.end {
                return Err(Failure::Damaged(format!("the archive ends inside `{name}`")));
            }
        }
        Ok(())
    }
}

/// Members as records.
pub(super) struct Scan {
    pub(super) members: Members,
    /// Whether keys begin with the archive's name.
    pub(super) folder: bool,
    pub(super) references: bool,
    pub(super) max_member: u64,
}

impl Scanner for Scan {
    type Row = Member;

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        self.members.end = offset;
        self.members.pass_to(offset)
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<Member>>, Failure> {
        let Some(Located { name, sparse, range, body }) = self.members.next()? else {
            return Ok(None);
        };
        let bytes = range.end - range.start;
        if measured {
            self.members.pass_body(&body, &name)?;
            return Ok(Some(Found { range, bytes, row: None }));
        }
        let object = &mut self.members.object;
        let key = match self.folder {
            true => format!("{}/{name}", object.split().name),
            false => name.clone(),
        };
        let size = body.end - body.start;
        let fault = match sparse {
            true => Some("it is stored with holes, which are not read".to_owned()),
            false => too_large(size, self.max_member),
        };
        if let Some(error) = fault {
            self.members.pass_body(&body, &name)?;
            return Ok(Some(Found {
                range,
                bytes,
                row: Some(Err(Bad { key, error, bytes: None })),
            }));
        }
        let body = if self.references {
            Body::At { uri: object.url().into(), range: body }
        } else {
            // A header may lie about the size; a lie costs growth of the buffer, not memory up front.
            let mut read = Vec::with_capacity(size.min(1 << 20) as usize);
            let done = object.by_ref().take(size).read_to_end(&mut read);
            done.map_err(|e| object.failure(e))?;
            if (read.len() as u64) < size {
                return Err(Failure::Damaged(format!("the archive ends inside `{name}`")));
            }
            Body::Bytes(read)
        };
        Ok(Some(Found { range, bytes, row: Some(Ok(Member { key, name, body })) }))
    }

    fn position(&self) -> u64 {
        self.members.object.position()
    }
}
