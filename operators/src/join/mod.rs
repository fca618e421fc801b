//! `kind = "join"`: rows of two inputs that have the same key become one row.
//!
//! A symmetric hash join: each row looks for its partner among the rows of the other input that are kept,
//! and is kept itself as far as a partner may still come. How long that is says [`Matches`].

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Keyed, Operator, OperatorError, Outcome, Shard,
};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::ID;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::OptionsError;

mod columns;
mod key;
mod shard;
mod side;
mod snapshot;

use columns::Columns;
use key::{KeyColumn, Keys};
use shard::JoinShard;

/// Names of one or several columns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(from = "OneOrMore")]
#[schemars(with = "OneOrMore")]
pub struct Names(Vec<String>);

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Names {
    fn from(names: OneOrMore) -> Self {
        match names {
            OneOrMore::One(name) => Self(vec![name]),
            OneOrMore::More(names) => Self(names),
        }
    }
}

impl Names {
    /// The names, in order.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl<const N: usize> From<[&str; N]> for Names {
    fn from(names: [&str; N]) -> Self {
        Self(names.map(str::to_owned).to_vec())
    }
}

/// Which rows of the left input come out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Those with a partner.
    #[default]
    Inner,
    /// All; without a partner, the columns of the right input are null.
    Left,
}

/// How often a row may match.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Matches {
    /// Once on either side: rows of equal key pair up in order of arrival, and pairs are forgotten.
    #[default]
    One,
    /// Any number of left rows match a right row, whose key must be unique; left rows wait until theirs
    /// comes, right rows stay until the end.
    Many,
    /// Every left row matches every right row of its key; all rows stay until the end.
    All,
}

/// What becomes of rows that found no partner when the inputs end, or have no key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Unmatched {
    /// They become dead letters: left rows of an inner join, and right rows too where `matches = "one"`.
    #[default]
    Refuse,
    /// They are left out.
    Drop,
}

/// Options of `kind = "join"`: rows of two inputs with equal keys become one row. `inputs = ["left", "right"]`
/// names two nodes in this order.
///
/// The output has all columns of the left input, then those of the right one without its `id`, `key` and key
/// columns. Where each left row matches at most once it keeps its `id`; with `matches = "all"` a pair's
/// id follows from both. Rows whose key is null match nothing.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinOptions {
    /// The key column, or columns, where both inputs call them the same.
    #[serde(default)]
    pub on: Names,
    /// The key columns of the left input.
    #[serde(default)]
    pub left_on: Names,
    /// The key columns of the right input, in the same order.
    #[serde(default)]
    pub right_on: Names,
    /// `"inner"`: rows with a partner; `"left"`: all left rows.
    #[serde(default)]
    pub how: How,
    /// `"one"`: pairs; `"many"`: a right row serves many left rows; `"all"`: every combination.
    #[serde(default)]
    pub matches: Matches,
    /// `"refuse"`: rows without a partner become dead letters; `"drop"`: they are left out.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// Put before the names of the right input's columns; its `key` then stays, too.
    #[serde(default)]
    pub prefix: String,
    /// What rows that wait, and those on their way, may take in memory. Part of the job's `credit`.
    #[serde(default = "memory")]
    #[schemars(with = "String")]
    pub memory: ByteSize,
}

const fn memory() -> ByteSize {
    ByteSize(64 << 20)
}

impl JoinOptions {
    /// A join on columns that both inputs have, with the defaults.
    pub fn on<const N: usize>(columns: [&str; N]) -> Self {
        Self {
            on: columns.into(),
            left_on: Names::default(),
            right_on: Names::default(),
            how: How::default(),
            matches: Matches::default(),
            unmatched: Unmatched::default(),
            prefix: String::new(),
            memory: memory(),
        }
    }

    /// The operator.
    ///
    /// # Errors
    /// When the key columns are not given once, or not the same number on both sides.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let sides = (self.left_on.0.len(), self.right_on.0.len());
        let wrong = match (self.on.0.len(), sides) {
            (0, (0, 0)) => "give the key: `on`, or `left_on` and `right_on`".to_owned(),
            (0, (left, right)) if left == right => return Ok(Arc::new(Join { options: self })),
            (0, (left, right)) => {
                format!("`left_on` names {left} columns, `right_on` {right}; name as many")
            }
            (_, (0, 0)) => return Ok(Arc::new(Join { options: self })),
            _ => "give `on`, or `left_on` and `right_on`, not both".to_owned(),
        };
        Err(OptionsError(wrong))
    }

    fn keys(&self, input: usize) -> &[String] {
        match (self.on.0.is_empty(), input) {
            (false, _) => &self.on.0,
            (true, 0) => &self.left_on.0,
            (true, _) => &self.right_on.0,
        }
    }
}

struct Join {
    options: JoinOptions,
}

impl Operator for Join {
    fn kind(&self) -> &'static str {
        "join"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [left, right] = inputs else {
            return Err(SchemaError::Mismatch("join reads two inputs, left and right".into()));
        };
        SchemaError::require(left, ID)?;
        SchemaError::require(right, ID)?;
        for (one, other) in self.options.keys(0).iter().zip(self.options.keys(1)) {
            let (one, other) = (KeyColumn::of(left, one)?, KeyColumn::of(right, other)?);
            if one.kind != other.kind {
                return Err(SchemaError::Unfit {
                    column: other.column.clone(),
                    found: other.kind.to_string(),
                    expected: format!("{} as `{}` of the left input", one.kind, one.column),
                    hint: "a key has one type on both sides".into(),
                });
            }
        }
        Ok(Columns::new(&self.options, left, right)?.output)
    }

    /// An estimate: a row of an epoch may find a partner in any earlier one. What joins really hold is
    /// counted while they run.
    fn growth(&self) -> Growth {
        Growth::times(2.0)
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Err(OperatorError::Failed("a join has two inputs and is fed, not invoked".into()))
    }

    fn keyed(&self) -> Option<&dyn Keyed> {
        Some(self)
    }
}

impl Keyed for Join {
    fn inputs(&self) -> usize {
        2
    }

    fn memory(&self) -> usize {
        self.options.memory.as_usize()
    }

    fn hashes(&self, input: usize, batch: &RecordBatch) -> Result<UInt64Array, OperatorError> {
        let keys = Keys::of(batch, self.options.keys(input))?;
        Ok((0..batch.num_rows()).map(|row| keys.hash(row)).collect::<Vec<u64>>().into())
    }

    fn shard(&self, inputs: &[SchemaRef]) -> Result<Box<dyn Shard>, OperatorError> {
        let [left, right] = inputs else {
            return Err(OperatorError::Failed("join reads two inputs".into()));
        };
        Ok(Box::new(JoinShard::new(&self.options, left, right)?))
    }
}

#[cfg(test)]
mod tests;
