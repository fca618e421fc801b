//! The runs at a destination: which there were, and which one a start continues.

use object_store::path::Path;

use super::run_log::json;
use super::{Commit, LOG_VERSION, LogError, RunLog, RunRecord};
use crate::store::Location;

/// The folder of all that is not the table itself.
const FOLDER: &str = "_anabranch";

/// The runs whose logs stand below one location.
#[derive(Debug, Clone)]
pub struct Registry {
    runs: Location,
}

/// A run that was found.
#[derive(Debug, Clone)]
pub struct Existing {
    /// What it executes.
    pub record: RunRecord,
    /// Its log.
    pub log: RunLog,
    /// Its commits so far.
    pub commits: Vec<Commit>,
}

impl Existing {
    /// Whether its last commit is there.
    pub fn complete(&self) -> bool {
        self.commits.last().is_some_and(|commit| commit.last)
    }
}

impl Registry {
    /// The registry below a location.
    pub fn new(location: &Location) -> Self {
        Self { runs: location.join(FOLDER).join("runs") }
    }

    /// The log of the run with this id. Its folder carries the run's number alone, so that no two runs that
    /// begin at the same moment take the same number.
    pub fn log(&self, run: &str) -> RunLog {
        self.folder(&format!("r{}", ordinal(run)))
    }

    fn folder(&self, name: &str) -> RunLog {
        RunLog::new(self.runs.join(name))
    }

    /// All runs, oldest first.
    ///
    /// # Errors
    /// When the store fails or a record is damaged or of a newer program.
    pub async fn runs(&self) -> Result<Vec<Existing>, LogError> {
        let listed = self.runs.store.list_with_delimiter(Some(&self.runs.path)).await;
        let listed =
            listed.map_err(|source| LogError::Store { path: self.runs.url.clone(), source })?;
        let mut runs = Vec::new();
        for root in listed.common_prefixes {
            let Some(name) = root.filename() else { continue };
            let log = self.folder(name);
            let path = log.root().clone().join("run.json");
            let Some(record) = self.record(&log, &path).await? else { continue };
            let commits = log.commits().await?;
            runs.push(Existing { record, log, commits });
        }
        runs.sort_by_key(|run| ordinal(&run.record.run));
        Ok(runs)
    }

    /// The record of a run; a folder without one was left by a start that died before it registered.
    async fn record(&self, log: &RunLog, path: &Path) -> Result<Option<RunRecord>, LogError> {
        let Some(record) = log.read_if_there::<RunRecord>(path).await? else { return Ok(None) };
        if record.version > LOG_VERSION {
            return Err(LogError::Damaged {
                path: log.place(path),
                message: format!(
                    "it is of version {}, this program reads up to {LOG_VERSION}; update the program",
                    record.version
                ),
            });
        }
        Ok(Some(record))
    }

    /// Registers a new run and gives its log; `None` when another start has registered a run of this number.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn register(&self, record: &RunRecord) -> Result<Option<RunLog>, LogError> {
        let log = self.log(&record.run);
        let path = log.root().clone().join("run.json");
        Ok(log.create(&path, json(&path, record)?).await?.then_some(log))
    }
}

/// The number in a run's id: 3 of `r3-5f0c9a12`.
pub(crate) fn ordinal(run: &str) -> u64 {
    run.trim_start_matches('r').split('-').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
