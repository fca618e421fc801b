//! A part of the page.

use std::collections::BTreeMap;
use std::error::Error;

use serde_json::Value;

/// Runs by name.
pub(crate) type Runs = BTreeMap<String, Value>;

/// A question, the runs that answer it, and what they come to.
pub(crate) trait Part {
    /// The word for it on the command line, in names of files and before its figures.
    fn name(&self) -> &'static str;

    /// The runs that it is made of, each of which can be made by itself. The first is the one that `verify` makes
    /// again.
    fn runs(&self) -> Vec<String>;

    /// The seeds of its runs, if they have any.
    fn seeds(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Makes one run: numbers, as a JSON object.
    fn run(&self, run: &str) -> Result<Value, Box<dyn Error>>;

    /// Its first run with next to nothing to learn from and to test, which shows that it works and says nothing else;
    /// `None` for parts that have no such.
    fn tiny(&self) -> Option<Result<Value, Box<dyn Error>>> {
        None
    }

    /// What all runs come to.
    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>>;

    /// Whether a number of a run that was made again is near enough to the recorded one. `name` is where it stands in
    /// the run, as a JSON pointer. Bytes are the same everywhere; what was trained is not, on other processors.
    fn near(&self, _name: &str, recorded: f64, found: f64) -> bool {
        recorded == found
    }
}

/// What a part comes to.
pub(crate) struct Found {
    /// By full name, `speech.vs_wav`.
    pub(crate) figures: BTreeMap<String, f64>,
    /// For people, from its heading (`## `) on.
    pub(crate) text: String,
}
