//! The column of right answers.

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::media;
use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};

use crate::rewrite::Column;
use crate::task::{Labels, Right, Task};

/// What is right of the records of a batch.
pub(crate) enum Answers<'a> {
    /// There is no such column.
    Unknown,
    /// Numbers of classes.
    Classes(Int64Array),
    /// Decoded media, which stay where they are in the batch.
    Media(Column<'a>),
}

impl<'a> Answers<'a> {
    /// # Errors
    /// When the column is not there, or not what the task needs.
    pub(crate) fn of(
        batch: &'a RecordBatch,
        label: Option<&'a str>,
        task: &dyn Task,
    ) -> Result<Self, OperatorError> {
        let Some(label) = label else { return Ok(Self::Unknown) };
        check(&batch.schema(), label, task)?;
        if task.labels() == Labels::Media {
            return Ok(Self::Media(Column::of(batch, label, task.modality())));
        }
        let column = batch.column_by_name(label);
        let column = column.ok_or_else(|| OperatorError::Failed(format!("no column `{label}`")))?;
        let numbers = cast(column, &DataType::Int64)?;
        let numbers = numbers.as_any().downcast_ref::<Int64Array>().cloned().map(Self::Classes);
        numbers.ok_or_else(|| OperatorError::Failed(format!("column `{label}` holds no numbers")))
    }

    /// What is right of the record in a row; `None` when nobody knows.
    ///
    /// # Errors
    /// When it is media that are not what the column says, as a sentence.
    pub(crate) fn right(&self, row: usize) -> Result<Option<Right<'a>>, String> {
        match self {
            Self::Unknown => Ok(None),
            Self::Classes(numbers) if row >= numbers.len() || numbers.is_null(row) => Ok(None),
            Self::Classes(numbers) => Ok(u32::try_from(numbers.value(row)).ok().map(Right::Class)),
            Self::Media(column) => Ok(column.samples(row)?.map(Right::Media)),
        }
    }
}

/// Whether the column holds right answers of the task: whole numbers, or decoded media like those of the records.
pub(crate) fn check(schema: &Schema, label: &str, task: &dyn Task) -> Result<(), SchemaError> {
    if task.labels() == Labels::Media {
        let decoded = Some(media::State::Decoded);
        return SchemaError::require_media(schema, label, task.modality(), decoded).map(|_| ());
    }
    let field = SchemaError::require(schema, label)?;
    match field.data_type().is_integer() {
        true => Ok(()),
        false => Err(SchemaError::Unfit {
            column: label.to_owned(),
            found: format!("of type {}", field.data_type()),
            expected: "whole numbers".to_owned(),
            hint: "`label` is the number of the right class, from 0".to_owned(),
        }),
    }
}
