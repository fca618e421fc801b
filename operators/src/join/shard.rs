//! One virtual shard of a join.

use anabranch_pipelines::operator::{OperatorError, Shard, Yield};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;

use super::columns::Columns;
use super::key::Keys;
use super::side::{At, Side};
use super::{How, JoinOptions, Matches, Unmatched, snapshot};

/// Rows of both inputs whose keys are of one virtual shard.
pub(super) struct JoinShard {
    options: JoinOptions,
    columns: Columns,
    left: Side,
    right: Side,
}

/// What becomes of the rows of a batch.
#[derive(Default)]
struct Fate {
    /// Pairs of a row of the batch and one of the other side.
    pairs: Vec<(usize, At)>,
    /// Rows that stay, and whether they had a partner.
    kept: Vec<usize>,
    matched: Vec<bool>,
    /// Rows without a key.
    alone: Vec<usize>,
    /// Rows that cannot be, with the reason.
    refused: Vec<(usize, String)>,
}

impl JoinShard {
    pub(super) fn new(
        options: &JoinOptions,
        left: &SchemaRef,
        right: &SchemaRef,
    ) -> Result<Self, OperatorError> {
        Ok(Self {
            columns: Columns::new(options, left, right)?,
            left: Side::new(left, options.keys(0)),
            right: Side::new(right, options.keys(1)),
            options: options.clone(),
        })
    }

    fn left_row(&mut self, row: usize, key: Box<[u8]>, fate: &mut Fate) {
        let before = fate.pairs.len();
        let stays = match self.options.matches {
            Matches::One => {
                fate.pairs.extend(self.right.pop(&key).map(|at| (row, at)));
                fate.pairs.len() == before
            }
            Matches::Many => {
                fate.pairs.extend(self.right.find(&key).next().map(|at| (row, at)));
                fate.pairs.len() == before
            }
            Matches::All => {
                fate.pairs.extend(self.right.find(&key).map(|at| (row, at)));
                true
            }
        };
        if stays {
            self.left.announce(key, (self.left.next_chunk(), fate.kept.len()));
            fate.kept.push(row);
            fate.matched.push(fate.pairs.len() > before);
        }
    }

    fn right_row(&mut self, row: usize, key: Box<[u8]>, fate: &mut Fate) {
        let before = fate.pairs.len();
        let stays = match self.options.matches {
            Matches::One => {
                fate.pairs.extend(self.left.pop(&key).map(|at| (row, at)));
                fate.pairs.len() == before
            }
            Matches::Many if self.right.find(&key).next().is_some() => {
                let error = "another row of the right input has this key already, and `matches = \"many\"` \
                             wants it once; `matches = \"all\"` joins every combination";
                fate.refused.push((row, error.to_owned()));
                return;
            }
            Matches::Many => {
                while let Some(at) = self.left.pop(&key) {
                    fate.pairs.push((row, at));
                }
                true
            }
            Matches::All => {
                fate.pairs.extend(self.left.find(&key).map(|at| (row, at)));
                for (_, at) in fate.pairs.iter().skip(before) {
                    self.left.mark(*at);
                }
                true
            }
        };
        if stays {
            self.right.announce(key, (self.right.next_chunk(), fate.kept.len()));
            fate.kept.push(row);
            fate.matched.push(fate.pairs.len() > before);
        }
    }

    /// Joined rows of the pairs of a batch of input `input`.
    fn joined(
        &self,
        input: usize,
        batch: &RecordBatch,
        pairs: &[(usize, At)],
    ) -> Result<RecordBatch, OperatorError> {
        let own = take(batch, pairs.iter().map(|(row, _)| *row))?;
        let at: Vec<At> = pairs.iter().map(|(_, at)| *at).collect();
        if input == 0 {
            self.columns.pair(&own, &self.right.rows(&at)?)
        } else {
            self.columns.pair(&self.left.rows(&at)?, &own)
        }
    }

    /// What becomes of rows of input `input` that have no partner.
    fn without_partner(
        &self,
        input: usize,
        rows: &RecordBatch,
        error: &str,
        made: &mut Yield,
    ) -> Result<(), OperatorError> {
        let left = input == 0;
        if left && self.options.how == How::Left {
            made.records.push(self.columns.alone(rows)?);
        } else if self.options.unmatched == Unmatched::Refuse
            && (left || self.options.matches == Matches::One)
        {
            let refused = (0..rows.num_rows()).map(|row| (rows.slice(row, 1), error.to_owned()));
            made.refused.extend(refused);
        }
        Ok(())
    }
}

fn take(
    batch: &RecordBatch,
    rows: impl Iterator<Item = usize>,
) -> Result<RecordBatch, OperatorError> {
    let rows = UInt64Array::from_iter_values(rows.map(|row| row as u64));
    Ok(take_record_batch(batch, &rows)?)
}

impl Shard for JoinShard {
    fn absorb(&mut self, input: usize, batch: &RecordBatch) -> Result<Yield, OperatorError> {
        let keys = Keys::of(batch, self.options.keys(input))?;
        let mut fate = Fate::default();
        for row in 0..batch.num_rows() {
            match keys.key(row) {
                None => fate.alone.push(row),
                Some(key) if input == 0 => self.left_row(row, key, &mut fate),
                Some(key) => self.right_row(row, key, &mut fate),
            }
        }
        let mut made = Yield::default();
        if !fate.pairs.is_empty() {
            made.records.push(self.joined(input, batch, &fate.pairs)?);
        }
        if !fate.alone.is_empty() {
            let rows = take(batch, fate.alone.into_iter())?;
            self.without_partner(
                input,
                &rows,
                "its key is null, which matches nothing",
                &mut made,
            )?;
        }
        let refused = fate.refused.into_iter().map(|(row, error)| (batch.slice(row, 1), error));
        made.refused.extend(refused);
        let side = if input == 0 { &mut self.left } else { &mut self.right };
        side.keep(batch, &fate.kept, fate.matched)?;
        self.left.tidy()?;
        self.right.tidy()?;
        Ok(made)
    }

    fn finish(&mut self) -> Result<Yield, OperatorError> {
        let mut made = Yield::default();
        for (input, side, other) in [(0, &self.left, "right"), (1, &self.right, "left")] {
            let rows = side.left_over(true)?;
            if rows.num_rows() > 0 {
                let error = format!("no row of the {other} input has its key");
                self.without_partner(input, &rows, &error, &mut made)?;
            }
        }
        Ok(made)
    }

    fn bytes(&self) -> usize {
        self.left.bytes() + self.right.bytes()
    }

    fn snapshot(&self) -> Result<Vec<u8>, OperatorError> {
        snapshot::write([&self.left, &self.right])
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), OperatorError> {
        snapshot::read(snapshot, [&mut self.left, &mut self.right])
    }
}
