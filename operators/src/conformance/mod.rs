//! What every operator and every codec must do, as functions that a test calls.
//!
//! Behind the feature `conformance`, so that operators and codecs of other crates are held to the same:
//!
//! ```toml
//! [dev-dependencies]
//! anabranch-operators = { version = "0.1", features = ["conformance"] }
//! ```
//!
//! ```
//! use anabranch_operators::{FilterOptions, conformance::operator};
//! use anabranch_pipelines::operator::Context;
//!
//! let filter = FilterOptions { condition: "label < 3".into() }.build()?;
//! let input = operator::numbered(100, "label");
//! operator::check(&filter, &input, &Context::plain(), |recipe| {
//!     let options: FilterOptions = serde_json::from_value(recipe.options.clone()).map_err(|e| e.to_string())?;
//!     options.build().map_err(|e| e.to_string())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use thiserror::Error;

pub mod codec;
pub(crate) mod graph;
pub mod operator;
#[cfg(test)]
mod tests;

/// What was not as it must be, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Failure(pub String);

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure(otherwise())) }
}
