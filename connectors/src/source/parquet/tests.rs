use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::metadata::{KeyValue, ParquetMetaDataReader, ParquetMetaDataWriter};
use ::parquet::file::properties::WriterProperties;
use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::Source;
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, LargeBinaryArray, RecordBatch, StringArray,
    StringViewArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};

use super::ParquetOptions;
use crate::source::testing::{conforming, folder, path};

fn parquet(path: String, key: Option<&str>) -> Arc<dyn Source> {
    let options = serde_json::json!({ "path": path, "key": key });
    serde_json::from_value::<ParquetOptions>(options).unwrap().build().unwrap()
}

fn rows(from: i64, count: i64) -> RecordBatch {
    let names: Vec<String> = (from..from + count).map(|row| format!("row {row}")).collect();
    let bytes: Vec<Vec<u8>> = (from..from + count).map(|row| vec![row as u8; 50]).collect();
    let bytes = bytes.iter().map(|bytes| Some(bytes.as_slice())).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(from..from + count))),
        ("name", Arc::new(StringArray::from(names.clone()))),
        (
            "picture",
            Arc::new(media::column(bytes, names.iter().map(|n| Some(n.as_str())).collect())),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn file(batch: &RecordBatch) -> Vec<u8> {
    let features = r#"{"info": {"features": {"picture": {"_type": "Image"}}}}"#;
    let entry = KeyValue::new("huggingface".to_owned(), features.to_owned());
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(40))
        .set_key_value_metadata(Some(vec![entry]));
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn rows_of_several_files_are_records_and_media_are_recognised() {
    let folder =
        folder(&[("a.parquet", &file(&rows(0, 100))), ("b.parquet", &file(&rows(100, 7)))]);
    let seen = conforming(&parquet(path(&folder, "*.parquet"), Some("name")));
    assert_eq!((seen.rows, seen.refused.len()), (107, 0));
    let schema = seen.records.schema();
    assert_eq!(Modality::of(schema.field_with_name("picture").unwrap()), Some(Modality::Image));
    assert_eq!(schema.field_with_name("id_").unwrap().data_type(), &DataType::Int64);
    assert!(schema.field_with_name("picture_width").is_ok());
    let picture = media::of(&seen.records, "picture").unwrap();
    assert_eq!(media::bytes(picture, 103), Some([103; 50].as_slice()));
    assert_eq!(media::path(picture, 41), Some("row 41"));
}

#[test]
fn other_columns_and_damage_cost_their_file() {
    let numbers: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let other = file(&RecordBatch::try_from_iter([("id", numbers)]).unwrap());
    let good = file(&rows(0, 50));
    let cut = &good[..good.len() - 20];
    let folder = folder(&[
        ("a.parquet", &good),
        ("b.parquet", &other),
        ("c.parquet", cut),
        ("d.parquet", b""),
    ]);
    let seen = conforming(&parquet(path(&folder, "*.parquet"), None));
    assert_eq!((seen.rows, seen.refused.len()), (50, 3));
    let error = &seen.refused[0].error;
    assert!(error.contains("(id Utf8)") && error.contains("id Int64, name Utf8"), "{error}");
}

#[test]
fn a_damaged_page_costs_rows_and_not_the_run() {
    let mut bytes = file(&rows(0, 100));
    // In the data of the last row group, before the footer.
    let at = bytes.len() / 2;
    bytes[at..at + 200].fill(0xff);
    let folder = folder(&[("a.parquet", &bytes)]);
    let batches = crate::source::testing::read_all(&parquet(path(&folder, "a.parquet"), None));
    let rows: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
    let refused: usize = batches.iter().map(|batch| batch.refused.len()).sum();
    assert_eq!(rows + refused, 100);
}

/// The file with another number of rows in its footer, in so many row groups, in columns as well or not.
fn lying(file: &[u8], rows: i64, groups: usize, columns: bool) -> Vec<u8> {
    let bytes = bytes::Bytes::copy_from_slice(file);
    let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
    let mut lying = footer.clone().into_builder().set_row_groups(Vec::new());
    for _ in 0..groups {
        let group = footer.row_group(0).clone();
        let chunks = group.columns().iter().map(|chunk| {
            let values = if columns { rows } else { chunk.num_values() };
            chunk.clone().into_builder().set_num_values(values).build().unwrap()
        });
        let chunks = chunks.collect();
        let group = group.into_builder().set_num_rows(rows).set_column_metadata(chunks);
        lying = lying.add_row_group(group.build().unwrap());
    }
    let mut file = file.to_vec();
    let length = file.len() - 8;
    file.truncate(length);
    ParquetMetaDataWriter::new(&mut file, &lying.build()).finish().unwrap();
    file
}

#[test]
fn row_counts_of_a_footer_are_not_believed_beyond_reason() {
    let good = file(&rows(0, 30));
    let folder = folder(&[
        ("a.parquet", &good),
        ("b.parquet", &lying(&good, 1 << 62, 1, false)),
        ("c.parquet", &lying(&good, 1 << 62, 1, true)),
        ("d.parquet", &lying(&good, 1 << 60, 5, true)),
        ("e.parquet", &lying(&good, -1, 1, true)),
        ("f.parquet", &lying(&good, 30, 1, true)),
    ]);
    let seen = conforming(&parquet(path(&folder, "*.parquet"), None));
    assert_eq!((seen.rows, seen.refused.len()), (60, 4));
    let error = |at: usize| seen.refused[at].error.as_str();
    assert!(error(0).ends_with("row group 0 has 4611686018427387904 rows, and 30 values of `id`"));
    assert!((1..4).all(|at| error(at).starts_with("its footer is wrong: ")), "{}", error(1));
}

#[test]
fn a_column_that_stands_outside_its_file_costs_the_file_and_not_the_run() {
    let good = file(&rows(0, 30));
    let moved = |start: i64, length: i64| {
        let bytes = bytes::Bytes::copy_from_slice(&good);
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        let group = footer.row_group(0).clone();
        let mut chunks = group.columns().to_vec();
        let chunk = chunks[0].clone().into_builder().set_data_page_offset(start);
        let chunk = chunk.set_dictionary_page_offset(None).set_total_compressed_size(length);
        chunks[0] = chunk.build().unwrap();
        let group = group.into_builder().set_column_metadata(chunks).build().unwrap();
        let wrong = footer.into_builder().set_row_groups(vec![group]).build();
        let mut file = good[..good.len() - 8].to_vec();
        ParquetMetaDataWriter::new(&mut file, &wrong).finish().unwrap();
        file
    };
    let files = [moved(-5, 100), moved(4, -1), moved(4, 1 << 60), moved(1 << 40, 10)];
    let names = ["b.parquet", "c.parquet", "d.parquet", "e.parquet"];
    let mut all: Vec<(&str, &[u8])> = vec![("a.parquet", &good)];
    all.extend(names.into_iter().zip(files.iter().map(Vec::as_slice)));
    let folder = folder(&all);
    let seen = conforming(&parquet(path(&folder, "*.parquet"), None));
    assert_eq!((seen.rows, seen.refused.len()), (30, 4));
    for refused in &seen.refused {
        assert!(refused.error.contains("`id` of row group 0 stands nowhere"), "{}", refused.error);
    }
}

#[test]
fn media_have_the_facts_that_their_bytes_tell() {
    // 3 x 2 pixels with colour; the rest of the file is not looked at.
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02\x08\x02\0\0\0\0\0\0\0";
    let column = media::column(
        vec![Some(png.as_slice()), Some(b"no image"), None],
        vec![Some("a.png"), None, None],
    );
    let columns: [(&str, ArrayRef); 2] = [
        ("picture", Arc::new(column)),
        // What is stored is believed.
        ("picture_height", Arc::new(Int64Array::from(vec![7, 8, 9]))),
    ];
    let file = file(&RecordBatch::try_from_iter(columns).unwrap());
    let folder = folder(&[("a.parquet", &file)]);
    let seen = conforming(&parquet(path(&folder, "a.parquet"), None));
    let number = |name: &str| {
        let column = seen.records.column_by_name(name).unwrap();
        column.as_primitive::<Int32Type>().iter().collect::<Vec<_>>()
    };
    assert_eq!(number("picture_width"), [Some(3), None, None]);
    assert_eq!(number("picture_channels"), [Some(3), None, None]);
    let encodings = seen.records.column_by_name("picture_encoding").unwrap();
    assert_eq!(encodings.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("png"), None, None]);
    let heights = seen.records.column_by_name("picture_height").unwrap();
    assert_eq!(heights.as_primitive::<Int64Type>().values().to_vec(), [7, 8, 9]);
}

/// A file whose footer says this of its columns.
fn described(batch: &RecordBatch, features: &serde_json::Value) -> Vec<u8> {
    let info = serde_json::json!({ "info": { "features": features } }).to_string();
    let entry = KeyValue::new("huggingface".to_owned(), info);
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![entry]));
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn classes(labels: Vec<Option<i64>>) -> Vec<u8> {
    let column: ArrayRef = Arc::new(Int64Array::from(labels));
    let batch = RecordBatch::try_from_iter([("label", column)]).unwrap();
    let names = ["cat", "dog"];
    described(&batch, &serde_json::json!({ "label": { "_type": "ClassLabel", "names": names } }))
}

#[test]
fn classes_are_numbers_with_names_or_names() {
    let folder = folder(&[("a.parquet", &classes(vec![Some(1), None, Some(-1), Some(0)]))]);
    let of = |classes: &str| {
        let options = serde_json::json!({ "path": path(&folder, "a.parquet"), "classes": classes });
        let seen = conforming(
            &serde_json::from_value::<ParquetOptions>(options).unwrap().build().unwrap(),
        );
        let field = seen.records.schema().field_with_name("label").unwrap().clone();
        assert_eq!(field.metadata().get(super::NAMES_KEY).unwrap(), r#"["cat","dog"]"#);
        Arc::clone(seen.records.column_by_name("label").unwrap())
    };
    let numbers = of("numbers");
    let numbers: Vec<_> = numbers.as_primitive::<Int64Type>().iter().collect();
    assert_eq!(numbers, [Some(1), None, None, Some(0)]);
    let names = of("names");
    let names: Vec<_> = names.as_string::<i32>().iter().collect();
    assert_eq!(names, [Some("dog"), None, None, Some("cat")]);
}

#[test]
fn a_class_without_a_name_is_a_letter() {
    let folder = folder(&[("a.parquet", &classes(vec![Some(1), Some(2), Some(0), Some(-7)]))]);
    let seen = conforming(&parquet(path(&folder, "a.parquet"), None));
    let labels = seen.records.column_by_name("label").unwrap();
    assert_eq!(labels.as_primitive::<Int64Type>().values().to_vec(), [1, 0]);
    let errors: Vec<_> = seen.refused.iter().map(|r| (r.range.start, r.error.as_str())).collect();
    assert_eq!(
        errors,
        [(1, "`label`: 2 is none of its 2 classes"), (3, "`label`: -7 is none of its 2 classes")]
    );
}

#[test]
fn media_of_any_arrow_type_are_known_by_their_first_bytes() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02\x08\x02\0\0\0\0\0\0\0".as_slice();
    let wav = b"RIFF\0\0\0\0WAVEfmt ".as_slice();
    let structs = |bytes: Vec<Option<&[u8]>>| -> ArrayRef {
        let bytes: ArrayRef = Arc::new(LargeBinaryArray::from(bytes));
        let paths: ArrayRef = Arc::new(StringViewArray::new_null(bytes.len()));
        let field =
            |name: &str, a: &ArrayRef| Arc::new(Field::new(name, a.data_type().clone(), true));
        Arc::new(StructArray::from(vec![
            (field("path", &paths), paths),
            (field("bytes", &bytes), bytes),
        ]))
    };
    let batch = RecordBatch::try_from_iter([
        ("first", structs(vec![None, Some(png)])),
        ("second", structs(vec![Some(wav), None])),
        ("third", structs(vec![Some(b"neither"), None])),
    ]);
    let folder = folder(&[("a.parquet", &described(&batch.unwrap(), &serde_json::json!({})))]);
    let seen = conforming(&parquet(path(&folder, "a.parquet"), None));
    let schema = seen.records.schema();
    let modality = |name: &str| Modality::of(schema.field_with_name(name).unwrap());
    assert_eq!(modality("first"), Some(Modality::Image));
    assert_eq!(modality("second"), Some(Modality::Audio));
    assert_eq!(modality("third"), None);
    assert_eq!(media::bytes(media::of(&seen.records, "first").unwrap(), 1), Some(png));
    let widths = seen.records.column_by_name("first_width").unwrap();
    assert_eq!(widths.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [None, Some(3)]);
    let encodings = seen.records.column_by_name("second_encoding").unwrap();
    assert_eq!(encodings.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("wav"), None]);
}
