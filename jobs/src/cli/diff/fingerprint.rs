//! A number for each value, equal for equal values whatever batch they stand in.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use anabranch_pipelines::source::SourceError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};

/// Fingerprints of some columns.
pub(super) struct Fingerprints {
    columns: Vec<(String, RowConverter)>,
}

impl Fingerprints {
    /// Those of the columns `names` of `schema`.
    pub(super) fn of(schema: &SchemaRef, names: &[String]) -> Result<Self, SourceError> {
        let converter = |name: &String| {
            let field = schema.field_with_name(name).map_err(unreadable)?;
            let fields = vec![SortField::new(field.data_type().clone())];
            Ok((name.clone(), RowConverter::new(fields).map_err(unreadable)?))
        };
        Ok(Self { columns: names.iter().map(converter).collect::<Result<_, SourceError>>()? })
    }

    /// For each row, one for each column.
    pub(super) fn of_rows(&mut self, batch: &RecordBatch) -> Result<Vec<Box<[u64]>>, SourceError> {
        let mut rows = vec![Vec::with_capacity(self.columns.len()); batch.num_rows()];
        for (name, converter) in &mut self.columns {
            let missing = || SourceError::Options(format!("a batch lacks the column `{name}`"));
            let column = batch.column_by_name(name).ok_or_else(missing)?;
            let values =
                converter.convert_columns(std::slice::from_ref(column)).map_err(unreadable)?;
            for (row, value) in rows.iter_mut().zip(values.iter()) {
                let mut hasher = DefaultHasher::new();
                hasher.write(value.as_ref());
                row.push(hasher.finish());
            }
        }
        Ok(rows.into_iter().map(Vec::into_boxed_slice).collect())
    }
}

fn unreadable(error: arrow::error::ArrowError) -> SourceError {
    SourceError::Options(error.to_string())
}
