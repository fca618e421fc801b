//! The trait that every source implements.
//!
//! A source lists its *splits* (pieces that are read in order), *measures* them (where records begin
//! and how large they are, without building them) and *opens* ranges of them as batches. The run cuts
//! the measured records into parts and commits by count and bytes, so the cuts of a batch job follow
//! from the data alone; a part then is read by whichever worker it is routed to.
//!
//! *Offsets* are whatever number suits the format (byte position of a line, index of a row), as long as
//! they grow: a record at offset `o` belongs to the range `from..to` when `from <= o < to`, so
//! resuming needs one integer.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A piece of a source that is read in order: a file, an archive, a group of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Name relative to the source's root, unique in the source, e.g. `2024/a.tar`.
    pub name: String,
    /// Size in bytes as listed.
    pub bytes: u64,
    /// What tells a changed object from the listed one: an ETag, or modification time and size.
    pub version: String,
}

/// A range of one split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRange {
    /// The split.
    pub split: Arc<Split>,
    /// Offsets `from..to`.
    pub range: Range<u64>,
}

/// What measuring found: `records` records that begin at `range.start` and end before `range.end`.
///
/// Cuts fall between marks, so a source whose records can be told apart yields one mark per record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Offsets that these records take.
    pub range: Range<u64>,
    /// How many records they are.
    pub records: u64,
    /// How many bytes they take as stored.
    pub bytes: u64,
}

/// How large the batches of a read shall be; whichever bound is reached first ends a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// Records per batch, at least 1.
    pub records: usize,
    /// Bytes per batch; a larger single record is a batch of its own.
    pub bytes: usize,
}

/// What a source reads: rows, and records that it could not read.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// Rows in source order; the first column is [`KEY`](crate::record::KEY), or
    /// [`ID`](crate::record::ID) and then the key where rows bring ids of their own. May be empty.
    pub records: RecordBatch,
    /// Records that became no row, in the order in which they were read, as the rows are.
    pub refused: Vec<Unreadable>,
}

/// A record that a source could not read. It becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The key that the record would have had.
    pub key: String,
    /// Where it stands: the split's name and the record's offsets.
    pub split: String,
    /// Offsets of the record in the split.
    pub range: Range<u64>,
    /// What is wrong with it.
    pub error: String,
    /// The bytes as found, when there are any and they are small.
    pub bytes: Option<Vec<u8>>,
}

/// What a source can do, so that a plan can refuse what it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Any record may be opened alone at little cost, so `order = { shuffle = SEED }` is possible.
    pub random_access: bool,
    /// May emit references instead of bytes.
    pub references: bool,
    /// An offset names the same record in a split that was changed, as the number of a row does, or the one
    /// record of a file; so a refused record can be mended and read again. Positions in bytes move.
    pub stable_offsets: bool,
    /// Listing it again may find new splits, so `mode = "stream"` is possible.
    pub grows: bool,
}

/// In which order, and how often, a source is read.
///
/// A shuffle is a keyed permutation of all records, another one in each pass; an offset in it is
/// (pass, position).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Seed of the permutation; `None` reads in listing order.
    pub shuffle: Option<u64>,
    /// How often the whole source is read, at least once.
    pub passes: u32,
}

impl Default for Order {
    fn default() -> Self {
        Self { shuffle: None, passes: 1 }
    }
}

/// Why a source failed as a whole; a single bad record is an [`Unreadable`] instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The options do not make a source.
    #[error("{0}")]
    Options(String),
    /// Nothing is there to read.
    #[error("nothing to read at {location}: {hint}")]
    Nothing {
        /// Where it looked.
        location: String,
        /// What to do.
        hint: String,
    },
    /// The data cannot be what the options say, for all records alike.
    #[error("{location}: {message}")]
    Format {
        /// The object.
        location: String,
        /// What is wrong with it.
        message: String,
    },
    /// The store failed, after retries.
    #[error("{location}: {}", crate::store::explain(source))]
    Store {
        /// The object.
        location: String,
        /// The store's error.
        source: object_store::Error,
    },
}

/// Marks of a split, in order.
pub type Marks = BoxStream<'static, Result<Mark, SourceError>>;
/// Batches of a read, in order.
pub type SourceBatches = BoxStream<'static, Result<SourceBatch, SourceError>>;

/// Something that records are read from. See the [module documentation](self).
///
/// Every implementation runs the conformance suite `anabranch_connectors::conformance::source`.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The kind in job files: `files`, `tar`, `csv`, ...
    fn kind(&self) -> &'static str;

    /// The options that determine what is read, for the plan's hash.
    fn options(&self) -> serde_json::Value;

    /// What this source can do.
    fn abilities(&self) -> Abilities;

    /// Whether whatever is listed is whole, as an object in a store is. A local file may still be written, so
    /// a stream waits until two listings in a row agree about it.
    fn whole(&self) -> bool {
        false
    }

    /// The schema of every batch, its first column being [`KEY`](crate::record::KEY) (or
    /// [`ID`](crate::record::ID), then the key). May look into the data.
    ///
    /// # Errors
    /// When the data is missing or not of this format.
    async fn schema(&self) -> Result<SchemaRef, SourceError>;

    /// All splits in source order. In a stream this is called again and may find more; splits are never
    /// changed once they are whole, and may be deleted once they are committed.
    ///
    /// # Errors
    /// When the listing fails.
    async fn splits(&self) -> Result<Vec<Split>, SourceError>;

    /// Where the records of `split` from offset `from` on begin and how large they are.
    ///
    /// The marks follow one another without gaps, and depend on the split's content alone. A damaged
    /// remainder is one mark with one record, which [`open`](Self::open) refuses: a bad file costs its
    /// records, not the run.
    fn measure(&self, split: Arc<Split>, from: u64) -> Marks;

    /// The records of these ranges, in this order. Batches may span ranges but never reorder records.
    ///
    /// Every record that [`measure`](Self::measure) counted in the ranges is a row or an [`Unreadable`].
    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches;
}
