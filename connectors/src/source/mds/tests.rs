use std::sync::Arc;

use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::{Source, SourceError};
use arrow::array::{AsArray, ListArray};
use arrow::datatypes::{Float32Type, Float64Type, Int32Type, Int64Type, UInt16Type};
use serde_json::{Value as Json, json};

use super::MdsOptions;
use crate::conformance::source::Seen;
use crate::source::testing::{block_on, conforming, folder, gzip};

fn mds(folder: &tempfile::TempDir, options: Json) -> Result<Arc<dyn Source>, SourceError> {
    let mut all = json!({ "path": folder.path().to_str().unwrap() });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value::<MdsOptions>(all).unwrap().build()
}

/// Columns by name: how they are encoded, and the bytes of each value if that is fixed.
type Columns<'a> = &'a [(&'a str, &'a str, Option<usize>)];

/// A shard as MosaicML's writer lays it out: count, offsets, configuration, samples.
fn shard(columns: Columns<'_>, samples: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let config = json!({
        "column_names": columns.iter().map(|c| c.0).collect::<Vec<_>>(), "format": "mds", "version": 2,
    });
    let config = config.to_string().into_bytes();
    let bodies: Vec<Vec<u8>> = samples
        .iter()
        .map(|values| {
            let varying = columns.iter().zip(values).filter(|(column, _)| column.2.is_none());
            let sizes = varying.flat_map(|(_, value)| (value.len() as u32).to_le_bytes());
            sizes.chain(values.iter().flatten().copied()).collect()
        })
        .collect();
    let mut at = 4 + 4 * (samples.len() + 1) + config.len();
    let mut shard = (samples.len() as u32).to_le_bytes().to_vec();
    shard.extend((at as u32).to_le_bytes());
    for body in &bodies {
        at += body.len();
        shard.extend((at as u32).to_le_bytes());
    }
    shard.extend(config);
    shard.extend(bodies.concat());
    shard
}

fn entry(
    columns: Columns<'_>,
    name: &str,
    bytes: usize,
    samples: usize,
    zip: Option<&str>,
) -> Json {
    let zip = zip
        .map(|ending| json!({ "basename": format!("{name}.{ending}"), "bytes": 1, "hashes": {} }));
    json!({
        "column_names": columns.iter().map(|c| c.0).collect::<Vec<_>>(),
        "column_encodings": columns.iter().map(|c| c.1).collect::<Vec<_>>(),
        "column_sizes": columns.iter().map(|c| c.2).collect::<Vec<_>>(),
        "compression": zip.as_ref().map(|_| "zstd:7"), "format": "mds", "hashes": [],
        "raw_data": { "basename": name, "bytes": bytes, "hashes": {} }, "samples": samples,
        "size_limit": 67_108_864, "version": 2, "zip_data": zip,
    })
}

fn index(shards: &[Json]) -> Vec<u8> {
    json!({ "version": 2, "shards": shards }).to_string().into_bytes()
}

const PLAIN: Columns<'_> = &[("label", "int", Some(8)), ("text", "str", None)];

fn plain(numbers: std::ops::Range<i64>) -> Vec<u8> {
    let sample = |n: i64| vec![n.to_le_bytes().to_vec(), format!("text {n}").into_bytes()];
    shard(PLAIN, &numbers.map(sample).collect::<Vec<_>>())
}

fn keys(seen: &Seen) -> Vec<String> {
    let keys = seen.records.column_by_name("key").unwrap();
    keys.as_string::<i32>().iter().map(|key| key.unwrap().to_owned()).collect()
}

fn labels(seen: &Seen) -> Vec<i64> {
    seen.records.column_by_name("label").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn plain_and_packed_shards_hold_the_same_samples() {
    let (one, two) = (plain(0..100), plain(100..103));
    let of = |zip: Option<&str>| {
        index(&[
            entry(PLAIN, "shard.00000.mds", one.len(), 100, zip),
            entry(PLAIN, "shard.00001.mds", two.len(), 3, zip),
        ])
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let raw =
        folder(&[("index.json", &of(None)), ("shard.00000.mds", &one), ("shard.00001.mds", &two)]);
    let packed = folder(&[
        ("index.json", &of(Some("zstd"))),
        ("shard.00000.mds.zstd", &zstd(&one)),
        ("shard.00001.mds.zstd", &zstd(&two)),
    ]);
    let zipped = folder(&[
        ("index.json", &of(Some("gz"))),
        ("shard.00000.mds.gz", &gzip(&one)),
        // A plain shard beside the packed one is read.
        ("shard.00001.mds.gz", b"nothing"),
        ("shard.00001.mds", &two),
    ]);
    let seen = conforming(&mds(&raw, json!({})).unwrap());
    assert_eq!((labels(&seen), seen.refused.len()), ((0..103).collect(), 0));
    assert_eq!(keys(&seen)[99..101], ["shard.00000.mds/00000099", "shard.00001.mds/00000000"]);
    for other in [&packed, &zipped] {
        assert_eq!(conforming(&mds(other, json!({})).unwrap()), seen);
    }
    let source = mds(&raw, json!({})).unwrap();
    assert!(source.abilities().random_access);
    let source = mds(&packed, json!({})).unwrap();
    block_on(source.schema()).unwrap();
    assert!(!source.abilities().random_access);
}

#[test]
fn every_encoding_becomes_a_column() {
    let columns: Columns<'_> = &[
        ("any", "ndarray", None),
        ("count", "uint16", Some(2)),
        ("fixed", "ndarray:float32:2,2", Some(16)),
        ("free", "ndarray:int32", None),
        ("id", "str_int", None),
        ("json", "json", None),
        ("photo", "jpeg:90", None),
        ("pickle", "pkl", None),
        ("pixels", "pil", None),
        ("ratio", "float64", Some(8)),
        ("sound", "bytes", None),
        ("text", "str", None),
        ("weight", "str_float", None),
    ];
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut pixels: Vec<u8> = [2_u32, 1, 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    pixels.extend(b"RGB\x01\x02\x03\x04\x05\x06");
    let values = vec![
        [&[34, 1 << 2, 2][..], &floats(&[1.0, 2.0])].concat(),
        7_u16.to_le_bytes().to_vec(),
        floats(&[1.0, 2.0, 3.0, 4.0]),
        [&[2 << 2, 1, 3][..], &[9_u8, 0, 0, 0].repeat(3)].concat(),
        b"-12".to_vec(),
        br#"{"a":[1]}"#.to_vec(),
        b"\xff\xd8\xff".to_vec(),
        b"\x80\x04.".to_vec(),
        pixels,
        0.5_f64.to_le_bytes().to_vec(),
        b"RIFF".to_vec(),
        "h\u{e9}".as_bytes().to_vec(),
        b"1e-05".to_vec(),
    ];
    let bytes = shard(columns, &[values.clone(), values]);
    let index = index(&[entry(columns, "s.mds", bytes.len(), 2, None)]);
    let folder = folder(&[("index.json", &index), ("s.mds", &bytes)]);
    let seen = conforming(&mds(&folder, json!({ "media": { "sound": "audio" } })).unwrap());
    assert_eq!((seen.rows, &seen.refused), (2, &vec![]));
    let column = |name: &str| Arc::clone(seen.records.column_by_name(name).unwrap());
    let list = |name: &str| column(name).as_list::<i32>().clone();
    let numbers = |list: &ListArray| list.value(1);
    assert_eq!(numbers(&list("any")).as_primitive::<Float32Type>().values().to_vec(), [1.0, 2.0]);
    assert_eq!(numbers(&list("any_shape")).as_primitive::<Int64Type>().values().to_vec(), [2]);
    assert_eq!(column("count").as_primitive::<UInt16Type>().value(0), 7);
    let fixed = numbers(&list("fixed"));
    assert_eq!(fixed.as_primitive::<Float32Type>().values().to_vec(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(numbers(&list("free")).as_primitive::<Int32Type>().values().to_vec(), [9, 9, 9]);
    assert_eq!(numbers(&list("free_shape")).as_primitive::<Int64Type>().values().to_vec(), [1, 3]);
    assert_eq!(column("id_").as_primitive::<Int64Type>().value(0), -12);
    assert_eq!(column("json").as_string::<i32>().value(1), r#"{"a":[1]}"#);
    assert_eq!(column("photo_encoding").as_string::<i32>().value(0), "jpeg");
    assert_eq!(column("pickle").as_binary::<i32>().value(0), b"\x80\x04.");
    assert_eq!(
        media::bytes(media::of(&seen.records, "pixels").unwrap(), 1).unwrap(),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(column("pixels_width").as_primitive::<Int32Type>().value(1), 2);
    assert_eq!(column("ratio").as_primitive::<Float64Type>().value(1), 0.5);
    assert_eq!(column("text").as_string::<i32>().value(0), "h\u{e9}");
    assert_eq!(column("weight").as_primitive::<Float64Type>().value(1), 1e-5);
    let schema = seen.records.schema();
    let field = |name: &str| schema.field_with_name(name).unwrap().clone();
    assert_eq!(Modality::of(&field("sound")), Some(Modality::Audio));
    assert_eq!(media::State::of(&field("pixels")), Some(media::State::Decoded));
    assert_eq!(field("fixed").metadata().get("anabranch:shape").unwrap(), "2,2");
}

#[test]
fn an_index_that_lies_costs_what_it_lies_about() {
    let good = plain(0..10);
    let lies: [(&str, usize, usize, &str); 4] = [
        ("shard", good.len(), 11, "the shard has 10 samples, and should have 11"),
        ("shard", good.len() - 1, 10, "and should have"),
        ("shard", good.len() + 1, 10, "and should end at"),
        ("gone", good.len(), 10, "it is not there"),
    ];
    for (name, bytes, samples, says) in lies {
        let shards =
            [entry(PLAIN, name, bytes, samples, None), entry(PLAIN, "good", good.len(), 10, None)];
        let folder = folder(&[("index.json", &index(&shards)), ("shard", &good), ("good", &good)]);
        let seen = conforming(&mds(&folder, json!({})).unwrap());
        assert_eq!((seen.rows, seen.refused.len()), (10, 1), "{says}: {:?}", seen.refused);
        assert!(seen.refused[0].error.contains(says), "{:?}", seen.refused);
    }
}

#[test]
fn samples_that_make_no_sense_are_letters() {
    let whole = plain(0..10);
    let mut bad = whole.clone();
    // The end of sample 2 stands before its start, and so sample 3 begins in the table.
    bad[4 * 4..4 * 5].copy_from_slice(&9_u32.to_le_bytes());
    // Sample 5 says that its text is longer than the sample.
    let start = u32::from_le_bytes(bad[4 * 6..4 * 7].try_into().unwrap()) as usize;
    bad[start..start + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    // Sample 7's text is none.
    let end = u32::from_le_bytes(bad[4 * 9..4 * 10].try_into().unwrap()) as usize;
    bad[end - 1] = 0xff;
    let index = index(&[entry(PLAIN, "s.mds", bad.len(), 10, Some("zstd"))]);
    let raw = folder(&[("index.json", &index), ("s.mds", &bad)]);
    let packed = zstd::encode_all(bad.as_slice(), 3).unwrap();
    let packed = folder(&[("index.json", &index), ("s.mds.zstd", &packed)]);
    for folder in [raw, packed] {
        let seen = conforming(&mds(&folder, json!({})).unwrap());
        assert_eq!(labels(&seen), [0, 1, 4, 6, 8, 9]);
        let errors: Vec<_> = seen.refused.iter().map(|r| r.error.as_str()).collect();
        let says = [
            "says that it stands at",
            "says that it stands at",
            "end before its values do",
            "no text in UTF-8",
        ];
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors.iter().zip(says).all(|(error, says)| error.contains(says)), "{errors:?}");
    }
}

#[test]
fn a_shard_cut_anywhere_gives_its_whole_samples() {
    let whole = plain(0..10);
    let index = index(&[entry(PLAIN, "s.mds", whole.len(), 10, Some("zstd"))]);
    for cut in [0, 3, 20, 60, 200, whole.len() - 1] {
        let raw = folder(&[("index.json", &index), ("s.mds", &whole[..cut])]);
        let seen = conforming(&mds(&raw, json!({})).unwrap());
        assert!(seen.rows < 10 && !seen.refused.is_empty(), "cut at {cut}");
        assert!(
            seen.refused.iter().all(|r| r.error.contains("the shard ends")),
            "{:?}",
            seen.refused
        );
        let mut packed = zstd::encode_all(whole.as_slice(), 3).unwrap();
        packed.truncate(packed.len() * cut / whole.len());
        let packed = folder(&[("index.json", &index), ("s.mds.zstd", &packed)]);
        let seen = conforming(&mds(&packed, json!({})).unwrap());
        assert!(seen.rows < 10 && !seen.refused.is_empty(), "cut at {cut}");
    }
}

#[test]
fn any_flipped_byte_of_a_shard_costs_samples_and_not_the_run() {
    let whole = plain(0..4);
    let index = index(&[entry(PLAIN, "s.mds", whole.len(), 4, None)]);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x81;
        let folder = folder(&[("index.json", &index), ("s.mds", &bytes)]);
        conforming(&mds(&folder, json!({})).unwrap());
    }
}

#[test]
fn an_index_that_makes_no_sense_is_an_error() {
    let good = plain(0..2);
    let one = entry(PLAIN, "s.mds", good.len(), 2, None);
    let with = |pointer: &str, value: Json| {
        let mut entry = one.clone();
        *entry.pointer_mut(pointer).unwrap() = value;
        index(&[entry])
    };
    let other: Columns<'_> = &[("label", "int", Some(8))];
    for (bytes, says) in [
        (b"{".to_vec(), "no index of MDS shards"),
        (index(&[]), "names no shard"),
        (with("/format", json!("csv")), "of format `csv`"),
        (with("/version", json!(3)), "version 3"),
        (with("/column_sizes", json!([8])), "1 sizes of columns"),
        (with("/column_sizes", json!([7, null])), "should take 7 bytes, and takes 8"),
        (with("/column_encodings", json!(["int", "what:1"])), "`what:1` is not known"),
        (with("/raw_data/basename", json!("../s.mds")), "outside its folder"),
        (with("/samples", json!(-1)), "no index of MDS shards"),
        (index(&[one.clone(), one.clone()]), "names `s.mds` twice"),
        (
            index(&[one.clone(), entry(other, "t.mds", 1, 1, None)]),
            "the columns of `t.mds` are (label int)",
        ),
    ] {
        let folder = folder(&[("index.json", &bytes), ("s.mds", &good)]);
        let source = mds(&folder, json!({})).unwrap();
        let error = block_on(source.schema()).unwrap_err().to_string();
        assert!(error.contains("index.json") && error.contains(says), "{says}: {error}");
    }
    let brotli = index(&[entry(PLAIN, "s.mds", good.len(), 2, Some("br"))]);
    let packed = folder(&[("index.json", &brotli), ("s.mds.br", &good)]);
    let error = block_on(mds(&packed, json!({})).unwrap().splits()).unwrap_err().to_string();
    assert!(error.contains("packed by a method"), "{error}");
    let none = folder(&[("s.mds", &good)]);
    let error = block_on(mds(&none, json!({})).unwrap().splits()).unwrap_err().to_string();
    assert!(error.contains("no `index.json`"), "{error}");
    let media = mds(
        &folder(&[("index.json", &index(&[one])), ("s.mds", &good)]),
        json!({ "media": { "text": "image" } }),
    );
    assert!(block_on(media.unwrap().schema()).is_err());
}
