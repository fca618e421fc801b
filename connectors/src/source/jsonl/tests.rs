use std::sync::Arc;

use anabranch_pipelines::source::Source;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use proptest::prelude::*;

use super::JsonlOptions;
use crate::conformance::source::Seen;
use crate::source::testing::{block_on, conforming, data, folder, gzip, path, read_all};

fn jsonl(path: String, options: serde_json::Value) -> Arc<dyn Source> {
    let mut all = serde_json::json!({ "path": path });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value::<JsonlOptions>(all).unwrap().build().unwrap()
}

macro_rules! options {
    ($($all:tt)*) => { serde_json::json!({ $($all)* }) };
}

fn strings(seen: &Seen, column: &str) -> Vec<String> {
    let column = seen.records.column_by_name(column).unwrap();
    column.as_string::<i32>().iter().map(|v| v.unwrap_or("NULL").to_owned()).collect()
}

#[test]
fn objects_become_structs_and_arrays_lists() {
    let text = "\u{feff}{\"n\": 1, \"id\": \"x\", \"box\": {\"w\": 2, \"tags\": []}, \"e\": {}}\r\n\n  \n\
                {\"box\": {\"tags\": [\"a\", null], \"w\": 2.5}, \"n\": null, \"e\": null}";
    let folder = folder(&[("a.jsonl", text.as_bytes())]);
    let seen = conforming(&jsonl(path(&folder, "a.jsonl"), options! {}));
    assert!(seen.refused.is_empty(), "{:?}", seen.refused);
    let schema = seen.records.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    // In order of appearance; of `e` nothing is known.
    assert_eq!(names, ["key", "n", "id_", "box"]);
    let numbers = seen.records.column_by_name("n").unwrap().as_primitive::<Int64Type>();
    assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(1), None]);
    let boxes = seen.records.column_by_name("box").unwrap().as_struct();
    let widths = boxes.column_by_name("w").unwrap().as_primitive::<Float64Type>();
    assert_eq!(widths.values().to_vec(), [2.0, 2.5]);
    let tags = boxes.column_by_name("tags").unwrap().as_list::<i32>();
    assert_eq!((tags.value_length(0), tags.value_length(1)), (0, 2));
    assert_eq!(strings(&seen, "id_"), ["x", "NULL"]);
    // Blank lines belong to the record behind them: offsets leave no gap.
    assert_eq!(strings(&seen, "key"), ["a.jsonl@000000000000", "a.jsonl@000000000062"]);
}

#[test]
fn bad_lines_are_refused_with_their_number_and_bytes() {
    let lines: [&[u8]; 10] = [
        b"{\"a\": 1, \"b\": {\"c\": true}}",
        b"{\"a\": 1.5}",
        b"{\"a\": 2",
        b"[1, 2]",
        b"{\"b\": {\"d\": 1}}",
        b"{\"a\": \"\xff\"}",
        b"{\"a\": 3} {\"a\": 4}",
        b"{\"a\": 1e999}",
        b"{\"b\": {\"c\": \"yes\"}}",
        b"{\"a\": 9223372036854775807}",
    ];
    let folder = folder(&[("a.jsonl", &lines.join(&b"\n"[..]))]);
    let types = options! { "types": { "a": "int64", "b.c": "bool" }, "key": "a" };
    // The shape is declared: of the first lines it would be another one.
    let of = |types| jsonl(path(&folder, "a.jsonl"), types);
    assert!(
        block_on(of(options! {}).schema()).unwrap_err().to_string().contains("`b.c` holds values")
    );
    let mut declared = types.clone();
    declared["types"]["b.d"] = "ignore".into();
    let seen = conforming(&of(declared));
    assert_eq!(strings(&seen, "key").len(), 3);
    assert_eq!(strings(&seen, "key")[2], "9223372036854775807");
    let errors: Vec<&str> = seen.refused.iter().map(|refused| refused.error.as_str()).collect();
    for (error, expected) in errors.iter().zip([
        "line 2: `a` is 1.5 and not a whole number; if it may be, say `types = { \"a\" = \"float64\" }`",
        "line 3: EOF while parsing an object",
        "line 4: it is a list and no object",
        "line 6: invalid unicode code point",
        "line 7: trailing characters",
        "line 8: number out of range",
        "line 9: `b.c` is \"yes\" and not a truth value; if it may be, say `types = { \"b.c\" = \"string\" }`",
    ]) {
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(errors.len(), 7);
    assert_eq!(seen.refused[0].bytes.as_deref(), Some(lines[1]));
    assert_eq!(seen.refused[0].range, 27..38);
}

#[test]
fn what_the_first_lines_do_not_have_is_refused_or_left_out() {
    let mut text = "{\"a\": 1}\n".repeat(1500);
    text.push_str("{\"a\": 2, \"later\": [1]}\n");
    let folder = folder(&[("a.jsonl", text.as_bytes())]);
    let of = |options| jsonl(path(&folder, "a.jsonl"), options);
    let read = |source: &Arc<dyn Source>| {
        let batches = read_all(source);
        let rows: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
        (rows, batches.into_iter().flat_map(|batch| batch.refused).collect::<Vec<_>>())
    };
    let (rows, refused) = read(&of(options! {}));
    assert_eq!((rows, refused.len()), (1500, 1));
    assert!(refused[0].error.starts_with("line 1501: `later` is in none of the first lines"));
    assert_eq!(read(&of(options! { "unknown": "ignore" })).0, 1501);
}

#[test]
fn mixed_values_are_text_or_nothing_when_declared() {
    let text = "{\"x\": 7, \"y\": [1]}\n{\"x\": \"seven\", \"y\": {}}\n{\"x\": true, \"y\": 0}\n{\"x\": [7]}\n";
    let folder = folder(&[("a.ndjson", text.as_bytes())]);
    let of = |options| jsonl(path(&folder, "a.ndjson"), options);
    let error = block_on(of(options! {}).schema()).unwrap_err().to_string();
    assert!(error.contains("`x` holds values of several types"), "{error}");
    assert!(error.contains(r#"types = { "x" = "string" }"#), "{error}");
    let seen = conforming(&of(options! { "types": { "x": "string", "y": "ignore" } }));
    assert_eq!(strings(&seen, "x"), ["7", "seven", "true"]);
    assert_eq!(seen.records.num_columns(), 2);
    assert!(seen.refused[0].error.contains(r#"types = { "x" = "ignore" }"#), "{:?}", seen.refused);
}

#[test]
fn whole_numbers_beyond_64_bits_keep_their_digits() {
    let ids = ["12345678901234567890", "12345678901234567891", "-12345678901234567890123", "7"];
    let lines = ids.map(|id| format!("{{\"n\": {id}, \"t\": \"\\\"{id}\", \"f\": 1e30}}\n"));
    let folder = folder(&[
        ("a.jsonl", lines.concat().as_bytes()),
        ("b.jsonl", format!("{}{}", "{\"n\": 1}\n".repeat(1200), lines.concat()).as_bytes()),
    ]);
    let seen = conforming(&jsonl(path(&folder, "a.jsonl"), options! {}));
    assert_eq!(strings(&seen, "n"), ids);
    assert_eq!(strings(&seen, "t"), ids.map(|id| format!("\"{id}")));
    let float = seen.records.column_by_name("f").unwrap();
    assert_eq!(float.as_primitive::<Float64Type>().value(0), 1e30);
    // Where the first lines are short, a later one is refused for what it is.
    let batches = read_all(&jsonl(path(&folder, "b.jsonl"), options! { "unknown": "ignore" }));
    let refused: Vec<_> = batches.into_iter().flat_map(|batch| batch.refused).collect();
    let say =
        "and not a whole number of 64 bits; if it may be, say `types = { \"n\" = \"string\" }`";
    for (refused, is) in refused.iter().zip([ids[0], ids[1], "beyond 64 bits"]) {
        assert!(refused.error.contains(&format!("`n` is {is} {say}")), "{}", refused.error);
    }
    assert_eq!(refused.len(), 3);
}

#[test]
fn a_long_line_costs_itself() {
    let text = format!("{{\"a\": 1}}\n{{\"a\": \"{}\"}}\n{{\"a\": 2}}\n", "x".repeat(300_000));
    let folder = folder(&[("a.jsonl", text.as_bytes())]);
    let seen = conforming(&jsonl(path(&folder, "a.jsonl"), options! { "max_line": "64KiB" }));
    assert_eq!((seen.rows, seen.refused.len()), (2, 1));
    assert!(seen.refused[0].error.contains("raise `max_line`"), "{:?}", seen.refused);
    assert_eq!(seen.refused[0].bytes, None);
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let deep = format!("{{\"a\": 1}}\n{{\"a\": {}1{}}}\n", "[".repeat(5000), "]".repeat(5000));
    let folder = folder(&[("a.jsonl", deep.as_bytes())]);
    let seen = conforming(&jsonl(path(&folder, "a.jsonl"), options! {}));
    assert_eq!((seen.rows, seen.refused.len()), (1, 1));
}

#[test]
fn gzip_reads_the_same_and_its_damage_costs_the_remainder() {
    let text: String = (0..2000).map(|n| format!("{{\"n\": {n}, \"m\": {}}}\n", n * n)).collect();
    let packed = gzip(text.as_bytes());
    let cut = &packed[..packed.len() / 2];
    let folder =
        folder(&[("a.jsonl", text.as_bytes()), ("b.jsonl.gz", &packed), ("c.jsonl.gz", cut)]);
    let of = |name: &str| conforming(&jsonl(path(&folder, name), options! { "key": "n" }));
    let (plain, whole, half) = (of("a.jsonl"), of("b.jsonl.gz"), of("c.jsonl.gz"));
    assert_eq!((whole.rows, whole.refused.len()), (2000, 0));
    assert_eq!(whole.records, plain.records);
    assert!((200..1800).contains(&half.rows), "{}", half.rows);
    assert_eq!(half.refused.len(), 1);
    assert_eq!(half.records, whole.records.slice(0, half.rows));
}

#[test]
fn the_schema_says_what_to_do() {
    let folder = folder(&[
        ("a.jsonl", b"{\"a\": {\"b\": 1}}\n"),
        ("array.jsonl", b"[\n{\n\"a\": 1\n}\n]\n"),
    ]);
    let error = |name: &str, options| {
        block_on(jsonl(path(&folder, name), options).schema()).unwrap_err().to_string()
    };
    assert!(error("a.jsonl", options! { "key": "c" }).contains("no column `c`; the columns are a"));
    assert!(error("a.jsonl", options! { "key": "a" }).contains("holds lists or objects"));
    assert!(error("array.jsonl", options! {}).contains("jq -c"));
    let bad = error("a.jsonl", options! { "types": { "a.b.c": "bool" } });
    assert!(bad.contains("no object that holds `c`"), "{bad}");
    let declared = jsonl(path(&folder, "a.jsonl"), options! { "types": { "a.b": "float64" } });
    let DataType::Struct(fields) =
        block_on(declared.schema()).unwrap().field(1).data_type().clone()
    else {
        panic!("`a` is no struct")
    };
    assert_eq!(fields[0].data_type(), &DataType::Float64);
}

#[test]
fn real_sentences_are_read() {
    let Some(path) = data("nlvr/dev.json") else { return };
    let source = jsonl(path, options! { "key": "identifier" });
    let batches = read_all(&source);
    assert!(batches.iter().all(|batch| batch.refused.is_empty()), "{:?}", batches[0].refused);
    assert_eq!(batches.iter().map(|batch| batch.records.num_rows()).sum::<usize>(), 989);
    let records = &batches[0].records;
    assert_eq!(records.column(0).as_string::<i32>().value(0), "1572-0");
    // Three boxes of things that have a colour and a place.
    let boxes = records.column_by_name("structured_rep").unwrap().as_list::<i32>();
    assert!((0..records.num_rows()).all(|row| boxes.value_length(row) == 3));
    let things = boxes.values().as_list::<i32>().values().as_struct();
    assert_eq!(things.column_by_name("color").unwrap().data_type(), &DataType::Utf8);
    assert_eq!(things.column_by_name("y_loc").unwrap().as_primitive::<Int64Type>().value(0), 80);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_was_written_is_read(
        rows in proptest::collection::vec((any::<String>(), any::<i64>(), proptest::num::f64::NORMAL), 1..30)
    ) {
        let line = |(text, whole, number): &(String, i64, f64)| {
            let number = serde_json::Number::from_f64(*number).unwrap();
            serde_json::json!({ "text": text, "in": { "whole": [whole], "number": number } }).to_string() + "\n"
        };
        let text: String = rows.iter().map(line).collect();
        let folder = folder(&[("a.jsonl", text.as_bytes())]);
        let options = options! { "types": { "in.number": "float64" } };
        let seen = conforming(&jsonl(path(&folder, "a.jsonl"), options));
        prop_assert!(seen.refused.is_empty(), "{:?}", seen.refused);
        prop_assert_eq!(strings(&seen, "text"), rows.iter().map(|r| r.0.clone()).collect::<Vec<_>>());
        let inner = seen.records.column_by_name("in").unwrap().as_struct();
        let whole = std::sync::Arc::clone(inner.column_by_name("whole").unwrap().as_list::<i32>().values());
        prop_assert_eq!(whole.as_primitive::<Int64Type>().values().to_vec(), rows.iter().map(|r| r.1).collect::<Vec<_>>());
        let number = inner.column_by_name("number").unwrap().as_primitive::<Float64Type>();
        prop_assert_eq!(number.values().to_vec(), rows.iter().map(|r| r.2).collect::<Vec<_>>());
    }
}
