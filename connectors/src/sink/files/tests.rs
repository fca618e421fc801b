use std::sync::Arc;

use anabranch_pipelines::log::Commit;
use anabranch_pipelines::record::KEY;
use anabranch_pipelines::sink::{Compute, PartName, RunStart, Shard, Sink};
use anabranch_pipelines::store::Location;
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;

use super::FilesOptions;
use crate::conformance;
use crate::sink::publish;

fn open(path: &str, more: serde_json::Value) -> Arc<dyn Sink> {
    let mut options = json!({ "path": path });
    options.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    serde_json::from_value::<FilesOptions>(options).unwrap().build().unwrap()
}

/// Files below `data`, with what is in them.
async fn seen(location: &Location) -> Vec<(String, String)> {
    let data = location.join("data");
    let listed: Vec<_> = data.store.list(Some(&data.path)).try_collect().await.unwrap();
    let mut files = Vec::new();
    for object in listed {
        let bytes = data.store.get(&object.location).await.unwrap().bytes().await.unwrap();
        let path = object.location.as_ref().strip_prefix(data.path.as_ref()).unwrap();
        let path = path.trim_start_matches('/').to_owned();
        files.push((path, String::from_utf8_lossy(&bytes).into_owned()));
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_are_those_of_committed_records() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_str().unwrap(), "memory://files-conformance/rows"] {
        let location = Location::parse(path).unwrap();
        let keys = async || {
            let mut keys = Vec::new();
            for (file, body) in seen(&location).await {
                let (key, column) = file.rsplit_once('/').unwrap();
                // Rows of the suite have a label each, which is the last part of their key.
                match column {
                    "label" => {
                        assert!(key.ends_with(&format!("-{body}")), "{key}: {body}");
                        keys.push(key.to_owned());
                    }
                    "image" => assert!(body.len() >= 30),
                    other => panic!("{other} is no file"),
                }
            }
            Ok(keys)
        };
        assert!(!open(path, json!({})).exists().await.unwrap());
        conformance::sink::check(|| open(path, json!({})), keys).await.unwrap();
        publish::tests::nothing_is_staged(&location).await;
    }
}

fn rows(keys: &[&str], card: &[Option<&str>]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
    let weights: ArrayRef = Arc::new(BinaryArray::from(
        card.iter().map(|card| card.map(str::as_bytes)).collect::<Vec<_>>(),
    ));
    let card: ArrayRef = Arc::new(StringArray::from(card.to_vec()));
    let columns = [(KEY, keys, false), ("card.json", card, true), ("weights", weights, true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn start(overwrite: bool) -> RunStart {
    let run = if overwrite { "r2" } else { "r1" };
    RunStart { run: run.to_owned(), sink: "out".to_owned(), overwrite }
}

async fn prepare(
    sink: &Arc<dyn Sink>,
    run: &RunStart,
    epoch: u64,
    rows: RecordBatch,
) -> Result<Shard, String> {
    let (run, sink_name) = (run.run.clone(), run.sink.clone());
    let part = PartName { run, sink: sink_name, commit: epoch, epoch, lane: 0, generation: None };
    let mut writer = sink.writer(&part, &rows.schema(), &Compute::inline()).unwrap();
    writer.write(rows).await.map_err(|e| e.to_string())?;
    Ok(writer.finish().await.unwrap().unwrap())
}

fn commit(run: &RunStart, number: u64, shard: Shard) -> Commit {
    Commit {
        run: run.run.clone(),
        number,
        generation: 1,
        epochs: number..number + 1,
        cuts: Vec::new(),
        decisions: Default::default(),
        snapshots: Default::default(),
        shards: [("out".to_owned(), vec![shard])].into(),
        last: false,
        written: 0,
    }
}

#[tokio::test]
async fn missing_values_are_no_files_and_one_column_is_called_by_the_key() {
    let location = Location::parse("memory://files/layout").unwrap();
    let sink = open(&location.url, json!({}));
    let run = start(false);
    let rows = rows(&["a/1", "b", "c"], &[Some("x"), None, Some("")]);
    sink.start(&run, &rows.schema()).await.unwrap();
    let shard = prepare(&sink, &run, 0, rows.clone()).await.unwrap();
    assert_eq!(shard.bytes, 2);
    sink.commit(&run, &commit(&run, 0, shard)).await.unwrap();
    let file = |name: &str, body: &str| (name.to_owned(), body.to_owned());
    let all = [
        file("a/1/card.json", "x"),
        file("a/1/weights", "x"),
        file("c/card.json", ""),
        file("c/weights", ""),
    ];
    assert_eq!(seen(&location).await, all);

    let location = Location::parse("memory://files/one").unwrap();
    let sink = open(&location.url, json!({ "columns": ["weights"] }));
    sink.start(&run, &rows.schema()).await.unwrap();
    let shard = prepare(&sink, &run, 0, rows).await.unwrap();
    sink.commit(&run, &commit(&run, 0, shard)).await.unwrap();
    assert_eq!(seen(&location).await, [file("a/1", "x"), file("c", "")]);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_or_is_there_already_names_its_record() {
    let location = Location::parse("memory://files/names").unwrap();
    let sink = open(&location.url, json!({}));
    let run = start(false);
    sink.start(&run, &rows(&[], &[]).schema()).await.unwrap();
    let long = "x".repeat(251);
    for (keys, says) in [
        (["fine", "../secret"], "`..`"),
        (["fine", "/etc/passwd"], "begins with `/`"),
        (["fine", long.as_str()], "251 bytes"),
        (["fine", "fine"], "a file of this name already"),
    ] {
        let error = prepare(&sink, &run, 0, rows(&keys, &[Some("x"); 2])).await.unwrap_err();
        assert!(error.contains(says) && error.contains(&format!("{:?}", keys[1])), "{error}");
    }
    // Of another part of the run: known when both are to be committed.
    let first = prepare(&sink, &run, 0, rows(&["one", "two"], &[Some("x"); 2])).await.unwrap();
    sink.commit(&run, &commit(&run, 0, first)).await.unwrap();
    let second = prepare(&sink, &run, 1, rows(&["two"], &[Some("y")])).await.unwrap();
    let second = commit(&run, 1, second);
    for _ in 0..2 {
        let error = sink.admit(&run, &second).await.unwrap_err().to_string();
        assert!(error.contains("`two/card.json` would be written by two records"), "{error}");
    }
    assert_eq!(seen(&location).await.iter().filter(|(_, body)| body == "x").count(), 4);
}

#[tokio::test]
async fn an_overwrite_replaces_what_runs_wrote_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_str().unwrap(), "memory://files/overwrite"] {
        let location = Location::parse(path).unwrap();
        let put = async |name: &str, body: &'static str| {
            let place = location.join(name);
            place.store.put(&place.path, body.into()).await.unwrap();
        };
        put("data/mine/card.json", "mine").await;
        let (old, new) = (start(false), start(true));
        let sink = open(path, json!({}));
        sink.start(&old, &rows(&[], &[]).schema()).await.unwrap();
        let shard = prepare(&sink, &old, 0, rows(&["a", "b"], &[Some("1"); 2])).await.unwrap();
        sink.commit(&old, &commit(&old, 0, shard)).await.unwrap();

        let sink = open(path, json!({}));
        sink.start(&new, &rows(&[], &[]).schema()).await.unwrap();
        let shard = prepare(&sink, &new, 0, rows(&["b", "c"], &[Some("2"); 2])).await.unwrap();
        let first = commit(&new, 0, shard);
        // Killed after the first file was written.
        put("data/c/card.json", "2").await;
        sink.commit(&new, &first).await.unwrap();
        open(path, json!({})).recover(&new, std::slice::from_ref(&first)).await.unwrap();
        let all: Vec<String> =
            seen(&location).await.into_iter().map(|(a, b)| a + "=" + &b).collect();
        let expected =
            ["b/card.json=2", "b/weights=2", "c/card.json=2", "c/weights=2", "mine/card.json=mine"];
        assert_eq!(all, expected, "{path}");

        let shard = prepare(&sink, &new, 1, rows(&["mine"], &[Some("2")])).await.unwrap();
        let error = sink.commit(&new, &commit(&new, 1, shard)).await.unwrap_err().to_string();
        assert!(error.contains("that no run wrote"), "{error}");
    }
}
