//! What a supervisor and its processes say to each other.

use serde::{Deserialize, Serialize};

use crate::run::RunError;
use crate::run::process::Pulse;
use crate::run::ticket::Written;

/// The first message to a process. A file to write down what runs follows it, and the sockets to its peers,
/// in order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The process's number, from 0.
    pub(crate) index: usize,
    pub(crate) processes: usize,
    /// The plan's hash, which the process must come to by itself.
    pub(crate) plan: String,
    pub(crate) ticket: Written,
    /// Whatever the program needs to make the plan again.
    pub(crate) job: serde_json::Value,
}

/// To a process, after its order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// All processes have the same plan.
    Go,
    Cancel,
}

/// From a process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The plan is made, and is the same.
    Ready,
    /// It lives; several times per second.
    Pulse(Box<Pulse>),
    /// The run failed, and would fail again.
    Failed(Failed),
    /// The process cannot go on, but another start might.
    Broken(String),
    /// Its part of the run is done.
    Done(Box<Pulse>),
}

/// A [`RunError`] as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failed {
    TooManyErrors { refused: u64, records: u64, limit: String, example: String },
    Told(String),
}

impl From<&RunError> for Failed {
    fn from(error: &RunError) -> Self {
        match error {
            RunError::TooManyErrors { refused, records, limit, example } => Self::TooManyErrors {
                refused: *refused,
                records: *records,
                limit: limit.clone(),
                example: example.clone(),
            },
            other => Self::Told(other.to_string()),
        }
    }
}

impl Failed {
    /// The failure, with one of the run's dead letters where the process that failed had seen none.
    pub(crate) fn into_error(self, examples: impl Iterator<Item = String>) -> RunError {
        match self {
            Self::TooManyErrors { refused, records, limit, example } => {
                let example = Some(example).filter(|example| !example.is_empty());
                let example = example.or(examples.last()).unwrap_or_default();
                RunError::TooManyErrors { refused, records, limit, example }
            }
            Self::Told(told) => RunError::Told(told),
        }
    }
}
