//! The state of a watch: what was bet on the losses so far, and how they went.

use anabranch_pipelines::operator::{Live, OperatorError, Shard, Yield};
use anabranch_pipelines::progress::{Curve, Figure};
use arrow::array::{Array, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::row::{self, Row};
use super::{Claim, WatchOptions};
use crate::Share;
use crate::choose::Drift;

/// Points of the curve that are kept; beyond it every other one is left out.
const MOST: usize = 256;

const MAGIC: &[u8; 8] = b"ABRNWTCH";
const VERSION: u64 = 1;

pub(super) struct Watcher {
    column: String,
    claim: Claim,
    every: u64,
    drift: Drift,
    /// The sum of all losses.
    sum: f64,
    /// That of the losses since the last row, and how many these are.
    since: (f64, u64),
    /// With which of the watched the alarm was raised.
    raised: Option<u64>,
    /// The number of watched records and the mean loss since the point before, of some rows.
    curve: Vec<[f64; 2]>,
    live: Live,
}

impl Watcher {
    pub(super) fn new(options: &WatchOptions, claim: Claim) -> Self {
        Self {
            column: options.column.clone(),
            claim,
            every: options.every,
            drift: Drift::new(claim.max_loss, claim.alpha),
            sum: 0.0,
            since: (0.0, 0),
            raised: None,
            curve: Vec::new(),
            live: Live::default(),
        }
    }

    /// Adds a loss, and gives a row when one is due.
    fn add(&mut self, loss: f64) -> Option<Row> {
        let loss = if loss.is_nan() { 1.0 } else { loss.clamp(-1.0, 1.0) };
        let alarm = self.drift.add(loss);
        self.sum += loss;
        self.since = (self.since.0 + loss, self.since.1 + 1);
        let raised = alarm && self.raised.is_none();
        if raised {
            self.raised = Some(self.drift.records());
            self.warn();
        }
        (raised || self.since.1 >= self.every).then(|| self.row())
    }

    fn row(&mut self) -> Row {
        let (sum, count) = std::mem::take(&mut self.since);
        let recent_loss = sum / count.max(1) as f64;
        self.curve.push([self.drift.records() as f64, recent_loss]);
        if self.curve.len() > MOST {
            let mut at = 0;
            // The first point and the last one stay.
            self.curve.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
        Row {
            records: self.drift.records(),
            loss: self.loss(),
            recent_loss,
            evidence: self.drift.evidence(),
            alarm: self.drift.alarmed(),
        }
    }

    fn loss(&self) -> f64 {
        self.sum / self.drift.records().max(1) as f64
    }

    fn warn(&self) {
        let percent = |share: f64| Share((share * 1e4).round() / 1e4);
        let column = &self.column;
        let (records, mean) = (self.drift.records(), percent(self.loss()));
        let (most, sure) = (percent(self.claim.max_loss), percent(1.0 - self.claim.alpha));
        tracing::warn!(
            "watch: losses in `{column}` are more than {most} on average, with confidence {sure}: {mean} over the \
             {records} records that were watched so far, more of late. Records are no longer like those that the \
             codec was chosen by; what is stored from here on loses more than was allowed until a new run chooses anew"
        );
    }

    fn show(&self) {
        let watched = self.drift.records() as f64;
        let mut figures = vec![Figure::new("watched", watched), Figure::new("loss", self.loss())];
        let enough = 1.0 / self.claim.alpha;
        figures.push(Figure::of("evidence", self.drift.evidence().min(enough), enough));
        let alarm = |at: u64| Figure::new("alarm at", at as f64);
        figures.extend(self.raised.map(alarm));
        self.live.show(figures);
        if !self.curve.is_empty() {
            let (name, points) = ("loss".to_owned(), self.curve.clone());
            self.live.draw(vec![Curve { name, points }]);
        }
    }

    fn give(&self, rows: &[Row]) -> Result<Yield, OperatorError> {
        self.show();
        let records = match rows {
            [] => Vec::new(),
            rows => vec![row::batch(&self.column, self.claim.max_loss, rows)?],
        };
        Ok(Yield { records, refused: Vec::new() })
    }
}

impl Shard for Watcher {
    fn begin(&mut self, live: &Live) {
        self.live = live.clone();
    }

    fn absorb(&mut self, _: usize, batch: &RecordBatch) -> Result<Yield, OperatorError> {
        let column = batch.column_by_name(&self.column);
        let lost = || OperatorError::Failed(format!("no column `{}`", self.column));
        let losses = cast(column.ok_or_else(lost)?, &DataType::Float64)?;
        let losses = losses.as_any().downcast_ref::<Float64Array>().ok_or_else(lost)?;
        let rows: Vec<Row> = losses.iter().flatten().filter_map(|loss| self.add(loss)).collect();
        self.give(&rows)
    }

    fn finish(&mut self) -> Result<Yield, OperatorError> {
        let rows: Vec<Row> = (self.since.1 > 0).then(|| self.row()).into_iter().collect();
        self.give(&rows)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.curve.len() * size_of::<[f64; 2]>()
    }

    fn snapshot(&self) -> Result<Vec<u8>, OperatorError> {
        let mut words = vec![VERSION];
        words.extend(self.drift.to_words());
        // No record has number 0.
        let raised = self.raised.unwrap_or(0);
        words.extend([self.sum.to_bits(), self.since.0.to_bits(), self.since.1, raised]);
        words.extend(self.curve.as_flattened().iter().map(|number| number.to_bits()));
        let words = words.into_iter().flat_map(u64::to_le_bytes);
        Ok(MAGIC.iter().copied().chain(words).collect())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), OperatorError> {
        let damaged = |how: &str| OperatorError::Failed(format!("the snapshot of a watch: {how}"));
        let rest = snapshot.strip_prefix(MAGIC);
        let rest = rest.ok_or_else(|| damaged("it does not begin like one"))?;
        let (words, []) = rest.as_chunks() else { return Err(damaged("it ends within a number")) };
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let early = || damaged("it ends early");
        let (version, words) = words.split_first().ok_or_else(early)?;
        if *version != VERSION {
            let how = format!("it is of version {version}, this program reads {VERSION}");
            return Err(damaged(&how));
        }
        let (drift, words) = words.split_first_chunk().ok_or_else(early)?;
        let drift = Drift::from_words(drift);
        self.drift =
            drift.filter(|drift| drift.claims(self.claim.max_loss, self.claim.alpha)).ok_or_else(
                || damaged("it is of a watch over another loss, or holds what is no state of one"),
            )?;
        let ([sum, since, count, raised], points) = words.split_first_chunk().ok_or_else(early)?;
        self.sum = f64::from_bits(*sum);
        self.since = (f64::from_bits(*since), *count);
        self.raised = Some(*raised).filter(|raised| *raised > 0);
        let (points, []) = points.as_chunks() else { return Err(early()) };
        self.curve =
            points.iter().map(|[at, loss]| [at, loss].map(|n| f64::from_bits(*n))).collect();
        Ok(())
    }
}
