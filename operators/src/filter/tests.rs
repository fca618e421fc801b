use super::*;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::{Field, Int32Type, Schema};
use cel::Value;
use proptest::prelude::*;

fn records(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

fn example() -> RecordBatch {
    let image = media::column(
        vec![Some(b"abc".as_slice()), None, None, Some(b"")],
        vec![Some("a.jpg"), Some("b.png"), None, None],
    );
    let image_field = media::field("image", Modality::Image, media::State::Encoded);
    let tags = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
        None,
        Some(vec![None]),
    ]);
    let rest = records(vec![
        ("label", Arc::new(Int32Array::from(vec![Some(1), Some(0), None, Some(9)])) as ArrayRef),
        ("score", Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), Some(2.0), None]))),
        ("text", Arc::new(StringArray::from(vec![Some("héllo"), Some("train"), None, Some("")]))),
        ("tags", Arc::new(tags)),
    ]);
    let mut fields: Vec<Arc<Field>> = rest.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(image_field));
    let mut columns = rest.columns().to_vec();
    columns.push(Arc::new(image));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The rows kept and the rows refused.
fn run(condition: &str, batch: &RecordBatch) -> (Vec<usize>, Vec<Refused>) {
    let rows = Int64Array::from_iter_values(0..batch.num_rows() as i64);
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("row", rows.data_type().clone(), false)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(rows));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let filter = FilterOptions { condition: condition.to_owned() }.build().unwrap();
    filter.output(&[batch.schema()]).unwrap();
    let outcome = filter.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
    let kept = outcome.records.column_by_name("row").unwrap();
    let kept = kept.as_any().downcast_ref::<Int64Array>().unwrap();
    (kept.values().iter().map(|row| *row as usize).collect(), outcome.refused)
}

#[track_caller]
fn keeps(condition: &str, rows: &[usize]) {
    let (kept, refused) = run(condition, &example());
    assert_eq!(kept, rows, "{condition}");
    assert_eq!(refused, [], "{condition}");
}

#[test]
fn conditions_keep_what_they_are_true_of() {
    keeps("true", &[0, 1, 2, 3]);
    keeps("1 > 2", &[]);
    keeps("label < 5", &[0, 1]);
    keeps("label == null", &[2]);
    keeps("label != null && null != label", &[0, 1, 3]);
    keeps("label != 1", &[1, 2, 3]);
    keeps("!(label == 1)", &[1, 2, 3]);
    keeps("label < 5 || text == null", &[0, 1, 2]);
    keeps("label in [0, 9, -3]", &[1, 3]);
    keeps("!(label in [0, 9])", &[0, 2]);
    keeps("score < 1", &[0]);
    keeps("score != score", &[1]);
    keeps("score in [2, 0.5]", &[0, 2]);
    keeps("label + 1 == 2 ? text.startsWith('h') : label - 9 == 0", &[0, 3]);
    keeps("-label < 0", &[0, 3]);
    keeps("size(text) == 5", &[0, 1]);
    keeps("text.size() == 0", &[3]);
    keeps("text.contains('éll') || text.endsWith('in')", &[0, 1]);
    keeps("text in ['train', 'test']", &[1]);
    keeps("size(tags) > 0", &[0, 3]);
    keeps("has(image.bytes)", &[0, 3]);
    keeps("image.path == 'b.png'", &[1]);
    keeps("image.path.endsWith('.jpg')", &[0]);
    keeps("size(image.bytes) > 0", &[0]);
    keeps("image == null", &[2]);
    keeps("(label < 5) == true", &[0, 1]);
}

#[test]
fn texts_are_matched_changed_and_converted() {
    keeps("text.matches('^h.l+o$')", &[0]);
    keeps("text.matches('ai|é')", &[0, 1]);
    keeps("text.upperAscii() == 'TRAIN'", &[1]);
    keeps("'HÉ'.lowerAscii() == 'hÉ' && label != null", &[0, 1, 3]);
    keeps("(' ' + text + ' ').trim() == text", &[0, 1, 3]);
    keeps("text + '!' == 'train!'", &[1]);
    keeps("string(label) == '9'", &[3]);
    keeps("string(label < 5) + string(0.5) == 'true0.5'", &[0, 1]);
    keeps("double(label) + 0.5 > 1.0", &[0, 3]);
    keeps("label == null && int(score) == 2", &[2]);
    keeps("int(string(label)) == label && double('1e3') == 1000.0 && label != null", &[0, 1, 3]);
}

#[test]
fn lists_are_looked_into() {
    keeps("tags[0] == 1", &[0]);
    keeps("tags[size(tags) - 1] == 2", &[0]);
    keeps("tags != null && tags[7] == null && tags[-1] == null", &[0, 1, 3]);
    keeps("2 in tags", &[0]);
    keeps("!(label in tags)", &[1, 3]);
    keeps("label in [tags[0], 9, label - 1]", &[0, 3]);
    keeps("label in [label]", &[0, 1, 3]);
    keeps("tags.all(t, t > 0)", &[0, 1]);
    keeps("tags.exists(t, t > label)", &[0]);
    keeps("tags.exists(t, t == null)", &[3]);
    keeps("tags.exists_one(t, t > 1)", &[0]);
    keeps("tags.map(t, t * 10)[1] == 20", &[0]);
    keeps("size(tags.filter(t, t != 1)) == 1", &[0, 3]);
    keeps("size(tags.map(t, t > 1, string(t))) == 1", &[0]);
    keeps("tags.all(t, tags.exists(u, u == t))", &[0, 1, 3]);
    keeps("tags.map(label, label + 1).all(label, label > 1)", &[0, 1]);
    // One element may decide whatever is wrong with the others.
    keeps("tags.exists(t, 1 / (t - 1) == 1)", &[0]);
    let (kept, refused) = run("tags.all(t, 1 / (t - 1) == 1)", &example());
    assert_eq!((kept, refused.len()), (vec![1], 1));
}

#[test]
fn a_loop_copies_no_column_for_each_element() {
    // Copied for each of them, the text would be 4 GiB, which no array of texts holds.
    let elements = ListArray::from_iter_primitive::<Int32Type, _, _>([Some((0..4096).map(Some))]);
    let batch = records(vec![
        ("tags", Arc::new(elements) as ArrayRef),
        ("text", Arc::new(StringArray::from(vec!["a".repeat(1 << 20)]))),
    ]);
    assert_eq!(run("tags.all(t, text != string(t) && text.startsWith('a'))", &batch).0, [0]);
    assert_eq!(run("size(tags.map(t, text)) == size(tags)", &batch).0, [0]);
    assert_eq!(run("tags.exists(t, t == 7 && size(text) == 1048576)", &batch).0, [0]);
}

#[test]
fn every_type_of_texts_bytes_and_integers_is_compared() {
    use arrow::array::{BinaryViewArray, DictionaryArray, StringViewArray, UInt64Array};
    let texts: DictionaryArray<Int32Type> =
        [Some("a"), None, Some("b")].into_iter().collect::<DictionaryArray<_>>();
    let keys = Int32Array::from(vec![Some(1), Some(0), None]);
    let numbers = DictionaryArray::new(keys, Arc::new(UInt64Array::from(vec![5, 6])));
    let large = ListArray::from_iter_primitive::<arrow::datatypes::UInt64Type, _, _>([
        Some(vec![Some(1), Some(u64::MAX)]),
        Some(vec![Some(2)]),
        None,
    ]);
    let batch = records(vec![
        ("texts", Arc::new(texts) as ArrayRef),
        ("views", Arc::new(StringViewArray::from(vec![Some("x"), Some("y"), None]))),
        ("bytes", Arc::new(BinaryViewArray::from(vec![Some(b"abc".as_slice()), Some(b""), None]))),
        ("numbers", Arc::new(numbers)),
        ("unsigned", Arc::new(UInt64Array::from(vec![Some(7), Some(u64::MAX), None]))),
        ("large", Arc::new(large)),
    ]);
    let keeps = |condition: &str, rows: &[usize], lost: &[usize]| {
        let (kept, refused) = run(condition, &batch);
        assert_eq!(kept, rows, "{condition}");
        assert_eq!(refused.iter().map(|r| r.row).collect::<Vec<_>>(), lost, "{condition}");
        assert!(refused.iter().all(|r| r.error.contains("range of 64-bit")), "{refused:?}");
    };
    keeps("texts == 'a' || texts + '!' == 'b!'", &[0, 2], &[]);
    keeps("texts in ['a'] || texts == null", &[0, 1], &[]);
    keeps("views.startsWith('x') || views.matches('y')", &[0, 1], &[]);
    keeps("size(bytes) == 3 || bytes == null", &[0, 2], &[]);
    keeps("numbers == 6 || numbers in [5]", &[0, 1], &[]);
    keeps("unsigned == 7", &[0], &[1]);
    keeps("unsigned in [7, 8] || unsigned == null", &[0, 2], &[1]);
    keeps("texts == null || unsigned < 8", &[0, 1], &[]);
    keeps("large[0] == 1", &[0], &[]);
    keeps("large[1] == 1", &[], &[0]);
    keeps("1 in large", &[0], &[]);
    keeps("2 in large", &[1], &[0]);
    keeps("large.exists(n, n == 1)", &[0], &[]);
    keeps("size(large.filter(n, true)) == 1", &[1], &[0]);
}

#[test]
fn structs_in_lists_have_fields() {
    let inner = records(vec![("x", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef)]);
    let inner = arrow::array::StructArray::from(inner);
    let field = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1]);
    let boxes = ListArray::new(field, offsets, Arc::new(inner), None);
    let batch = records(vec![("boxes", Arc::new(boxes) as ArrayRef)]);
    assert_eq!(run("boxes.exists(b, b.x == 2 && has(b.x))", &batch).0, [0]);
    assert_eq!(run("boxes.map(b, b.x)[0] == 3", &batch).0, [1]);
}

#[test]
fn arithmetic_that_fails_refuses_the_record() {
    let (kept, refused) = run("10 / label > 1", &example());
    assert_eq!(kept, [0]);
    assert_eq!(refused, [Refused { row: 1, error: "`where` divides by zero".into() }]);
    let (kept, refused) = run("label * 9223372036854775807 > 0", &example());
    assert_eq!(kept, [0]);
    assert_eq!(refused.iter().map(|r| r.row).collect::<Vec<_>>(), [3]);
    let (kept, refused) = run("int(text) > 0 || label == 9", &example());
    assert_eq!(kept, [3]);
    let error = "`where` converts a text that is no number";
    let expected = [0, 1].map(|row| Refused { row, error: error.into() });
    assert_eq!(refused, expected);
    let (_, refused) = run("int(score) == 0 || int(1e300) > 0", &example());
    assert_eq!(refused.iter().map(|r| r.row).collect::<Vec<_>>(), [1, 2, 3]);
    // Decided without the division, so nothing failed.
    keeps("label == 0 || 10 / label > 1", &[0, 1]);
}

#[track_caller]
fn refused(condition: &str, expected: &[&str]) {
    let error = match (FilterOptions { condition: condition.to_owned() }).build() {
        Ok(filter) => filter.output(&[example().schema()]).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    for part in expected {
        assert!(error.contains(part), "{condition}: {error}");
    }
}

#[test]
fn what_cannot_be_compiled_is_refused_with_its_place() {
    refused("lable < 5", &["character 1", "`lable`", "did you mean `label`?"]);
    refused("true && image.pth == ''", &["character", "did you mean `path`?"]);
    refused("label < 'a'", &["`<` does not apply to an integer and a text"]);
    refused("label", &["an integer, not a truth value"]);
    refused("label + 0.5 > 1.0", &["`+` does not apply", "double(..)"]);
    refused("text.substring(1)", &["no `substring`", "startsWith"]);
    refused("text.matches('(')", &["no regular expression", "unclosed group"]);
    refused("text.matches(text)", &["is a constant"]);
    refused("tags.all(t, t == 'a')", &["`==` does not apply to an integer and a text"]);
    refused("tags.all(t, u > 1)", &["no column `u`"]);
    refused("tags.all(t, t)", &["a loop asks for a truth value"]);
    refused("text.all(t, t == 'a')", &["loops over lists, this is a text"]);
    refused("text in tags", &["a text is never an integer"]);
    refused("label in text", &["stands a list, this is a text"]);
    refused("int(tags) == 1", &["`int` does not apply to a list"]);
    refused("text['a'] == 'a'", &["a text has no element at a text"]);
    refused("label in ['a']", &["an integer is never a text"]);
    refused("image == 'x'", &["a struct and a text"]);
    refused("label < 5u", &["write 5"]);
    refused("text.path == ''", &["has no fields"]);
    refused("!label", &["`!` does not apply to an integer"]);
}

#[test]
fn what_cannot_be_parsed_is_explained_with_a_caret() {
    let told = |condition: &str| {
        let built = FilterOptions { condition: condition.to_owned() }.build();
        built.map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        told("label < "),
        "`where`, character 9: it ends where a value is expected\n    label < \n            ^"
    );
    assert_eq!(
        told("a == 1 &&\n  b = 2"),
        "`where`, line 2, character 5: write `==` to compare\n      b = 2\n        ^"
    );
    for (condition, expected) in [
        ("", "it is empty"),
        ("(a < 1", "character 7: a `(` is never closed"),
        ("a == 'é", "the text that begins here does not end"),
        ("a & b", "character 3: write `&&` for and"),
        ("a or b", "character 3: write `||` for or"),
        ("not a", "write `!` for not"),
        ("a <> 1", "write `!=` for unequal"),
        ("a == 1)", "character 7: `)` cannot stand here"),
        ("a == 99999999999999999999", "not a number that fits"),
        ("tags.all(1, true)", "begins with a name"),
        ("has(a)", "`has` asks for a field"),
        ("a $ b", "character 3: `$` cannot stand here"),
    ] {
        let told = told(condition);
        assert!(told.contains(expected), "{condition}: {told}");
    }
}

fn number() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("i".to_owned()),
        Just("j".to_owned()),
        (-3i64..4).prop_map(|n| if n < 0 { format!("({n})") } else { n.to_string() }),
        Just("9223372036854775807".to_owned()),
        Just("size(s)".to_owned()),
        Just("int(x)".to_owned()),
        Just("int(string(j))".to_owned()),
        Just("(-i)".to_owned()),
    ];
    leaf.prop_recursive(2, 8, 2, |inner| {
        let operation = prop_oneof![Just("+"), Just("-"), Just("*"), Just("/"), Just("%")];
        (inner.clone(), operation, inner).prop_map(|(a, o, b)| format!("({a} {o} {b})"))
    })
}

fn boolean() -> impl Strategy<Value = String> {
    let comparison =
        || prop_oneof![Just("=="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">=")];
    let leaf = prop_oneof![
        (number(), comparison(), number()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
        (Just("x"), comparison(), prop_oneof![Just("0.5"), Just("1"), Just("y"), Just("i")])
            .prop_map(|(a, o, b)| format!("{a} {o} {b}")),
        (Just("s"), comparison(), prop_oneof![Just("'a'"), Just("'é'"), Just("s")])
            .prop_map(|(a, o, b)| format!("{a} {o} {b}")),
        prop_oneof![Just("b"), Just("i == null"), Just("s != null"), Just("x == null")]
            .prop_map(str::to_owned),
        prop_oneof![Just("i in [0, 2, -1]"), Just("s in ['a', '']"), Just("x in [0.5, 1.5]")]
            .prop_map(str::to_owned),
        prop_oneof![Just("s.startsWith('a')"), Just("s.endsWith('é')"), Just("s.contains('')")]
            .prop_map(str::to_owned),
        prop_oneof![
            Just("s.matches('^a')"),
            Just("s + 'a' == 'aa'"),
            Just("string(i) + s == '1a'"),
            Just("double(i) * x > 1.0"),
            Just("string(b) == 'true'"),
        ]
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("(({a}) ? ({b}) : ({c}))")),
        ]
    })
}

/// A record as the row-by-row evaluation of CEL sees it.
#[derive(Debug, Clone)]
struct Row {
    i: Option<i32>,
    j: Option<i32>,
    x: Option<f64>,
    y: Option<f64>,
    s: Option<String>,
    b: Option<bool>,
}

fn row() -> impl Strategy<Value = Row> {
    let int = || prop::option::weighted(0.8, -2i32..3);
    let float =
        || prop::option::weighted(0.8, prop_oneof![Just(0.5), Just(1.0), Just(-0.0), Just(1.5)]);
    let text = prop::option::weighted(0.8, prop_oneof![Just(""), Just("a"), Just("aé"), Just("é")]);
    let text = text.prop_map(|text| text.map(str::to_owned));
    (int(), int(), float(), float(), text, prop::option::weighted(0.8, any::<bool>()))
        .prop_map(|(i, j, x, y, s, b)| Row { i, j, x, y, s, b })
}

fn columns(rows: &[Row]) -> RecordBatch {
    records(vec![
        ("i", Arc::new(rows.iter().map(|r| r.i).collect::<Int32Array>()) as ArrayRef),
        ("j", Arc::new(rows.iter().map(|r| r.j).collect::<Int32Array>())),
        ("x", Arc::new(rows.iter().map(|r| r.x).collect::<Float64Array>())),
        ("y", Arc::new(rows.iter().map(|r| r.y).collect::<Float64Array>())),
        ("s", Arc::new(rows.iter().map(|r| r.s.clone()).collect::<StringArray>())),
        ("b", Arc::new(rows.iter().map(|r| r.b).collect::<BooleanArray>())),
    ])
}

fn variables(row: &Row) -> cel::Context<'static, 'static> {
    let mut context = cel::Context::default();
    let int = |n: Option<i32>| n.map_or(Value::Null, |n| Value::Int(n.into()));
    let float = |n: Option<f64>| n.map_or(Value::Null, Value::Float);
    context.add_variable_from_value("i", int(row.i));
    context.add_variable_from_value("j", int(row.j));
    context.add_variable_from_value("x", float(row.x));
    context.add_variable_from_value("y", float(row.y));
    let text = row.s.clone().map_or(Value::Null, |s| Value::String(Arc::new(s)));
    context.add_variable_from_value("s", text);
    context.add_variable_from_value("b", row.b.map_or(Value::Null, Value::Bool));
    context
}

/// Conditions on a list `l` of integers.
fn over_a_list() -> impl Strategy<Value = String> {
    let of_element = prop_oneof![
        Just("t > i"),
        Just("t == 1"),
        Just("t != null"),
        Just("t in [0, 2]"),
        Just("10 / t > 3"),
        Just("l.exists(u, u > t)"),
        Just("i == 1 || t < 1"),
    ];
    let fold = prop_oneof![Just("all"), Just("exists"), Just("exists_one")];
    prop_oneof![
        (fold.clone(), of_element.clone()).prop_map(|(fold, c)| format!("l.{fold}(t, {c})")),
        of_element.clone().prop_map(|c| format!("size(l.filter(t, {c})) > 1")),
        (fold, of_element).prop_map(|(fold, c)| format!("l.map(k, k * 2).{fold}(t, {c})")),
        Just("l.map(t, t > 0, t + i)[0] == 2".to_owned()),
        Just("1 in l || (i != null && i in l)".to_owned()),
        Just("l[0] == i && size(l) > 1".to_owned()),
    ]
}

#[test]
fn deep_brackets_are_read_or_refused_and_never_overflow_a_stack() {
    let nested = |depth: usize| {
        let condition = format!("{}1 < 2{}", "(".repeat(depth), ")".repeat(depth));
        FilterOptions { condition }.build().map(|_| ()).map_err(|error| error.0)
    };
    assert_eq!(nested(60), Ok(()));
    assert!(nested(1000).is_err_and(|told| told.contains("brackets")), "{:?}", nested(1000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn kernels_agree_with_evaluation_row_by_row(
        condition in boolean(),
        rows in prop::collection::vec(row(), 1..12),
    ) {
        let (kept, refused) = run(&condition, &columns(&rows));
        let program = parse(&condition).unwrap();
        for (at, row) in rows.iter().enumerate() {
            let expected = program.execute(&variables(row));
            let is_refused = refused.iter().any(|refused| refused.row == at);
            prop_assert_eq!(
                kept.contains(&at), expected == Ok(Value::Bool(true)),
                "{} of {:?}: {:?}", condition, row, expected
            );
            // Only what fails is refused; a record that lacks what is asked for is dropped.
            prop_assert!(!is_refused || expected.is_err(), "{} of {:?}", condition, row);
        }
    }
    #[test]
    fn loops_agree_with_evaluation_row_by_row(
        condition in over_a_list(),
        rows in prop::collection::vec((
            prop::option::weighted(0.8, -2i32..3),
            prop::option::weighted(0.9, prop::collection::vec(
                prop::option::weighted(0.9, -1i32..4), 0..5,
            )),
        ), 1..12),
    ) {
        let lists = rows.iter().map(|(_, list)| list.clone());
        let batch = records(vec![
            ("i", Arc::new(rows.iter().map(|(i, _)| *i).collect::<Int32Array>()) as ArrayRef),
            ("l", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ]);
        let (kept, refused) = run(&condition, &batch);
        let program = parse(&condition).unwrap();
        let int = |n: Option<i32>| n.map_or(Value::Null, |n| Value::Int(n.into()));
        for (at, (i, list)) in rows.iter().enumerate() {
            let mut context = cel::Context::default();
            context.add_variable_from_value("i", int(*i));
            let list = list.as_ref().map(|list| list.iter().map(|n| int(*n)).collect::<Vec<_>>());
            let list = list.map_or(Value::Null, |list| Value::List(Arc::new(list)));
            context.add_variable_from_value("l", list);
            // The interpreter stops at the first element that fails; here a later one may decide.
            if let Ok(expected) = program.execute(&context) {
                prop_assert_eq!(
                    kept.contains(&at), expected == Value::Bool(true),
                    "{} of {:?}", condition, rows.get(at)
                );
                prop_assert!(refused.iter().all(|refused| refused.row != at), "{}", condition);
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_speak_of_its_grammar(condition in "[a-c0-9 .,()\\[\\]'\"<=&|!?:+*/é$\n-]{0,24}") {
        if let Err(error) = (FilterOptions { condition }).build() {
            let error = error.to_string();
            prop_assert!(error.starts_with("`where`"), "{}", error);
            prop_assert!(!error.contains("Syntax") && !error.contains("expecting"), "{}", error);
        }
    }
}
