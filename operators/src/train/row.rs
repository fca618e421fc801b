//! What comes out of a training: rows of measures, some with an artifact.

use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::{ID, KEY, RecordId};
use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::state::{Damaged, Reader, Writer};

/// What a model does on the examples that are held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score {
    /// The mean cross entropy in nats.
    pub(super) loss: f64,
    /// Where it lies in 95 of 100 cases, if there are enough examples to tell.
    pub(super) loss_interval: Option<[f64; 2]>,
    /// The share of right answers, and where it lies; not of next tokens.
    pub(super) accuracy: Option<(f64, [f64; 2])>,
    /// Predictions that were made.
    pub(super) predictions: u64,
}

/// A row of measures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Steps taken.
    pub(super) step: u64,
    /// Records read.
    pub(super) records: u64,
    /// The mean loss since the last row.
    pub(super) loss: f64,
    /// The rate of the last step.
    pub(super) rate: f64,
    pub(super) score: Option<Score>,
    /// Card and weights.
    pub(super) artifact: Option<(String, Vec<u8>)>,
}

/// Names of the columns of artifacts, which are the names of their files.
const CARD: &str = anabranch_models::artifact::CARD;
const WEIGHTS: &str = anabranch_models::artifact::WEIGHTS;

/// The columns of rows.
pub(super) fn schema() -> SchemaRef {
    let number = |name: &str, null| Field::new(name, DataType::Float64, null);
    Arc::new(Schema::new(vec![
        Field::new(ID, DataType::FixedSizeBinary(16), false),
        Field::new(KEY, DataType::Utf8, false),
        Field::new("step", DataType::Int64, false),
        Field::new("records", DataType::Int64, false),
        number("loss", false),
        number("rate", false),
        number("validation_loss", true),
        number("accuracy", true),
        number("accuracy_low", true),
        number("accuracy_high", true),
        Field::new(CARD, DataType::Utf8, true),
        Field::new(WEIGHTS, DataType::Binary, true),
    ]))
}

/// Rows as a batch, of a model of this name.
pub(super) fn batch(name: &str, rows: &[Row]) -> Result<RecordBatch, OperatorError> {
    let keys: Vec<String> = rows.iter().map(|row| format!("{name}-step-{:08}", row.step)).collect();
    let ids = keys.iter().map(|key| RecordId::new(name, key).0);
    let number = |of: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Float64Array>())
    };
    let whole = |of: &dyn Fn(&Row) -> u64| -> ArrayRef {
        // A count that is beyond the largest is not one.
        let of = |row| i64::try_from(of(row)).unwrap_or(i64::MAX);
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let accuracy = |row: &Row| row.score.and_then(|score| score.accuracy);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(ids)?),
        Arc::new(StringArray::from(keys.clone())),
        whole(&|row| row.step),
        whole(&|row| row.records),
        number(&|row| Some(row.loss)),
        number(&|row| Some(row.rate)),
        number(&|row| row.score.map(|score| score.loss)),
        number(&|row| accuracy(row).map(|(share, _)| share)),
        number(&|row| accuracy(row).map(|(_, [low, _])| low)),
        number(&|row| accuracy(row).map(|(_, [_, high])| high)),
        Arc::new(rows.iter().map(|row| Some(&row.artifact.as_ref()?.0)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(&row.artifact.as_ref()?.1)).collect::<BinaryArray>()),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn write_pair(pair: &[f64; 2], to: &mut Writer) {
    pair.iter().for_each(|number| to.float(*number));
}

fn read_pair(from: &mut Reader<'_>) -> Result<[f64; 2], Damaged> {
    Ok([from.float()?, from.float()?])
}

impl Score {
    pub(super) fn write(&self, to: &mut Writer) {
        to.float(self.loss);
        to.maybe(self.loss_interval.as_ref(), write_pair);
        to.maybe(self.accuracy.as_ref(), |(share, interval), to| {
            to.float(*share);
            write_pair(interval, to);
        });
        to.number(self.predictions);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            loss: from.float()?,
            loss_interval: from.maybe(read_pair)?,
            accuracy: from.maybe(|from| Ok((from.float()?, read_pair(from)?)))?,
            predictions: from.number()?,
        })
    }
}

impl Row {
    /// Writes a row that has no artifact.
    pub(super) fn write(&self, to: &mut Writer) {
        to.number(self.step);
        to.number(self.records);
        to.float(self.loss);
        to.float(self.rate);
        to.maybe(self.score.as_ref(), Score::write);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            step: from.number()?,
            records: from.number()?,
            loss: from.float()?,
            rate: from.float()?,
            score: from.maybe(Score::read)?,
            artifact: None,
        })
    }
}
