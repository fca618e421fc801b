//! Members one by one, each with its byte range.

use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use globset::GlobMatcher;

use super::header::{self, BLOCK, Entry, Kind};
use crate::source::member::{Body, Member, too_large};
use crate::source::object::{Failure, Object};
use crate::source::repeats::{Known, lock, size};
use crate::source::scan::{Bad, Found, Scanner};

/// The members of one archive that a pattern lets through.
pub(in crate::source) struct Members {
    object: Object,
    pattern: Option<Arc<GlobMatcher>>,
    /// Where the record after the last one begins.
    end: u64,
}

/// A member found; the object stands at its first byte.
pub(in crate::source) struct Located {
    pub(in crate::source) name: String,
    pub(in crate::source) sparse: bool,
    /// From the end of the record before to where the next header may stand.
    pub(in crate::source) range: Range<u64>,
    pub(in crate::source) body: Range<u64>,
}

impl Located {
    /// Why it cannot be read, if so.
    pub(in crate::source) fn fault(&self, max_member: u64) -> Option<String> {
        match self.sparse {
            true => Some("it is stored with holes, which are not read".to_owned()),
            false => too_large(self.body.end - self.body.start, max_member),
        }
    }
}

impl Members {
    pub(in crate::source) fn new(object: Object, pattern: Option<Arc<GlobMatcher>>) -> Self {
        Self { object, pattern, end: 0 }
    }

    /// The next member; what was not read of the one before is passed.
    pub(in crate::source) fn next(&mut self) -> Result<Option<Located>, Failure> {
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

    /// The same members from the first one on, for a look at what was passed.
    pub(in crate::source) fn again(&self) -> Result<Self, Failure> {
        Ok(Self::new(self.object.again()?, self.pattern.clone()))
    }

    /// Moves to where a record begins.
    pub(in crate::source) fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        self.end = offset;
        self.pass_to(offset)
    }

    /// The archive, which stands where the last member was left.
    pub(in crate::source) fn object(&self) -> &Object {
        &self.object
    }

    /// The bytes of the member that was found last.
    pub(in crate::source) fn read(&mut self, found: &Located) -> Result<Vec<u8>, Failure> {
        let size = found.body.end - found.body.start;
        // A header may lie about the size; a lie costs growth of the buffer, not memory up front.
        let mut read = Vec::with_capacity(size.min(1 << 20) as usize);
        let done = self.object.by_ref().take(size).read_to_end(&mut read);
        done.map_err(|e| self.object.failure(e))?;
        if (read.len() as u64) < size {
            return Err(Failure::Damaged(format!("the archive ends inside `{}`", found.name)));
        }
        Ok(read)
    }

    /// Moves on, past bytes that must be there.
    fn pass_to(&mut self, to: u64) -> Result<(), Failure> {
        if self.object.position() == to {
            return Ok(());
        }
        self.object.seek(to).map_err(|e| self.object.failure(e))
    }

    /// Whether the bytes up to here are there, which in a packed archive only reading them tells.
    pub(in crate::source) fn pass_body(&mut self, found: &Located) -> Result<(), Failure> {
        if self.object.size().is_none() {
            self.pass_to(found.body.end)?;
            if self.object.position() < found.body.end {
                return Err(Failure::Damaged(format!("the archive ends inside `{}`", found.name)));
            }
        }
        Ok(())
    }
}

/// Members as records.
pub(in crate::source) struct Scan {
    pub(in crate::source) members: Members,
    pub(in crate::source) known: Arc<Mutex<Known>>,
    /// Whether keys begin with the archive's name.
    pub(in crate::source) folder: bool,
    pub(in crate::source) references: bool,
    pub(in crate::source) max_member: u64,
}

impl Scanner for Scan {
    type Row = Member;

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        self.members.seek(offset)
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<Member>>, Failure> {
        let Some(found) = self.members.next()? else {
            return Ok(None);
        };
        let range = found.range.clone();
        let bytes = range.end - range.start;
        if measured {
            self.members.pass_body(&found)?;
            lock(&self.known).add(&found.name, &range);
            return Ok(Some(Found { range, bytes, row: None }));
        }
        let again = self.again(&found)?;
        let object = self.members.object();
        let key = match self.folder {
            true => format!("{}/{}", object.split().name, found.name),
            false => found.name.clone(),
        };
        let fault =
            again.then(|| "the archive holds another member of this name before it".to_owned());
        if let Some(error) = fault.or_else(|| found.fault(self.max_member)) {
            self.members.pass_body(&found)?;
            return Ok(Some(Found {
                range,
                bytes,
                row: Some(Err(Bad { key, error, bytes: None })),
            }));
        }
        let body = match self.references {
            true => Body::At { uri: object.uri(), range: found.body },
            false => Body::Bytes(self.members.read(&found)?),
        };
        Ok(Some(Found { range, bytes, row: Some(Ok(Member { key, name: found.name, body })) }))
    }

    fn position(&self) -> u64 {
        self.members.object.position()
    }

    fn holds(&self) -> usize {
        size(&self.known)
    }
}

impl Scan {
    /// Whether a member has the name of one before it.
    fn again(&self, found: &Located) -> Result<bool, Failure> {
        let mut known = lock(&self.known);
        let (name, start) = (&found.name, found.range.start);
        let again = known.stood_before(name, start, || self.members.again(), |name| name)?;
        known.add(name, &found.range);
        Ok(again)
    }
}
