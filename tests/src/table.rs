//! What a run left behind, read without the engine: run log, shards and Delta log, and what must hold of
//! them at any time.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use anabranch_pipelines::log::{Commit, DEAD_LETTERS};
use anabranch_pipelines::sink::Shard;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

/// A table on the local disk.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its folder.
    pub path: PathBuf,
}

/// One run, as its log tells it.
#[derive(Debug, Clone)]
pub struct RunOf {
    /// Its id.
    pub id: String,
    /// Its commits, in order.
    pub commits: Vec<Commit>,
}

impl Table {
    /// The table in this folder.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Vec<RunOf> {
        let mut runs: Vec<RunOf> = names(&self.path.join("_anabranch/runs"))
            .into_iter()
            .map(|id| {
                let folder = self.path.join("_anabranch/runs").join(&id).join("commits");
                let entries = names(&folder).into_iter().filter(|name| name.ends_with(".json"));
                let commits = entries.map(|name| {
                    let text = std::fs::read_to_string(folder.join(&name)).expect("an entry reads");
                    serde_json::from_str(&text).unwrap_or_else(|e| panic!("entry {name}: {e}"))
                });
                RunOf { commits: commits.collect(), id }
            })
            .collect();
        let number = |id: &str| id[1..].split('-').next().and_then(|n| n.parse::<u64>().ok());
        runs.sort_by_key(|run| number(&run.id));
        runs
    }

    /// How many commits the newest run has so far; any that is being written does not count.
    pub fn commits(&self) -> usize {
        let runs = self.path.join("_anabranch/runs");
        let newest = names(&runs).into_iter().max();
        newest.map_or(0, |id| {
            let entries = names(&runs.join(id).join("commits"));
            entries.iter().filter(|name| name.ends_with(".json")).count()
        })
    }

    /// Shards of this sink in the newest run, in the order of the run log.
    pub fn shards(&self, sink: &str) -> Vec<Shard> {
        let newest = self.runs().pop().expect("a run at the destination");
        let shards = newest.commits.into_iter().filter_map(|mut commit| commit.shards.remove(sink));
        shards.flatten().collect()
    }

    /// (Path without the run's id, SHA-256) of every shard, which two runs of a job have in common.
    pub fn hashes(&self, sink: &str) -> Vec<(String, String)> {
        let shards = self.shards(sink).into_iter();
        shards
            .map(|shard| {
                let name = shard.path.split_once('-').and_then(|(_, rest)| rest.split_once('-'));
                (name.expect("a shard's name holds its run").1.to_owned(), shard.sha256)
            })
            .collect()
    }

    /// The rows that the newest run wrote to this sink, in order.
    pub fn rows(&self, sink: &str) -> RecordBatch {
        self.read(self.shards(sink).iter().map(|shard| shard.path.clone()))
    }

    /// The rows that readers of the Delta log see, in no particular order of files.
    pub fn visible_rows(&self) -> usize {
        let files = self.visible();
        if files.is_empty() { 0 } else { self.read(files.into_iter()).num_rows() }
    }

    /// The rows that readers of the Delta log see, in the order of their keys.
    pub fn sorted(&self) -> RecordBatch {
        let rows = self.read(self.visible().into_iter());
        let keys = rows.column_by_name("key").expect("rows have keys");
        let order = sort_to_indices(keys, None, None).expect("keys can be sorted");
        take_record_batch(&rows, &order).expect("rows can be sorted")
    }

    fn read(&self, files: impl Iterator<Item = String>) -> RecordBatch {
        let mut batches = Vec::new();
        let mut schema = None;
        for file in files {
            let file = File::open(self.path.join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
            schema = Some(std::sync::Arc::clone(reader.schema()));
            let reader = reader.build().expect("a readable shard");
            batches.extend(reader.map(|batch| batch.expect("readable rows")));
        }
        let schema = schema.expect("at least one shard");
        concat_batches(&schema, &batches).expect("shards of one schema")
    }

    /// Dead letters of the newest run, as (key, operator, error).
    pub fn dead_letters(&self) -> Vec<(String, String, String)> {
        let run = self.runs().pop().expect("a run at the destination");
        let folder = Self::at(self.path.join("_anabranch").join(DEAD_LETTERS));
        let shards = run.commits.iter().filter_map(|commit| commit.shards.get(DEAD_LETTERS));
        let files: Vec<String> = shards.flatten().map(|shard| shard.path.clone()).collect();
        if files.is_empty() {
            return Vec::new();
        }
        let rows = folder.read(files.into_iter());
        let text = |row: usize, column: &str| {
            let column = rows.column_by_name(column).expect("a column of dead letters");
            column.as_string::<i32>().value(row).to_owned()
        };
        let letter = |row| (text(row, "key"), text(row, "operator"), text(row, "error"));
        (0..rows.num_rows()).map(letter).collect()
    }

    /// Files that the Delta log shows.
    pub fn visible(&self) -> BTreeSet<String> {
        let folder = self.path.join("_delta_log");
        let mut files = BTreeSet::new();
        for name in names(&folder).iter().filter(|name| name.ends_with(".json")) {
            let text = std::fs::read_to_string(folder.join(name)).expect("a Delta entry reads");
            for line in text.lines() {
                let action: serde_json::Value = serde_json::from_str(line).expect("a Delta action");
                let path = |kind: &str| action[kind]["path"].as_str().map(str::to_owned);
                if let Some(path) = path("remove") {
                    assert!(files.remove(&path), "{name} removes {path}, which was not there");
                }
                if let Some(path) = path("add") {
                    assert!(files.insert(path.clone()), "{name} shows {path} again");
                }
            }
        }
        files
    }

    /// What must hold after a run has ended well: its log has no gap, every shard it names is there byte
    /// for byte, nobody sees a shard that it does not name, and everybody sees those that it does.
    pub fn check(&self, sink: &str) {
        let run = self.check_log();
        let mut named = BTreeSet::new();
        for shard in self.shards(sink) {
            is_whole(&self.path.join(&shard.path), &shard);
            assert!(named.insert(shard.path.clone()), "{} is named twice", shard.path);
        }
        let of_this_run = |path: &String| path.contains(&format!("/{run}-"));
        let visible: BTreeSet<String> = self.visible().into_iter().filter(of_this_run).collect();
        assert_eq!(visible, named, "the Delta log shows what the run log names");
        let there = names(&self.path.join("data")).into_iter().map(|name| format!("data/{name}"));
        let there: BTreeSet<String> = there.filter(of_this_run).collect();
        assert_eq!(there, named, "no shard is left that the run log does not name");
    }

    /// What must hold of the log of a run that has ended well, whatever its sink; gives the run's id.
    pub(crate) fn check_log(&self) -> String {
        let run = self.runs().pop().expect("a run at the destination");
        let mut epoch = 0;
        for (number, commit) in run.commits.iter().enumerate() {
            assert_eq!(commit.number, number as u64, "commits of {}", run.id);
            assert_eq!(commit.epochs.start, epoch, "epochs of commit {number}");
            epoch = commit.epochs.end;
            assert_eq!(
                commit.last,
                number + 1 == run.commits.len(),
                "commit {number} ends the run"
            );
        }
        run.id
    }
}

/// A shard is the file that the run log says.
pub(crate) fn is_whole(file: &Path, shard: &Shard) {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(bytes.len() as u64, shard.bytes, "{}", shard.path);
    let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hash, shard.sha256, "{}", shard.path);
}

/// Names in a folder, sorted; none when it is not there.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Fails with the first row that differs.
pub fn assert_same(found: &RecordBatch, expected: &RecordBatch, what: &str) {
    // A file's own metadata, its checksums, depend on how rows were divided into files.
    assert_eq!(found.schema().fields(), expected.schema().fields(), "{what}: columns");
    assert_eq!(found.num_rows(), expected.num_rows(), "{what}: rows");
    for row in 0..found.num_rows() {
        for (at, field) in expected.schema().fields().iter().enumerate() {
            let (found, expected) = (found.column(at), expected.column(at));
            let same = found.slice(row, 1).to_data() == expected.slice(row, 1).to_data();
            assert!(same, "{what}: row {row} differs in column `{}`", field.name());
        }
    }
}
