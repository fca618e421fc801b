//! The rows of one input that wait for a partner.
//!
//! Rows are kept in chunks of columns as they were absorbed, copied out of their batches; a row that leaves
//! is marked, and its bytes go when more than half of the rows are gone.

use std::collections::{HashMap, VecDeque};

use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::bytes_of;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;

use super::key::Keys;

/// Chunks are merged when there are so many, lest small ones cost more than their rows.
const CHUNKS: usize = 64;
/// What a row costs beside its columns and the bytes of its key.
const ENTRY: usize = 64;

/// Where a row stands: its chunk, and its place there.
pub(super) type At = (usize, usize);

/// Rows of one input, found by key, in order of arrival.
pub(super) struct Side {
    schema: SchemaRef,
    on: Vec<String>,
    chunks: Vec<Chunk>,
    index: HashMap<Box<[u8]>, VecDeque<At>>,
    live: usize,
    bytes: usize,
}

struct Chunk {
    rows: RecordBatch,
    live: Vec<bool>,
    matched: Vec<bool>,
}

impl Side {
    pub(super) fn new(schema: &SchemaRef, on: &[String]) -> Self {
        Self {
            schema: SchemaRef::clone(schema),
            on: on.to_vec(),
            chunks: Vec::new(),
            index: HashMap::new(),
            live: 0,
            bytes: 0,
        }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows of a key, oldest first.
    pub(super) fn find(&self, key: &[u8]) -> impl Iterator<Item = At> {
        self.index.get(key).into_iter().flatten().copied()
    }

    /// Takes the oldest row of a key out. Its columns can be [gathered](Self::rows) until [`tidy`](Self::tidy).
    pub(super) fn pop(&mut self, key: &[u8]) -> Option<At> {
        let rows = self.index.get_mut(key)?;
        let at = rows.pop_front();
        if rows.is_empty() {
            self.index.remove(key);
        }
        let at = at?;
        if let Some(live) = self.chunks.get_mut(at.0).and_then(|chunk| chunk.live.get_mut(at.1)) {
            *live = false;
            self.live -= 1;
        }
        Some(at)
    }

    /// Notes that a row, which stays, has had a partner.
    pub(super) fn mark(&mut self, (chunk, row): At) {
        let matched = self.chunks.get_mut(chunk).and_then(|chunk| chunk.matched.get_mut(row));
        matched.into_iter().for_each(|matched| *matched = true);
    }

    /// The next chunk's number, whose rows [`keep`](Self::keep) adds.
    pub(super) fn next_chunk(&self) -> usize {
        self.chunks.len()
    }

    /// Makes a row that is about to be kept known under its key.
    pub(super) fn announce(&mut self, key: Box<[u8]>, at: At) {
        self.bytes += key.len() + ENTRY;
        self.index.entry(key).or_default().push_back(at);
    }

    /// Keeps these rows of a batch, in the order in which they were announced.
    pub(super) fn keep(
        &mut self,
        batch: &RecordBatch,
        rows: &[usize],
        matched: Vec<bool>,
    ) -> Result<(), OperatorError> {
        if rows.is_empty() {
            return Ok(());
        }
        let take = UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
        let rows = take_record_batch(batch, &take)?;
        self.bytes += bytes_of(&rows);
        self.live += rows.num_rows();
        let live = vec![true; rows.num_rows()];
        self.chunks.push(Chunk { rows, live, matched });
        Ok(())
    }

    /// The columns of these rows.
    pub(super) fn rows(&self, at: &[At]) -> Result<RecordBatch, OperatorError> {
        if at.is_empty() {
            return Ok(RecordBatch::new_empty(SchemaRef::clone(&self.schema)));
        }
        let chunks: Vec<&RecordBatch> = self.chunks.iter().map(|chunk| &chunk.rows).collect();
        Ok(interleave_record_batch(&chunks, at)?)
    }

    /// The rows that are kept, in order of arrival; without those that had a partner, if asked.
    pub(super) fn left_over(&self, unmatched: bool) -> Result<RecordBatch, OperatorError> {
        self.rows(&self.at(unmatched))
    }

    fn at(&self, unmatched: bool) -> Vec<At> {
        let chunks = self.chunks.iter().enumerate();
        let rows = chunks.flat_map(|(number, chunk)| {
            let rows = chunk.live.iter().zip(&chunk.matched).enumerate();
            rows.filter(move |(_, (live, matched))| **live && !(unmatched && **matched))
                .map(move |(row, _)| (number, row))
        });
        rows.collect()
    }

    /// All rows that are kept, and whether each had a partner, for a snapshot.
    pub(super) fn all(&self) -> Result<(RecordBatch, Vec<bool>), OperatorError> {
        let at = self.at(false);
        let matched = |(chunk, row): &At| {
            self.chunks.get(*chunk).and_then(|chunk| chunk.matched.get(*row)).copied()
        };
        let flags = at.iter().map(|at| matched(at).unwrap_or(false)).collect();
        Ok((self.rows(&at)?, flags))
    }

    /// Replaces everything by these rows.
    pub(super) fn replace(
        &mut self,
        rows: RecordBatch,
        matched: Vec<bool>,
    ) -> Result<(), OperatorError> {
        let keys = Keys::of(&rows, &self.on)?;
        *self = Self::new(&self.schema, &self.on);
        if rows.num_rows() == 0 {
            return Ok(());
        }
        for row in 0..rows.num_rows() {
            if let Some(key) = keys.key(row) {
                self.announce(key, (0, row));
            }
        }
        self.bytes += bytes_of(&rows);
        self.live = rows.num_rows();
        self.chunks.push(Chunk { live: vec![true; self.live], rows, matched });
        Ok(())
    }

    /// Gives the bytes of rows that left back, once they are most.
    pub(super) fn tidy(&mut self) -> Result<(), OperatorError> {
        let there: usize = self.chunks.iter().map(|chunk| chunk.live.len()).sum();
        if there > 0 && (self.live * 2 < there || self.chunks.len() >= CHUNKS) {
            let (rows, matched) = self.all()?;
            self.replace(rows, matched)?;
        }
        Ok(())
    }
}
