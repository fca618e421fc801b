use std::sync::Arc;

use anabranch_pipelines::source::Source;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use proptest::prelude::*;

use super::CsvOptions;
use crate::source::testing::{block_on, conforming, data, folder, gzip, path};

fn csv(path: String, options: &str) -> Arc<dyn Source> {
    let mut all = serde_json::json!({ "path": path });
    let more: serde_json::Value = serde_json::from_str(options).unwrap();
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<CsvOptions>(all).unwrap().build().unwrap()
}

fn strings(seen: &crate::conformance::source::Seen, column: &str) -> Vec<String> {
    let column = seen.records.column_by_name(column).unwrap();
    column.as_string::<i32>().iter().map(|v| v.unwrap_or("NULL").to_owned()).collect()
}

#[test]
fn types_are_inferred_and_text_keeps_quotes_and_line_ends() {
    let text =
        "\u{feff}name,count,share,id\r\n\"a, \"\"b\"\"\",1,0.5,007\r\n\r\n\"two\nlines\",,2,8\r\n";
    let folder = folder(&[("a.csv", text.as_bytes())]);
    let seen = conforming(&csv(path(&folder, "a.csv"), "{}"));
    assert!(seen.refused.is_empty(), "{:?}", seen.refused);
    assert_eq!(strings(&seen, "name"), ["a, \"b\"", "two\nlines"]);
    let count = seen.records.column_by_name("count").unwrap();
    assert_eq!(count.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
    let share = seen.records.column_by_name("share").unwrap();
    assert_eq!(share.as_primitive::<Float64Type>().value(0), 0.5);
    // The record's own id has that name.
    assert_eq!(strings(&seen, "id_"), ["007", "8"]);
    assert!(strings(&seen, "key")[0].starts_with("a.csv@"));
}

#[test]
fn bad_rows_are_refused_with_their_line() {
    let folder = folder(&[("a.csv", b"a,b\n1,x\n2\n3,y\nz,w\n\xff,q\n5,v\n")]);
    let seen =
        conforming(&csv(path(&folder, "a.csv"), r#"{ "types": { "a": "int64" }, "key": "a" }"#));
    assert_eq!(strings(&seen, "key"), ["1", "3", "5"]);
    let errors: Vec<&str> = seen.refused.iter().map(|refused| refused.error.as_str()).collect();
    assert_eq!(errors[0], "line 3: it has 1 values, but there are 2 columns");
    assert!(errors[1].starts_with("line 5: `a` is \"z\", which is no int64"), "{}", errors[1]);
    assert_eq!(errors[2], "line 6: it is not UTF-8");
    assert_eq!(seen.refused[1].bytes.as_deref(), Some(b"z,w\n".as_slice()));
    assert_eq!(seen.refused[1].range, 14..18);
}

#[test]
fn other_columns_and_empty_files_cost_only_themselves() {
    let folder = folder(&[
        ("a.tsv", b"x\ty\n1\t2\n"),
        ("b.tsv", b"y\tx\n4\t3\n"),
        ("c.tsv", b"x\tz\n5\t6\n"),
        ("d.tsv", b""),
    ]);
    let seen = conforming(&csv(path(&folder, "*.tsv"), "{}"));
    let x = seen.records.column_by_name("x").unwrap();
    assert_eq!(x.as_primitive::<Int64Type>().values().to_vec(), [1, 3]);
    assert_eq!(seen.refused.len(), 1);
    assert_eq!(seen.refused[0].error, "its columns are (x, z), those of the first file (x, y)");
}

#[test]
fn an_unclosed_quote_costs_the_remainder() {
    let text = format!("a,b\n1,2\n3,\"4\n{}", "5,6\n".repeat(100_000));
    let folder = folder(&[("a.csv", text.as_bytes())]);
    let seen = conforming(&csv(path(&folder, "a.csv"), r#"{ "max_row": "64KiB" }"#));
    assert_eq!((seen.rows, seen.refused.len()), (1, 1));
    assert!(seen.refused[0].error.contains("quote"), "{}", seen.refused[0].error);
}

#[test]
fn a_quote_that_is_open_at_the_end_makes_no_row() {
    let (open, closed) = ("line 3: a quote is never closed", None);
    let cases: [(&str, Option<&str>); 6] = [
        ("a,b\n1,2\n3,\"4\n5,6\n7,8\n", Some(open)),
        ("a,b\n1,2\n3,\"4", Some(open)),
        ("a,b\n1,2\n3,\"4\"\"", Some(open)),
        ("a,b\n1,2\n3,\"4\"", closed),
        ("a,b\n1,2\n3,\"4\"\"\"", closed),
        ("a,b\n1,2\n3,4\"", closed),
    ];
    for (text, error) in cases {
        let packed = gzip(text.as_bytes());
        let folder = folder(&[("a.csv", text.as_bytes()), ("a.csv.gz", &packed)]);
        for name in ["a.csv", "a.csv.gz"] {
            let seen = conforming(&csv(path(&folder, name), "{}"));
            assert_eq!(seen.refused.first().map(|refused| refused.error.as_str()), error, "{text}");
            assert_eq!(seen.rows, 2 - seen.refused.len());
            let kept = seen.refused.first().and_then(|refused| refused.bytes.as_deref());
            assert_eq!(kept, error.map(|_| &text.as_bytes()[8..]));
        }
        let unquoted = conforming(&csv(path(&folder, "a.csv"), r#"{ "quotes": false }"#));
        assert!(unquoted.refused.is_empty());
    }
    let folder = folder(&[("a.csv", b"a,b\n1,2\n"), ("b.csv", b"a,\"b\n1,2\n")]);
    let seen = conforming(&csv(path(&folder, "*.csv"), "{}"));
    assert_eq!(
        (seen.rows, seen.refused[0].error.as_str()),
        (1, "in its header a quote is never closed")
    );
}

#[test]
fn what_an_open_quote_swallows_is_kept_as_far_as_dead_letters_keep_bytes() {
    let text = format!("a,b\n1,2\n3,\"4\n{}", "5,6\n".repeat(100_000));
    let folder = folder(&[("a.csv", text.as_bytes())]);
    let seen = conforming(&csv(path(&folder, "a.csv"), "{}"));
    assert_eq!((seen.rows, seen.refused.len()), (1, 1));
    assert_eq!(seen.refused[0].bytes.as_deref(), Some(&text.as_bytes()[8..8 + (64 << 10)]));
}

#[test]
fn gzip_reads_the_same_and_its_damage_costs_the_remainder() {
    let rows: String = (0..5000).map(|n| format!("{n},{}\n", n * n)).collect();
    let packed = gzip(format!("n,square\n{rows}").as_bytes());
    let cut = &packed[..packed.len() / 2];
    let folder = folder(&[("a.csv.gz", &packed), ("b.csv.gz", cut)]);
    let whole = conforming(&csv(path(&folder, "a.csv.gz"), r#"{ "key": "n" }"#));
    assert_eq!((whole.rows, whole.refused.len()), (5000, 0));
    let half = conforming(&csv(path(&folder, "b.csv.gz"), r#"{ "key": "n" }"#));
    assert!((1000..4000).contains(&half.rows), "{}", half.rows);
    assert_eq!(half.refused.len(), 1);
    assert_eq!(half.records, whole.records.slice(0, half.rows));
}

#[test]
fn a_changed_or_vanished_file_is_refused() {
    let folder = folder(&[("a.csv", b"a\n1\n"), ("b.csv", b"a\n2\n"), ("c.csv", b"a\n3\n")]);
    let source = csv(path(&folder, "*.csv"), "{}");
    block_on(async {
        use anabranch_pipelines::source::{BatchSize, SplitRange};
        use futures::TryStreamExt;
        source.schema().await.unwrap();
        let splits = source.splits().await.unwrap();
        std::fs::write(folder.path().join("a.csv"), "a\n1\n10\n").unwrap();
        std::fs::remove_file(folder.path().join("c.csv")).unwrap();
        let whole = |split| SplitRange { split: Arc::new(split), range: 0..i64::MAX as u64 };
        let ranges = splits.into_iter().map(whole).collect();
        let size = BatchSize { records: 10, bytes: 1 << 20 };
        let batches: Vec<_> = source.open(ranges, size).try_collect().await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.records.num_rows()).sum::<usize>(), 1);
        let refused: Vec<_> = batches.into_iter().flat_map(|batch| batch.refused).collect();
        assert!(refused[0].error.contains("changed since it was listed"), "{refused:?}");
        assert!(refused[1].error.contains("not there any more"), "{refused:?}");
    });
}

#[test]
fn the_schema_says_what_to_do() {
    let folder = folder(&[("a.csv", b"a,b\n1,2\n"), ("twice.csv", b"a,a\n1,2\n")]);
    let error = |name: &str, options| {
        block_on(csv(path(&folder, name), options).schema()).unwrap_err().to_string()
    };
    assert!(error("a.csv", r#"{ "key": "c" }"#).contains("no column `c`; the columns are a, b"));
    assert!(error("twice.csv", "{}").contains("names `a` twice"));
    let named = csv(path(&folder, "twice.csv"), r#"{ "columns": ["p", "q"], "key": "q" }"#);
    assert_eq!(strings(&conforming(&named), "p"), ["a", "1"]);
}

#[test]
fn real_products_are_read() {
    let Some(path) = data("fashion/products.tsv") else { return };
    let products = csv(path, r#"{ "key": "id" }"#);
    let batches = crate::source::testing::read_all(&products);
    assert_eq!(batches.iter().map(|batch| batch.records.num_rows()).sum::<usize>(), 6000);
    let schema = block_on(products.schema()).unwrap();
    assert_eq!(schema.field_with_name("year").unwrap().data_type(), &DataType::Int64);
    assert!(batches.iter().all(|batch| batch.refused.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_was_written_is_read(rows in proptest::collection::vec(("[ -~\n]{0,12}", "[a-z\",\r\n]{0,9}"), 1..30)) {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(["one", "two"]).unwrap();
        for (one, two) in &rows {
            writer.write_record([one, two]).unwrap();
        }
        let folder = folder(&[("a.csv", &writer.into_inner().unwrap())]);
        let options = r#"{ "types": { "one": "string", "two": "string" } }"#;
        let seen = conforming(&csv(path(&folder, "a.csv"), options));
        prop_assert!(seen.refused.is_empty());
        prop_assert_eq!(strings(&seen, "one"), rows.iter().map(|r| r.0.clone()).collect::<Vec<_>>());
        prop_assert_eq!(strings(&seen, "two"), rows.iter().map(|r| r.1.clone()).collect::<Vec<_>>());
    }
}
