//! Why a run failed, said once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::log::LogError;
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::store::LocationError;

/// Why a run failed. The message names the node and, where one is at fault, the record.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The destination cannot be used.
    #[error("{0}")]
    Location(#[from] LocationError),
    /// The run log failed.
    #[error("{0}")]
    Log(#[from] LogError),
    /// Something else is at the destination.
    #[error("{location} {found}; {choices}")]
    Exists {
        /// The destination.
        location: String,
        /// What is there.
        found: String,
        /// What can be done about it.
        choices: String,
    },
    /// A source failed as a whole.
    #[error("source `{node}`: {error}")]
    Source {
        /// The source.
        node: String,
        /// Why.
        error: SourceError,
    },
    /// A sink failed.
    #[error("sink `{node}`: {error}")]
    Sink {
        /// The sink.
        node: String,
        /// Why.
        error: SinkError,
    },
    /// An operator failed as a whole.
    #[error("operator `{node}`{}: {error}", record.as_ref().map(|r| format!(", record {r}")).unwrap_or_default())]
    Operator {
        /// The operator.
        node: String,
        /// The first record of the invocation.
        record: Option<String>,
        /// Why.
        error: String,
    },
    /// More records were refused than the job allows.
    #[error(
        "{refused} of {records} records were refused, more than `max_errors = {limit}` allows; the last: {example}"
    )]
    TooManyErrors {
        /// How many were refused.
        refused: u64,
        /// Out of how many.
        records: u64,
        /// The job's limit.
        limit: String,
        /// The last refusal.
        example: String,
    },
    /// Nothing progressed for too long.
    #[error(
        "nothing progressed for {seconds} s; {doing}; raise `stall` in `[job]` if that is expected"
    )]
    Stalled {
        /// How long.
        seconds: u64,
        /// What was being done.
        doing: String,
    },
    /// A cancelled run took too long to finish what was in flight.
    #[error(
        "the stopped run did not finish within {seconds} s{}; what was committed stays; raise `grace` in \
         `[job]` if that is expected",
        doing.as_ref().map(|doing| format!("; {doing}")).unwrap_or_default()
    )]
    Grace {
        /// How long it had.
        seconds: u64,
        /// What was being done.
        doing: Option<String>,
    },
    /// A worker was lost.
    #[error("{0}")]
    Worker(String),
    /// Processes of the run were lost again and again.
    #[error(
        "{lost}; gave up after {restarts} more starts without a new commit; what was committed stays, run it \
         again to go on"
    )]
    Lost {
        /// The last loss.
        lost: String,
        /// Starts since the last commit.
        restarts: u32,
    },
    /// What another process of the run said of its failure.
    #[error("{0}")]
    Told(String),
}

/// Where the first failure of a run is kept; all parts of the run look at it and stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    failed: Arc<AtomicBool>,
    first: Arc<Mutex<Option<RunError>>>,
    since: Arc<OnceLock<Instant>>,
}

impl Failures {
    /// Keeps the first failure; later ones are its echoes.
    pub(crate) fn report(&self, error: RunError) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(error);
        }
        drop(first);
        self.since.get_or_init(Instant::now);
        self.failed.store(true, Ordering::Release);
    }

    /// How long ago the first failure was.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.since.get().map(Instant::elapsed)
    }

    pub(crate) fn any(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The flag that executors watch.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.failed)
    }

    pub(crate) fn take(&self) -> Option<RunError> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
