//! Which shards readers may read: the folder `_index`.
//!
//! One object per commit, `_index/00000000000000000000.json` and so on, each written once and never changed:
//!
//! ```json
//! {"run": "r1-5f0c9a12", "sink": "lines", "commit": 0, "replaces": false, "columns": ["key Utf8"],
//!  "shards": [{"path": "data/r1-5f0c9a12-lines-c000000-p00000000-0.jsonl", "rows": 3, "bytes": 120, "sha256": "..."}]}
//! ```
//!
//! In order of their names they say what is there: all shards of all entries since the last one that
//! `replaces`. An entry that stands for a commit of the run log is written at most once, and two runs that
//! write at the same time take different numbers: neither loses what it wrote.

use std::collections::HashSet;

use anabranch_pipelines::sink::{RunStart, Shard, SinkError};
use anabranch_pipelines::store::{Location, explain};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

/// What one commit adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    run: String,
    sink: String,
    commit: u64,
    /// Whether entries before this one count no more.
    pub(super) replaces: bool,
    /// Names and types of what the lines hold.
    #[serde(default)]
    columns: Vec<String>,
    pub(super) shards: Vec<Listed>,
}

/// A shard that readers may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) path: String,
    rows: u64,
    bytes: u64,
    sha256: String,
}

/// A commit of a run, for whoever asks whether it was added already.
type Transaction = (String, String, u64);

impl Entry {
    pub(super) fn new(
        run: &RunStart,
        commit: u64,
        replaces: bool,
        columns: Vec<String>,
        shards: &[Shard],
    ) -> Self {
        let listed = |shard: &Shard| Listed {
            path: shard.path.clone(),
            rows: shard.rows,
            bytes: shard.bytes,
            sha256: shard.sha256.clone(),
        };
        let shards = shards.iter().map(listed).collect();
        Self { run: run.run.clone(), sink: run.sink.clone(), commit, replaces, columns, shards }
    }

    fn transaction(&self) -> Transaction {
        (self.run.clone(), self.sink.clone(), self.commit)
    }
}

/// The index of one destination.
///
/// What it holds is remembered, so that a commit writes one object and reads none. That is safe because an
/// entry is put only where none is: whoever was slower reads what the other one put there, and goes on.
pub(super) struct Index {
    folder: Location,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    looked: bool,
    next: u64,
    transactions: HashSet<Transaction>,
    /// Of the newest entry that names any.
    columns: Vec<String>,
}

impl Known {
    fn take(&mut self, entry: &Entry) {
        self.transactions.insert(entry.transaction());
        self.next += 1;
        if !entry.columns.is_empty() {
            self.columns.clone_from(&entry.columns);
        }
    }
}

impl Index {
    pub(super) fn of(location: &Location) -> Self {
        Self { folder: location.join("_index"), known: Mutex::default() }
    }

    /// Whether any commit was added, ever.
    pub(super) async fn exists(&self) -> Result<bool, SinkError> {
        let mut listed = self.folder.store.list(Some(&self.folder.path));
        Ok(listed.try_next().await.map_err(|e| self.failed(&e))?.is_some())
    }

    /// Adds an entry, unless it is there.
    pub(super) async fn add(&self, entry: Entry) -> Result<(), SinkError> {
        let transaction = entry.transaction();
        let body = serde_json::to_vec(&entry).map_err(|e| self.error(e.to_string()))?;
        let mut known = self.known.lock().await;
        self.look(&mut known).await?;
        while !known.transactions.contains(&transaction) {
            let place = self.folder.join(&name(known.next));
            let put =
                place.store.put_opts(&place.path, body.clone().into(), PutMode::Create.into());
            match put.await {
                Ok(_) => known.take(&entry),
                // Somebody else was faster, or an answer was lost and it was ourselves.
                Err(Error::AlreadyExists { .. }) => known.take(&self.entry(place).await?),
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    /// Names and types of what the lines hold that a run finds there, unless it replaces them and did not yet.
    pub(super) async fn columns(&self, run: &RunStart) -> Result<Vec<String>, SinkError> {
        let mut known = self.known.lock().await;
        self.look(&mut known).await?;
        let replaced = (run.run.clone(), run.sink.clone(), 0);
        match run.overwrite && !known.transactions.contains(&replaced) {
            true => Ok(Vec::new()),
            false => Ok(known.columns.clone()),
        }
    }

    /// Learns what is there, once.
    async fn look(&self, known: &mut Known) -> Result<(), SinkError> {
        if !known.looked {
            self.entries().await?.iter().for_each(|entry| known.take(entry));
            known.looked = true;
        }
        Ok(())
    }

    /// All entries, in order.
    pub(super) async fn entries(&self) -> Result<Vec<Entry>, SinkError> {
        let listed = self.folder.store.list(Some(&self.folder.path)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|e| self.failed(&e))?;
        let names: HashSet<&str> = listed.iter().filter_map(|o| o.location.filename()).collect();
        // Numbers follow one another; what has another name is none of ours.
        let ours = (0..).map(name).take_while(|name| names.contains(name.as_str()));
        let places: Vec<Location> = ours.map(|name| self.folder.join(&name)).collect();
        let reads = places.into_iter().map(|place| self.entry(place));
        stream::iter(reads).buffered(16).try_collect().await
    }

    async fn entry(&self, place: Location) -> Result<Entry, SinkError> {
        let read = async { place.store.get(&place.path).await?.bytes().await };
        let body = read.await.map_err(|e| self.failed(&e))?;
        serde_json::from_slice(&body).map_err(|e| SinkError::Destination {
            location: place.url.clone(),
            message: format!("it is no entry of an index ({e}); write to another path"),
        })
    }

    fn failed(&self, error: &Error) -> SinkError {
        self.error(explain(error))
    }

    fn error(&self, message: String) -> SinkError {
        SinkError::Store { location: self.folder.url.clone(), message }
    }
}

fn name(number: u64) -> String {
    format!("{number:020}.json")
}
