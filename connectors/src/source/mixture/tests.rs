use std::sync::Arc;

use anabranch_pipelines::source::{BatchSize, Source, SourceError, SplitRange};
use arrow::array::{Array, AsArray};
use futures::TryStreamExt;

use super::{Mixture, MixturePart, WhenDry};
use crate::conformance::source::Seen;
use crate::source::testing::{block_on, conforming, folder, gzip, path};
use crate::source::{CsvOptions, TextOptions};

fn lines(name: &str, count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{name} {n}\n").into_bytes()).collect()
}

fn text(folder: &tempfile::TempDir, name: &str) -> Arc<dyn Source> {
    let options = serde_json::json!({ "path": path(folder, name) });
    serde_json::from_value::<TextOptions>(options).unwrap().build().unwrap()
}

fn mixture(
    parts: &[(&str, f64, Arc<dyn Source>)],
    when_dry: WhenDry,
) -> Result<Arc<dyn Source>, SourceError> {
    let part = |(name, weight, source): &(&str, f64, Arc<dyn Source>)| MixturePart {
        name: (*name).to_owned(),
        weight: *weight,
        source: Arc::clone(source),
    };
    Mixture::build(parts.iter().map(part).collect(), 5, when_dry)
}

fn texts(seen: &Seen) -> Vec<String> {
    let texts = seen.records.column_by_name("text").unwrap();
    texts.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
}

fn of<'a>(texts: &'a [String], part: &str) -> Vec<&'a str> {
    texts.iter().map(String::as_str).filter(|text| text.starts_with(part)).collect()
}

#[test]
fn parts_are_interleaved_by_weight_and_read_once() {
    let folder = folder(&[
        ("a1.txt", &lines("a", 400)),
        ("a2.txt", &lines("a", 200)),
        ("b.txt.gz", &gzip(&lines("b", 900))),
        ("c.txt", b""),
    ]);
    let parts = [
        ("a", 3.0, text(&folder, "a*.txt")),
        ("b", 1.0, text(&folder, "b.txt.gz")),
        ("c", 0.5, text(&folder, "c.txt")),
    ];
    let seen = conforming(&mixture(&parts, WhenDry::GoOn).unwrap());
    let all = texts(&seen);
    assert_eq!(all.len(), 1500);
    let (a, b) = (of(&all[..400], "a").len(), of(&all[..400], "b").len());
    assert!((250..350).contains(&a) && a + b == 400, "{a} of a and {b} of b");
    // Records of a part keep their order.
    let expected: Vec<String> = (0..900).map(|n| format!("b {n}")).collect();
    assert_eq!(of(&all, "b"), expected);
    assert_eq!(of(&all, "a")[399..402], ["a 399", "a 0", "a 1"]);
    let keys = seen.records.column_by_name("key").unwrap().as_string::<i32>();
    assert!(keys.iter().all(|key| key.unwrap().starts_with(['a', 'b'])));
    assert!(keys.iter().any(|key| key == Some("a/a2.txt@000000000000")));
}

#[test]
fn a_dry_part_ends_the_mixture_or_begins_again_as_asked() {
    let folder = folder(&[("a.txt", &lines("a", 50)), ("b.txt", &lines("b", 300)), ("c.txt", b"")]);
    let of_two = [("a", 1.0, text(&folder, "a.txt")), ("b", 1.0, text(&folder, "b.txt"))];
    let stopped = texts(&conforming(&mixture(&of_two, WhenDry::Stop).unwrap()));
    assert_eq!(of(&stopped, "a").len(), 50);
    assert!(of(&stopped, "b").len() < 100, "{}", of(&stopped, "b").len());
    let [a, b] = of_two;
    let of_three = [a, b, ("c", 1.0, text(&folder, "c.txt"))];
    let seen = conforming(&mixture(&of_three, WhenDry::Repeat).unwrap());
    let repeated = texts(&seen);
    assert_eq!(of(&repeated, "b").len(), 300);
    assert!(of(&repeated, "a").len() > 150, "{}", of(&repeated, "a").len());
    assert_eq!(of(&repeated, "a")[49..51], ["a 49", "a 0"]);
    let keys = seen.records.column_by_name("key").unwrap().as_string::<i32>();
    assert!(keys.iter().any(|key| key == Some("a~2/a.txt@000000000000")));
}

#[test]
fn any_range_is_read_without_having_read_what_stands_before() {
    let folder = folder(&[("a.txt", &lines("a", 1500)), ("b.txt", &lines("b", 700))]);
    let new = || {
        let parts = [("a", 2.0, text(&folder, "a.txt")), ("b", 1.0, text(&folder, "b.txt"))];
        mixture(&parts, WhenDry::GoOn).unwrap()
    };
    let all = texts(&conforming(&new()));
    for at in [0_u64, 255, 256, 700, 1900, 2199] {
        let source = new();
        let read = block_on(async {
            let split = Arc::new(source.splits().await.unwrap().remove(0));
            let ranges = vec![SplitRange { split, range: at..at + 30 }];
            let size = BatchSize { records: 8, bytes: 1 << 20 };
            source.open(ranges, size).try_collect::<Vec<_>>().await.unwrap()
        });
        let texts = read.iter().flat_map(|batch| {
            let texts = batch.records.column_by_name("text").unwrap().as_string::<i32>().clone();
            (0..texts.len()).map(|row| texts.value(row).to_owned()).collect::<Vec<_>>()
        });
        let expected = &all[at as usize..all.len().min(at as usize + 30)];
        assert_eq!(texts.collect::<Vec<_>>(), expected, "from {at}");
    }
}

#[test]
fn what_a_part_refuses_keeps_its_place() {
    let bad: Vec<u8> = (0..60)
        .flat_map(|n| match n % 4 {
            3 => b"\xff\n".to_vec(),
            _ => format!("bad {n}\n").into_bytes(),
        })
        .collect();
    let folder = folder(&[("a.txt", &bad), ("b.txt", &lines("b", 60))]);
    let parts = [("bad", 1.0, text(&folder, "a.txt")), ("b", 1.0, text(&folder, "b.txt"))];
    let seen = conforming(&mixture(&parts, WhenDry::GoOn).unwrap());
    assert_eq!((seen.rows, seen.refused.len()), (105, 15));
    let refused = &seen.refused[0];
    assert!(refused.key.starts_with("bad/a.txt@") && refused.split == "mixture", "{refused:?}");
    assert!(refused.error.contains("(a.txt of `bad`)"), "{refused:?}");
    assert_eq!(refused.range.end, refused.range.start + 1);
}

#[test]
fn keys_of_one_pass_are_none_of_another_whatever_they_end_in() {
    let csv = |name: &str, path: String| {
        let options = serde_json::json!({ "path": path, "key": "name" });
        (name.to_owned(), serde_json::from_value::<CsvOptions>(options).unwrap().build().unwrap())
    };
    let folder = folder(&[
        ("a.csv", b"name\nx\nx~2\nx~2~2\n2/x\n"),
        ("b.csv", b"name\na\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n"),
    ]);
    let (a, b) = (csv("a", path(&folder, "a.csv")), csv("b", path(&folder, "b.csv")));
    let parts = [(a.0.as_str(), 1.0, a.1), (b.0.as_str(), 1.0, b.1)];
    // Conformance counts ids.
    let seen = conforming(&mixture(&parts, WhenDry::Repeat).unwrap());
    let keys = seen.records.column_by_name("key").unwrap().as_string::<i32>();
    assert!(keys.iter().any(|key| key == Some("a~2/x~2")), "{keys:?}");
    for name in ["a/b", "a~2", "b"] {
        let parts = [(name, 1.0, Arc::clone(&parts[0].2)), ("b", 1.0, Arc::clone(&parts[1].2))];
        let error = mixture(&parts, WhenDry::GoOn).err().unwrap().to_string();
        assert!(error.contains("all different"), "{error}");
    }
}

#[test]
fn parts_that_do_not_fit_are_told() {
    let folder = folder(&[("a.txt", b"1\n"), ("b.csv", b"text,n\nx,1\n"), ("c.csv", b"text\n7\n")]);
    let csv = |name: &str| {
        let options = serde_json::json!({ "path": path(&folder, name) });
        serde_json::from_value::<CsvOptions>(options).unwrap().build().unwrap()
    };
    let error = |one: Arc<dyn Source>, other| {
        let parts = [("one", 1.0, one), ("other", 1.0, other)];
        block_on(mixture(&parts, WhenDry::GoOn).unwrap().schema()).unwrap_err().to_string()
    };
    let more = error(csv("c.csv"), csv("b.csv"));
    assert!(
        more.contains("`other` has a column `text` of Utf8 and not Int64, unlike `one`"),
        "{more}"
    );
    let fewer = error(csv("b.csv"), csv("c.csv"));
    assert!(fewer.contains("`other` has"), "{fewer}");
    let kind = error(text(&folder, "a.txt"), csv("b.csv"));
    assert!(kind.contains("another kind of `text`"), "{kind}");
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
        let parts = [("a", weight, text(&folder, "a.txt")), ("b", 1.0, text(&folder, "a.txt"))];
        let error = mixture(&parts, WhenDry::GoOn).err().unwrap().to_string();
        assert!(error.contains("is no share"), "{weight}: {error}");
    }
    assert!(mixture(&[], WhenDry::GoOn).is_err());
}
