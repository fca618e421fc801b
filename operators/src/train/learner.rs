//! The state of a training, and what a record does to it.

use std::sync::Arc;

use anabranch_models::artifact::{Accuracy, Artifact, Card, Tensor, Training};
use anabranch_models::train::export::export;
use anabranch_models::train::{Batch, Evaluation, Trainer, evaluate, evaluate_exported};
use anabranch_models::transformer::{InputError, Transformer};
use anabranch_pipelines::operator::{Live, OperatorError, Shard, Yield};
use anabranch_pipelines::progress::Figure;
use anabranch_pipelines::record::{RecordId, compact};
use arrow::array::RecordBatch;
use sha2::{Digest, Sha256};

use super::columns::{Columns, Example};
use super::curve::Losses;
use super::holdout::Holdout;
use super::options::TrainOptions;
use super::pool::Pool;
use super::row::{self, Row, Score};
use super::sample::{self, Sample};
use super::state::{Reader, Writer};
use super::window::Cutter;
use super::{interval, model_bytes};

const MAGIC: &[u8; 8] = b"ABRNTRAI";
const VERSION: u64 = 1;
/// Records that an error names.
const NAMED: usize = 8;

pub(super) struct Learner {
    options: Arc<TrainOptions>,
    trainer: Trainer<Transformer>,
    progress: Progress,
    live: Live,
    /// Rows that were not given yet.
    rows: Vec<Row>,
    /// Records that this start refused, and why the first was.
    refused: (u64, Option<String>),
}

/// All of the state but the trainer's.
#[derive(Debug, PartialEq)]
struct Progress {
    /// Records read, and a hash of their ids in order.
    records: u64,
    identity: [u8; 32],
    text: Cutter,
    pool: Pool,
    holdout: Holdout,
    /// The sum of the losses since the last row, and how many they are.
    losses: (f64, u64),
    /// A row that waits: at the end of the inputs it becomes the one with the last artifact.
    pending: Option<Row>,
    score: Option<Score>,
    curve: Losses,
}

fn failed(error: impl ToString) -> OperatorError {
    OperatorError::Failed(error.to_string())
}

impl Learner {
    pub(super) fn new(options: &Arc<TrainOptions>) -> Result<Self, OperatorError> {
        let architecture = options.architecture().map_err(failed)?;
        let model = Transformer::to_train(&architecture, &options.start(), options.seed);
        Ok(Self {
            trainer: Trainer::new(model.map_err(failed)?, options.rates()),
            progress: Progress {
                records: 0,
                identity: [0; 32],
                text: Cutter::default(),
                pool: Pool::new(options.batch, options.reservoir, options.seed),
                holdout: Holdout::default(),
                losses: (0.0, 0),
                pending: None,
                score: None,
                curve: Losses::default(),
            },
            options: Arc::clone(options),
            live: Live::default(),
            rows: Vec::new(),
            refused: (0, None),
        })
    }

    fn is_done(&self) -> bool {
        self.trainer.steps() >= self.options.steps
    }

    /// Learns from a record, or holds it out; the error is a sentence about it.
    fn record(
        &mut self,
        columns: &Columns<'_>,
        row: usize,
        id: RecordId,
    ) -> Result<Result<(), String>, OperatorError> {
        let example = match columns.example(row) {
            Ok(example) => example,
            Err(error) => return Ok(Err(error)),
        };
        let now = &mut self.progress;
        now.records += 1;
        let hash = Sha256::new().chain_update(now.identity).chain_update(id.0).finalize();
        now.identity = hash.into();
        let context = self.options.tokens.as_ref().map_or(0, |of| of.context);
        if Holdout::takes(id, self.options.holdout) {
            let most = self.options.holdout_examples;
            match example {
                _ if !now.holdout.wants(id, most) => {}
                Example::Text(tokens) => now.holdout.add_text(id, tokens, context, most),
                Example::Whole(sample) => now.holdout.add(id, sample),
            }
            return Ok(Ok(()));
        }
        let samples = match example {
            Example::Text(tokens) => now.text.cut(tokens, context, &columns.name(row)),
            Example::Whole(sample) => vec![sample],
        };
        for sample in samples {
            if let Some(batch) = self.progress.pool.add(sample) {
                self.step(&batch)?;
            }
            if self.is_done() {
                self.progress.pool.clear();
                break;
            }
        }
        Ok(Ok(()))
    }

    fn step(&mut self, samples: &[Sample]) -> Result<(), OperatorError> {
        if !self.live.is_needed() {
            return Err(OperatorError::Cancelled);
        }
        self.rows.extend(self.progress.pending.take());
        let batch = sample::batch(&self.options, &samples.iter().collect::<Vec<_>>());
        let metrics = self.trainer.step(&batch).map_err(|error| {
            let mut names: Vec<&str> = samples.iter().map(|s| s.record.as_str()).collect();
            names.dedup();
            let more = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            failed(format!("{error}; its examples are of the records {}{more}", names.join(", ")))
        })?;
        let now = &mut self.progress;
        now.losses = (now.losses.0 + f64::from(metrics.loss), now.losses.1 + 1);
        let step = self.trainer.steps();
        if step.is_multiple_of(self.options.every) || self.artifact_is_due() {
            self.row(f64::from(metrics.rate))?;
        }
        self.show();
        Ok(())
    }

    fn artifact_is_due(&self) -> bool {
        let step = self.trainer.steps();
        let every = self.options.artifacts_every;
        self.is_done() || every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Measures, and makes a row of it.
    fn row(&mut self, rate: f64) -> Result<(), OperatorError> {
        let batches = self.progress.holdout.batches(&self.options);
        let model = self.trainer.trained();
        let score = self.score(&batches, |batch| evaluate(&model, [batch]))?;
        let now = &mut self.progress;
        let (sum, count) = std::mem::take(&mut now.losses);
        let mut row = Row {
            step: self.trainer.steps(),
            records: now.records,
            loss: sum / count.max(1) as f64,
            rate,
            score,
            artifact: None,
        };
        now.score = score;
        now.curve.add(&row);
        self.live.draw(now.curve.curves());
        if self.artifact_is_due() {
            row.artifact = Some(self.artifact()?);
            self.rows.push(row);
        } else {
            self.progress.pending = Some(row);
        }
        Ok(())
    }

    /// The measures over all parts of what is held out.
    fn score(
        &self,
        batches: &[Batch],
        evaluate: impl Fn(&Batch) -> Result<Evaluation, InputError>,
    ) -> Result<Option<Score>, OperatorError> {
        let (mut loss, mut right, mut count) = (0.0, 0.0, 0);
        let mut parts = Vec::new();
        for batch in batches {
            let part = evaluate(batch).map_err(failed)?;
            loss += part.loss * part.count as f64;
            right += part.accuracy * part.count as f64;
            count += part.count;
            parts.push(part.loss);
        }
        if count == 0 {
            return Ok(None);
        }
        let (loss, share) = (loss / count as f64, right / count as f64);
        let classes = self.options.label.is_some();
        Ok(Some(Score {
            loss,
            loss_interval: interval::normal(loss, &parts),
            accuracy: classes.then(|| (share, interval::wilson(share, count))),
            predictions: count as u64,
        }))
    }

    /// The model as files: card and weights. What the card says was measured on these very weights, which are
    /// rounded to integers where the engine computes with such.
    fn artifact(&self) -> Result<(String, Vec<u8>), OperatorError> {
        let model = self.trainer.trained();
        let precision = self.options.precision();
        let tensors = export(&model, precision);
        let batches = self.progress.holdout.batches(&self.options);
        let score = self.score(&batches, |batch| evaluate_exported(&model, &tensors, [batch]))?;
        let tasks = self.options.tasks();
        let mut card = Card::new(self.options.name.clone(), model.architecture().clone());
        let measure = |task: &String, measure: &str, value, interval, examples| Accuracy {
            task: task.clone(),
            measure: measure.to_owned(),
            value,
            interval,
            examples,
        };
        card.table_bits = precision.bits();
        for task in &tasks {
            let Some(score) = score else { continue };
            let count = score.predictions;
            let accuracy =
                score.accuracy.map(|(share, of)| measure(task, "accuracy", share, of, count));
            let loss = score.loss_interval.map(|of| measure(task, "loss", score.loss, of, count));
            card.accuracy.extend(accuracy.into_iter().chain(loss));
        }
        card.training = Training {
            data_commit: self.data(),
            seed: self.options.seed,
            steps: self.trainer.steps(),
            tasks,
        };
        let tensors = tensors.into_iter().map(|of| {
            let tensor = Tensor::from_bytes(&of.shape, &of.bytes);
            (of.shape.name, tensor)
        });
        let artifact = Artifact::new(card, tensors.collect()).map_err(failed)?;
        let (card, weights) = artifact.to_bytes().map_err(failed)?;
        Ok((String::from_utf8(card).map_err(failed)?, weights))
    }

    /// What identifies the records that it was trained and measured on.
    fn data(&self) -> String {
        let hash: String = self.progress.identity.iter().map(|b| format!("{b:02x}")).collect();
        let records = self.progress.records;
        let what = format!("{records} records, chained SHA-256 of their ids {hash}");
        if self.options.data.is_empty() { what } else { format!("{}: {what}", self.options.data) }
    }

    /// Shows the mean loss since the last row, or of that row while none came after it.
    fn show(&self) {
        let now = &self.progress;
        let (sum, count) = now.losses;
        let loss = if count > 0 { Some(sum / count as f64) } else { now.curve.last() };
        let steps = (self.trainer.steps() as f64, self.options.steps as f64);
        let mut figures = vec![Figure::of("step", steps.0, steps.1)];
        figures.extend(loss.map(|loss| Figure::new("loss", loss)));
        figures.extend(now.score.map(|score| Figure::new("validation", score.loss)));
        let accuracy = now.score.and_then(|score| score.accuracy);
        figures.extend(accuracy.map(|(share, _)| Figure::new("accuracy", share)));
        self.live.show(figures);
    }

    /// The rows so far, which are given now.
    fn take_rows(&mut self) -> Result<Vec<RecordBatch>, OperatorError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![row::batch(&self.options.name, &rows)?])
    }
}

impl Shard for Learner {
    fn begin(&mut self, live: &Live) {
        self.live = live.clone();
        self.live.draw(self.progress.curve.curves());
    }

    fn absorb(&mut self, _: usize, batch: &RecordBatch) -> Result<Yield, OperatorError> {
        let options = Arc::clone(&self.options);
        let columns = Columns::of(&options, batch)?;
        let mut refused = Vec::new();
        for at in 0..batch.num_rows() {
            // What comes behind the last step is not looked at.
            if self.is_done() {
                break;
            }
            let id = RecordId::of_row(batch, at);
            let id = id.ok_or_else(|| failed("a record without an id reached the training"))?;
            if let Err(error) = self.record(&columns, at, id)? {
                self.refused.0 += 1;
                self.refused.1.get_or_insert_with(|| error.clone());
                refused.push((compact(&batch.slice(at, 1))?, error));
            }
        }
        Ok(Yield { records: self.take_rows()?, refused })
    }

    fn finish(&mut self) -> Result<Yield, OperatorError> {
        let steps = self.trainer.steps();
        if steps == 0 {
            let refused = match &self.refused {
                (0, _) | (_, None) => String::new(),
                (1, Some(why)) => format!(", and 1 was refused: {why}"),
                (count, Some(why)) => format!(", and {count} were refused, the first: {why}"),
            };
            return Err(failed(format!(
                "the inputs ended before the first step: {} records gave {} examples, and a step takes {}{refused}; \
                 make `batch` smaller or give more records",
                self.progress.records,
                self.progress.pool.len(),
                self.options.batch
            )));
        }
        if !self.is_done() {
            tracing::warn!(
                "train: the records ended at step {steps} of {}, before the rate had fallen; let the source give them \
                 in more passes, or name {steps} as `steps`",
                self.options.steps
            );
        }
        match self.progress.pending.take() {
            Some(mut row) => {
                row.artifact = Some(self.artifact()?);
                self.rows.push(row);
            }
            // Steps behind the last row, which had no row of their own yet; none when that one had the artifact.
            None if self.progress.losses.1 > 0 => {
                let rate = self.trainer.options().rate_at(steps - 1);
                self.row(f64::from(rate))?;
                if let Some(mut row) = self.progress.pending.take() {
                    row.artifact = Some(self.artifact()?);
                    self.rows.push(row);
                }
            }
            None => {}
        }
        self.progress.pool.clear();
        self.show();
        Ok(Yield { records: self.take_rows()?, refused: Vec::new() })
    }

    fn bytes(&self) -> usize {
        let Progress { pool, holdout, text, .. } = &self.progress;
        model_bytes(self.trainer.model().architecture())
            + pool.bytes()
            + holdout.bytes()
            + text.bytes()
    }

    fn snapshot(&self) -> Result<Vec<u8>, OperatorError> {
        let now = &self.progress;
        let mut to = Writer(MAGIC.to_vec());
        to.number(VERSION);
        to.bytes(&self.trainer.snapshot().map_err(failed)?);
        to.number(now.records);
        to.bytes(&now.identity);
        now.text.write(&mut to);
        now.pool.write(&mut to);
        now.holdout.write(&mut to);
        to.float(now.losses.0);
        to.number(now.losses.1);
        to.maybe(now.pending.as_ref(), Row::write);
        to.maybe(now.score.as_ref(), Score::write);
        now.curve.write(&mut to);
        Ok(to.0)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), OperatorError> {
        let rest = snapshot.strip_prefix(MAGIC);
        let mut from = Reader(rest.ok_or_else(|| failed("this is no snapshot of a training"))?);
        match from.number()? {
            VERSION => {}
            other => {
                return Err(failed(format!(
                    "the snapshot of a training is of version {other}, this program reads {VERSION}"
                )));
            }
        }
        self.trainer.restore(from.bytes()?).map_err(failed)?;
        self.progress = Progress {
            records: from.number()?,
            identity: from.bytes()?.try_into().map_err(|_| failed("a hash is not of 32 bytes"))?,
            text: Cutter::read(&mut from)?,
            pool: self.progress.pool.read(&mut from)?,
            holdout: Holdout::read(&mut from)?,
            losses: (from.float()?, from.number()?),
            pending: from.maybe(Row::read)?,
            score: from.maybe(Score::read)?,
            curve: Losses::read(&mut from)?,
        };
        Ok(from.end()?)
    }
}
