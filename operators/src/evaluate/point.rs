//! Points as a column: a list of structs.

use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use arrow::array::{
    ArrayBuilder, ArrayRef, Float64Builder, Int32Builder, Int64Builder, ListArray, StringBuilder,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields};

/// Fields of every point, before its metrics.
pub(super) const CODEC: &str = "codec";
pub(super) const STEP: &str = "step";
pub(super) const BYTES: &str = "bytes";
pub(super) const SECONDS: [&str; 2] = ["encode_seconds", "decode_seconds"];

/// What a setting does to a record.
#[derive(Debug, Default)]
pub(super) struct Point {
    pub(super) codec: &'static str,
    pub(super) step: Option<u16>,
    /// Bytes stored; `None` when the codec cannot hold the record.
    pub(super) bytes: Option<i64>,
    /// Processor time for encoding and for decoding.
    pub(super) seconds: [Option<f64>; 2],
    /// In the order of the plan.
    pub(super) metrics: Vec<Option<f64>>,
    /// Of the task, on what comes back.
    pub(super) score: Option<f64>,
}

/// The type of the column, with these metrics.
pub(super) fn list<'a>(metrics: impl Iterator<Item = &'a str>) -> DataType {
    DataType::List(Arc::new(element(fields(metrics))))
}

fn element(fields: Fields) -> Field {
    Field::new("element", DataType::Struct(fields), true)
}

fn fields<'a>(metrics: impl Iterator<Item = &'a str>) -> Fields {
    let mut fields = vec![
        Field::new(CODEC, DataType::Utf8, true),
        Field::new(STEP, DataType::Int32, true),
        Field::new(BYTES, DataType::Int64, true),
    ];
    let numbers = SECONDS.into_iter().chain(metrics).chain([super::SCORE]);
    fields.extend(numbers.map(|name| Field::new(name, DataType::Float64, true)));
    fields.into()
}

/// Builds the column.
pub(super) struct Points {
    fields: Fields,
    codec: StringBuilder,
    step: Int32Builder,
    bytes: Int64Builder,
    /// Seconds, metrics, score.
    numbers: Vec<Float64Builder>,
    ends: Vec<i32>,
    valid: Vec<bool>,
}

impl Points {
    pub(super) fn new<'a>(metrics: impl Iterator<Item = &'a str>, rows: usize) -> Self {
        let fields = fields(metrics);
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self {
            numbers: (3..fields.len()).map(|_| Float64Builder::new()).collect(),
            fields,
            codec: StringBuilder::new(),
            step: Int32Builder::new(),
            bytes: Int64Builder::new(),
            ends,
            valid: Vec::with_capacity(rows),
        }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, points: Option<Vec<Point>>) {
        self.valid.push(points.is_some());
        for point in points.into_iter().flatten() {
            self.codec.append_value(point.codec);
            self.step.append_option(point.step.map(i32::from));
            self.bytes.append_option(point.bytes);
            let [encode, decode] = point.seconds;
            let mut values = [encode, decode].into_iter().chain(point.metrics);
            let Some((score, before)) = self.numbers.split_last_mut() else { continue };
            // A setting that cannot hold the record has no metrics.
            before.iter_mut().for_each(|number| number.append_option(values.next().flatten()));
            score.append_option(point.score);
        }
        self.ends.push(i32::try_from(self.codec.len()).unwrap_or(i32::MAX));
    }

    pub(super) fn finish(mut self) -> Result<ArrayRef, OperatorError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.codec.finish()),
            Arc::new(self.step.finish()),
            Arc::new(self.bytes.finish()),
        ];
        columns.extend(self.numbers.iter_mut().map(|number| Arc::new(number.finish()) as ArrayRef));
        let points = StructArray::try_new(self.fields.clone(), columns, None)?;
        let nulls = NullBuffer::from(self.valid);
        let list = ListArray::try_new(
            Arc::new(element(self.fields)),
            OffsetBuffer::new(ScalarBuffer::from(self.ends)),
            Arc::new(points),
            Some(nulls).filter(|nulls| nulls.null_count() > 0),
        )?;
        Ok(Arc::new(list))
    }
}
