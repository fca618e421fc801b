use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use anabranch_pipelines::record::{KEY, Modality, media, with_ids};
use anabranch_pipelines::store::Location;
use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;

use super::WebdatasetOptions;
use super::encoder::Encoder;
use super::layout::Layout;
use crate::conformance;
use crate::sink::publish;
use crate::sink::shard::Encode;

/// Members in order.
fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = ::tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), body)
    });
    entries.collect()
}

fn options(options: serde_json::Value) -> WebdatasetOptions {
    serde_json::from_value(options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn webdataset_is_a_sink_whose_folder_shows_what_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_str().unwrap(), "memory://webdataset-conformance/rows"] {
        let location = Location::parse(path).unwrap();
        let open = || options(json!({ "path": path })).build().unwrap();
        let keys = async || {
            let data = location.join("data");
            let listed: Vec<_> = data.store.list(Some(&data.path)).try_collect().await.unwrap();
            let mut keys = Vec::new();
            for object in listed {
                let bytes = data.store.get(&object.location).await.unwrap().bytes().await.unwrap();
                for (name, body) in
                    members(&bytes).iter().filter(|(name, _)| name.ends_with(".json"))
                {
                    let row: serde_json::Value = serde_json::from_slice(body).unwrap();
                    let key = row["key"].as_str().unwrap().to_owned();
                    assert_eq!(*name, format!("{key}.json"));
                    keys.push(key);
                }
            }
            // The index tells the same.
            let index = location.join("index.json");
            let samples = match index.store.get(&index.path).await {
                Ok(found) => {
                    let index: serde_json::Value =
                        serde_json::from_slice(&found.bytes().await.unwrap()).unwrap();
                    let shards = index["shardlist"].as_array().unwrap().clone();
                    shards.iter().map(|shard| shard["nsamples"].as_u64().unwrap()).sum()
                }
                Err(_) => 0,
            };
            assert_eq!(samples, keys.len() as u64);
            Ok(keys)
        };
        assert!(!open().exists().await.unwrap());
        conformance::sink::check(open, keys).await.unwrap();
        publish::tests::nothing_is_staged(&location).await;
    }
}

/// Two pictures, of which one misses, two texts, a class and a number.
fn rows() -> RecordBatch {
    let encoded = |name| media::field(name, Modality::Image, media::State::Encoded);
    let mut fields = vec![Field::new(KEY, DataType::Utf8, false)];
    fields.extend([encoded("left"), Field::new("left_encoding", DataType::Utf8, true)]);
    fields.extend([encoded("right"), Field::new("right_encoding", DataType::Utf8, true)]);
    fields.push(Field::new("caption", DataType::Utf8, true));
    fields.push(Field::new("label", DataType::Int64, true));
    fields.push(Field::new("score", DataType::Float32, true));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["a/one.png", "a/one.jpg"])),
        Arc::new(media::column(vec![Some(b"L1"), Some(b"L2")], vec![Some("l.png"), None])),
        Arc::new(StringArray::from(vec![Some("jpeg"), None])),
        Arc::new(media::column(vec![Some(b"R1"), None], vec![None, Some("r.png")])),
        Arc::new(StringArray::from(vec![Some("webp"), None])),
        Arc::new(StringArray::from(vec![Some("ein \"Bild\""), None])),
        Arc::new(Int64Array::from(vec![Some(3), None])),
        Arc::new(Float32Array::from(vec![0.5, f32::NAN])),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn archived(rows: &RecordBatch, named: &[(&str, &str)]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let named = named.iter().map(|(column, end)| (column.to_string(), end.to_string())).collect();
    let layout = Layout::of(&rows.schema(), KEY, &named).map_err(|e| e.to_string())?;
    let mut encoder = Encoder::new(layout);
    let (mut archive, mut at) = (Vec::new(), 0);
    while at < rows.num_rows() {
        let (end, bytes) = encoder.encode(rows, at)?;
        at = end;
        archive.extend(bytes);
    }
    archive.extend(encoder.finish()?.0);
    Ok(members(&archive))
}

#[test]
fn columns_become_members_by_kind_and_name() {
    let found = archived(&rows(), &[]).unwrap();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    // The second sample has the first one's name, and no class, caption and right picture.
    let expected = [
        "a/one.left.jpg",
        "a/one.right.webp",
        "a/one.txt",
        "a/one.cls",
        "a/one.json",
        "a/one-2.left.bin",
        "a/one-2.json",
    ];
    assert_eq!(names, expected);
    let bodies: BTreeMap<_, _> = found.iter().cloned().collect();
    assert_eq!(bodies["a/one.left.jpg"], b"L1");
    assert_eq!(bodies["a/one.txt"], "ein \"Bild\"".as_bytes());
    assert_eq!(bodies["a/one.cls"], b"3");
    let object =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&bodies[name]).unwrap() };
    let first = json!({
        "key": "a/one.png", "left_encoding": "jpeg", "right_encoding": "webp", "score": 0.5,
        "left": { "path": "l.png" }, "right": { "path": null },
    });
    assert_eq!(object("a/one.json"), first);
    assert_eq!(object("a/one-2.json")["right"]["path"], "r.png");
    assert!(object("a/one-2.json")["score"].is_null());
}

#[test]
fn a_reference_that_nothing_has_read_is_no_sample_without_its_picture() {
    let rows = rows();
    let mut columns = rows.columns().to_vec();
    let paths = vec![None, Some("s3://b/r.png#5+6")];
    columns[3] = Arc::new(media::column(vec![Some(b"R1"), None], paths));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let error = archived(&rows, &[]).unwrap_err();
    assert!(error.starts_with("record \"a/one.jpg\": `right` is a reference"), "{error}");
}

#[test]
fn a_job_may_name_members() {
    let named = [("left", "jpg"), ("caption", "json"), ("score", "score.txt"), ("label", "txt")];
    let found = archived(&rows(), &named).unwrap();
    let names: Vec<&str> = found.iter().take(5).map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["a/one.jpg", "a/one.right.webp", "a/one.txt", "a/one.score.txt", "a/one.json"]
    );
    let object: serde_json::Value = serde_json::from_slice(&found[4].1).unwrap();
    assert_eq!(object["caption"], "ein \"Bild\"");

    let error = archived(&rows(), &[("left", "jpg"), ("right", "jpg")]).unwrap_err();
    assert!(error.contains("same member of a sample as \"left\""), "{error}");
    let error = archived(&rows(), &[("lefd", "jpg")]).unwrap_err();
    assert!(error.contains("did you mean `left`"), "{error}");
    // What only an encoding tells is seen when it is there.
    let error = archived(&rows(), &[("left", "right.webp")]).unwrap_err();
    assert!(error.contains("\"a/one.png\"") && error.contains("`right.webp`"), "{error}");
}

#[test]
fn what_is_no_sample_is_refused_before_the_run() {
    let refused = |fields: Vec<Field>, more: serde_json::Value| {
        let mut of = json!({ "path": "memory://webdataset-check/x" });
        of.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let sink = match options(of).build() {
            Ok(sink) => sink,
            Err(error) => return error.to_string(),
        };
        sink.check(&Arc::new(Schema::new(fields))).unwrap_err().to_string()
    };
    let key = || Field::new(KEY, DataType::Utf8, false);
    let pixels = media::field("image", Modality::Image, media::State::Decoded);
    let error = refused(vec![key(), pixels], json!({}));
    assert!(error.contains("`encode` before this sink"), "{error}");
    assert!(refused(vec![], json!({})).contains("no column `key`"));
    let floats = Field::new("x", DataType::Float32, true);
    let error = refused(vec![key(), floats], json!({ "name": "x" }));
    assert!(error.contains("name another column with `name`"), "{error}");
    let error = refused(vec![key()], json!({ "members": { "key": "a/b" } }));
    assert!(error.contains("`members.key = \"a/b\"`"), "{error}");
}

#[test]
fn ids_name_samples_too() {
    let rows = with_ids("s", &rows()).unwrap();
    let layout = Layout::of(&rows.schema(), "id", &BTreeMap::new()).unwrap();
    let (_, archive) = Encoder::new(layout).encode(&rows, 0).unwrap();
    let name = members(&archive)[0].0.clone();
    let (id, rest) = name.split_once('.').unwrap();
    assert_eq!((id.len(), rest), (32, "left.jpg"));
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
}
