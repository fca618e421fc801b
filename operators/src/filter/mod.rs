//! `kind = "filter"`: keeps the records for which an expression is true.
//!
//! The expression is [CEL](https://cel.dev), checked against the columns at plan time and compiled to Arrow
//! kernels, loops over lists included: their elements become rows. It may use
//!
//! | | |
//! | --- | --- |
//! | values | columns, fields of structs (`image.path`), elements of lists (`tags[0]`), constants |
//! | comparisons | `== != < <= > >=`, `x in ['a', 'b']`, `x in tags` |
//! | logic | `&&`, `\|\|`, `!`, `a ? b : c` |
//! | arithmetic | `+ - * / %`, `-x`; of texts `+` |
//! | texts | `startsWith`, `endsWith`, `contains`, `matches` (an [expression](https://docs.rs/regex) found anywhere), `lowerAscii`, `upperAscii`, `trim`, `size` (characters) |
//! | conversions | `int(x)`, `double(x)`, `string(x)` |
//! | lists | `size`, `tags.all(t, t > 0)`, `exists`, `exists_one`, `map`, `filter` |
//! | presence | `x == null`, `has(image.bytes)` |
//!
//! Anything else is refused with its place. An integer and a floating-point number can be compared, and for
//! arithmetic one of them is converted: `double(label) + 0.5`. Integers have 64 bits and a sign; where a larger
//! one of an unsigned column is asked for, its record is refused.
//!
//! A missing value is `null`: `x == null` asks for it, and `x != 5` is true of it. What else is asked of it
//! (`x < 5`, `size(x)`) has no answer, and a record without an answer is dropped, unless `||` or `&&`
//! decide without it. An element that a list does not have is missing. A record for which a computation
//! fails (a division by zero, an overflow, `int` of what is no number) is refused.
//!
//! ```
//! use std::sync::Arc;
//! use anabranch_operators::FilterOptions;
//! use anabranch_pipelines::operator::{Allocation, Context};
//! use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
//!
//! let filter = FilterOptions { condition: "label < 5 && split == 'train'".into() }.build()?;
//! let batch = RecordBatch::try_from_iter([
//!     ("label", Arc::new(Int32Array::from(vec![Some(3), Some(7), None, Some(4)])) as ArrayRef),
//!     ("split", Arc::new(StringArray::from(vec!["train", "train", "train", "test"]))),
//! ])?;
//! let outcome = filter.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
//! assert_eq!(outcome.records.num_rows(), 1);
//! assert!(outcome.refused.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome, Refused,
};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use cel::{ParseErrors, Program};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::derived::Derived;

mod check;
mod evaluate;
mod functions;
mod lists;
mod problem;
mod scope;
mod typed;

use evaluate::Verdict;
use typed::Expression;

/// Options of `kind = "filter"`: the rows for which an expression holds go on.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterOptions {
    /// A CEL expression over the columns, e.g. `label < 5 && split == 'train'`.
    #[serde(rename = "where")]
    pub condition: String,
}

impl FilterOptions {
    /// The operator.
    ///
    /// # Errors
    /// When the expression cannot be parsed. Its columns are checked at plan time.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let program = parse(&self.condition).map_err(|errors| {
            let first = errors.errors.first().map(|error| (error.pos, error.msg.as_str()));
            let (place, message) = first.unwrap_or(((1, 1), ""));
            OptionsError(problem::unreadable(&self.condition, place, message))
        })?;
        Ok(Arc::new(Filter { program, options: self, condition: Derived::default() }))
    }
}

/// The parser goes down a dozen functions for each bracket, and says itself when brackets are too deep; until then an
/// ordinary stack may be too small for what a development build puts there.
const STACK: usize = 64 << 20;

fn parse(condition: &str) -> Result<Program, ParseErrors> {
    std::thread::scope(|scope| {
        let parse = || Program::compile(condition);
        let parser = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, parse);
        // Without a thread to be had it is done here, and without an answer it is asked again.
        let parsed = parser.ok().and_then(|parser| parser.join().ok());
        parsed.unwrap_or_else(|| Program::compile(condition))
    })
}

struct Filter {
    program: Program,
    options: FilterOptions,
    condition: Derived<Arc<Expression>>,
}

impl Operator for Filter {
    fn kind(&self) -> &'static str {
        "filter"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("filter reads one input".into()));
        };
        Expression::condition(&self.program, input)?;
        Ok(Arc::clone(input))
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
        let compile = || Expression::condition(&self.program, &input).map(Arc::new);
        let condition = self.condition.of(&input, compile)?;
        let verdicts = evaluate::condition(&condition, &batch)?;
        let keep: BooleanArray =
            verdicts.iter().map(|verdict| Some(matches!(verdict, Verdict::Keep))).collect();
        let refused = verdicts.into_iter().enumerate().filter_map(|(row, verdict)| match verdict {
            Verdict::Refuse(fault) => Some(Refused { row, error: format!("`where` {fault}") }),
            Verdict::Keep | Verdict::Drop => None,
        });
        Ok(Outcome { refused: refused.collect(), records: filter_record_batch(&batch, &keep)? })
    }
}

#[cfg(test)]
mod tests;
