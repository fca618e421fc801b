//! The records of a batch, stored one by one as was decided.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anabranch_pipelines::operator::{OperatorError, Outcome};
use anabranch_pipelines::record::RecordId;
use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::acting::{Acting, Kept, Record, losses};
use super::answers::Answers;
use crate::codec::Media;
use crate::original::Original;
use crate::rewrite::{self, Rewritten};
use crate::round_trip::RoundTrip;

/// A batch whose records are being stored.
pub(crate) struct Storing<'a> {
    acting: &'a Acting,
    batch: &'a RecordBatch,
    answers: Answers<'a>,
    room: RoundTrip,
    /// Of each row.
    losses: Vec<Option<f64>>,
}

impl<'a> Storing<'a> {
    pub(super) fn new(acting: &'a Acting, batch: &'a RecordBatch, answers: Answers<'a>) -> Self {
        let losses = vec![None; batch.num_rows()];
        Self { acting, batch, answers, room: RoundTrip::default(), losses }
    }

    /// Appends the bytes of the record in a row.
    ///
    /// # Errors
    /// When the codec cannot hold the record, as a sentence.
    pub(crate) fn store(
        &mut self,
        row: usize,
        media: &Media<'_>,
        original: Option<Original<'_>>,
        bytes: &mut Vec<u8>,
    ) -> Result<Rewritten, String> {
        // What is wrong with a right answer is no fault of the record.
        let right = self.answers.right(row).ok().flatten();
        let id = RecordId::of_row(self.batch, row);
        let record = Record { id, media: *media, right, original };
        let Kept { encoding, loss } = self.acting.store(&record, &mut self.room, bytes)?;
        self.losses.get_mut(row).into_iter().for_each(|of| *of = loss);
        Ok(Rewritten { encoding, facts: Some(media.facts) })
    }

    /// The batch with its stored records, and the column of losses where records are watched.
    ///
    /// # Errors
    /// When the columns are not those of `output`.
    pub(crate) fn finish(
        self,
        mut outcome: Outcome,
        column: &str,
        output: &SchemaRef,
    ) -> Result<Outcome, OperatorError> {
        if self.acting.watches() {
            let refused: HashSet<usize> = outcome.refused.iter().map(|of| of.row).collect();
            let kept = self.losses.into_iter().enumerate();
            let kept = kept.filter(|(row, _)| !refused.contains(row)).map(|(_, loss)| loss);
            let values: ArrayRef = Arc::new(kept.collect::<Float64Array>());
            let replaced = HashMap::from([(losses(column), values)]);
            outcome.records = rewrite::replace(&outcome.records, output, &replaced)?;
        }
        Ok(outcome)
    }
}
