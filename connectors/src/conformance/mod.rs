//! What every source and every sink must do, as checks that any implementation can run.
//!
//! Enable the feature `conformance` in a test's dependencies and hand over what you built:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use anabranch_connectors::conformance::source;
//! use anabranch_connectors::source::SampleOptions;
//!
//! let sample = SampleOptions { records: 20, seed: 1 }.build()?;
//! let seen = source::check(&sample).await?;
//! assert_eq!(seen.rows, 20);
//! # Ok(())
//! # }
//! ```

use std::fmt::Display;

pub mod sink;
pub mod source;

/// What an implementation does that its trait forbids.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

impl Violation {
    /// A violation in words.
    pub fn new(what: impl Display) -> Self {
        Self(what.to_string())
    }
}

/// An error where there must be none.
fn failed<E: Display>(doing: &str) -> impl FnOnce(E) -> Violation + '_ {
    move |error| Violation(format!("{doing} failed: {error}"))
}

/// A violation, unless this holds.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what())) }
}
