//! Reads and writes one run's log.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::Commit;
use crate::store::Location;

/// Why the run log could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The store failed, after retries.
    #[error("run log {path}: {}", crate::store::explain(source))]
    Store {
        /// The object.
        path: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// An entry cannot be understood.
    #[error("run log {path} is damaged: {message}")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// Another generation of the run wrote this commit: this one must stop.
    #[error(
        "commit {number} was written by another start of this run (generation {generation}); this start stops"
    )]
    Fenced {
        /// The commit.
        number: u64,
        /// Who wrote it.
        generation: u64,
    },
    /// A commit is missing between others.
    #[error(
        "run log {path}: commit {missing} is missing, though later ones are there; restore it, or start anew with `if_exists = \"overwrite\"`"
    )]
    Gap {
        /// The log.
        path: String,
        /// The missing number.
        missing: u64,
    },
    /// State that a commit names is not there.
    #[error(
        "snapshot {path} is missing, though the run log names it; restore it, or start anew with `if_exists = \"overwrite\"`"
    )]
    SnapshotMissing {
        /// The object.
        path: String,
    },
}

/// The log of one run, at `_anabranch/runs/RUN/` of some store.
#[derive(Debug, Clone)]
pub struct RunLog {
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: String,
}

impl RunLog {
    /// The log at this place.
    pub fn new(place: Location) -> Self {
        Self { store: place.store, root: place.path, url: place.url }
    }

    /// Where the log stands in its store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        self.store.as_ref()
    }

    /// All commits, in order.
    ///
    /// # Errors
    /// When the store fails, an entry is damaged or one is missing.
    pub async fn commits(&self) -> Result<Vec<Commit>, LogError> {
        let prefix = self.root.clone().join("commits");
        let mut names: Vec<Path> = self
            .store
            .list(Some(&prefix))
            .map_ok(|object| object.location)
            .try_filter(|path| {
                let entry = path.filename().is_some_and(|name| name.ends_with(".json"));
                std::future::ready(entry)
            })
            .try_collect()
            .await
            .map_err(|source| self.error(&prefix, source))?;
        names.sort();
        let mut commits = Vec::with_capacity(names.len());
        for (number, path) in names.iter().enumerate() {
            let commit: Commit = self.read(path).await?;
            if commit.number != number as u64 {
                return Err(LogError::Gap { path: self.url.clone(), missing: number as u64 });
            }
            commits.push(commit);
        }
        Ok(commits)
    }

    /// Writes a commit, unless its number is taken. Repeating a commit of the same generation succeeds, and so
    /// does one of an older generation that says the same.
    ///
    /// # Errors
    /// [`LogError::Fenced`] when a newer generation wrote this number, or an older one something else.
    pub async fn append(&self, commit: &Commit) -> Result<(), LogError> {
        let path = self.root.clone().join("commits").join(format!("{:08}.json", commit.number));
        if self.create(&path, json(&path, commit)?).await? {
            return Ok(());
        }
        let there: Commit = self.read(&path).await?;
        let Commit { generation, written, .. } = there;
        let says_the_same = there == Commit { generation, written, ..commit.clone() };
        if generation == commit.generation || (generation < commit.generation && says_the_same) {
            return Ok(());
        }
        Err(LogError::Fenced { number: commit.number, generation: there.generation })
    }

    /// Takes the next generation of this run: a number that no other start has.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next_generation(&self) -> Result<u64, LogError> {
        let prefix = self.root.clone().join("generations");
        let mut next = self.generation().await? + 1;
        loop {
            let path = prefix.clone().join(format!("{next:06}.json"));
            // Whoever repeats a request that was answered by nobody knows the entry by its nonce.
            let nonce = super::nonce();
            let started = serde_json::json!({ "started": super::now(), "nonce": nonce });
            if self.create(&path, json(&path, &started)?).await? {
                return Ok(next);
            }
            next += 1;
        }
    }

    /// The newest generation; a start of an older one must not write.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn generation(&self) -> Result<u64, LogError> {
        let prefix = self.root.clone().join("generations");
        let taken = self.store.list(Some(&prefix));
        let newest = taken.try_fold(0, |newest, object| {
            std::future::ready(Ok(number(&object.location).map_or(newest, |n| n.max(newest))))
        });
        newest.await.map_err(|source| self.error(&prefix, source))
    }

    /// A journaled decision, if it was taken.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn decision(&self, operator: &str) -> Result<Option<Bytes>, LogError> {
        self.get(&self.root.clone().join("decisions").join(operator)).await
    }

    /// Writes a journaled decision, unless there is one; gives the one that holds.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn decide(&self, operator: &str, decision: Vec<u8>) -> Result<Bytes, LogError> {
        let path = self.root.clone().join("decisions").join(operator);
        let decision = Bytes::from(decision);
        if self.create(&path, decision.clone()).await? {
            return Ok(decision);
        }
        Ok(self.get(&path).await?.unwrap_or(decision))
    }

    /// Writes the state of one virtual shard at a commit that this generation is about to make.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_snapshot(
        &self,
        (commit, generation): (u64, u64),
        operator: &str,
        shard: u32,
        state: Vec<u8>,
    ) -> Result<(), LogError> {
        let path = self.snapshot_path(commit, generation, operator, shard);
        let put = self.store.put(&path, Bytes::from(state).into()).await;
        put.map(|_| ()).map_err(|source| self.error(&path, source))
    }

    /// Reads the state of one virtual shard at a commit of this generation.
    ///
    /// # Errors
    /// [`LogError::SnapshotMissing`]: a fresh start in its place would lose state silently.
    pub async fn snapshot(
        &self,
        (commit, generation): (u64, u64),
        operator: &str,
        shard: u32,
    ) -> Result<Bytes, LogError> {
        let path = self.snapshot_path(commit, generation, operator, shard);
        let found = self.get(&path).await?;
        found.ok_or_else(|| LogError::SnapshotMissing { path: self.place(&path) })
    }

    /// Deletes the snapshots of all commits before this one, whoever wrote them.
    ///
    /// # Errors
    /// When the store fails. What is left then costs space and nothing else.
    pub async fn drop_snapshots_before(&self, commit: u64) -> Result<(), LogError> {
        let prefix = self.root.clone().join("snapshots");
        let failed = |source| self.error(&prefix, source);
        let folders = self.store.list_with_delimiter(Some(&prefix)).await.map_err(failed)?;
        let number = |path: &Path| {
            path.filename().and_then(|name| name.split('-').next()?.parse::<u64>().ok())
        };
        let old = folders
            .common_prefixes
            .into_iter()
            .filter(|path| number(path).is_some_and(|number| number < commit));
        for folder in old {
            let objects: Vec<Path> = self
                .store
                .list(Some(&folder))
                .map_ok(|object| object.location)
                .try_collect()
                .await
                .map_err(failed)?;
            for object in objects {
                self.store.delete(&object).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    fn snapshot_path(&self, commit: u64, generation: u64, operator: &str, shard: u32) -> Path {
        let commit = format!("{commit:08}-g{generation:06}");
        self.root.clone().join("snapshots").join(commit).join(operator).join(format!("{shard:03}"))
    }

    /// Puts an object unless its name is taken; whether it did.
    pub(super) async fn create(&self, path: &Path, body: Bytes) -> Result<bool, LogError> {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.store.put_opts(path, body.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(source) => Err(self.error(path, source)),
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<T, LogError> {
        let missing = || LogError::Damaged { path: self.place(path), message: "it is gone".into() };
        self.read_if_there(path).await?.ok_or_else(missing)
    }

    pub(super) async fn read_if_there<T: DeserializeOwned>(
        &self,
        path: &Path,
    ) -> Result<Option<T>, LogError> {
        let Some(body) = self.get(path).await? else { return Ok(None) };
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|e| LogError::Damaged { path: self.place(path), message: e.to_string() })
    }

    /// Where an object of the log stands, as people write it.
    pub(super) fn place(&self, path: &Path) -> String {
        let below = path.as_ref().strip_prefix(self.root.as_ref()).unwrap_or(path.as_ref());
        format!("{}{below}", self.url)
    }

    async fn get(&self, path: &Path) -> Result<Option<Bytes>, LogError> {
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(self.error(path, source)),
        };
        found.bytes().await.map(Some).map_err(|source| self.error(path, source))
    }

    pub(super) fn error(&self, path: &Path, source: object_store::Error) -> LogError {
        LogError::Store { path: self.place(path), source }
    }
}

pub(super) fn json(path: &Path, value: &impl Serialize) -> Result<Bytes, LogError> {
    serde_json::to_vec_pretty(value)
        .map(Bytes::from)
        .map_err(|e| LogError::Damaged { path: path.to_string(), message: e.to_string() })
}

pub(super) fn number(path: &Path) -> Option<u64> {
    path.filename()?.split('.').next()?.parse().ok()
}
