//! What a run of any kind of sink left behind: what its readers find, and what must hold of that at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anabranch_pipelines::sink::Shard;
use serde_json::Value as Json;

use crate::table::{Table, is_whole, names};

/// A folder that a job wrote with its sink `table`, which is of some kind.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The kind of the sink.
    pub kind: &'static str,
    /// Where the run log is read from.
    pub table: Table,
}

impl Dataset {
    /// What a sink of this kind wrote there.
    pub fn at(kind: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { kind, table: Table::at(path) }
    }

    fn shards(&self) -> Vec<Shard> {
        self.table.shards("table")
    }

    /// Where readers find a shard.
    fn seen(shard: &Shard) -> String {
        shard.path.replace("_staging/", "data/")
    }

    fn index(&self, name: &str) -> Json {
        let text = std::fs::read_to_string(self.table.path.join(name));
        let text = text.unwrap_or_else(|e| panic!("{name}: {e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The files that readers read.
    pub fn visible(&self) -> BTreeSet<String> {
        let listed =
            || names(&self.table.path.join("data")).into_iter().map(|name| format!("data/{name}"));
        let text = |value: &Json| value.as_str().expect("a path").to_owned();
        match self.kind {
            "table" => self.table.visible(),
            "parquet" => listed().collect(),
            "webdataset" => {
                let index = self.index("index.json");
                let shards = index["shardlist"].as_array().expect("shards");
                let indexed: BTreeSet<String> =
                    shards.iter().map(|shard| text(&shard["url"])).collect();
                assert_eq!(
                    listed().collect::<BTreeSet<_>>(),
                    indexed,
                    "the index lists what is there"
                );
                indexed
            }
            "mds" => {
                let index = self.index("index.json");
                let shards = index["shards"].as_array().expect("shards");
                let file = |shard: &Json| match &shard["zip_data"] {
                    Json::Null => text(&shard["raw_data"]["basename"]),
                    zip => text(&zip["basename"]),
                };
                shards.iter().map(file).collect()
            }
            other => panic!("nobody knows what readers of `{other}` see"),
        }
    }

    /// What must hold after a run has ended well.
    pub fn check(&self) {
        if self.kind == "table" {
            return self.table.check("table");
        }
        let run = self.table.check_log();
        let mut named = BTreeSet::new();
        for shard in self.shards() {
            let seen = Self::seen(&shard);
            is_whole(&self.table.path.join(&seen), &shard);
            assert!(named.insert(seen), "{} is named twice", shard.path);
        }
        let of_this_run = |path: &String| path.contains(&format!("/{run}-"));
        let visible: BTreeSet<String> = self.visible().into_iter().filter(of_this_run).collect();
        assert_eq!(visible, named, "readers see what the run log names");
        for folder in ["data", "_staging"] {
            let there = names(&self.table.path.join(folder)).into_iter();
            let there: BTreeSet<String> =
                there.map(|name| format!("{folder}/{name}")).filter(of_this_run).collect();
            assert!(there.is_subset(&named), "{folder} holds what no commit names: {there:?}");
        }
    }

    /// What two runs of a job have in common: hashes of shards by their names without the run's id, and what is
    /// derived from them.
    pub fn contents(&self) -> BTreeMap<String, String> {
        let mut contents: BTreeMap<String, String> =
            self.table.hashes("table").into_iter().collect();
        let shard = self.shards().into_iter().next().map(|shard| shard.path).unwrap_or_default();
        let name = shard.rsplit('/').next().and_then(|name| name.split("-table-").next());
        let run = name.expect("a shard's name begins with its run");
        for name in ["index.json", "README.md"] {
            if let Ok(text) = std::fs::read_to_string(self.table.path.join(name)) {
                contents.insert(name.to_owned(), text.replace(run, "RUN"));
            }
        }
        contents
    }
}
