//! `kind = "select"`: keeps, drops and renames columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::ID;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::derived::Derived;

/// Options of `kind = "select"`: columns are kept, dropped or renamed. The column `id` always stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelectOptions {
    /// The columns to keep, in this order; all when empty.
    pub keep: Vec<String>,
    /// The columns to drop.
    pub drop: Vec<String>,
    /// New names by old name.
    pub rename: BTreeMap<String, String>,
}

impl SelectOptions {
    /// The operator.
    ///
    /// # Errors
    /// When both `keep` and `drop` are given.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        if !self.keep.is_empty() && !self.drop.is_empty() {
            return Err(OptionsError("give `keep` or `drop`, not both".to_owned()));
        }
        if self.keep.iter().chain(&self.drop).any(|name| name == ID) || self.rename.contains_key(ID)
        {
            return Err(OptionsError("the column `id` always stays, in front".to_owned()));
        }
        Ok(Arc::new(Select { options: self, columns: Derived::default() }))
    }
}

struct Select {
    options: SelectOptions,
    columns: Derived<(SchemaRef, Vec<usize>)>,
}

impl Select {
    fn columns(&self, schema: &Schema) -> Result<Vec<usize>, SchemaError> {
        let SelectOptions { keep, drop, rename } = &self.options;
        for name in keep.iter().chain(drop).chain(rename.keys()) {
            SchemaError::require(schema, name)?;
        }
        let at = |name: &String| schema.index_of(name).ok();
        let names = schema.fields().iter().map(|field| field.name());
        Ok(if keep.is_empty() {
            names.filter(|name| !drop.contains(name)).filter_map(at).collect()
        } else {
            std::iter::once(&ID.to_owned()).chain(keep).filter_map(at).collect()
        })
    }
}

impl Operator for Select {
    fn kind(&self) -> &'static str {
        "select"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("select reads one input".into()));
        };
        let kept = self.columns(input)?.into_iter().filter_map(|at| input.fields().get(at));
        let fields: Vec<_> = kept
            .map(|field| match self.options.rename.get(field.name()) {
                Some(name) => Arc::new(field.as_ref().clone().with_name(name)),
                None => Arc::clone(field),
            })
            .collect();
        let mut names: Vec<&String> = fields.iter().map(|field| field.name()).collect();
        names.sort();
        if let Some([twice, _]) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(SchemaError::Mismatch(format!("two columns would be called `{twice}`")));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let derive = || Ok((self.output(&[Arc::clone(&input)])?, self.columns(&input)?));
        let (schema, columns) = self.columns.of::<SchemaError>(&input, derive)?;
        let kept = batch.project(&columns)?;
        Ok(Outcome::all(RecordBatch::try_new(schema, kept.columns().to_vec())?))
    }
}
