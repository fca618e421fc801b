//! Lines one by one, each with its byte range.

use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;

use super::shape::Shape;
use super::{Unknown, check};
use crate::source::lines;
use crate::source::object::{Failure, Object};
use crate::source::scan::{Bad, Found, KEPT, Scanner, key};

/// What some programs write before all text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of one file.
pub(super) struct Lines {
    object: Object,
    shape: Arc<Shape>,
    unknown: Unknown,
    max_line: u64,
    numbers: lines::Lines,
    line: Vec<u8>,
}

/// A line as it was passed.
struct Passed {
    /// Without line end.
    bytes: u64,
    blank: bool,
}

impl Lines {
    pub(super) fn new(object: Object, shape: Arc<Shape>, unknown: Unknown, max_line: u64) -> Self {
        let (numbers, line) = (lines::Lines::default(), Vec::new());
        Self { object, shape, unknown, max_line, numbers, line }
    }

    /// Passes one line, keeping at most `keep` bytes of it. `None` at the end.
    fn pass(&mut self, keep: u64) -> io::Result<Option<Passed>> {
        self.line.clear();
        let start = self.object.position();
        let mut passed = Passed { bytes: 0, blank: true };
        loop {
            let first = self.object.position() == 0;
            let there = self.object.fill_buf()?;
            if there.is_empty() {
                return Ok((self.object.position() > start).then_some(passed));
            }
            let end = there.iter().position(|byte| *byte == b'\n');
            let content = there.get(..end.unwrap_or(there.len())).unwrap_or_default();
            let text = if first { content.strip_prefix(MARK).unwrap_or(content) } else { content };
            passed.blank &= text.iter().all(u8::is_ascii_whitespace);
            passed.bytes += text.len() as u64;
            if passed.bytes <= keep {
                self.line.extend_from_slice(text);
            }
            let taken = content.len() + usize::from(end.is_some());
            self.object.consume(taken);
            if end.is_some() {
                return Ok(Some(passed));
            }
        }
    }

    fn refuse(&mut self, range: Range<u64>, line: u64, fault: &str) -> Result<Bad, Failure> {
        let object = &self.object;
        let line = self.numbers.at(line, object)?;
        let key = key(object.split(), range.start);
        let bytes = (1..=KEPT).contains(&self.line.len()).then(|| self.line.clone());
        Ok(Bad { key, error: format!("line {line}: {fault}"), bytes })
    }
}

impl Scanner for Lines {
    type Row = Vec<u8>;

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        match offset == self.object.position() {
            true => Ok(()),
            false => self.object.seek(offset).map_err(|e| self.object.failure(e)),
        }
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<Vec<u8>>>, Failure> {
        // Blank lines belong to the record behind them.
        let start = self.object.position();
        let keep = if measured { 0 } else { self.max_line };
        loop {
            let line = self.object.position();
            let Some(passed) = self.pass(keep).map_err(|e| self.object.failure(e))? else {
                return Ok(None);
            };
            if passed.blank {
                continue;
            }
            let range = start..self.object.position();
            let bytes = range.end - range.start;
            if measured {
                return Ok(Some(Found { range, bytes, row: None }));
            }
            let fault = if passed.bytes > self.max_line {
                self.line.clear();
                let max = ByteSize(self.max_line);
                Some(format!("it is larger than {max}; if that is right, raise `max_line`"))
            } else {
                check::fault(&self.line, &self.shape, self.unknown)
            };
            let row = match fault {
                None => Ok(std::mem::take(&mut self.line)),
                Some(fault) => Err(self.refuse(range.clone(), line, &fault)?),
            };
            return Ok(Some(Found { range, bytes, row: Some(row) }));
        }
    }

    fn position(&self) -> u64 {
        self.object.position()
    }
}
