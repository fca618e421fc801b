//! What the rows of an evaluation come to, setting by setting.

use std::collections::BTreeMap;

use anabranch_pipelines::operator::OperatorError;
use arrow::array::{
    Array, ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::point::{BYTES, CODEC, SECONDS, STEP};
use super::{POINTS, RAW_BYTES, SCORE};
use crate::choose::{Interval, Losses};

/// Each bound of a reported interval is wrong with this probability at most: 95 % for both.
pub(super) const ALPHA: f64 = 0.025;

/// The mean of numbers, those that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value.filter(|value| !value.is_nan()) {
            self.sum += value;
            self.count += 1;
        }
    }

    /// The mean, NaN of nothing; infinite when one of the numbers is.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// A setting that was tried.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// The codec.
    pub codec: String,
    /// The step of its ladder.
    pub step: Option<i32>,
    /// Bytes stored of a record, container included.
    pub bytes: Mean,
    /// Records that the codec could not hold.
    pub failed: u64,
    /// Processor seconds for encoding a record.
    pub encode_seconds: Mean,
    /// Processor seconds for decoding a record.
    pub decode_seconds: Mean,
    /// By name.
    pub metrics: BTreeMap<String, Mean>,
    /// The score of the task on what comes back.
    pub score: Mean,
    /// The paired losses, Q_infer.
    pub losses: Losses,
}

impl Tried {
    /// As people call it: `webp 60`.
    pub fn name(&self) -> String {
        self.step.map_or_else(|| self.codec.clone(), |step| format!("{} {step}", self.codec))
    }

    /// Where the loss is, with 95 % confidence; `None` without a task.
    pub fn loss(&self) -> Option<Interval> {
        (self.losses.records() > 0).then(|| self.losses.interval(ALPHA))
    }
}

/// The sum of the rows of an evaluation.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub(super) records: u64,
    pub(super) raw_bytes: Mean,
    pub(super) score: Mean,
    settings: Vec<Tried>,
    places: BTreeMap<(String, Option<i32>), usize>,
}

impl Summary {
    /// Adds rows that `evaluate` made, as they are or as a table gave them back.
    ///
    /// # Errors
    /// When the batch has no points.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), OperatorError> {
        let none = || OperatorError::Failed(format!("there is no column `{POINTS}` of points"));
        let column = batch.column_by_name(POINTS).ok_or_else(none)?;
        let lists = column.as_any().downcast_ref::<ListArray>().ok_or_else(none)?;
        let raw = floats(batch.column_by_name(RAW_BYTES))?;
        let scores = floats(batch.column_by_name(SCORE))?;
        for row in (0..batch.num_rows()).filter(|row| lists.is_valid(*row)) {
            let points = lists.value(row);
            let points = points.as_any().downcast_ref::<StructArray>().ok_or_else(none)?;
            let score = at(scores.as_ref(), row);
            self.records += 1;
            self.raw_bytes.add(at(raw.as_ref(), row));
            self.score.add(score);
            self.add_points(points, score)?;
        }
        Ok(())
    }

    fn add_points(
        &mut self,
        points: &StructArray,
        original: Option<f64>,
    ) -> Result<(), OperatorError> {
        let lost = |name: &str| OperatorError::Failed(format!("points have no `{name}`"));
        let codecs =
            points.column_by_name(CODEC).and_then(|c| c.as_any().downcast_ref::<StringArray>());
        let codecs = codecs.ok_or_else(|| lost(CODEC))?;
        let steps =
            points.column_by_name(STEP).and_then(|c| c.as_any().downcast_ref::<Int32Array>());
        let steps = steps.ok_or_else(|| lost(STEP))?;
        let bytes =
            points.column_by_name(BYTES).and_then(|c| c.as_any().downcast_ref::<Int64Array>());
        let bytes = bytes.ok_or_else(|| lost(BYTES))?;
        let [encode, decode] = SECONDS.map(|name| floats(points.column_by_name(name)));
        let (encode, decode) = (encode?, decode?);
        let score = floats(points.column_by_name(SCORE))?;
        let known = [CODEC, STEP, BYTES, SECONDS[0], SECONDS[1], SCORE];
        let mut metrics: Vec<(&str, Option<Float64Array>)> = Vec::new();
        for name in points.column_names().into_iter().filter(|name| !known.contains(name)) {
            metrics.push((name, floats(points.column_by_name(name))?));
        }
        for row in 0..points.len() {
            let step = steps.is_valid(row).then(|| steps.value(row));
            let tried = self.setting(codecs.value(row), step);
            if bytes.is_null(row) {
                tried.failed += 1;
                // What cannot be stored is lost, as far as it was right.
                if let Some(original) = original {
                    tried.losses.add(original);
                    tried.score.add(Some(0.0));
                }
                continue;
            }
            tried.bytes.add(Some(bytes.value(row) as f64));
            tried.encode_seconds.add(at(encode.as_ref(), row));
            tried.decode_seconds.add(at(decode.as_ref(), row));
            for (name, values) in &metrics {
                tried.metrics.entry((*name).to_owned()).or_default().add(at(values.as_ref(), row));
            }
            let score = at(score.as_ref(), row);
            tried.score.add(score);
            if let (Some(original), Some(score)) = (original, score) {
                tried.losses.add(original - score);
            }
        }
        Ok(())
    }

    fn setting(&mut self, codec: &str, step: Option<i32>) -> &mut Tried {
        let key = (codec.to_owned(), step);
        let next = self.settings.len();
        let at = *self.places.entry(key).or_insert(next);
        if at == next {
            self.settings.push(Tried { codec: codec.to_owned(), step, ..Tried::default() });
        }
        #[expect(clippy::indexing_slicing, reason = "places lead into settings, which only grow")]
        &mut self.settings[at]
    }

    /// How many records were evaluated.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The settings, in the order in which they came.
    pub fn settings(&self) -> &[Tried] {
        &self.settings
    }

    /// The codecs, in the order in which they came.
    pub fn codecs(&self) -> Vec<&str> {
        let mut codecs: Vec<&str> = Vec::new();
        for tried in &self.settings {
            if !codecs.contains(&tried.codec.as_str()) {
                codecs.push(&tried.codec);
            }
        }
        codecs
    }

    /// Names of the metrics.
    pub fn metrics(&self) -> Vec<&str> {
        self.settings.iter().flat_map(|t| t.metrics.keys()).map(String::as_str).fold(
            Vec::new(),
            |mut names, name| {
                if !names.contains(&name) {
                    names.push(name);
                }
                names
            },
        )
    }
}

/// A column of numbers, whatever they are.
fn floats(column: Option<&ArrayRef>) -> Result<Option<Float64Array>, OperatorError> {
    let Some(column) = column else { return Ok(None) };
    Ok(cast(column, &DataType::Float64)?.as_any().downcast_ref::<Float64Array>().cloned())
}

fn at(values: Option<&Float64Array>, row: usize) -> Option<f64> {
    values.filter(|values| row < values.len() && values.is_valid(row)).map(|v| v.value(row))
}
