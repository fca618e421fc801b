use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_pipelines::record::{KEY, Modality, media};
use anabranch_pipelines::store::Location;
use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use object_store::ObjectStoreExt;
use serde_json::{Value, json};

use super::columns;
use super::encoder::Encoder;
use super::spool::PIECE;
use super::{MdsCompression, MdsOptions};
use crate::conformance;
use crate::sink::shard::Encode;

type Row = BTreeMap<String, Vec<u8>>;

/// The rows of a shard, read as the format is described: with its own header, not with what we know of it.
fn rows_of(shard: &[u8]) -> Vec<Row> {
    let number = |at: usize| u32::from_le_bytes(shard[at..at + 4].try_into().unwrap()) as usize;
    let rows = number(0);
    let ends: Vec<usize> = (0..=rows).map(|row| number(4 + 4 * row)).collect();
    assert_eq!(*ends.last().unwrap(), shard.len());
    let config: Value = serde_json::from_slice(&shard[4 * (rows + 2)..ends[0]]).unwrap();
    let names = config["column_names"].as_array().unwrap();
    let sizes = config["column_sizes"].as_array().unwrap();
    let row = |row: usize| {
        let mut at = ends[row];
        let sizes: Vec<usize> = sizes
            .iter()
            .map(|size| match size.as_u64() {
                Some(size) => size as usize,
                None => {
                    at += 4;
                    number(at - 4)
                }
            })
            .collect();
        let mut values = Row::new();
        for (name, size) in names.iter().zip(sizes) {
            values.insert(name.as_str().unwrap().to_owned(), shard[at..at + size].to_vec());
            at += size;
        }
        assert_eq!(at, ends[row + 1]);
        values
    };
    (0..rows).map(row).collect()
}

async fn get(location: &Location, path: &str) -> Option<Vec<u8>> {
    let place = location.join(path);
    let found = place.store.get(&place.path).await.ok()?;
    Some(found.bytes().await.unwrap().to_vec())
}

/// What a reader has who opens the index.
async fn rows(location: &Location) -> Vec<Row> {
    let Some(index) = get(location, "index.json").await else { return Vec::new() };
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["version"], 2);
    let mut rows = Vec::new();
    for shard in index["shards"].as_array().unwrap() {
        let zip = shard["zip_data"]["basename"].as_str();
        let raw = shard["raw_data"]["basename"].as_str().unwrap();
        let mut bytes = get(location, zip.unwrap_or(raw)).await.unwrap();
        if zip.is_some() {
            assert_eq!(shard["compression"], "zstd:3");
            assert_eq!(shard["zip_data"]["bytes"], bytes.len());
            let size = zstd::zstd_safe::get_frame_content_size(&bytes).unwrap();
            assert_eq!(shard["raw_data"]["bytes"].as_u64(), size);
            bytes = zstd::decode_all(bytes.as_slice()).unwrap();
        }
        assert_eq!(shard["raw_data"]["bytes"], bytes.len());
        let found = rows_of(&bytes);
        assert_eq!(shard["samples"], found.len());
        rows.extend(found);
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mds_is_a_sink() {
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().to_str().unwrap();
    for (path, compression) in [
        (format!("{local}/plain"), MdsCompression::None),
        (format!("{local}/packed"), MdsCompression::Zstd),
        ("memory://mds-conformance/rows".to_owned(), MdsCompression::Zstd),
    ] {
        let location = Location::parse(&path).unwrap();
        let encodings = BTreeMap::new();
        let open = || {
            let (path, encodings) = (path.clone(), encodings.clone());
            MdsOptions { path, encodings, compression }.build().unwrap()
        };
        let keys = async || {
            let rows = rows(&location).await;
            Ok(rows.iter().map(|row| String::from_utf8(row["key"].clone()).unwrap()).collect())
        };
        assert!(!open().exists().await.unwrap());
        conformance::sink::check(open, keys).await.unwrap();
    }
}

fn batch(paths: Vec<Option<&str>>) -> RecordBatch {
    let bytes: Vec<Option<&[u8]>> = vec![Some(b"jpeg"), None];
    let schema = Schema::new(vec![
        Field::new(KEY, DataType::Utf8, false),
        media::field("image", Modality::Image, media::State::Encoded),
        Field::new("caption", DataType::Utf8, true),
        Field::new("label", DataType::Int64, true),
        Field::new("row", DataType::Int64, false),
        Field::new("score", DataType::Float32, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["one", "two"])),
        Arc::new(media::column(bytes, paths)),
        Arc::new(StringArray::from(vec![Some("ein \"Bild\""), None])),
        Arc::new(Int64Array::from(vec![Some(-3), None])),
        Arc::new(Int64Array::from(vec![1, -2])),
        Arc::new(Float32Array::from(vec![Some(0.5), None])),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn encodings(named: Value) -> BTreeMap<String, super::MdsEncoding> {
    serde_json::from_value(named).unwrap()
}

fn encoded(rows: &RecordBatch, named: Value) -> Result<Vec<Row>, String> {
    let columns = columns::of(&rows.schema(), &encodings(named)).map_err(|e| e.to_string())?;
    let mut encoder = Encoder::new(columns, false);
    encoder.encode(rows, 0)?;
    let mut shard = Vec::new();
    loop {
        let piece = encoder.rest()?;
        if piece.is_empty() {
            break;
        }
        shard.extend(piece);
    }
    shard.extend(encoder.finish()?.0);
    Ok(rows_of(&shard))
}

#[test]
fn every_type_has_its_encoding_and_every_null_its_value() {
    let paths = vec![Some("a.jpg"), Some("b.jpg")];
    let rows = encoded(&batch(paths.clone()), json!({})).unwrap();
    let expected = [
        ("caption", "ein \"Bild\"".as_bytes().to_vec(), vec![]),
        ("image", b"jpeg".to_vec(), vec![]),
        ("key", b"one".to_vec(), b"two".to_vec()),
        ("label", b"-3".to_vec(), b"null".to_vec()),
        ("row", 1i64.to_le_bytes().to_vec(), (-2i64).to_le_bytes().to_vec()),
        ("score", 0.5f32.to_le_bytes().to_vec(), f32::NAN.to_le_bytes().to_vec()),
    ];
    for (column, first, second) in expected {
        assert_eq!((&rows[0][column], &rows[1][column]), (&first, &second), "{column}");
    }
    let named = json!({ "caption": "json", "row": "json", "score": "float64" });
    let rows = encoded(&batch(paths), named).unwrap();
    assert_eq!(
        (rows[0]["caption"].as_slice(), rows[1]["caption"].as_slice()),
        (br#""ein \"Bild\"""#.as_slice(), b"null".as_slice())
    );
    assert_eq!(rows[1]["row"], b"-2");
    assert_eq!(rows[0]["score"], 0.5f64.to_le_bytes());
}

#[test]
fn what_has_no_value_names_the_record_and_the_way_out() {
    let error = encoded(&batch(vec![None, None]), json!({ "label": "int" })).unwrap_err();
    assert!(error.starts_with("record \"two\": `label` has no value"), "{error}");
    assert!(error.contains("`encodings = { label = \"json\" }`"), "{error}");
    let error = encoded(&batch(vec![None, None]), json!({ "image": "jpeg" })).unwrap_err();
    assert!(error.contains("`encodings = { image = \"bytes\" }`"), "{error}");
    let refers = batch(vec![None, Some("file:///x.tar#512+100")]);
    let error = encoded(&refers, json!({})).unwrap_err();
    assert!(error.contains("record \"two\": `image` is a reference"), "{error}");
}

#[test]
fn encodings_that_do_not_fit_are_refused_before_the_run() {
    let refused = |named: Value| encoded(&batch(vec![None, None]), named).unwrap_err();
    let error = refused(json!({ "caption": "jpeg" }));
    assert!(error.contains("`encodings` may be str, bytes, json"), "{error}");
    assert!(refused(json!({ "captoin": "str" })).contains("did you mean `caption`"));
}

#[test]
fn a_large_shard_waits_on_disk_and_comes_out_whole() {
    let large = vec![7u8; PIECE + 5];
    let bytes: Vec<Option<&[u8]>> = vec![Some(&large), Some(b""), Some(&large)];
    let field = media::field("image", Modality::Image, media::State::Encoded);
    let image: ArrayRef = Arc::new(media::column(bytes, vec![None; 3]));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![image]).unwrap();
    let found = encoded(&rows, json!({})).unwrap();
    let sizes: Vec<usize> = found.iter().map(|row| row["image"].len()).collect();
    assert_eq!(sizes, [PIECE + 5, 0, PIECE + 5]);
}
