//! What an invocation may ask of the world around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use thiserror::Error;

use super::OperatorError;
use crate::record::Reference;

/// A reference that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot read {path}: {message}")]
pub struct FetchError {
    /// The reference as written.
    pub path: String,
    /// Why.
    pub message: String,
    /// Whether the store failed, rather than the reference: asked again later, it may be there.
    pub passing: bool,
}

/// Reads references for operators, blocking the calling executor thread.
pub trait Fetcher: Send + Sync {
    /// The bytes of each reference, in order. A store's transient errors were retried. A value of more than `most`
    /// bytes is an error, and is read no further than that.
    fn fetch(&self, references: &[Reference], most: u64) -> Vec<Result<Bytes, FetchError>>;

    /// What stands below a URL, at any depth, in order of names. More than so many objects are an error.
    ///
    /// # Errors
    /// When the store does not tell.
    fn list(&self, url: &str, most: usize) -> Result<Vec<Listed>, FetchError> {
        let _ = most;
        let message = "this operator runs without a store".to_owned();
        Err(FetchError { path: url.to_owned(), message, passing: false })
    }
}

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name below the URL that was listed, with `/` between folders.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in milliseconds since 1970.
    pub modified: i64,
}

/// Refuses every reference: for running operators where no store is at hand.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFetcher;

impl Fetcher for NoFetcher {
    fn fetch(&self, references: &[Reference], _: u64) -> Vec<Result<Bytes, FetchError>> {
        let error = |r: &Reference| FetchError {
            path: r.to_string(),
            message: "this operator runs without a store".to_owned(),
            passing: false,
        };
        references.iter().map(|reference| Err(error(reference))).collect()
    }
}

/// The surroundings of an invocation.
#[derive(Clone)]
pub struct Context {
    fetcher: Arc<dyn Fetcher>,
    cancelled: Arc<AtomicBool>,
    epoch: u64,
    choice: Option<Arc<[u8]>>,
}

impl Context {
    /// A context that fetches through `fetcher` and is cancelled when the flag is set.
    pub fn new(fetcher: Arc<dyn Fetcher>, cancelled: Arc<AtomicBool>) -> Self {
        Self { fetcher, cancelled, epoch: 0, choice: None }
    }

    /// The same surroundings in this epoch.
    #[must_use]
    pub fn in_epoch(&self, epoch: u64) -> Self {
        Self { epoch, ..self.clone() }
    }

    /// The same surroundings with a choice that was made elsewhere.
    #[must_use]
    pub fn with_choice(&self, choice: Option<Arc<[u8]>>) -> Self {
        Self { choice, ..self.clone() }
    }

    /// The epoch that the rows are of; 0 outside of a run. Only an operator that is
    /// [`Choosing`](super::Choosing) may let its output depend on it.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the run's own process has [chosen](super::Choosing) for this epoch, where the operator is not in it.
    pub fn choice(&self) -> Option<&[u8]> {
        self.choice.as_deref()
    }

    /// A context without a store that is never cancelled, for tests and plain threads.
    pub fn plain() -> Self {
        Self::new(Arc::new(NoFetcher), Arc::default())
    }

    /// Reads references; see [`Fetcher::fetch`].
    pub fn fetch(&self, references: &[Reference], most: u64) -> Vec<Result<Bytes, FetchError>> {
        self.fetcher.fetch(references, most)
    }

    /// Lists a place; see [`Fetcher::list`].
    ///
    /// # Errors
    /// When the store does not tell.
    pub fn list(&self, url: &str, most: usize) -> Result<Vec<Listed>, FetchError> {
        self.fetcher.list(url, most)
    }

    /// Fails once the run was cancelled. Long invocations call this between records.
    ///
    /// # Errors
    /// [`OperatorError::Cancelled`].
    pub fn check_cancelled(&self) -> Result<(), OperatorError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(OperatorError::Cancelled) } else { Ok(()) }
    }
}
