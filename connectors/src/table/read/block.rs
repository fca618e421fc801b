//! Reads, checks and decodes the rows of one block.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Cursor, Read as _, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::source::SourceError;
use anabranch_pipelines::store::Location;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use memmap2::MmapOptions;
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::READS;
use crate::source::object::Failure;
use crate::source::parquet::rows::{failure, implausible, reader};
use crate::table::checksums::Checksums;

/// Rows of one array at most: offsets of nested lists stay small.
const ROWS: usize = 8192;

/// Bytes of a range of a local file from which on it is mapped. A process may have some ten thousand mappings.
const MAPPED: usize = 64 << 10;

/// A shard in its store.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    /// Path relative to the table.
    pub(super) name: String,
    pub(super) location: Location,
    pub(super) bytes: u64,
    /// Rows, if the log knows.
    pub(super) rows: Option<u64>,
}

impl Shard {
    /// What its footer says, with texts and bytes as views, which point into what was read.
    pub(super) async fn footer(&self) -> Result<ArrowReaderMetadata, Failure> {
        let mut file = reader(&self.location, self.bytes);
        let loaded = ArrowReaderMetadata::load_async(&mut file, ArrowReaderOptions::new()).await;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return Err(self.fault(error).await),
        };
        if let Some(fault) = implausible(loaded.metadata(), self.bytes) {
            return Err(Failure::Damaged(fault));
        }
        let schema = loaded.schema();
        let views = Schema::new(schema.fields().iter().map(view).collect::<Fields>());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(views));
        ArrowReaderMetadata::try_new(Arc::clone(loaded.metadata()), options)
            .map_err(|e| Failure::Damaged(e.to_string()))
    }

    /// The rows of some ranges in these columns, all of them read and checked; what is wrong with a range that is
    /// damaged. A row group that several ranges have a part in is read once for all of them, and so is the footer.
    ///
    /// What cannot be right is damage, whichever worker meets it and whatever it wants of the range.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn load(
        &self,
        columns: &Arc<[String]>,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Result<Vec<RecordBatch>, String>>, SourceError> {
        let footer = match self.footer().await {
            Ok(footer) => footer,
            Err(Failure::Store(error)) => return Err(error),
            Err(Failure::Damaged(error)) => {
                return Ok(ranges.iter().map(|_| Err(error.clone())).collect());
            }
        };
        // A footer that makes its reader panic costs its shard: here, and not in the task that asks.
        let (of, wanted, known) = (Arc::clone(columns), ranges.to_vec(), self.rows);
        let choosing = tokio::task::spawn_blocking(move || {
            let choose = |rows: &Range<u64>| chosen(&footer, &of, rows, known);
            let chosen: Vec<Result<Chosen, String>> = wanted.iter().map(choose).collect();
            (footer, chosen)
        });
        let (footer, chosen) = match choosing.await {
            Ok(chosen) => chosen,
            Err(e) => {
                let error = format!("its footer cannot be followed: {e}");
                return Ok(ranges.iter().map(|_| Err(error.clone())).collect());
            }
        };
        let read = self.read(pieces(chosen.iter().flatten())).await?;
        let blocks = ranges.iter().cloned().zip(chosen).map(|(rows, chosen)| {
            let (footer, read, columns) = (footer.clone(), read.clone(), Arc::clone(columns));
            async move {
                let chosen = chosen?;
                let work = move || decode(&footer, read, &chosen, &columns, &rows);
                let decoded = tokio::task::spawn_blocking(work).await;
                decoded.map_err(|e| format!("decoding it failed: {e}"))?
            }
        });
        Ok(stream::iter(blocks).buffered(READS).collect().await)
    }

    /// Reads these ranges of bytes. What the shard is too short for, or is damaged otherwise, is not among them, and
    /// why that is.
    async fn read(&self, ranges: Vec<Range<u64>>) -> Result<Read, SourceError> {
        let got = ranges.into_iter().map(|range| async move {
            match self.bytes(range.clone()).await {
                Ok(got) => Ok((range.start, Ok(got))),
                Err(error) => match self.fault(ParquetError::External(Box::new(error))).await {
                    Failure::Store(error) => Err(error),
                    Failure::Damaged(error) => Ok((range.start, Err(error))),
                },
            }
        });
        let got: Vec<_> = stream::iter(got).buffered(READS).try_collect().await?;
        let (mut pieces, mut damage) = (BTreeMap::new(), None);
        for (start, bytes) in got {
            match bytes {
                Ok(bytes) => {
                    pieces.insert(start, bytes);
                }
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        Ok(Read { pieces: Arc::new(pieces), damage: damage.map(Arc::from), length: self.bytes })
    }
}

impl Shard {
    /// The bytes of a range; fewer, if a local file ends before.
    async fn bytes(&self, range: Range<u64>) -> object_store::Result<Bytes> {
        let Location { store, path, .. } = &self.location;
        let Some(file) = self.location.local_path() else {
            return store.get_range(path, range).await;
        };
        let read = move || mapped(&File::open(file)?, &range);
        let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten();
        read.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                object_store::Error::NotFound { path: path.to_string(), source: source.into() }
            }
            _ => object_store::Error::Generic { store: "local", source: source.into() },
        })
    }

    /// What an error says of the shard. To read behind its end is an error of the store, but a shard that is
    /// shorter than it was is damaged.
    async fn fault(&self, error: ParquetError) -> Failure {
        let failure = failure(&self.location, error);
        let Failure::Store(_) = failure else { return failure };
        match self.location.store.head(&self.location.path).await {
            Ok(there) if there.size != self.bytes => Failure::Damaged(format!(
                "it has {} bytes, and the table's log says {}",
                there.size, self.bytes
            )),
            _ => failure,
        }
    }
}

/// What there is of a range of a local file.
///
/// It is mapped: the store would copy it into memory of its own, and to have a window of fresh pages costs as much as
/// everything else that is done with it. Shards are never written again, so what was checked stays as it was; a disk
/// that fails, or somebody who cuts a shard while it is read, ends the process, as with everything that maps files.
fn mapped(file: &File, range: &Range<u64>) -> io::Result<Bytes> {
    let there = file.metadata()?.len().saturating_sub(range.start);
    let length = usize::try_from(there.min(range.end - range.start)).map_err(io::Error::other)?;
    if length < MAPPED {
        let mut bytes = Vec::with_capacity(length + 1);
        let mut file = file;
        file.seek(SeekFrom::Start(range.start))?;
        file.take(length as u64).read_to_end(&mut bytes)?;
        return Ok(bytes.into());
    }
    // SAFETY: nobody who follows the table's rules writes to a shard that the log names.
    let map = unsafe { MmapOptions::new().offset(range.start).len(length).populate().map(file)? };
    Ok(Bytes::from_owner(map))
}

/// The type in which a column is read.
fn view(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Binary => DataType::BinaryView,
        DataType::Utf8 => DataType::Utf8View,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(view).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// What is read for a range of rows.
struct Chosen {
    groups: Vec<usize>,
    /// The row at which the first of the groups begins.
    first: u64,
    roots: Vec<usize>,
    /// (row group, column, bytes in the file).
    chunks: Vec<(usize, usize, Range<u64>)>,
}

fn chosen(
    footer: &ArrowReaderMetadata,
    columns: &[String],
    rows: &Range<u64>,
    known: Option<u64>,
) -> Result<Chosen, String> {
    let parquet = footer.metadata();
    let all = count(parquet);
    if let Some(known) = known.filter(|known| *known != all) {
        return Err(format!("it has {all} rows, and the table's log says {known}"));
    }
    let root = |name: &String| {
        let found = footer.schema().index_of(name);
        found.map_err(|_| format!("it lacks the column `{name}` of the table"))
    };
    let roots = columns.iter().map(root).collect::<Result<Vec<_>, _>>()?;
    let (mut groups, mut first, mut at, mut chunks) = (Vec::new(), None, 0, Vec::new());
    for (number, group) in parquet.row_groups().iter().enumerate() {
        let end = at + u64::try_from(group.num_rows()).unwrap_or_default();
        if at < rows.end && rows.start < end {
            first.get_or_insert(at);
            groups.push(number);
            for (column, chunk) in group.columns().iter().enumerate() {
                if roots.contains(&footer.parquet_schema().get_column_root_idx(column)) {
                    let (start, length) = chunk.byte_range();
                    chunks.push((number, column, start..start.saturating_add(length)));
                }
            }
        }
        at = end;
    }
    Ok(Chosen { groups, first: first.unwrap_or(0), roots, chunks })
}

/// Rows that a footer names.
pub(super) fn count(parquet: &ParquetMetaData) -> u64 {
    let rows = parquet.row_groups().iter().map(|group| u64::try_from(group.num_rows()));
    rows.fold(0, |all, rows| all.saturating_add(rows.unwrap_or_default()))
}

/// The bytes of all chunks, each once; those side by side in a row group are one range.
fn pieces<'a>(chosen: impl Iterator<Item = &'a Chosen>) -> Vec<Range<u64>> {
    let all: BTreeSet<(usize, u64, u64)> = chosen
        .flat_map(|chosen| &chosen.chunks)
        .map(|(group, _, bytes)| (*group, bytes.start, bytes.end))
        .collect();
    let mut joined: Vec<(usize, Range<u64>)> = Vec::new();
    for (group, start, end) in all {
        match joined.last_mut() {
            Some((of, last)) if *of == group && start <= last.end => last.end = last.end.max(end),
            _ => joined.push((group, start..end)),
        }
    }
    joined.into_iter().map(|(_, range)| range).collect()
}

fn decode(
    footer: &ArrowReaderMetadata,
    read: Read,
    chosen: &Chosen,
    columns: &[String],
    rows: &Range<u64>,
) -> Result<Vec<RecordBatch>, String> {
    let text = |e: ParquetError| e.to_string();
    for (.., range) in &chosen.chunks {
        if read.slice(range).is_err() {
            let short = || format!("it ends before byte {}", range.end);
            return Err(read.damage.as_deref().map_or_else(short, str::to_owned));
        }
    }
    if let Some(sums) = Checksums::of(footer.metadata())? {
        for (group, column, range) in &chosen.chunks {
            let bytes = read.slice(range).map_err(text)?;
            if !sums.fit(*group, *column, &bytes) {
                let path = footer.parquet_schema().column(*column).path().string();
                return Err(format!(
                    "the checksum of column `{path}` in row group {group} is not that of what was written"
                ));
            }
        }
    }
    let roots = chosen.roots.iter().copied();
    let wanted = rows.start - chosen.first..rows.end - chosen.first;
    let wanted = wanted.start as usize..wanted.end as usize;
    let groups =
        chosen.groups.iter().filter_map(|group| footer.metadata().row_groups().get(*group));
    let all: i64 = groups.map(|group| group.num_rows()).sum();
    let selection =
        RowSelection::from_consecutive_ranges([wanted.clone()].into_iter(), all as usize);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(read, footer.clone())
        .with_row_groups(chosen.groups.clone())
        .with_projection(ProjectionMask::roots(footer.parquet_schema(), roots))
        .with_row_selection(selection)
        .with_batch_size(ROWS.min(wanted.len().max(1)))
        .build()
        .map_err(text)?;
    let mut batches = Vec::new();
    let mut found = 0;
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        found += batch.num_rows();
        // In the order in which the table has them, not the file.
        let order: Option<Vec<usize>> =
            columns.iter().map(|name| batch.schema().index_of(name).ok()).collect();
        let order = order.ok_or("a column went missing")?;
        batches.push(batch.project(&order).map_err(|e| e.to_string())?);
    }
    match found == wanted.len() {
        true => Ok(batches),
        false => Err(format!("{found} of {} rows are in it", wanted.len())),
    }
}

/// The ranges of a file that were read, as the Parquet reader asks for them.
#[derive(Debug, Clone)]
struct Read {
    pieces: Arc<BTreeMap<u64, Bytes>>,
    /// Why some of them could not be read.
    damage: Option<Arc<str>>,
    length: u64,
}

impl Read {
    fn slice(&self, range: &Range<u64>) -> Result<Bytes, ParquetError> {
        let outside =
            || ParquetError::EOF(format!("bytes {} to {} were not read", range.start, range.end));
        let (start, piece) = self.pieces.range(..=range.start).next_back().ok_or_else(outside)?;
        let from = range.start - start;
        let until = range.end.saturating_sub(*start);
        match from <= until && until <= piece.len() as u64 {
            true => Ok(piece.slice(from as usize..until as usize)),
            false => Err(outside()),
        }
    }
}

impl Length for Read {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Read {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let (at, piece) = self.pieces.range(..=start).next_back().unzip();
        let end = at.zip(piece).map_or(start, |(at, piece)| at + piece.len() as u64);
        self.slice(&(start..end)).map(Cursor::new)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.slice(&(start..start.saturating_add(length as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blocks_share_is_read_once() {
        let chosen = |chunks: &[(usize, usize, Range<u64>)]| Chosen {
            groups: Vec::new(),
            first: 0,
            roots: Vec::new(),
            chunks: chunks.to_vec(),
        };
        // Two blocks in one row group, the second also in the next, of two columns side by side and one apart.
        let first = [(0, 0, 4..10), (0, 1, 10..20), (0, 3, 30..40)];
        let second = [(1, 0, 40..50), (1, 1, 50..60), (1, 3, 70..80)];
        let (one, other) = (chosen(&first), chosen(&[first.clone(), second].concat()));
        assert_eq!(pieces([&one, &other].into_iter()), [4..20, 30..40, 40..60, 70..80]);
        assert_eq!(pieces([&one].into_iter()), [4..20, 30..40]);
    }
}
