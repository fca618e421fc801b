use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use anabranch_pipelines::log::Commit;
use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::sink::{Compute, PartName, RunStart, Shard};
use anabranch_pipelines::store::Location;
use arrow::array::{ArrayRef, Float64Array, ListArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, UnionFields, UnionMode};
use object_store::ObjectStoreExt;
use serde_json::{Value, json};

use super::{JsonlCompression, JsonlOptions};
use crate::conformance;
use crate::sink::index::{Entry, Index, Listed};

async fn text(place: &Location) -> String {
    let bytes = place.store.get(&place.path).await.unwrap().bytes().await.unwrap();
    let mut text = String::new();
    match place.url.ends_with(".zst") {
        true => zstd::Decoder::new(bytes.as_ref()).unwrap().read_to_string(&mut text).unwrap(),
        false => bytes.as_ref().read_to_string(&mut text).unwrap(),
    };
    text
}

/// What a reader sees who knows nothing but what the index's documentation says.
async fn lines(location: &Location) -> Vec<Value> {
    let mut shards = Vec::new();
    for entry in Index::of(location).entries().await.unwrap() {
        if entry.replaces {
            shards.clear();
        }
        shards.extend(entry.shards);
    }
    let mut lines = Vec::new();
    for shard in shards {
        let text = text(&location.join(&shard.path)).await;
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn json_lines_are_a_sink() {
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().to_str().unwrap();
    for (path, compression) in [
        (format!("{local}/plain"), JsonlCompression::None),
        (format!("{local}/packed"), JsonlCompression::Zstd),
        ("memory://jsonl-conformance/lines".to_owned(), JsonlCompression::Zstd),
    ] {
        let location = Location::parse(&path).unwrap();
        let open = || JsonlOptions { path: path.clone(), compression }.build().unwrap();
        let keys = async || {
            let lines = lines(&location).await;
            Ok(lines.iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect())
        };
        assert!(!open().exists().await.unwrap());
        conformance::sink::check(open, keys).await.unwrap();
    }
}

#[tokio::test]
async fn every_column_stands_in_every_line() {
    let image = media::column(vec![Some(&[0u8, 255, 7]), None], vec![Some("a.png"), None]);
    let list =
        ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(0.5), None]), None]);
    let score: ArrayRef = Arc::new(Float64Array::from(vec![0.1, f64::NAN]));
    let field = Field::new("score", DataType::Float64, true);
    let nested = StructArray::from(vec![(Arc::new(field), score)]);
    let rows = RecordBatch::try_from_iter([
        ("image", Arc::new(image) as ArrayRef),
        ("vector", Arc::new(list)),
        ("nested", Arc::new(nested)),
    ]);
    let rows = rows.unwrap();
    let path = "memory://jsonl-lines/lines".to_owned();
    let location = Location::parse(&path).unwrap();
    let sink = JsonlOptions { path, compression: JsonlCompression::None }.build().unwrap();
    sink.check(&rows.schema()).unwrap();
    let part = PartName {
        run: "r".into(),
        sink: "s".into(),
        commit: 0,
        epoch: 0,
        lane: 0,
        generation: None,
    };
    let mut writer = sink.writer(&part, &rows.schema(), &Compute::inline()).unwrap();
    writer.write(rows).await.unwrap();
    let shard = writer.finish().await.unwrap().unwrap();
    let text = text(&location.join(&shard.path)).await;
    let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        read,
        [
            json!({
                "image": { "bytes": "AP8H", "path": "a.png" }, "vector": [0.5, null],
                "nested": { "score": 0.1 },
            }),
            json!({ "image": null, "vector": null, "nested": { "score": null } }),
        ]
    );
}

#[tokio::test]
async fn what_json_cannot_say_is_refused_before_the_run() {
    let path = "memory://jsonl-check/lines".to_owned();
    let sink = JsonlOptions { path, compression: JsonlCompression::None }.build().unwrap();
    let schema = |field| Arc::new(Schema::new(vec![field]));
    let image = media::field("image", Modality::Image, media::State::Encoded);
    sink.check(&schema(image)).unwrap();
    let nothing = UnionFields::empty();
    let span = Field::new("span", DataType::Union(nothing, UnionMode::Sparse), true);
    let error = sink.check(&schema(span)).unwrap_err().to_string();
    assert!(error.contains("`span`") && error.contains("select"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_of_one_index_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::parse(folder.path().to_str().unwrap()).unwrap();
    let writers = (0..3).map(|writer| {
        let location = location.clone();
        tokio::spawn(async move {
            let index = Index::of(&location);
            let run =
                RunStart { run: format!("r{writer}"), sink: "s".to_owned(), overwrite: false };
            for commit in 0..5 {
                let shard = Shard {
                    path: format!("data/{writer}-{commit}.jsonl"),
                    epoch: commit,
                    lane: 0,
                    rows: 1,
                    bytes: 1,
                    sha256: String::new(),
                    statistics: Value::Null,
                };
                for _ in 0..2 {
                    index
                        .add(Entry::new(
                            &run,
                            commit,
                            false,
                            Vec::new(),
                            vec![Listed::from(&shard)],
                        ))
                        .await
                        .unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let entries = Index::of(&location).entries().await.unwrap();
    assert_eq!(entries.iter().flat_map(|entry| &entry.shards).count(), 15);
}

#[tokio::test]
async fn other_columns_are_refused_unless_they_replace() {
    let path = "memory://jsonl-columns/lines";
    let open = || JsonlOptions { path: path.into(), compression: JsonlCompression::None }.build();
    let run = |run: &str, overwrite| RunStart { run: run.into(), sink: "out".into(), overwrite };
    let schema = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, true)]));
    let commit = |run: &RunStart, number| Commit {
        run: run.run.clone(),
        number,
        generation: 1,
        epochs: number..number + 1,
        cuts: Vec::new(),
        decisions: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        shards: BTreeMap::new(),
        last: true,
        written: 0,
    };
    let first = run("r1", false);
    let sink = open().unwrap();
    sink.start(&first, &schema("a")).await.unwrap();
    sink.commit(&first, &commit(&first, 0)).await.unwrap();

    let sink = open().unwrap();
    sink.start(&run("r2", false), &schema("a")).await.unwrap();
    let error = sink.start(&run("r2", false), &schema("b")).await.unwrap_err().to_string();
    assert!(error.contains("other columns (a Int64, b Int64)"), "{error}");
    let replacing = run("r3", true);
    sink.start(&replacing, &schema("b")).await.unwrap();
    sink.commit(&replacing, &commit(&replacing, 0)).await.unwrap();
    // Once it did, the columns are its own.
    sink.start(&replacing, &schema("b")).await.unwrap();
    assert!(open().unwrap().start(&replacing, &schema("a")).await.is_err());
}
