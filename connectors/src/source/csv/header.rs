//! How a delimited file is written, and what its first rows say.

use std::io::{Read, Take};
use std::ops::Range;

use ::csv::{ReaderBuilder, StringRecord};

use crate::source::object::{Failure, Object};

/// Rows that types are inferred from.
const ROWS: usize = 1000;
/// Bytes of them at most.
const BYTES: u64 = 4 << 20;
/// What is wrong with a last row that ends inside quotes.
pub(super) const UNCLOSED: &str = "a quote is never closed";

/// How delimited text is written.
#[derive(Debug, Clone)]
pub(in crate::source) struct Dialect {
    /// `None` goes by the name.
    pub(in crate::source) delimiter: Option<u8>,
    pub(in crate::source) quotes: bool,
    /// Names where there is no header.
    pub(in crate::source) columns: Option<Vec<String>>,
}

impl Dialect {
    /// A reader of records as they stand, header included.
    pub(super) fn reader<R: Read>(&self, name: &str, from: R) -> ::csv::Reader<R> {
        let name = name.to_ascii_lowercase();
        let tabs = [".tsv", ".tsv.gz", ".tsv.zst"].iter().any(|end| name.ends_with(end));
        ReaderBuilder::new()
            .delimiter(self.delimiter.unwrap_or(if tabs { b'\t' } else { b',' }))
            .quoting(self.quotes)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(64 << 10)
            .from_reader(from)
    }

    /// Whether the last row of an object, which stands in this range, ends inside quotes: then a line that is
    /// put behind it is no row of its own. (The reader takes such a row for one that is whole.)
    pub(super) fn is_open(&self, object: &Object, row: Range<u64>) -> Result<bool, Failure> {
        if !self.quotes {
            return Ok(false);
        }
        let mut from = object.again()?;
        from.seek(row.start).map_err(|e| object.failure(e))?;
        let rest = from.take(row.end - row.start).chain(b"\nx\n".as_slice());
        let mut rows = self.reader(&object.split().name, rest);
        let mut row = ::csv::ByteRecord::new();
        let mut count = 0;
        while rows.read_byte_record(&mut row).map_err(|e| failure(object, e))? {
            count += 1;
        }
        Ok(count < 2)
    }
}

/// Columns and first rows of a file.
pub(in crate::source) struct Sample {
    pub(in crate::source) names: Vec<String>,
    pub(in crate::source) rows: Vec<StringRecord>,
}

/// The beginning of a file, or `None` when it is empty.
pub(in crate::source) fn sample(
    dialect: &Dialect,
    object: Object,
) -> Result<Option<Sample>, Failure> {
    let name = object.split().name.clone();
    let mut reader = dialect.reader(&name, object.take(BYTES));
    let damaged = |reader: &::csv::Reader<Take<Object>>, e| failure(reader.get_ref().get_ref(), e);
    let mut row = StringRecord::new();
    let names = match &dialect.columns {
        Some(names) => names.clone(),
        None => match reader.read_record(&mut row) {
            Ok(true) => names(&row)?,
            Ok(false) => return Ok(None),
            Err(error) => return Err(damaged(&reader, error)),
        },
    };
    let mut rows = Vec::new();
    // The last row before the bound may be cut in the middle, and a bad row says nothing of types.
    while rows.len() < ROWS && matches!(reader.read_record(&mut row), Ok(true)) {
        if row.len() == names.len() && reader.position().byte() < BYTES {
            rows.push(row.clone());
        }
    }
    Ok(Some(Sample { names, rows }))
}

/// The columns and the first rows of a table of this name, CSV or TSV, from the bytes that it begins with; the
/// last row may be cut. `None`, when there is no header.
pub fn first_rows(
    name: &str,
    bytes: &[u8],
    most: usize,
) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let dialect = Dialect { delimiter: None, quotes: true, columns: None };
    let mut rows =
        dialect.reader(name, bytes).into_byte_records().map_while(Result::ok).map(|row| {
            row.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>()
        });
    let mut names = rows.next()?;
    if let Some(first) = names.first_mut() {
        *first = first.trim_start_matches('\u{feff}').to_owned();
    }
    Some((names, rows.take(most).collect()))
}

/// The columns that a header names.
pub(super) fn names(header: &StringRecord) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = Vec::new();
    for name in header {
        // A byte order mark is no part of the first name.
        let name = if names.is_empty() { name.trim_start_matches('\u{feff}') } else { name };
        if names.iter().any(|other| other == name) {
            return Err(Failure::Damaged(format!("its header names `{name}` twice")));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

pub(super) fn failure(object: &Object, error: ::csv::Error) -> Failure {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => object.failure(error),
        ::csv::ErrorKind::Utf8 { err, .. } => Failure::Damaged(err.to_string()),
        other => Failure::Damaged(format!("{other:?}")),
    }
}

/// A whole file: its columns and rows. A bad row is an error.
pub(in crate::source) fn read_all(
    dialect: &Dialect,
    object: Object,
) -> Result<(Vec<String>, Vec<StringRecord>), Failure> {
    let name = object.split().name.clone();
    let mut reader = dialect.reader(&name, object);
    let mut row = StringRecord::new();
    if !reader.read_record(&mut row).map_err(|e| failure(reader.get_ref(), e))? {
        return Err(Failure::Damaged("it is empty".to_owned()));
    }
    let names = names(&row)?;
    let mut rows = Vec::new();
    while reader.read_record(&mut row).map_err(|e| failure(reader.get_ref(), e))? {
        if row.len() != names.len() {
            let line = row.position().map_or(0, ::csv::Position::line);
            let (found, expected) = (row.len(), names.len());
            let message = format!("line {line}: {found} values, but there are {expected} columns");
            return Err(Failure::Damaged(message));
        }
        rows.push(row.clone());
    }
    let last = rows.last().and_then(StringRecord::position).map(|p| (p.line(), p.byte()));
    if let Some((line, start)) = last
        && dialect.is_open(reader.get_ref(), start..reader.position().byte())?
    {
        return Err(Failure::Damaged(format!("line {line}: {UNCLOSED}")));
    }
    Ok((names, rows))
}
