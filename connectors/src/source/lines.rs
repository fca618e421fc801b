//! Line numbers for messages, counted only when there is something to say.

use std::io::{self, BufRead};

use super::object::{Failure, Object};

/// Counts the lines of an object up to offsets that grow.
///
/// Records are found by byte offset, so that a read may begin anywhere; which line that is takes reading
/// what stands before it, and only a refused record makes it worth that.
#[derive(Default)]
pub(super) struct Lines {
    counting: Option<Object>,
    line: u64,
}

impl Lines {
    /// The number, from 1, of the line at `offset` of an object like this one; blank lines there are passed.
    pub(super) fn at(&mut self, offset: u64, like: &Object) -> Result<u64, Failure> {
        if self.counting.as_ref().is_none_or(|counting| counting.position() > offset) {
            self.line = 1;
            self.counting = Some(like.again()?);
        }
        let Some(counting) = &mut self.counting else { return Ok(self.line) };
        match count(counting, offset) {
            Ok((before, blank)) => {
                self.line += before;
                Ok(self.line + blank)
            }
            Err(error) => Err(counting.failure(error)),
        }
    }
}

/// Newlines before the offset, and those that stand right at it.
fn count(object: &mut Object, offset: u64) -> io::Result<(u64, u64)> {
    let mut lines = 0;
    while object.position() < offset {
        let left = usize::try_from(offset - object.position()).unwrap_or(usize::MAX);
        let bytes = object.fill_buf()?;
        let count = bytes.len().min(left);
        if count == 0 {
            break;
        }
        lines += newlines(bytes.iter().take(count));
        object.consume(count);
    }
    let here = object.fill_buf()?.iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
    Ok((lines, newlines(here)))
}

fn newlines<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.filter(|byte| **byte == b'\n').count() as u64
}
