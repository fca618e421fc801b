//! Rows one by one, each with its byte range.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use ::csv::{ByteRecord, Position, StringRecord};
use anabranch_pipelines::quantity::ByteSize;

use super::header::{self, Dialect};
use super::{Row, ValueType};
use crate::source::lines::Lines;
use crate::source::object::{Failure, Object};
use crate::source::scan::{Bad, Found, KEPT, Scanner, key};

/// The rows of one file.
pub(super) struct Rows {
    reader: ::csv::Reader<Bounded>,
    /// Offset of the first row.
    first: u64,
    max_row: u64,
    dialect: Dialect,
    types: Vec<(String, ValueType)>,
    order: Option<Arc<[usize]>>,
    lines: Lines,
    record: ByteRecord,
}

impl Rows {
    /// Reads the header and stands at the first row.
    pub(super) fn open(
        object: Object,
        dialect: &Dialect,
        types: &[(String, ValueType)],
        max_row: u64,
    ) -> Result<Self, Failure> {
        let name = object.split().name.clone();
        let mut rows = Self {
            reader: dialect.reader(&name, Bounded::new(object, max_row)),
            first: 0,
            max_row,
            dialect: dialect.clone(),
            types: types.to_vec(),
            order: None,
            lines: Lines::default(),
            record: ByteRecord::new(),
        };
        if dialect.columns.is_none() {
            let mut names = StringRecord::new();
            if rows.reader.read_record(&mut names).map_err(|e| rows.failure(e))? {
                if rows.is_open(&(0..rows.position()))? {
                    return Err(Failure::Damaged(format!("in its header {}", header::UNCLOSED)));
                }
                rows.order = order(&header::names(&names)?, types)?;
            }
            rows.first = rows.position();
        }
        Ok(rows)
    }

    fn object(&self) -> &Object {
        &self.reader.get_ref().object
    }

    fn failure(&self, error: ::csv::Error) -> Failure {
        header::failure(self.object(), error)
    }

    /// Whether the row that was just read is the last one, and ends inside quotes.
    fn is_open(&self, row: &Range<u64>) -> Result<bool, Failure> {
        // It went on to the end of the object, or the reader would not have asked for more.
        Ok(self.reader.get_ref().ended && self.dialect.is_open(self.object(), row.clone())?)
    }

    /// What is wrong with a row, if anything is.
    fn fault(&self, row: &Row) -> Option<String> {
        let (found, expected) = (row.values.len(), self.types.len());
        if found != expected {
            return Some(format!("it has {found} values, but there are {expected} columns"));
        }
        let (name, kind, value) = self
            .types
            .iter()
            .enumerate()
            .filter_map(|(at, (name, kind))| Some((name, *kind, row.get(at)?)))
            .find(|(_, kind, value)| !kind.reads(value))?;
        let value: String = value.chars().take(40).collect();
        let kind = format!("{kind:?}").to_lowercase();
        Some(format!(
            "`{name}` is {value:?}, which is no {kind}; if it may be, say `types = {{ {name} = \"string\" }}`"
        ))
    }

    fn refuse(&mut self, range: Range<u64>, fault: &str) -> Result<Bad, Failure> {
        let object = &self.reader.get_ref().object;
        let line = self.lines.at(range.start, object)?;
        let kept = range.end.min(range.start + KEPT as u64);
        let bytes = match kept == range.end || fault == header::UNCLOSED {
            true => Some(object.again()?.range(range.start..kept)?),
            false => None,
        };
        let key = key(object.split(), range.start);
        Ok(Bad { key, error: format!("line {line}: {fault}"), bytes })
    }
}

impl Scanner for Rows {
    type Row = Row;

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        let offset = offset.max(self.first);
        if offset == self.position() {
            return Ok(());
        }
        let mut position = Position::new();
        position.set_byte(offset);
        self.reader.get_mut().next_row();
        self.reader.seek_raw(SeekFrom::Start(offset), position).map_err(|e| self.failure(e))
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<Row>>, Failure> {
        let start = self.position();
        self.reader.get_mut().next_row();
        let more = self.reader.read_byte_record(&mut self.record);
        if !more.map_err(|e| self.failure(e))? {
            return Ok(None);
        }
        let range = start..self.position();
        let bytes = range.end - range.start;
        if bytes > self.max_row {
            return Err(Failure::Damaged(too_long(self.max_row)));
        }
        if measured {
            return Ok(Some(Found { range, bytes, row: None }));
        }
        if self.is_open(&range)? {
            let row = Some(Err(self.refuse(range.clone(), header::UNCLOSED)?));
            return Ok(Some(Found { range, bytes, row }));
        }
        let row = match StringRecord::from_byte_record(self.record.clone()) {
            Ok(values) => {
                let row = Row { values, order: self.order.clone() };
                match self.fault(&row) {
                    None => Ok(row),
                    Some(fault) => Err(self.refuse(range.clone(), &fault)?),
                }
            }
            Err(_) => Err(self.refuse(range.clone(), "it is not UTF-8")?),
        };
        Ok(Some(Found { range, bytes, row: Some(row) }))
    }

    fn position(&self) -> u64 {
        self.reader.position().byte()
    }
}

/// For each column its place in the rows, if this header has another order.
fn order(names: &[String], types: &[(String, ValueType)]) -> Result<Option<Arc<[usize]>>, Failure> {
    let order: Option<Vec<usize>> =
        types.iter().map(|(name, _)| names.iter().position(|other| other == name)).collect();
    match order {
        Some(order) if names.len() == types.len() => {
            let same = order.iter().enumerate().all(|(at, place)| at == *place);
            Ok((!same).then(|| order.into()))
        }
        _ => {
            let expected: Vec<&str> = types.iter().map(|(name, _)| name.as_str()).collect();
            Err(Failure::Damaged(format!(
                "its columns are ({}), those of the first file ({})",
                names.join(", "),
                expected.join(", ")
            )))
        }
    }
}

fn too_long(max_row: u64) -> String {
    let max_row = ByteSize(max_row);
    format!("a row is larger than {max_row}: a quote may be unclosed; else raise `max_row`")
}

/// An object that gives out only so many bytes for one row.
struct Bounded {
    object: Object,
    max_row: u64,
    left: u64,
    /// Whether the end of the object was seen.
    ended: bool,
}

impl Bounded {
    /// What the reader may read ahead.
    const AHEAD: u64 = 128 << 10;

    fn new(object: Object, max_row: u64) -> Self {
        Self { object, max_row, left: max_row + Self::AHEAD, ended: false }
    }

    fn next_row(&mut self) {
        self.left = self.max_row + Self::AHEAD;
    }
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, too_long(self.max_row)));
        }
        let count = self.object.read(into)?;
        self.ended = count == 0 && !into.is_empty();
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(to) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.object.seek(to)?;
        self.ended = false;
        Ok(to)
    }
}
