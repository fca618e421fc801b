//! A window in memory: the rows of its blocks, and what stands in for those that cannot be read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::gather::{Left, Values, gather, plain};
use super::order::WindowPlan;

/// Rows in memory that can be picked by position.
pub struct Window {
    pub(super) plan: WindowPlan,
    /// In the order of the plan's blocks.
    pub(super) blocks: Vec<BlockRows>,
    /// Numbers, among all rows of the blocks one behind the other, of the first row of each, and of all.
    pub(super) starts: Vec<u64>,
    /// The same of the rows that can be read, which stand in for the others. Those of another window, when
    /// this one has none.
    pub(super) healthy: Healthy,
    pub(super) columns: Arc<Columns>,
}

/// The rows of one block.
pub(super) struct BlockRows {
    /// Path of its shard.
    pub(super) shard: Arc<str>,
    pub(super) first: u64,
    /// `Err` when it is damaged.
    pub(super) batches: Result<Vec<RecordBatch>, ()>,
}

/// What stands in for rows that cannot be read.
pub(super) enum Healthy {
    /// Numbers, among the healthy rows, at which each block's begin, and all of them.
    Here(Vec<u64>),
    /// A window that has some.
    Elsewhere(Arc<Window>),
}

/// Columns as they are read and as they are given.
#[derive(Debug)]
pub(super) struct Columns {
    /// Stored column of each, as its place among those that are read; `None` is a key that is made here.
    pub(super) stored: Vec<Option<usize>>,
    pub(super) schema: SchemaRef,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowAt {
    /// Path of its shard, relative to the table.
    pub shard: Arc<str>,
    /// Its number in the shard.
    pub row: u64,
}

/// The record for a position.
#[derive(Debug, Clone)]
pub struct Pick {
    /// The position that it is for.
    pub position: u64,
    /// The row that it belongs to in the order, when that cannot be read.
    pub instead_of: Option<RowAt>,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    elsewhere: bool,
    block: usize,
    row: u64,
}

impl Window {
    /// The positions that it holds.
    pub fn positions(&self) -> std::ops::Range<u64> {
        self.plan.positions.clone()
    }

    /// Stored bytes of its rows, and of those of another window that stand in for them.
    pub fn bytes(&self) -> u64 {
        let elsewhere = match &self.healthy {
            Healthy::Here(_) => 0,
            Healthy::Elsewhere(window) => window.bytes(),
        };
        self.plan.bytes().saturating_add(elsewhere)
    }

    /// The record for a position: the one of the order, or what stands in for it when it cannot be read.
    pub fn pick(&self, position: u64) -> Pick {
        let row = self.plan.row(position);
        let place = place(&self.starts, row, false);
        match self.blocks.get(place.block) {
            Some(block) if block.batches.is_err() => {
                let lost = RowAt { shard: Arc::clone(&block.shard), row: block.first + place.row };
                self.substitute(position, 0, lost)
            }
            _ => Pick { position, instead_of: None, place },
        }
    }

    /// The n-th stand-in at a position for a record that cannot be used: drawn from the rows of the window that
    /// can be read, or of the next window in the order that has some, by a hash of seed, position and `n`.
    pub fn substitute(&self, position: u64, n: u64, instead_of: RowAt) -> Pick {
        let (starts, elsewhere) = match &self.healthy {
            Healthy::Here(starts) => (starts.as_slice(), false),
            Healthy::Elsewhere(window) => (window.healthy_here(), true),
        };
        let rows = starts.last().copied().unwrap_or(0);
        let drawn = self.plan.substitute(position, n, rows.max(1));
        Pick { position, instead_of: Some(instead_of), place: place(starts, drawn, elsewhere) }
    }

    /// How many of its own rows can be read.
    pub(super) fn healthy_rows(&self) -> u64 {
        self.healthy_here().last().copied().unwrap_or(0)
    }

    fn healthy_here(&self) -> &[u64] {
        match &self.healthy {
            Healthy::Here(starts) => starts,
            Healthy::Elsewhere(_) => &[],
        }
    }

    fn block(&self, place: Place) -> Option<&BlockRows> {
        match (&self.healthy, place.elsewhere) {
            (Healthy::Elsewhere(window), true) => window.blocks.get(place.block),
            _ => self.blocks.get(place.block),
        }
    }

    /// Which row a pick gives.
    pub fn row_of(&self, pick: &Pick) -> Option<RowAt> {
        let block = self.block(pick.place)?;
        Some(RowAt { shard: Arc::clone(&block.shard), row: block.first + pick.place.row })
    }

    /// These records, in this order.
    ///
    /// # Errors
    /// When Arrow cannot gather or convert one of the column types.
    pub fn gather(&self, picks: &[Pick]) -> Result<RecordBatch, ArrowError> {
        self.gather_as(picks, &mut Values::Copied)
    }

    /// These records, in this order, and what was left where it was read: large values of binary columns, for which
    /// parts of `places` stand in the records. Nothing may look at those; it is for whoever writes the records as a
    /// whole.
    ///
    /// # Errors
    /// As [`Window::gather`].
    pub fn gather_in_place(
        &self,
        picks: &[Pick],
        places: &Buffer,
    ) -> Result<(RecordBatch, Vec<Left>), ArrowError> {
        let mut values = Values::Left { places, left: Vec::new() };
        let records = self.gather_as(picks, &mut values)?;
        match values {
            Values::Left { left, .. } => Ok((records, left)),
            Values::Copied => Ok((records, Vec::new())),
        }
    }

    fn gather_as(
        &self,
        picks: &[Pick],
        values: &mut Values<'_>,
    ) -> Result<RecordBatch, ArrowError> {
        // The arrays that the picks lie in, each once.
        let mut arrays: Vec<&RecordBatch> = Vec::new();
        let mut known: Vec<(Place, usize)> = Vec::new();
        let mut rows: Vec<(usize, usize)> = Vec::with_capacity(picks.len());
        for pick in picks {
            let batches = self.block(pick.place).and_then(|block| block.batches.as_ref().ok());
            let mut row = pick.place.row as usize;
            let mut number = 0;
            let found = batches.into_iter().flatten().find(|batch| {
                let here = row < batch.num_rows();
                if !here {
                    row -= batch.num_rows();
                    number += 1;
                }
                here
            });
            let missing =
                || ArrowError::InvalidArgumentError("a row outside of its block".to_owned());
            let found = found.ok_or_else(missing)?;
            let of = Place { row: number, ..pick.place };
            let same = |other: &Place| {
                (other.elsewhere, other.block, other.row) == (of.elsewhere, of.block, of.row)
            };
            let at = match known.iter().find(|(other, _)| same(other)) {
                Some((_, at)) => *at,
                None => {
                    arrays.push(found);
                    known.push((of, arrays.len() - 1));
                    arrays.len() - 1
                }
            };
            rows.push((at, row));
        }
        let columns = self.columns.stored.iter().zip(self.columns.schema.fields());
        let columns = columns.map(|(stored, field)| -> Result<ArrayRef, ArrowError> {
            let Some(stored) = stored else {
                let keys = picks.iter().map(|pick| self.row_of(pick));
                let keys = keys.map(|row| row.map(|row| format!("{}@{:012}", row.shard, row.row)));
                return Ok(Arc::new(StringArray::from_iter(keys)));
            };
            let columns = arrays.iter().filter_map(|batch| batch.columns().get(*stored));
            let columns = columns.map(AsRef::as_ref).collect::<Vec<&dyn Array>>();
            let given = columns.first().map(|column| plain(column.data_type()));
            if given.as_ref().is_none_or(|given| given == field.data_type()) {
                return gather(&columns, &rows, values);
            }
            // To convert a column is to look at its values.
            cast(&gather(&columns, &rows, &mut Values::Copied)?, field.data_type())
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(picks.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.columns.schema), columns, &options)
    }
}

/// The block in which a row lies, and its number there.
fn place(starts: &[u64], row: u64, elsewhere: bool) -> Place {
    let block = starts.partition_point(|start| *start <= row).saturating_sub(1);
    let start = starts.get(block).copied().unwrap_or(0);
    Place { elsewhere, block, row: row - start.min(row) }
}
