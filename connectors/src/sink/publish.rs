//! Shards that readers find by listing a folder.
//!
//! Whoever globs `data/*.tar` reads no index, so what is not committed must not be there. Shards are prepared in
//! `_staging`, and [`Published::commit`] moves them to `data` after the [index](super::index) names them: one rename
//! each, a copy and a deletion where a store has no renames. The run log names a shard where it was prepared, the
//! index where it can be read.
//!
//! A kill in between leaves some of a commit's shards unmoved; the next start moves the rest. An overwrite moves the
//! new shards in and then removes those that its index entry replaces. So a listing shows only whole and
//! committed shards at any moment, and, at the moments of a commit, may show a part of that commit.

use std::collections::HashSet;

use anabranch_pipelines::log::{Commit, DEAD_LETTERS};
use anabranch_pipelines::sink::{PartName, RunStart, Shard, SinkError};
use anabranch_pipelines::store::{Location, explain};
use arrow::datatypes::Schema;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tokio::sync::OnceCell;

use super::card::Card;
use super::index::{Index, Listed};
use super::shard::{self, DATA};

/// The folder in which shards are prepared.
pub(super) const STAGING: &str = "_staging";
/// Renames at the same time.
const MOVES: usize = 8;

/// A file that is derived from all shards.
pub(super) struct Whole {
    pub(super) name: &'static str,
    pub(super) render: fn(&[Listed]) -> Vec<u8>,
}

/// What a sink shows in `data`.
pub(super) struct Published {
    location: Location,
    index: Index,
    card: Card,
    carded: OnceCell<()>,
    whole: Option<Whole>,
}

impl Published {
    pub(super) fn at(location: &Location, card: Card, whole: Option<Whole>) -> Self {
        let index = Index::of(location);
        Self { location: location.clone(), index, card, carded: OnceCell::new(), whole }
    }

    /// Where a part's shard is prepared, relative to the location.
    pub(super) fn path(part: &PartName, extension: &str) -> String {
        shard::path(STAGING, part, extension)
    }

    /// Whether readers would see anything.
    pub(super) async fn exists(&self) -> Result<bool, SinkError> {
        let seen = |names: HashSet<String>| names.iter().any(|name| self.card.has(name));
        Ok(self.index.exists().await? || seen(self.names(DATA).await?))
    }

    /// An overwrite replaces what runs wrote. What else readers would find is not ours to remove.
    pub(super) async fn start(&self, run: &RunStart, schema: &Schema) -> Result<(), SinkError> {
        self.index.start(run, schema).await?;
        if !run.overwrite {
            return Ok(());
        }
        // In this order: shards are listed behind the entry that names them.
        let listed = self.names(DATA).await?;
        let (shown, replaced) = self.index.paths().await?;
        let foreign = listed.into_iter().filter(|name| self.card.has(name)).find(|name| {
            let path = format!("{DATA}/{name}");
            !shown.contains(&path) && !replaced.contains(&path)
        });
        foreign.map_or(Ok(()), |name| {
            Err(SinkError::Destination {
                location: self.location.url.clone(),
                message: format!(
                    "`{DATA}` holds files that no run of this kind of sink wrote, `{name}` among them, which would \
                     stay among the new ones; remove them, or write to another path"
                ),
            })
        })
    }

    pub(super) async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        let shards = commit.shards.get(&run.sink).map_or(&[] as &[Shard], Vec::as_slice);
        self.index.commit(run, commit, shown).await?;
        self.show(shards.iter().map(|shard| shard.path.clone()).collect()).await?;
        let replaces = run.overwrite && commit.number == 0;
        if !shards.is_empty() || replaces || commit.last {
            self.derive(run).await?;
        }
        if replaces { self.withdraw().await } else { Ok(()) }
    }

    /// Does what is missing of these commits.
    pub(super) async fn recover(
        &self,
        run: &RunStart,
        committed: &[Commit],
    ) -> Result<(), SinkError> {
        for commit in committed {
            self.index.commit(run, commit, shown).await?;
        }
        if !committed.is_empty() {
            let staged = self.names(STAGING).await?;
            self.show(left(run, committed, &staged)).await?;
            self.derive(run).await?;
            self.withdraw().await?;
        }
        shard::remove_unfinished(&self.location, STAGING, run).await
    }

    pub(super) async fn clean(
        &self,
        run: &RunStart,
        committed: &[Commit],
    ) -> Result<(), SinkError> {
        shard::remove_unnamed(&self.location, STAGING, run, committed).await
    }

    /// Moves shards to where they are seen.
    async fn show(&self, staged: Vec<String>) -> Result<(), SinkError> {
        let moves = staged.into_iter().map(|path| self.move_in(path));
        stream::iter(moves).buffer_unordered(MOVES).try_collect().await
    }

    async fn move_in(&self, staged: String) -> Result<(), SinkError> {
        let (from, to) = (self.location.join(&staged), self.location.join(&seen(&staged)));
        match from.store.rename(&from.path, &to.path).await {
            // It was moved before.
            Err(Error::NotFound { .. }) if to.store.head(&to.path).await.is_ok() => Ok(()),
            Err(Error::NotFound { .. }) => Err(SinkError::Store {
                location: to.url,
                message: format!(
                    "the run log names its shard {staged}, which is gone; write the rows again with \
                     `--if-exists overwrite`"
                ),
            }),
            moved => moved.map_err(|e| self.failed(&e)),
        }
    }

    /// Writes what is derived from all shards.
    async fn derive(&self, run: &RunStart) -> Result<(), SinkError> {
        if let Some(Whole { name, render }) = &self.whole {
            self.index.derive(&self.location.join(name), render).await?;
        }
        if run.sink != DEAD_LETTERS {
            self.carded.get_or_try_init(|| self.card.write(&self.location)).await?;
        }
        Ok(())
    }

    /// Removes what was replaced.
    async fn withdraw(&self) -> Result<(), SinkError> {
        let (_, replaced) = self.index.paths().await?;
        if replaced.is_empty() {
            return Ok(());
        }
        for name in self.names(DATA).await? {
            let path = format!("{DATA}/{name}");
            if replaced.contains(&path) {
                let place = self.location.join(&path);
                match place.store.delete(&place.path).await {
                    Ok(()) | Err(Error::NotFound { .. }) => {}
                    Err(error) => return Err(self.failed(&error)),
                }
            }
        }
        Ok(())
    }

    /// Names of the files in a folder.
    async fn names(&self, folder: &str) -> Result<HashSet<String>, SinkError> {
        let folder = self.location.join(folder);
        let listed = folder.store.list(Some(&folder.path)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|e| self.failed(&e))?;
        Ok(listed.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect())
    }

    fn failed(&self, error: &Error) -> SinkError {
        SinkError::Store { location: self.location.url.clone(), message: explain(error) }
    }
}

/// Paths of the shards of these commits that are still staged.
fn left(run: &RunStart, committed: &[Commit], staged: &HashSet<String>) -> Vec<String> {
    let shards = committed.iter().filter_map(|commit| commit.shards.get(&run.sink)).flatten();
    let is_staged = |path: &&str| path.rsplit('/').next().is_some_and(|name| staged.contains(name));
    shards.map(|shard| shard.path.as_str()).filter(is_staged).map(str::to_owned).collect()
}

/// Where a prepared shard is seen.
fn seen(staged: &str) -> String {
    let name = staged.strip_prefix(STAGING).unwrap_or(staged);
    format!("{DATA}/{}", name.trim_start_matches('/'))
}

fn shown(shard: &Shard) -> Listed {
    Listed { path: seen(&shard.path), ..Listed::from(shard) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What must hold where every run ended well.
    pub(in crate::sink) async fn nothing_is_staged(location: &Location) {
        let folder = location.join(STAGING);
        let left: Vec<_> = folder.store.list(Some(&folder.path)).try_collect().await.unwrap();
        // The parts of the run `b` of the conformance suite never met a commit.
        let left: Vec<_> = left.iter().filter_map(|o| o.location.filename()).collect();
        assert!(left.iter().all(|name| name.starts_with("b-out-")), "{left:?}");
    }

    fn shard(path: &str) -> Shard {
        Shard {
            path: path.to_owned(),
            epoch: 0,
            lane: 0,
            rows: 1,
            bytes: 1,
            sha256: String::new(),
            statistics: serde_json::Value::Null,
        }
    }

    fn commit(run: &RunStart, number: u64, shards: Vec<Shard>) -> Commit {
        Commit {
            run: run.run.clone(),
            number,
            generation: 1,
            epochs: number..number + 1,
            cuts: Vec::new(),
            decisions: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            shards: BTreeMap::from([(run.sink.clone(), shards)]),
            last: false,
            written: 0,
        }
    }

    async fn put(location: &Location, path: &str, body: &'static str) {
        let place = location.join(path);
        place.store.put(&place.path, body.into()).await.unwrap();
    }

    fn published(location: &Location) -> Published {
        let render = |shards: &[Listed]| {
            shards.iter().flat_map(|shard| shard.path.bytes().chain(*b"\n")).collect()
        };
        let card = Card::new("train".to_owned(), "data/*.x").unwrap();
        Published::at(location, card, Some(Whole { name: "whole", render }))
    }

    async fn whole(location: &Location) -> String {
        let place = location.join("whole");
        let bytes = place.store.get(&place.path).await.unwrap().bytes().await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn half_a_commit_is_finished_by_recovery_and_foreign_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_str().unwrap(), "memory://publish/half"] {
            let location = Location::parse(path).unwrap();
            let run = |run: &str, overwrite| RunStart {
                run: run.to_owned(),
                sink: "s".to_owned(),
                overwrite,
            };
            let first = run("r1", false);
            put(&location, "data/mine.x", "foreign").await;
            for name in
                ["_staging/r1-s-c000000-p00000000-0.x", "_staging/r1-s-c000000-p00000001-0.x"]
            {
                put(&location, name, "new").await;
            }
            let shards = vec![
                shard("_staging/r1-s-c000000-p00000000-0.x"),
                shard("_staging/r1-s-c000000-p00000001-0.x"),
            ];
            let commit0 = commit(&first, 0, shards);
            // Killed after the first of two was moved; another one comes back from its stop and writes it again.
            let killed = published(&location);
            killed.index.commit(&first, &commit0, shown).await.unwrap();
            killed.move_in("_staging/r1-s-c000000-p00000000-0.x".to_owned()).await.unwrap();
            put(&location, "_staging/r1-s-c000000-p00000000-0.x", "new").await;
            for _ in 0..2 {
                let next = published(&location);
                next.recover(&first, std::slice::from_ref(&commit0)).await.unwrap();
            }
            assert_eq!(published(&location).names(DATA).await.unwrap().len(), 3);
            nothing_is_staged(&location).await;
            assert_eq!(whole(&location).await.lines().count(), 2);

            // An overwrite, killed before it removed what it replaces.
            let second = run("r2", true);
            let schema = Schema::empty();
            let error = published(&location).start(&second, &schema).await.unwrap_err().to_string();
            assert!(error.contains("`mine.x` among them"), "{error}");
            put(&location, "_staging/r2-s-c000000-p00000000-0.x", "newer").await;
            let commit0 = commit(&second, 0, vec![shard("_staging/r2-s-c000000-p00000000-0.x")]);
            let killed = published(&location);
            killed.index.commit(&second, &commit0, shown).await.unwrap();
            killed.show(vec![commit0.shards["s"][0].path.clone()]).await.unwrap();
            assert_eq!(killed.names(DATA).await.unwrap().len(), 4);
            let next = published(&location);
            next.recover(&second, std::slice::from_ref(&commit0)).await.unwrap();
            let names = ["mine.x", "r2-s-c000000-p00000000-0.x"].map(str::to_owned);
            assert_eq!(next.names(DATA).await.unwrap(), HashSet::from(names));
            assert_eq!(whole(&location).await, "data/r2-s-c000000-p00000000-0.x\n");
        }
    }

    #[tokio::test]
    async fn a_shard_that_somebody_removed_is_an_error_and_not_forgotten() {
        let location = Location::parse("memory://publish/gone").unwrap();
        let run = RunStart { run: "r1".into(), sink: "s".into(), overwrite: false };
        let gone = commit(&run, 0, vec![shard("_staging/r1-s-c000000-p00000000-0.x")]);
        let error = published(&location).commit(&run, &gone).await.unwrap_err().to_string();
        assert!(error.contains("which is gone") && error.contains("overwrite"), "{error}");
    }
}
