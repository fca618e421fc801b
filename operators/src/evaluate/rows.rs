//! The rows that come of a batch.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::operator::{OperatorError, Outcome};
use arrow::array::{ArrayRef, Float64Builder, Int64Builder};

use super::plan::Plan;
use super::point::{Point, Points};
use super::{POINTS, RAW_BYTES, SCORE};
use crate::rewrite;

/// Rows as they are made: what a record held, its score, and its points.
pub(super) struct Rows {
    raw: Int64Builder,
    scores: Float64Builder,
    points: Points,
}

impl Rows {
    pub(super) fn new(plan: &Plan, rows: usize) -> Self {
        let points = Points::new(plan.names.iter().copied(), rows);
        Self { raw: Int64Builder::new(), scores: Float64Builder::new(), points }
    }

    pub(super) fn add(
        &mut self,
        raw: Option<usize>,
        score: Option<f64>,
        points: Option<Vec<Point>>,
    ) {
        self.raw.append_option(raw.and_then(|bytes| i64::try_from(bytes).ok()));
        self.scores.append_option(score);
        self.points.add(points);
    }

    /// The records that were kept, with these columns.
    pub(super) fn finish(
        mut self,
        outcome: Outcome,
        plan: &Plan,
        scored: bool,
    ) -> Result<Outcome, OperatorError> {
        let mut columns: HashMap<String, ArrayRef> = HashMap::from([
            (RAW_BYTES.to_owned(), Arc::new(self.raw.finish()) as ArrayRef),
            (POINTS.to_owned(), self.points.finish()?),
        ]);
        if scored {
            columns.insert(SCORE.to_owned(), Arc::new(self.scores.finish()));
        }
        let Outcome { records, refused } = outcome;
        Ok(Outcome { records: rewrite::replace(&records, &plan.schema, &columns)?, refused })
    }
}
