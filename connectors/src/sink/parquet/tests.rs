use anabranch_pipelines::record::{KEY, Modality, media};
use anabranch_pipelines::sink::{Compute, PartName};
use anabranch_pipelines::store::Location;
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampSecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;

use super::ParquetOptions;
use crate::conformance;
use crate::sink::publish;

/// Every file that a glob finds.
async fn files(location: &Location) -> Vec<Bytes> {
    let data = location.join("data");
    let listed: Vec<_> = data.store.list(Some(&data.path)).try_collect().await.unwrap();
    let mut files = Vec::new();
    for object in listed {
        files.push(data.store.get(&object.location).await.unwrap().bytes().await.unwrap());
    }
    files
}

fn rows(file: Bytes) -> RecordBatch {
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.next().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn parquet_is_a_sink_whose_folder_shows_what_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_str().unwrap(), "memory://parquet-conformance/rows"] {
        let location = Location::parse(path).unwrap();
        let open = || ParquetOptions::at(path).build().unwrap();
        let keys = async || {
            let mut keys = Vec::new();
            for file in files(&location).await {
                let rows = rows(file);
                let column = rows.column_by_name(KEY).unwrap().as_string::<i32>().clone();
                keys.extend(column.iter().map(|key| key.unwrap().to_owned()));
            }
            Ok(keys)
        };
        assert!(!open().exists().await.unwrap());
        conformance::sink::check(open, keys).await.unwrap();
        publish::tests::nothing_is_staged(&location).await;
    }
}

#[tokio::test]
async fn the_footer_names_features_of_all_columns_whatever_their_names() {
    let image = media::column(vec![Some(b"jpeg".as_slice())], vec![Some("a.jpg")]);
    let taken = TimestampSecondArray::from(vec![1]);
    let schema = Arc::new(Schema::new(vec![
        media::field("the image", Modality::Image, media::State::Encoded),
        Field::new("taken at", DataType::Timestamp(TimeUnit::Second, None), true),
        Field::new("who, where", DataType::Utf8, true),
    ]));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(image), Arc::new(taken), Arc::new(StringArray::from(vec!["me, here"]))];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let location = Location::parse("memory://parquet-features/rows").unwrap();
    let sink = ParquetOptions::at("memory://parquet-features/rows").build().unwrap();
    sink.check(&schema).unwrap();
    let part = PartName {
        run: "r".into(),
        sink: "s".into(),
        commit: 0,
        epoch: 0,
        lane: 0,
        generation: None,
    };
    let mut writer = sink.writer(&part, &schema, &Compute::inline()).unwrap();
    writer.write(batch).await.unwrap();
    let shard = writer.finish().await.unwrap().unwrap();
    assert!(files(&location).await.is_empty(), "not committed, not seen");
    let place = location.join(&shard.path);
    let file = place.store.get(&place.path).await.unwrap().bytes().await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let footer = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let features = footer.iter().find(|entry| entry.key == "huggingface").unwrap();
    let features: serde_json::Value =
        serde_json::from_str(features.value.as_deref().unwrap()).unwrap();
    let expected = serde_json::json!({
        "the image": { "_type": "Image" },
        "taken at": { "_type": "Value", "dtype": "timestamp[us, tz=UTC]" },
        "who, where": { "_type": "Value", "dtype": "string" },
    });
    assert_eq!(features["info"]["features"], expected);
}

#[test]
fn options_out_of_range_are_named() {
    let built = |options: &str| {
        let options: ParquetOptions = serde_json::from_str(options).unwrap();
        options.build().err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(built(r#"{ "path": "memory://options/p" }"#), "");
    assert!(built(r#"{ "path": "memory://options/p", "split": "a/b" }"#).contains("`split = "));
    assert!(built(r#"{ "path": "memory://options/p", "zstd": 99 }"#).contains("`zstd = 99`"));
    assert!(built(r#"{ "path": "memory://options/p", "row_group": "1KiB" }"#).contains("64KiB"));
}
