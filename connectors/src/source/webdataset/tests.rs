use std::sync::Arc;

use ::tar::{Builder, Header};
use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::{BatchSize, Source, SplitRange};
use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use super::WebDatasetOptions;
use crate::conformance::source::{Seen, references};
use crate::source::testing::{block_on, conforming, folder, gzip, path, read_all};

fn webdataset(path: String, options: &str) -> Arc<dyn Source> {
    let mut all = serde_json::json!({ "path": path });
    let more: serde_json::Value = serde_json::from_str(options).unwrap();
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<WebDatasetOptions>(all).unwrap().build().unwrap()
}

fn shard(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn ordinary() -> Vec<u8> {
    shard(&[
        ("000.jpg", b"picture 0"),
        ("000.txt", "one\u{e9}".as_bytes()),
        ("000.cls", b"7"),
        ("000.json", br#"{ "a": [1, 2] }"#),
        ("__notes__", b"passed"),
        ("001.cls", b" 8\n"),
        ("001.png", b"picture 1"),
        ("._001.png", b"passed"),
        ("folder/002.wav", b"sound"),
        ("folder/002.seg.png", b"mask"),
        ("folder/002.npy", b"numbers"),
        ("003.cls", b"9"),
    ])
}

fn keys(seen: &Seen) -> Vec<String> {
    let keys = seen.records.column_by_name("key").unwrap();
    keys.as_string::<i32>().iter().map(|key| key.unwrap().to_owned()).collect()
}

fn texts<'a>(seen: &'a Seen, name: &str) -> Vec<Option<&'a str>> {
    seen.records.column_by_name(name).unwrap().as_string::<i32>().iter().collect()
}

fn bodies<'a>(seen: &'a Seen, name: &str) -> Vec<Option<&'a [u8]>> {
    let column = media::of(&seen.records, name).unwrap();
    (0..seen.rows).map(|row| media::bytes(column, row)).collect()
}

fn labels(seen: &Seen) -> Vec<Option<i64>> {
    let labels = seen.records.column_by_name("cls").unwrap();
    labels.as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn members_of_one_name_are_a_record() {
    let folder = folder(&[("a.tar", &ordinary()), ("b.tar.gz", &gzip(&ordinary()))]);
    let seen = conforming(&webdataset(path(&folder, "a.tar"), "{}"));
    assert_eq!(keys(&seen), ["000", "001", "folder/002", "003"]);
    assert_eq!(seen.refused, []);
    let image = [Some(b"picture 0".as_slice()), Some(b"picture 1"), None, None];
    assert_eq!(bodies(&seen, "image"), image);
    assert_eq!(bodies(&seen, "seg"), [None, None, Some(b"mask".as_slice()), None]);
    assert_eq!(bodies(&seen, "audio"), [None, None, Some(b"sound".as_slice()), None]);
    assert_eq!(labels(&seen), [Some(7), Some(8), None, Some(9)]);
    assert_eq!(texts(&seen, "txt"), [Some("one\u{e9}"), None, None, None]);
    assert_eq!(texts(&seen, "json")[0], Some(r#"{ "a": [1, 2] }"#));
    assert_eq!(texts(&seen, "image_encoding"), [Some("jpeg"), Some("png"), None, None]);
    let numbers = seen.records.column_by_name("npy").unwrap().as_binary::<i32>();
    assert_eq!(numbers.value(2), b"numbers");
    let schema = seen.records.schema();
    assert_eq!(Modality::of(schema.field_with_name("seg").unwrap()), Some(Modality::Image));
    let packed = conforming(&webdataset(path(&folder, "b.tar.gz"), "{}"));
    assert_eq!(packed, seen);
}

#[test]
fn named_columns_take_their_endings_and_leave_others_out() {
    let folder = folder(&[("a.tar", &ordinary()), ("b.tar", &ordinary())]);
    let options = r#"{ "columns": { "photo": "jpg; .PNG", "label": "cls" },
                       "types": { "label": "text" } }"#;
    let seen = conforming(&webdataset(path(&folder, "{a,b}.tar"), options));
    assert_eq!(keys(&seen)[..3], ["a.tar/000", "a.tar/001", "a.tar/folder/002"]);
    assert_eq!(texts(&seen, "label")[..4], [Some("7"), Some(" 8\n"), None, Some("9")]);
    assert_eq!(bodies(&seen, "photo")[1], Some(b"picture 1".as_slice()));
    assert_eq!(seen.records.num_columns(), 7);
    let strict = r#"{ "columns": { "label": "cls" }, "unknown": "refuse" }"#;
    let seen = conforming(&webdataset(path(&folder, "a.tar"), strict));
    assert_eq!((keys(&seen), seen.refused.len()), (vec!["003".to_owned()], 3));
    assert!(seen.refused[0].error.contains("no column takes `000.jpg`"), "{:?}", seen.refused);
}

#[test]
fn references_stand_for_media_and_the_rest_is_read() {
    let folder =
        folder(&[("a.tar", &shard(&[("0.png", b"1"), ("0.cls", b"3"), ("1.png", &[2; 900])]))]);
    let of = |options| webdataset(path(&folder, "a.tar"), options);
    block_on(references(&of(r#"{ "references": true }"#), &of("{}"), "image")).unwrap();
    assert_eq!(labels(&conforming(&of(r#"{ "references": true }"#))), [Some(3), None]);
}

#[test]
fn what_is_wrong_with_a_sample_costs_the_sample() {
    let folder = folder(&[(
        "a.tar",
        &shard(&[
            ("good.cls", b"1"),
            ("good.txt", b"text"),
            ("good.json", b"{}"),
            ("twice.cls", b"1"),
            ("twice.txt", b"2"),
            ("twice.TXT", b"3"),
            ("number.cls", b"seven"),
            ("text.txt", b"\xff\xfe"),
            ("notjson.json", b"{"),
            ("large.txt", &[b'x'; 2000]),
            ("large.cls", b"5"),
            ("README", b"no ending"),
            ("other.xyz", b"unknown"),
            ("last.cls", b"2"),
        ]),
    )]);
    let options = r#"{ "max_member": "1KiB",
                       "columns": { "cls": "cls", "txt": "txt", "json": "json" },
                       "unknown": "refuse" }"#;
    let seen = conforming(&webdataset(path(&folder, "a.tar"), options));
    assert_eq!(keys(&seen), ["good", "last"]);
    let errors: Vec<_> = seen.refused.iter().map(|r| (r.key.as_str(), &r.error)).collect();
    let expected = [
        ("twice", "`twice.TXT` is its second member for the column `txt`"),
        ("number", "`number.cls`: `seven` is no whole number"),
        ("text", "`text.txt`: it is no text"),
        ("notjson", "`notjson.json`: it is no JSON"),
        ("large", "`large.txt`: it has 2 KB, and `max_member`"),
        ("README", "its name has no ending"),
        ("other", "no column takes `other.xyz`"),
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for ((key, error), (name, says)) in errors.into_iter().zip(expected) {
        assert_eq!(key, name);
        let says = says.split(" 2 KB").next().unwrap();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn samples_are_never_mixed() {
    let unordered = shard(&[
        ("0.png", b"a"),
        ("1.png", b"b"),
        ("0.cls", b"1"),
        ("1.cls", b"2"),
        ("2.png", b"c"),
        ("2.cls", b"3"),
        ("0.png", b"d"),
    ]);
    let folder = folder(&[("a.tar", &unordered), ("b.tar.gz", &gzip(&unordered))]);
    for name in ["a.tar", "b.tar.gz"] {
        let seen = conforming(&webdataset(path(&folder, name), "{}"));
        assert_eq!(keys(&seen), ["0", "1", "2"]);
        assert_eq!(labels(&seen), [None, None, Some(3)]);
        let again: Vec<_> = seen.refused.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(again, ["0", "1", "0"]);
        assert!(seen.refused.iter().all(|r| r.error.contains("its name stood before")));
    }
}

/// All that is refused of a shard from an offset on, by a process that read nothing before that.
fn refused_from(source: &Arc<dyn Source>, from: u64) -> Vec<(String, String)> {
    block_on(async {
        let split = Arc::new(source.splits().await.unwrap().remove(0));
        let range = SplitRange { split, range: from..i64::MAX as u64 };
        let size = BatchSize { records: 1000, bytes: 1 << 20 };
        let read: Vec<_> = source.open(vec![range], size).try_collect().await.unwrap();
        read.into_iter().flat_map(|batch| batch.refused).map(|r| (r.key, r.error)).collect()
    })
}

#[test]
fn a_name_stood_before_whichever_process_reads_it_again() {
    // A process whose part begins with a member that has no ending knows no less of what stands before that.
    let twice =
        shard(&[("0.cls", b"1"), ("README", b"no ending"), ("0.cls", b"2"), ("1.cls", b"3")]);
    let folder = folder(&[("a.tar", &twice), ("b.tar.gz", &gzip(&twice))]);
    for name in ["a.tar", "b.tar.gz"] {
        let of = || webdataset(path(&folder, name), r#"{ "columns": { "cls": "cls" } }"#);
        let whole = refused_from(&of(), 0);
        let keys: Vec<&str> = whole.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["README", "0"], "{name}");
        for from in [1024, 2048] {
            assert_eq!(refused_from(&of(), from), whole[from as usize / 1024 - 1..], "{name}");
        }
    }
}

#[test]
fn of_several_members_the_column_takes_the_one_that_it_prefers() {
    let folder = folder(&[(
        "a.tar",
        &shard(&[
            ("0.jpg", b"jpeg 0"),
            ("0.png", b"png 0"),
            ("1.png", b"png 1"),
            ("1.jpg", b"jpeg 1"),
            ("2.png", b"png 2"),
            // What is not taken need not be any good.
            ("3.png", &[0; 2000]),
            ("3.jpg", b"jpeg 3"),
            ("4.jpg", &[0; 2000]),
            ("4.png", b"png 4"),
        ]),
    )]);
    let options = r#"{ "columns": { "image": "jpg;png" }, "max_member": "1KiB" }"#;
    let seen = conforming(&webdataset(path(&folder, "a.tar"), options));
    let taken = [&b"jpeg 0"[..], b"jpeg 1", b"png 2", b"jpeg 3"].map(Some);
    assert_eq!(bodies(&seen, "image"), taken);
    let refused: Vec<&str> = seen.refused.iter().map(|r| r.error.as_str()).collect();
    assert!(refused.len() == 1 && refused[0].contains("`4.jpg`: it has"), "{refused:?}");
}

#[test]
fn names_of_three_hundred_characters_are_names() {
    let long = format!("{}/{}", "f".repeat(150), "k".repeat(150));
    let mut archive = Builder::new(Vec::new());
    for (ending, bytes) in [("png", b"picture".as_slice()), ("cls", b"4")] {
        // Once as GNU writes long names, once as POSIX does.
        let name = format!("{long}.{ending}");
        if ending == "cls" {
            archive.append_pax_extensions([("path", name.as_bytes())]).unwrap();
        }
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        let name = if ending == "cls" { "short".to_owned() } else { name };
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    let folder = folder(&[("a.tar", &archive.into_inner().unwrap())]);
    let seen = conforming(&webdataset(path(&folder, "a.tar"), "{}"));
    assert_eq!((keys(&seen), labels(&seen)), (vec![long], vec![Some(4)]));
}

#[test]
fn a_sample_that_may_be_cut_is_no_row() {
    let whole =
        shard(&[("0.png", &[1; 600]), ("0.cls", b"1"), ("1.png", &[2; 600]), ("1.cls", b"2")]);
    // In a body, between two samples, between two members, and in front of the end mark.
    for (cut, rows) in [(700, 0), (2560, 0), (2560 + 1536, 1), (3700, 1), (whole.len() - 1024, 1)] {
        let folder = folder(&[("a.tar", &whole[..cut]), ("b.tar.gz", &gzip(&whole[..cut]))]);
        let options = r#"{ "columns": { "image": "png", "cls": "cls" } }"#;
        let plain = conforming(&webdataset(path(&folder, "a.tar"), options));
        let packed = conforming(&webdataset(path(&folder, "b.tar.gz"), options));
        assert_eq!((plain.rows, plain.refused.len()), (rows, 1), "cut at {cut}");
        assert_eq!(plain.records, packed.records, "cut at {cut}");
        assert!(plain.refused[0].error.contains("the archive ends"), "{:?}", plain.refused);
    }
}

#[test]
fn a_second_image_of_a_sample_is_a_column_of_its_own() {
    let folder = folder(&[("a.tar", &shard(&[("0.jpg", b"a"), ("0.png", b"b"), ("1.jpg", b"c")]))]);
    let seen = conforming(&webdataset(path(&folder, "a.tar"), "{}"));
    assert_eq!(bodies(&seen, "jpg"), [Some(b"a".as_slice()), Some(b"c")]);
    assert_eq!(bodies(&seen, "png"), [Some(b"b".as_slice()), None]);
}

#[test]
fn wrong_options_and_shards_are_told() {
    let folder = folder(&[("a.tar", b""), ("b.tar", &shard(&[])), ("c.tar.gz", &gzip(b""))]);
    let error = |options: &str| {
        let mut all = serde_json::json!({ "path": path(&folder, "a.tar") });
        let more: serde_json::Value = serde_json::from_str(options).unwrap();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<WebDatasetOptions>(all).unwrap().build().err().unwrap().to_string()
    };
    assert!(error(r#"{ "columns": { "a": ";" } }"#).contains("names no ending"));
    let twice = error(r#"{ "columns": { "a": "jpg;png", "b": "PNG" } }"#);
    assert!(twice.contains("another column takes `png`"), "{twice}");
    assert!(error(r#"{ "columns": { "a": "x" }, "types": { "b": "text" } }"#).contains("types.b"));
    for (name, why) in [("a.tar", "it is empty"), ("b.tar", "without files")] {
        let error = block_on(webdataset(path(&folder, name), "{}").schema()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let packed = webdataset(path(&folder, "*"), r#"{ "references": true }"#);
    let error = block_on(packed.schema()).unwrap_err().to_string();
    assert!(error.contains("`c.tar.gz` is there"), "{error}");
    let types = r#"{ "types": { "nothing": "text" } }"#;
    std::fs::write(folder.path().join("d.tar"), ordinary()).unwrap();
    let error = block_on(webdataset(path(&folder, "d.tar"), types).schema()).unwrap_err();
    assert!(error.to_string().contains("the columns are image, txt, cls"), "{error}");
}

#[test]
fn many_samples_in_several_shards_are_all_read() {
    let shards: Vec<Vec<u8>> = (0..3)
        .map(|shard_number| {
            let names: Vec<(String, Vec<u8>)> = (0..500)
                .flat_map(|n| {
                    let key = format!("{:06}", shard_number * 500 + n);
                    [
                        (format!("{key}.png"), vec![n as u8; n]),
                        (format!("{key}.cls"), b"1".to_vec()),
                    ]
                })
                .collect();
            let members: Vec<(&str, &[u8])> =
                names.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            shard(&members)
        })
        .collect();
    let files: Vec<(String, &[u8])> =
        shards.iter().enumerate().map(|(n, s)| (format!("s-{n:03}.tar"), s.as_slice())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, s)| (n.as_str(), *s)).collect();
    let folder = folder(&files);
    let batches = read_all(&webdataset(path(&folder, "s-{000..002}.tar"), "{}"));
    let rows: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
    assert_eq!(rows, 1500);
    let nulls = batches.iter().map(|b| b.records.column_by_name("image").unwrap().null_count());
    assert_eq!(nulls.sum::<usize>(), 0);
}
