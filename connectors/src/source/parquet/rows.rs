//! Rows of Parquet files: measured from footers, read by row selections.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use ::parquet::arrow::async_reader::AsyncFileReader;
use ::parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use anabranch_pipelines::source::{
    BatchSize, Mark, Marks, SourceBatch, SourceBatches, SourceError, Split, SplitRange, Unreadable,
};
use anabranch_pipelines::store::Location;
use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::TryStreamExt;
use object_store::ObjectStoreExt;
use tokio::runtime::Handle;

use crate::source::glob::look;
use crate::source::object::Failure;
use crate::source::scan::{Output, key, on_a_thread, one_by_one};

/// Where a file that cannot be read ends.
const END: u64 = i64::MAX as u64;
/// Footers that are kept.
const FOOTERS: usize = 16;
/// Rows that one byte of a file may stand for: a column of one value takes hardly any.
const DENSEST: u64 = 1 << 16;
/// So many rows are believed of any file.
const FEW: u64 = 1 << 20;
/// Marks that travel together.
const MARKS: usize = 256;

/// What a source makes of the rows of its files.
pub(in crate::source) trait Rows: Send + Sync + 'static {
    /// Where a split is.
    fn location(&self, split: &Split) -> Location;
    /// Whether a listed object is still the one that is there, where that is not certain anyway.
    fn verify(&self) -> bool;
    /// Why a file with these columns cannot be read as this source's rows.
    fn fault(&self, footer: &ArrowReaderMetadata) -> Option<String>;
    /// Rows that are refused, in order, and why.
    fn faults(&self, _: &RecordBatch) -> Vec<(usize, String)> {
        Vec::new()
    }
    /// Rows as the source gives them; `rows` are their numbers.
    fn adapt(
        &self,
        split: &Split,
        rows: &[u64],
        batch: &RecordBatch,
    ) -> Result<RecordBatch, SourceError>;
}

/// Footers by split, the last ones used.
#[derive(Default)]
pub(in crate::source) struct Footers {
    kept: Mutex<VecDeque<(Split, ArrowReaderMetadata)>>,
}

impl Footers {
    /// The footer of a split's file. Blocks.
    pub(in crate::source) fn of<R: Rows + ?Sized>(
        &self,
        source: &R,
        split: &Split,
    ) -> Result<ArrowReaderMetadata, Failure> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, footer)) = lock().iter().find(|(kept, _)| kept == split) {
            return Ok(footer.clone());
        }
        let location = source.location(split);
        let size = if source.verify() {
            let found = Handle::current().block_on(look(&location));
            let found =
                found.map_err(|e| failure(&location, ParquetError::External(Box::new(e))))?;
            if found.version != split.version {
                return Err(Failure::Damaged("it changed since it was listed".to_owned()));
            }
            found.bytes
        } else {
            split.bytes
        };
        let mut reader = reader(&location, size);
        let options = ArrowReaderOptions::new();
        let load = ArrowReaderMetadata::load_async(&mut reader, options);
        let footer = Handle::current().block_on(load).map_err(|e| failure(&location, e))?;
        if let Some(fault) = implausible(footer.metadata(), size).or_else(|| source.fault(&footer))
        {
            return Err(Failure::Damaged(fault));
        }
        let mut kept = lock();
        if kept.len() >= FOOTERS {
            kept.pop_front();
        }
        kept.push_back((split.clone(), footer.clone()));
        Ok(footer)
    }
}

/// Why what a footer says cannot be, if so. Of its rows nothing else is known how many there are, and every one of
/// them is measured; and whoever asks where a column stands takes the footer's word for it, so a place that is no
/// part of the file is found here and nowhere else.
pub(crate) fn implausible(footer: &ParquetMetaData, size: u64) -> Option<String> {
    let mut all = 0_u64;
    for (at, group) in footer.row_groups().iter().enumerate() {
        let rows = group.num_rows();
        let fits = |column: &ColumnChunkMetaData| match column.column_descr().max_rep_level() {
            0 => column.num_values() == rows,
            _ => column.num_values() >= rows,
        };
        if let Some(column) = group.columns().iter().find(|column| !fits(column)) {
            let (path, values) = (column.column_path().string(), column.num_values());
            return Some(format!(
                "its footer is wrong: row group {at} has {rows} rows, and {values} values of `{path}`"
            ));
        }
        if let Some(column) = group.columns().iter().find(|column| !stands_in(column, size)) {
            let path = column.column_path().string();
            return Some(format!(
                "its footer is wrong: `{path}` of row group {at} stands nowhere in its {size} bytes"
            ));
        }
        all = u64::try_from(rows).map_or(u64::MAX, |rows| all.saturating_add(rows));
    }
    let most = size.saturating_mul(DENSEST).max(FEW);
    (all > most).then(|| format!("its footer is wrong: {size} bytes hold no {all} rows"))
}

/// Whether the bytes of a column are some of the file's.
fn stands_in(column: &ColumnChunkMetaData, size: u64) -> bool {
    let at = |offset: i64| u64::try_from(offset).ok();
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let end = at(start).zip(at(column.compressed_size())).and_then(|(at, n)| at.checked_add(n));
    at(column.data_page_offset()).is_some_and(|at| at <= size) && end.is_some_and(|end| end <= size)
}

/// A file in a store, as the Parquet reader asks for it.
pub(crate) struct Stored {
    location: Location,
    size: u64,
}

impl AsyncFileReader for Stored {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        let Location { store, path, .. } = &self.location;
        let got = async move { store.get_range(path, range).await };
        got.map(|got| got.map_err(|e| ParquetError::External(Box::new(e)))).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let size = self.size;
        let load = ParquetMetaDataReader::new().with_arrow_reader_options(options);
        load.load_and_finish(self, size).map(|footer| footer.map(Arc::new)).boxed()
    }
}

pub(crate) fn reader(location: &Location, size: u64) -> Stored {
    Stored { location: location.clone(), size }
}

/// One mark per row, as large as the rows of its group are on average.
pub(in crate::source) fn measure<R: Rows>(
    source: Arc<R>,
    footers: Arc<Footers>,
    split: Arc<Split>,
    from: u64,
) -> Marks {
    let work = move |output: Output<Vec<Mark>>| {
        if from >= END {
            return Ok(());
        }
        let footer = match footers.of(source.as_ref(), &split) {
            Ok(footer) => footer,
            Err(Failure::Store(error)) => return Err(error),
            Err(Failure::Damaged(_)) => {
                let mark = Mark { range: from..END, records: 1, bytes: split.bytes };
                output.give(Ok(vec![mark]));
                return Ok(());
            }
        };
        let mut row = 0;
        for (rows, bytes) in groups(&footer) {
            let end = row + rows;
            let mut at = row.max(from);
            while at < end {
                let until = end.min(at + MARKS as u64);
                let marks = (at..until).map(|at| Mark { range: at..at + 1, records: 1, bytes });
                if !output.give(Ok(marks.collect())) {
                    return Ok(());
                }
                at = until;
            }
            row = end;
        }
        Ok(())
    };
    one_by_one(on_a_thread(1, work))
}

/// Rows of each row group, and how large one is on average.
fn groups(footer: &ArrowReaderMetadata) -> impl Iterator<Item = (u64, u64)> {
    footer.metadata().row_groups().iter().map(|group| {
        let rows = u64::try_from(group.num_rows()).unwrap_or_default();
        let bytes = u64::try_from(group.total_byte_size()).unwrap_or_default();
        (rows, bytes / rows.max(1))
    })
}

/// The rows of these ranges, in this order.
pub(in crate::source) fn open<R: Rows>(
    source: Arc<R>,
    footers: Arc<Footers>,
    ranges: Vec<SplitRange>,
    size: BatchSize,
) -> SourceBatches {
    on_a_thread(1, move |output| {
        for (split, ranges) in ascending(ranges) {
            let more = match footers.of(source.as_ref(), &split) {
                Ok(footer) => read(source.as_ref(), &footer, &split, ranges, size, &output)?,
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Damaged(error)) => {
                    let range =
                        ranges.first().map_or(0, |r| r.start)..ranges.last().map_or(END, |r| r.end);
                    give_refused(source.as_ref(), &split, vec![range], &error, &output)?
                }
            };
            if !more {
                return Ok(());
            }
        }
        Ok(())
    })
}

/// Ranges that one pass over a file can read: of one split, each behind the one before.
fn ascending(ranges: Vec<SplitRange>) -> Vec<(Arc<Split>, Vec<Range<u64>>)> {
    let mut passes: Vec<(Arc<Split>, Vec<Range<u64>>)> = Vec::new();
    for SplitRange { split, range } in ranges {
        match passes.last_mut() {
            Some((last, ranges))
                if *last == split && ranges.last().is_some_and(|last| last.end <= range.start) =>
            {
                match ranges.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => ranges.push(range),
                }
            }
            _ => passes.push((split, vec![range])),
        }
    }
    passes
}

/// Reads one pass over a file; whether anybody wants more.
fn read<R: Rows + ?Sized>(
    source: &R,
    footer: &ArrowReaderMetadata,
    split: &Split,
    ranges: Vec<Range<u64>>,
    size: BatchSize,
    output: &Output<SourceBatch>,
) -> Result<bool, SourceError> {
    let total: u64 = groups(footer).map(|(rows, _)| rows).sum();
    let largest = groups(footer).map(|(_, bytes)| bytes).max().unwrap_or(0).max(1);
    let by_bytes = size.bytes as u64 / largest;
    let most = size.records.min(usize::try_from(by_bytes).unwrap_or(usize::MAX)).clamp(1, 1 << 16);
    let ranges: Vec<Range<u64>> = ranges
        .into_iter()
        .map(|range| range.start.min(total)..range.end.min(total))
        .filter(|range| range.start < range.end)
        .collect();
    let location = source.location(split);
    let mut numbers = ranges.iter().cloned().flatten();
    let selection = ranges.iter().map(|range| range.start as usize..range.end as usize);
    let selection = RowSelection::from_consecutive_ranges(selection, total as usize);
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(
        reader(&location, split.bytes),
        footer.clone(),
    )
    .with_row_selection(selection)
    .with_batch_size(most);
    let handle = Handle::current();
    let refuse = |mut numbers: Vec<Range<u64>>, error: ParquetError| match failure(&location, error)
    {
        Failure::Store(error) => Err(error),
        Failure::Damaged(error) => {
            give_refused(source, split, std::mem::take(&mut numbers), &error, output)
        }
    };
    let mut stream = match builder.build() {
        Ok(stream) => stream,
        Err(error) => return refuse(numbers.map(|row| row..row + 1).collect(), error),
    };
    loop {
        match handle.block_on(stream.try_next()) {
            Ok(None) => return Ok(true),
            Ok(Some(batch)) => {
                let rows: Vec<u64> = numbers.by_ref().take(batch.num_rows()).collect();
                if !output.give(adapt(source, split, rows, batch)) {
                    return Ok(false);
                }
            }
            // What cannot be decoded hides the rows behind it: each of them is refused.
            Err(error) => return refuse(numbers.map(|row| row..row + 1).collect(), error),
        }
    }
}

/// Rows without those that are refused.
fn adapt<R: Rows + ?Sized>(
    source: &R,
    split: &Split,
    mut rows: Vec<u64>,
    mut batch: RecordBatch,
) -> Result<SourceBatch, SourceError> {
    let mut faults: BTreeMap<u64, String> = BTreeMap::new();
    for (row, fault) in source.faults(&batch) {
        if let Some(row) = rows.get(row) {
            faults.entry(*row).or_insert(fault);
        }
    }
    if !faults.is_empty() {
        let kept = rows.iter().map(|row| Some(!faults.contains_key(row))).collect();
        batch = filter_record_batch(&batch, &kept).map_err(|e| SourceError::Format {
            location: split.name.clone(),
            message: e.to_string(),
        })?;
        rows.retain(|row| !faults.contains_key(row));
    }
    let refused = faults.into_iter().map(|(row, error)| Unreadable {
        key: key(split, row),
        split: split.name.clone(),
        range: row..row + 1,
        error,
        bytes: None,
    });
    let records = source.adapt(split, &rows, &batch)?;
    Ok(SourceBatch { records, refused: refused.collect() })
}

/// Some columns of the first rows of a file. Blocks.
pub(in crate::source) fn first(
    location: &Location,
    split: &Split,
    footer: &ArrowReaderMetadata,
    columns: &[usize],
    rows: u64,
) -> Result<RecordBatch, Failure> {
    let reader = reader(location, split.bytes);
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer.clone());
    let only = ProjectionMask::roots(footer.parquet_schema(), columns.iter().copied());
    let builder = builder.with_projection(only).with_limit(rows as usize);
    let empty = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
    let mut stream =
        builder.with_batch_size(rows as usize).build().map_err(|error| failure(location, error))?;
    let first = Handle::current().block_on(stream.try_next());
    Ok(first.map_err(|error| failure(location, error))?.unwrap_or(empty))
}

fn give_refused<R: Rows + ?Sized>(
    source: &R,
    split: &Split,
    ranges: Vec<Range<u64>>,
    error: &str,
    output: &Output<SourceBatch>,
) -> Result<bool, SourceError> {
    let refused = ranges.into_iter().map(|range| Unreadable {
        key: key(split, range.start),
        split: split.name.clone(),
        range,
        error: error.to_owned(),
        bytes: None,
    });
    let records = source.adapt(
        split,
        &[],
        &RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
    )?;
    Ok(output.give(Ok(SourceBatch { records, refused: refused.collect() })))
}

pub(crate) fn failure(location: &Location, error: ParquetError) -> Failure {
    let store = |source: object_store::Error| match source {
        object_store::Error::NotFound { .. } => {
            Failure::Damaged("it is not there any more".to_owned())
        }
        source => Failure::Store(SourceError::Store { location: location.url.clone(), source }),
    };
    match error {
        ParquetError::External(error) => match error.downcast::<object_store::Error>() {
            Ok(error) => store(*error),
            Err(error) => Failure::Damaged(error.to_string()),
        },
        error => Failure::Damaged(error.to_string()),
    }
}
