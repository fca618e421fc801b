//! Objects of records of one size: IDX and CIFAR. Offsets are numbers of records.

use std::io::{BufRead, Read};

use super::object::{Failure, Object};
use super::scan::{Found, Scanner};

/// Where records stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes before the first record.
    pub(super) header: u64,
    /// Bytes of a record.
    pub(super) record: u64,
    /// How many there are, where the object says so.
    pub(super) count: Option<u64>,
}

/// A record's number and bytes.
pub(super) struct Numbered {
    pub(super) index: u64,
    pub(super) bytes: Vec<u8>,
    /// The byte of the same number in the object beside it.
    pub(super) label: Option<u8>,
}

/// Records one by one.
pub(super) struct Fixed {
    object: Object,
    layout: Layout,
    next: u64,
    /// One byte per record, in another object.
    labels: Option<(Object, Layout)>,
}

impl Fixed {
    /// An object that stands behind its header, and the labels that belong to its records.
    pub(super) fn new(object: Object, layout: Layout, labels: Option<(Object, Layout)>) -> Self {
        Self { object, layout, next: 0, labels }
    }

    fn place(&self, index: u64) -> u64 {
        self.layout.header.saturating_add(index.saturating_mul(self.layout.record))
    }

    /// Nothing may stand behind the last record.
    fn end(&mut self) -> Result<Option<Found<Numbered>>, Failure> {
        let count = self.next;
        self.pass_to(self.place(count))?;
        match self.object.fill_buf() {
            Ok([]) => Ok(None),
            Ok(_) => Err(Failure::Damaged(format!(
                "more bytes follow the {count} records that it declares"
            ))),
            Err(error) => Err(self.object.failure(error)),
        }
    }

    fn pass_to(&mut self, to: u64) -> Result<(), Failure> {
        match self.object.position() == to {
            true => Ok(()),
            false => self.object.seek(to).map_err(|e| self.object.failure(e)),
        }
    }

    /// A record that is cut, or none at all.
    fn cut(&self, found: u64) -> Result<Option<Found<Numbered>>, Failure> {
        let (index, record) = (self.next, self.layout.record);
        match (found, self.layout.count) {
            (0, None) => Ok(None),
            (_, None) => {
                Err(Failure::Damaged(format!("record {index} has {found} of {record} bytes")))
            }
            (_, Some(count)) => Err(Failure::Damaged(format!(
                "it declares {count} records and ends inside or before record {index}"
            ))),
        }
    }

    fn label(&mut self, index: u64) -> Result<Option<u8>, Failure> {
        let Some((labels, layout)) = &mut self.labels else { return Ok(None) };
        let mut label = [0];
        let read = labels.seek(layout.header + index).and_then(|()| labels.read_exact(&mut label));
        match read {
            Ok(()) => Ok(label.first().copied()),
            Err(error) => match labels.failure(error) {
                Failure::Damaged(error) => {
                    Err(Failure::Damaged(format!("its labels {}: {error}", labels.url())))
                }
                failed => Err(failed),
            },
        }
    }
}

impl Scanner for Fixed {
    type Row = Numbered;

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        self.next = offset;
        self.pass_to(self.place(offset))
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<Numbered>>, Failure> {
        let (index, record) = (self.next, self.layout.record);
        if self.layout.count == Some(index) {
            return self.end();
        }
        let (from, to) = (self.place(index), self.place(index + 1));
        let row = if measured {
            // Of a plain object the size tells, of a packed one only reading it.
            let end = match self.object.size() {
                Some(size) => size.min(to),
                None => {
                    self.pass_to(to)?;
                    self.object.position()
                }
            };
            if end < to {
                return self.cut(end.saturating_sub(from));
            }
            None
        } else {
            self.pass_to(from)?;
            let mut bytes = Vec::with_capacity(record.min(1 << 20) as usize);
            let read = (&mut self.object).take(record).read_to_end(&mut bytes);
            read.map_err(|e| self.object.failure(e))?;
            if (bytes.len() as u64) < record {
                return self.cut(bytes.len() as u64);
            }
            Some(Ok(Numbered { index, bytes, label: self.label(index)? }))
        };
        self.next = index + 1;
        Ok(Some(Found { range: index..index + 1, bytes: record, row }))
    }

    fn position(&self) -> u64 {
        self.next
    }
}
