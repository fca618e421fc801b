//! What names stand for where a part of an expression is evaluated.

use std::sync::Arc;

use anabranch_pipelines::operator::OperatorError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::typed::Expression;

/// The columns of a batch; inside a loop, where each element of the lists is a row, also the variable.
pub(super) struct Scope<'a> {
    batch: &'a RecordBatch,
    within: Option<Within<'a>>,
}

struct Within<'a> {
    outer: &'a Scope<'a>,
    variable: &'a str,
    elements: &'a ArrayRef,
    /// The row of the outer scope that each element belongs to.
    parents: &'a UInt64Array,
}

impl<'a> Scope<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> Self {
        Self { batch, within: None }
    }

    pub(super) fn inside(
        outer: &'a Scope<'a>,
        variable: &'a str,
        elements: &'a ArrayRef,
        parents: &'a UInt64Array,
    ) -> Self {
        let within = Some(Within { outer, variable, elements, parents });
        Self { batch: outer.batch, within }
    }

    /// Where an expression has the values that it needs: if that is outside of the loop, also the row there that
    /// each row here belongs to.
    pub(super) fn outside(
        &self,
        expression: &Expression,
    ) -> Option<(&'a Scope<'a>, &'a UInt64Array)> {
        let within = self.within.as_ref()?;
        (!expression.mentions(within.variable)).then_some((within.outer, within.parents))
    }

    pub(super) fn rows(&self) -> usize {
        match &self.within {
            Some(within) => within.elements.len(),
            None => self.batch.num_rows(),
        }
    }

    /// A column or variable, or a field inside it; the fields of a missing struct are missing.
    pub(super) fn column(&self, path: &[String]) -> Result<ArrayRef, OperatorError> {
        let lost = || OperatorError::Failed(format!("there is no column `{}`", path.join(".")));
        let (first, fields) = path.split_first().ok_or_else(lost)?;
        let root = match &self.within {
            Some(within) if within.variable == first => within.elements,
            // Whatever does not ask for the variable is evaluated outside.
            Some(_) => return Err(lost()),
            None => self.batch.column_by_name(first).ok_or_else(lost)?,
        };
        let mut array = Arc::clone(root);
        for field in fields {
            let outer = array.as_struct_opt().ok_or_else(lost)?;
            let inner = Arc::clone(outer.column_by_name(field).ok_or_else(lost)?);
            let nulls = NullBuffer::union(outer.nulls(), inner.nulls());
            array = match inner.data_type() {
                DataType::Null => inner,
                _ => make_array(inner.to_data().into_builder().nulls(nulls).build()?),
            };
        }
        Ok(array)
    }
}
