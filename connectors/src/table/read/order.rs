//! Which record stands at which position: a function of the table's version, the seed and the window.
//!
//! Shards are cut into *blocks* of consecutive rows, an eighth of a window or smaller. In every pass the blocks
//! are permuted and laid out one behind the other; this is cut into *windows* of nearly equal size, and the rows
//! of a window are permuted among themselves. A window is held in memory as a whole, and what blocks of it share is
//! read once. Blocks end where they do whatever the row groups are, because only footers know those: a row group in
//! which blocks of several windows have a part is read once for each of these windows. A table that is smaller
//! than the window is read once a pass, and shuffled perfectly.
//!
//! Everything follows from what the log says of the shards (names, bytes, rows): no shard has to be opened to
//! know the order, and a damaged one changes nothing about the others.

use std::ops::Range;

use super::permutation::{Permutation, key};

/// Blocks of a window at least, if there are so many.
const BLOCKS: u64 = 8;
/// What keys are for, so that no two of them are alike.
const OF_BLOCKS: u64 = 1;
const OF_ROWS: u64 = 2;
const OF_SUBSTITUTES: u64 = 3;

/// A shard, as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardSize {
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

/// Consecutive rows of one shard: what is read, checked and quarantined at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) shard: usize,
    pub(super) rows: Range<u64>,
    bytes: u64,
}

impl Block {
    pub(super) fn len(&self) -> u64 {
        self.rows.end - self.rows.start
    }
}

/// The order of all passes.
#[derive(Debug)]
pub(super) struct Order {
    seed: Option<u64>,
    window: u64,
    blocks: Vec<Block>,
    rows: u64,
}

/// The order of one pass: its blocks, and where its windows begin.
#[derive(Debug)]
pub(super) struct Pass {
    number: u64,
    order: Vec<u32>,
    windows: Vec<Start>,
}

/// Where a window begins.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// In positions of the pass.
    row: u64,
    /// In the order of blocks.
    block: usize,
}

/// One window.
#[derive(Debug, Clone)]
pub(super) struct WindowPlan {
    /// Positions over all passes.
    pub(super) positions: Range<u64>,
    pub(super) blocks: Vec<Block>,
    /// How its rows are permuted, unless they come in the order of the table.
    permutation: Option<Permutation>,
    substitutes: u64,
}

impl Order {
    /// The order of these shards, shuffled if there is a seed, with windows of about so many bytes.
    pub(super) fn new(shards: &[ShardSize], seed: Option<u64>, window: u64) -> Self {
        let most = (window / BLOCKS).max(1);
        let mut blocks = Vec::new();
        for (shard, size) in shards.iter().enumerate() {
            let pieces = size.bytes.div_ceil(most).clamp(1, size.rows.max(1));
            let cut =
                |at: u64| (u128::from(size.rows) * u128::from(at) / u128::from(pieces)) as u64;
            let piece =
                |at| Block { shard, rows: cut(at)..cut(at + 1), bytes: size.bytes / pieces };
            blocks.extend((0..pieces).map(piece).filter(|block| block.len() > 0));
        }
        let rows = blocks.iter().map(Block::len).sum();
        Self { seed, window: window.max(1), blocks, rows }
    }

    /// Rows of the table: positions of a pass.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The order of a pass, from 0.
    pub(super) fn pass(&self, number: u64) -> Pass {
        let count = self.blocks.len() as u64;
        let order: Vec<u32> = match self.seed {
            None => (0..count as u32).collect(),
            Some(seed) => {
                let permutation = Permutation::new(count, key(&[OF_BLOCKS, seed, number]));
                (0..count).map(|at| permutation.of(at) as u32).collect()
            }
        };
        let bytes: u64 = self.blocks.iter().map(|block| block.bytes).sum();
        // In the order of the table every block is a window of its own: nothing waits for another.
        let share = match self.seed {
            None => 0,
            Some(_) => bytes.div_ceil(bytes.div_ceil(self.window).max(1)),
        };
        let (mut windows, mut row, mut before) = (Vec::new(), 0, 0);
        for (block, found) in
            order.iter().filter_map(|at| self.blocks.get(*at as usize)).enumerate()
        {
            if before >= share * windows.len() as u64 {
                windows.push(Start { row, block });
            }
            row += found.len();
            before += found.bytes;
        }
        Pass { number, order, windows }
    }

    /// The window of a pass that holds position `at` of all passes.
    pub(super) fn window(&self, pass: &Pass, at: u64) -> Option<WindowPlan> {
        let before = pass.number.checked_mul(self.rows)?;
        let row = at.checked_sub(before).filter(|row| *row < self.rows)?;
        let number = pass.windows.partition_point(|start| start.row <= row).checked_sub(1)?;
        let start = pass.windows.get(number)?;
        let end = pass.windows.get(number + 1);
        let end = end.copied().unwrap_or(Start { row: self.rows, block: pass.order.len() });
        let blocks = pass.order.get(start.block..end.block)?.iter();
        let rows = end.row - start.row;
        let keyed = |what: u64, seed: u64| key(&[what, seed, pass.number, number as u64]);
        Some(WindowPlan {
            positions: before + start.row..before + end.row,
            blocks: blocks.filter_map(|at| self.blocks.get(*at as usize).cloned()).collect(),
            permutation: self.seed.map(|seed| Permutation::new(rows, keyed(OF_ROWS, seed))),
            substitutes: keyed(OF_SUBSTITUTES, self.seed.unwrap_or_default()),
        })
    }
}

impl WindowPlan {
    /// Stored bytes of its blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes).sum()
    }

    /// The row, among those of the blocks one behind the other, at a position that the window holds.
    pub(super) fn row(&self, position: u64) -> u64 {
        let at = position.saturating_sub(self.positions.start);
        self.permutation.map_or(at, |permutation| permutation.of(at))
    }

    /// Which of `healthy` rows takes the place of what cannot be read at a position, at the n-th attempt.
    pub(super) fn substitute(&self, position: u64, attempt: u64, healthy: u64) -> u64 {
        let drawn = key(&[self.substitutes, position, attempt]);
        ((u128::from(drawn) * u128::from(healthy)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    /// Every row of a pass as (shard, row), by position.
    fn rows(order: &Order, number: u64) -> Vec<(usize, u64)> {
        let pass = order.pass(number);
        let (mut at, end) = (number * order.rows(), (number + 1) * order.rows());
        let mut rows = Vec::new();
        while at < end {
            let window = order.window(&pass, at).unwrap();
            assert_eq!(window.positions.start, at);
            let all: Vec<(usize, u64)> = window
                .blocks
                .iter()
                .flat_map(|block| block.rows.clone().map(|row| (block.shard, row)))
                .collect();
            rows.extend(window.positions.clone().map(|at| all[window.row(at) as usize]));
            at = window.positions.end;
        }
        rows
    }

    fn shards(sizes: &[(u64, u64)]) -> Vec<ShardSize> {
        sizes.iter().map(|(bytes, rows)| ShardSize { bytes: *bytes, rows: *rows }).collect()
    }

    proptest! {
        #[test]
        fn every_row_comes_once_in_every_pass(
            sizes in prop::collection::vec((0_u64..5000, 0_u64..200), 0..12),
            window in 1_u64..20_000,
            seed: Option<u64>,
            pass in 0_u64..3,
        ) {
            let order = Order::new(&shards(&sizes), seed, window);
            let found = rows(&order, pass);
            let mut sorted = found.clone();
            sorted.sort_unstable();
            let all: Vec<_> = sizes
                .iter()
                .enumerate()
                .flat_map(|(shard, (_, rows))| (0..*rows).map(move |row| (shard, row)))
                .collect();
            prop_assert_eq!(&sorted, &all);
            if seed.is_none() {
                prop_assert_eq!(&found, &all);
            }
        }
    }

    #[test]
    fn passes_and_seeds_differ_and_windows_are_of_one_size() {
        let sizes = shards(&[(64 * MIB, 4096); 20]);
        let order = Order::new(&sizes, Some(1), 256 * MIB);
        assert_ne!(rows(&order, 0), rows(&order, 1));
        assert_ne!(rows(&order, 0), rows(&Order::new(&sizes, Some(2), 256 * MIB), 0));
        let pass = order.pass(0);
        assert_eq!(pass.windows.len(), 5);
        let starts: Vec<usize> = pass.windows.iter().map(|start| start.block).collect();
        assert_eq!(starts, [0, 8, 16, 24, 32]);
    }

    /// How well a table is mixed: (mean distance between a record's place in the table and in the order, as a
    /// share of the table; share of records that follow their neighbour's block; blocks in a batch of 64).
    fn mixing(order: &Order) -> (f64, f64, f64) {
        let found = rows(order, 0);
        let block = |row: &(usize, u64)| {
            order.blocks.iter().position(|b| b.shard == row.0 && b.rows.contains(&row.1))
        };
        let blocks: Vec<usize> = found.iter().filter_map(block).collect();
        let mut first = vec![0];
        for shard in 0..20 {
            first.push(first[shard] + 4096);
        }
        let distance = found
            .iter()
            .enumerate()
            .map(|(at, (shard, row))| (first[*shard] + row).abs_diff(at as u64));
        let distance = distance.sum::<u64>() as f64 / (found.len() as f64).powi(2);
        let beside = blocks.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64;
        let distinct = blocks.chunks(64).map(|batch| {
            let mut batch = batch.to_vec();
            batch.sort_unstable();
            batch.dedup();
            batch.len() as f64
        });
        (
            distance,
            beside / found.len() as f64,
            distinct.sum::<f64>() / blocks.len().div_ceil(64) as f64,
        )
    }

    #[test]
    fn mixing_is_what_the_documentation_says() {
        // 20 shards of 64 MiB, 1.25 GiB: ten windows of 128 MiB, of eight blocks each.
        let (distance, beside, distinct) =
            mixing(&Order::new(&shards(&[(64 * MIB, 4096); 20]), Some(7), 128 * MIB));
        // A uniformly random order: 1/3 of the table.
        assert!((distance - 1.0 / 3.0).abs() < 0.05, "{distance}");
        assert!((beside - 1.0 / 8.0).abs() < 0.005, "{beside}");
        assert!(distinct > 7.9, "{distinct}");
        // A window as large as the table: 40 blocks, all of them mixed.
        let (distance, beside, distinct) =
            mixing(&Order::new(&shards(&[(64 * MIB, 4096); 20]), Some(7), 1280 * MIB));
        assert!((distance - 1.0 / 3.0).abs() < 0.01, "{distance}");
        assert!(beside < 0.06 && distinct > 18.0, "{beside} {distinct}");
    }
}
