//! What a table shows after kills, repeats and overwrites.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch_pipelines::log::Commit;
use anabranch_pipelines::sink::{Compute, PartName, RunStart, Shard, Sink};
use anabranch_pipelines::store::{Location, Patience, mount};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::TableOptions;

fn rows(count: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    RecordBatch::try_from_iter([("number", numbers)]).unwrap()
}

fn start(run: &str, overwrite: bool) -> RunStart {
    RunStart { run: run.to_owned(), sink: "t".to_owned(), overwrite }
}

async fn write(sink: &dyn Sink, run: &RunStart, commit: u64) -> Shard {
    let part = PartName {
        run: run.run.clone(),
        sink: run.sink.clone(),
        commit,
        epoch: commit,
        lane: 0,
        generation: None,
    };
    let batch = rows(3);
    let mut writer = sink.writer(&part, &batch.schema(), &Compute::inline()).unwrap();
    writer.write(batch).await.unwrap();
    writer.finish().await.unwrap().unwrap()
}

fn commit(run: &RunStart, number: u64, shard: Shard) -> Commit {
    Commit {
        run: run.run.clone(),
        number,
        generation: 1,
        epochs: number..number + 1,
        cuts: Vec::new(),
        decisions: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        shards: [(run.sink.clone(), vec![shard])].into(),
        last: false,
        written: 0,
    }
}

/// The files that each version of the table shows, an empty one that begins it aside.
async fn versions(table: &Location) -> Vec<BTreeSet<String>> {
    let log = table.join("_delta_log");
    let mut entries: Vec<_> = log.store.list(Some(&log.path)).try_collect().await.unwrap();
    entries.retain(|entry| entry.location.as_ref().ends_with(".json"));
    entries.sort_by(|a, b| a.location.cmp(&b.location));
    let (mut shown, mut versions) = (BTreeSet::new(), Vec::new());
    for entry in entries {
        let text = log.store.get(&entry.location).await.unwrap().bytes().await.unwrap();
        for line in std::str::from_utf8(&text).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["add"]["path"].as_str() {
                shown.insert(path.to_owned());
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                shown.remove(path);
            }
        }
        versions.push(shown.clone());
    }
    versions.into_iter().skip_while(BTreeSet::is_empty).collect()
}

async fn objects(folder: &Location) -> Vec<String> {
    let listed: Vec<_> = folder.store.list(Some(&folder.path)).try_collect().await.unwrap();
    let mut names: Vec<_> =
        listed.iter().map(|o| o.location.filename().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn recovery_repeats_commits_and_removes_what_none_names() {
    mount("recovery://store", Arc::new(InMemory::new()), Patience::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for place in ["recovery://store/table", folder.path().to_str().unwrap()] {
        let table = Location::parse(place).unwrap();
        let sink = TableOptions::at(place).build().unwrap();
        let run = start("r1-a", false);
        sink.start(&run, &rows(0).schema()).await.unwrap();
        let first = commit(&run, 0, write(sink.as_ref(), &run, 0).await);
        sink.commit(&run, &first).await.unwrap();
        // The run log names the second, but the run died before the table did; nobody names the third.
        let second = commit(&run, 1, write(sink.as_ref(), &run, 1).await);
        write(sink.as_ref(), &run, 2).await;
        let other = start("r2-b", false);
        write(sink.as_ref(), &other, 0).await;
        if let Some(local) = table.local_path() {
            std::fs::write(local.join("data/r1-a-t-c000003-p00000003-0.parquet#1"), "half")
                .unwrap();
        }
        for _ in 0..2 {
            sink.recover(&run, &[first.clone(), second.clone()]).await.unwrap();
        }
        // Another start may still name the third, unless it names another shard there.
        sink.clean(&run, &[first.clone(), second.clone()]).await.unwrap();
        assert_eq!(objects(&table.join("data")).await.len(), 4);
        let mut third = commit(&run, 2, first.shards["t"][0].clone());
        third.shards.clear();
        sink.clean(&run, &[first.clone(), second.clone(), third]).await.unwrap();
        let shown = versions(&table).await;
        assert_eq!(shown.iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 2], "{place}");
        let left = objects(&table.join("data")).await;
        let runs: Vec<&str> = left.iter().map(|name| &name[..16]).collect();
        assert_eq!(runs, ["r1-a-t-c000000-p", "r1-a-t-c000001-p", "r2-b-t-c000000-p"]);
    }
    let names = std::fs::read_dir(folder.path().join("data")).unwrap();
    assert_eq!(names.count(), 3, "what a killed writer left is gone");
}

#[tokio::test]
async fn an_overwrite_replaces_in_the_version_of_its_first_commit() {
    let place = "memory://recovery-overwrite/table";
    let table = Location::parse(place).unwrap();
    let sink = TableOptions::at(place).build().unwrap();
    let old = start("r1-a", false);
    sink.start(&old, &rows(0).schema()).await.unwrap();
    for number in 0..2 {
        let shard = write(sink.as_ref(), &old, number).await;
        sink.commit(&old, &commit(&old, number, shard)).await.unwrap();
    }
    // The new run starts, writes, and dies before its first commit: the old rows stay.
    let new = start("r2-b", true);
    sink.start(&new, &rows(0).schema()).await.unwrap();
    let first = commit(&new, 0, write(sink.as_ref(), &new, 0).await);
    sink.recover(&new, &[]).await.unwrap();
    assert_eq!(versions(&table).await.last().unwrap().len(), 2);

    write(sink.as_ref(), &new, 0).await;
    sink.commit(&new, &first).await.unwrap();
    let second = commit(&new, 1, write(sink.as_ref(), &new, 1).await);
    sink.commit(&new, &second).await.unwrap();
    sink.recover(&new, &[first, second]).await.unwrap();
    let shown = versions(&table).await;
    assert_eq!(shown.iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 2, 1, 2]);
    assert!(shown.last().unwrap().iter().all(|path| path.contains("r2-b")));
}

#[tokio::test]
async fn cleaning_leaves_the_shards_of_sinks_whose_names_begin_alike() {
    let place = "memory://recovery-names/table";
    let table = Location::parse(place).unwrap();
    let sink = TableOptions::at(place).build().unwrap();
    let run = |sink: &str| RunStart { sink: sink.to_owned(), ..start("r1-a", false) };
    for name in ["out-copy", "out-c1", "out-c000000-p00000000-0"] {
        write(sink.as_ref(), &run(name), 0).await;
    }
    let out = run("out");
    let named = write(sink.as_ref(), &out, 0).await;
    // The first commit has no rows, so what stands there under its number is nobody's.
    let first = Commit { shards: BTreeMap::new(), ..commit(&out, 0, named) };
    sink.clean(&out, &[first]).await.unwrap();
    let left = objects(&table.join("data")).await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(!left.contains(&"r1-a-out-c000000-p00000000-0.parquet".to_owned()));
}

#[tokio::test]
async fn an_overwrite_replaces_columns_with_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    for place in ["memory://recovery-columns/table", folder.path().to_str().unwrap()] {
        let table = Location::parse(place).unwrap();
        let old = start("r1-a", false);
        let sink = TableOptions::at(place).build().unwrap();
        sink.start(&old, &rows(0).schema()).await.unwrap();
        let shard = write(sink.as_ref(), &old, 0).await;
        let spare = shard.clone();
        sink.commit(&old, &commit(&old, 0, shard)).await.unwrap();

        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let other = RecordBatch::try_from_iter([("text", texts)]).unwrap().schema();
        // Only an overwrite may, and only until it did: behind its first commit the columns are its own.
        let error = sink.start(&start("r2-b", false), &other).await.unwrap_err().to_string();
        assert!(error.contains("--if-exists overwrite"), "{error}");
        let new = start("r2-b", true);
        sink.start(&new, &other).await.unwrap();
        let empty = Commit { shards: BTreeMap::new(), ..commit(&new, 0, spare) };
        sink.commit(&new, &empty).await.unwrap();
        sink.commit(&new, &Commit { number: 1, last: true, ..empty.clone() }).await.unwrap();
        let look = |version: Option<u64>| {
            let table = table.clone();
            tokio::task::spawn_blocking(move || {
                let log = crate::table::DeltaLog::new(&table).unwrap();
                let (schema, at, files) = log.files(version).unwrap().unwrap();
                (schema.field(0).name().clone(), at, files.len())
            })
        };
        assert_eq!(look(None).await.unwrap(), ("text".to_owned(), 2, 0));
        assert_eq!(look(Some(0)).await.unwrap(), ("number".to_owned(), 0, 1));
        sink.start(&new, &other).await.unwrap();
        assert!(sink.start(&new, &rows(0).schema()).await.is_err());
        // Whoever opens it anew goes on with it, and its name and age stay.
        let again = TableOptions::at(place).build().unwrap();
        again.start(&start("r3-c", false), &other).await.unwrap();
        let log = table.join("_delta_log");
        let read = |version: u64| {
            let entry = log.join(&format!("{version:020}.json"));
            async move {
                let text = entry.store.get(&entry.path).await.unwrap().bytes().await.unwrap();
                let lines = std::str::from_utf8(&text).unwrap().lines();
                let actions = lines.map(|line| serde_json::from_str(line).unwrap());
                actions
                    .filter_map(|action: serde_json::Value| {
                        let metadata = &action["metaData"];
                        metadata
                            .is_object()
                            .then(|| (metadata["id"].clone(), metadata["createdTime"].clone()))
                    })
                    .collect::<Vec<_>>()
            }
        };
        assert_eq!(read(0).await, read(1).await);
        assert_eq!(read(1).await.len(), 1);
    }
}
