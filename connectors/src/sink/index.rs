//! Which shards readers may read: the folder `_index`, for every sink but `table`, whose index is a Delta log.
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
//!
//! Formats whose readers want all shards in one file [derive](Index::derive) it from the entries, as often as
//! they like: it is what the entries say together.

use std::collections::HashSet;
use std::sync::{self, PoisonError};

use anabranch_pipelines::log::{Commit, DEAD_LETTERS};
use anabranch_pipelines::sink::{RunStart, Shard, SinkError};
use anabranch_pipelines::store::{Location, explain};
use arrow::datatypes::Schema;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::columns;

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
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// What the format knows of it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub(super) statistics: serde_json::Value,
}

impl From<&Shard> for Listed {
    fn from(shard: &Shard) -> Self {
        Self {
            path: shard.path.clone(),
            rows: shard.rows,
            bytes: shard.bytes,
            sha256: shard.sha256.clone(),
            statistics: shard.statistics.clone(),
        }
    }
}

/// A commit of a run, for whoever asks whether it was added already.
type Transaction = (String, String, u64);

impl Entry {
    pub(super) fn new(
        run: &RunStart,
        commit: u64,
        replaces: bool,
        columns: Vec<String>,
        shards: Vec<Listed>,
    ) -> Self {
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
    location: Location,
    folder: Location,
    known: Mutex<Known>,
    /// Names and types of the run that was started.
    columns: sync::Mutex<Vec<String>>,
}

#[derive(Default)]
struct Known {
    looked: bool,
    next: u64,
    transactions: HashSet<Transaction>,
    /// Of the newest entry that names any.
    columns: Vec<String>,
    shown: Vec<Listed>,
    replaced: Vec<Listed>,
}

impl Known {
    fn take(&mut self, entry: Entry) {
        self.transactions.insert(entry.transaction());
        self.next += 1;
        if !entry.columns.is_empty() {
            self.columns = entry.columns;
        }
        if entry.replaces {
            self.replaced.append(&mut self.shown);
        }
        self.shown.extend(entry.shards);
    }
}

impl Index {
    /// The index of what is at a sink's location.
    pub(super) fn of(location: &Location) -> Self {
        Self {
            location: location.clone(),
            folder: location.join("_index"),
            known: Mutex::default(),
            columns: sync::Mutex::default(),
        }
    }

    /// Whether any commit was added, ever.
    pub(super) async fn exists(&self) -> Result<bool, SinkError> {
        let mut listed = self.folder.store.list(Some(&self.folder.path));
        Ok(listed.try_next().await.map_err(|e| self.failed(&e))?.is_some())
    }

    /// Begins a run of rows of this schema. Rows of other columns may only replace what is there.
    pub(super) async fn start(&self, run: &RunStart, schema: &Schema) -> Result<(), SinkError> {
        let names = columns::names(schema);
        columns::same(&self.location, &self.columns(run).await?, &names)?;
        *self.columns.lock().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(())
    }

    /// Adds what a commit says of a sink, unless it is there: its shards as `listed` tells them.
    pub(super) async fn commit(
        &self,
        run: &RunStart,
        commit: &Commit,
        listed: impl Fn(&Shard) -> Listed,
    ) -> Result<(), SinkError> {
        let shards = commit.shards.get(&run.sink).map_or(&[] as &[Shard], Vec::as_slice);
        let replaces = run.overwrite && commit.number == 0;
        // A complete run leaves an index, if only an empty one.
        let leaves_index = commit.last && run.sink != DEAD_LETTERS;
        if shards.is_empty() && !replaces && !leaves_index {
            return Ok(());
        }
        let columns = self.columns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shards = shards.iter().map(listed).collect();
        self.add(Entry::new(run, commit.number, replaces, columns, shards)).await
    }

    /// Puts what the entries say together at `place`, until no entry is newer than what stands there: of two
    /// runs that write at the same time, the one that puts last has looked last.
    pub(super) async fn derive(
        &self,
        place: &Location,
        render: impl Fn(&[Listed]) -> Vec<u8>,
    ) -> Result<(), SinkError> {
        let mut known = self.known.lock().await;
        self.look(&mut known).await?;
        loop {
            let put = place.store.put(&place.path, render(&known.shown).into()).await;
            put.map_err(|e| self.failed(&e))?;
            if !self.look_again(&mut known).await? {
                return Ok(());
            }
        }
    }

    /// Paths of the shards that readers may read now, and of those that they might until these were replaced.
    pub(super) async fn paths(&self) -> Result<(HashSet<String>, HashSet<String>), SinkError> {
        let paths = |shards: &[Listed]| shards.iter().map(|shard| shard.path.clone()).collect();
        self.listed(|shown, replaced| (paths(shown), paths(replaced))).await
    }

    /// What `look` finds among the shards that readers may read now, and those that they might until these were
    /// replaced.
    pub(super) async fn listed<R>(
        &self,
        look: impl FnOnce(&[Listed], &[Listed]) -> R,
    ) -> Result<R, SinkError> {
        let mut known = self.known.lock().await;
        self.look(&mut known).await?;
        self.look_again(&mut known).await?;
        Ok(look(&known.shown, &known.replaced))
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
                Ok(_) => known.take(entry.clone()),
                // Somebody else was faster, or an answer was lost and it was ourselves.
                Err(Error::AlreadyExists { .. }) => known.take(self.entry(place).await?),
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    /// Names and types of what the lines hold that a run finds there, unless it replaces them and did not yet.
    async fn columns(&self, run: &RunStart) -> Result<Vec<String>, SinkError> {
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
            self.entries().await?.into_iter().for_each(|entry| known.take(entry));
            known.looked = true;
        }
        Ok(())
    }

    /// Learns what others added since; whether there was anything.
    async fn look_again(&self, known: &mut Known) -> Result<bool, SinkError> {
        let before = known.next;
        loop {
            let place = self.folder.join(&name(known.next));
            match place.store.head(&place.path).await {
                Ok(_) => known.take(self.entry(place).await?),
                Err(Error::NotFound { .. }) => return Ok(known.next > before),
                Err(error) => return Err(self.failed(&error)),
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_two_writers_derive_has_what_both_added() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(folder.path().to_str().unwrap()).unwrap();
        let writers = (0..3).map(|writer| {
            let location = location.clone();
            tokio::spawn(async move {
                let index = Index::of(&location);
                let run =
                    RunStart { run: format!("r{writer}"), sink: "s".into(), overwrite: false };
                for commit in 0..8 {
                    let (sha256, statistics) = (String::new(), serde_json::Value::Null);
                    let path = format!("{writer}-{commit}");
                    let shard = Listed { path, rows: 1, bytes: 1, sha256, statistics };
                    let entry = Entry::new(&run, commit, false, Vec::new(), vec![shard]);
                    index.add(entry).await.unwrap();
                    let render = |shards: &[Listed]| {
                        shards
                            .iter()
                            .flat_map(|shard| format!("{}\n", shard.path).into_bytes())
                            .collect()
                    };
                    index.derive(&location.join("whole"), render).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let whole = std::fs::read_to_string(folder.path().join("whole")).unwrap();
        assert_eq!(whole.lines().collect::<HashSet<_>>().len(), 24, "{whole}");
    }
}
