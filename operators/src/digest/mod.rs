//! `kind = "digest"`: a hash of some columns beside them, so that equal records can be told by 16 bytes.
//!
//! References are read for it and stay references. So `dedup` by such a column needs no bytes, and neither does
//! comparing tables by it. Equal values have equal hashes in every table and for ever; of media only the bytes
//! count, not the path.
//!
//! ```
//! use std::sync::Arc;
//! use anabranch_operators::DigestOptions;
//! use anabranch_pipelines::operator::{Allocation, Context};
//! use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
//!
//! let digest = DigestOptions { by: ["text"].into(), into: "digest".into() }.build()?;
//! let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("a"), None]));
//! let batch = RecordBatch::try_from_iter([("text", texts)])?;
//! let outcome = digest.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
//! let digests = outcome.records.column_by_name("digest").unwrap().as_fixed_size_binary();
//! assert_eq!(digests.value(0), digests.value(2));
//! assert_ne!(digests.value(0), digests.value(1));
//! assert!(digests.is_null(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use arrow::array::{FixedSizeBinaryBuilder, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::codec::Limits;
use crate::derived::Derived;
use crate::{Names, OptionsError, decode};

pub(crate) mod value;

use value::{Identities, Identity};

/// Options of `kind = "digest"`: a column of hashes is added.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestOptions {
    /// The column, or columns, that are hashed together.
    pub by: Names,
    /// The column of hashes, 16 bytes each, that is added. It is null where all of `by` is.
    #[serde(default = "digest")]
    pub into: String,
}

fn digest() -> String {
    "digest".to_owned()
}

impl DigestOptions {
    /// The operator.
    ///
    /// # Errors
    /// When no column is given.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        if self.by.as_slice().is_empty() {
            return Err(OptionsError("`by` names the columns to hash".to_owned()));
        }
        Ok(Arc::new(Hashing { options: self, schema: Derived::default() }))
    }
}

struct Hashing {
    options: DigestOptions,
    schema: Derived<SchemaRef>,
}

impl Operator for Hashing {
    fn kind(&self) -> &'static str {
        "digest"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("digest reads one input".into()));
        };
        let DigestOptions { by, into } = &self.options;
        by.as_slice().iter().try_for_each(|column| value::require(input, column))?;
        if input.field_with_name(into).is_ok() {
            let message = format!("there is a column `{into}` already; name another in `into`");
            return Err(SchemaError::Mismatch(message));
        }
        let mut fields: Vec<Arc<Field>> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(value::field(into)));
        Ok(Arc::new(Schema::new(fields)))
    }

    fn growth(&self) -> Growth {
        Growth { factor: 1.0, per_record: 32 }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let by = self.options.by.as_slice();
        let identities = Identities::of(&batch, by)?;
        let limits = Limits::default();
        let read = by.iter().map(|column| decode::fetch(&batch, column, &limits, context));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        let mut digests = FixedSizeBinaryBuilder::new(size_of::<value::Hash>() as i32);
        let mut outcome = Outcome::keeping(&batch, |row| {
            let of =
                |at: usize| read.get(at).and_then(|read| read.get(row)).and_then(Option::as_ref);
            if let Some(Err(error)) = (0..by.len()).filter_map(of).find(|read| read.is_err()) {
                return Err(error.clone());
            }
            let bytes = |at: usize| of(at)?.as_ref().ok().map(AsRef::as_ref);
            match identities.identity_with(row, bytes) {
                Identity::Is(hash) => digests.append_value(hash).map_err(|e| e.to_string())?,
                Identity::Missing => digests.append_null(),
                Identity::Unread(at) => {
                    let column = by.get(at).map_or("", String::as_str);
                    return Err(format!("its `{column}` was not read"));
                }
            }
            Ok(())
        })?;
        let mut columns = outcome.records.columns().to_vec();
        columns.push(Arc::new(digests.finish()));
        outcome.records = RecordBatch::try_new(schema, columns)?;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests;
