//! Which columns a joined row has.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::{ID, KEY, RecordId};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};

use super::{How, JoinOptions, Matches};

/// The output's schema, and where its columns come from.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) output: SchemaRef,
    /// Indices of the right input's columns, in order.
    right: Vec<usize>,
    /// Whether the id of a pair follows from both ids.
    pairs: bool,
}

impl Columns {
    pub(super) fn new(
        options: &JoinOptions,
        left: &Schema,
        right: &Schema,
    ) -> Result<Self, SchemaError> {
        let mut fields: Vec<_> = left.fields().iter().cloned().collect();
        let mut taken = Vec::new();
        for (at, field) in right.fields().iter().enumerate() {
            let name = field.name();
            let known = name == ID || options.keys(1).contains(name);
            if known || (name == KEY && options.prefix.is_empty()) {
                continue;
            }
            let name = format!("{}{name}", options.prefix);
            if fields.iter().any(|other| *other.name() == name) {
                let how = if options.prefix.is_empty() {
                    "set `prefix`, e.g. `prefix = \"right_\"`"
                } else {
                    "choose another `prefix`"
                };
                return Err(SchemaError::Mismatch(format!(
                    "both inputs would give a column `{name}`; {how}, or rename or drop one with a `select`"
                )));
            }
            let nullable = field.is_nullable() || options.how == How::Left;
            let field = field.as_ref().clone().with_name(name).with_nullable(nullable);
            fields.push(Arc::new(field));
            taken.push(at);
        }
        Ok(Self {
            output: Arc::new(Schema::new(fields)),
            right: taken,
            pairs: options.matches == Matches::All,
        })
    }

    /// Joined rows from as many left and right ones.
    pub(super) fn pair(
        &self,
        left: &RecordBatch,
        right: &RecordBatch,
    ) -> Result<RecordBatch, OperatorError> {
        let mut columns = left.columns().to_vec();
        if self.pairs {
            let at = left.schema().index_of(ID)?;
            if let Some(slot) = columns.get_mut(at) {
                *slot = pair_ids(left, right)?;
            }
        }
        columns.extend(right.project(&self.right)?.columns().iter().cloned());
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }

    /// Left rows that have no partner.
    pub(super) fn alone(&self, left: &RecordBatch) -> Result<RecordBatch, OperatorError> {
        let missing = self.output.fields().iter().skip(left.num_columns());
        let nulls = missing.map(|field| new_null_array(field.data_type(), left.num_rows()));
        let columns = left.columns().iter().cloned().chain(nulls).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

fn pair_ids(left: &RecordBatch, right: &RecordBatch) -> Result<ArrayRef, OperatorError> {
    let id = |batch: &RecordBatch| {
        let column = batch.column_by_name(ID).and_then(|c| c.as_fixed_size_binary_opt()).cloned();
        column.ok_or_else(|| OperatorError::Failed("an input has no ids".into()))
    };
    let (left, right) = (id(left)?, id(right)?);
    let pairs = (0..left.len()).map(|row| RecordId::of_pair(left.value(row), right.value(row)).0);
    Ok(Arc::new(FixedSizeBinaryArray::try_from_iter(pairs)?))
}
