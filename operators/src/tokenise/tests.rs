use super::*;
use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::LazyLock;

fn texts(texts: &[Option<&str>]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("text", texts, true)]).unwrap()
}

fn tokens_of(operator: &Arc<dyn Operator>, all: &[&str]) -> Vec<Vec<i32>> {
    let batch = texts(&all.iter().copied().map(Some).collect::<Vec<_>>());
    let promised = operator.output(&[batch.schema()]).unwrap();
    let outcome = operator.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!((outcome.records.schema(), &outcome.refused), (promised, &vec![]));
    let lists = outcome.records.column_by_name("tokens").unwrap().as_list::<i32>().clone();
    lists.iter().map(|l| l.unwrap().as_primitive::<Int32Type>().values().to_vec()).collect()
}

/// The operator that learned from these texts, and the file that it learned.
fn trained(
    model: TokenModel,
    training: Training,
    from: &[Option<&str>],
) -> (Arc<dyn Operator>, Json) {
    let options = TokeniseOptions { train: Some(training), ..TokeniseOptions::of("text", model) };
    let operator = options.build().unwrap();
    let journaled = operator.journaled().unwrap();
    let decision = journaled.decide(&[texts(from)]).unwrap();
    (journaled.decided(&decision).unwrap(), serde_json::from_slice(&decision).unwrap())
}

/// A tokenizer that has this in place of GPT-2's shape over the letters a to d and space.
fn made(changes: Json) -> Result<Tokenizer, String> {
    let mut file = json!({
        "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null,
        "model": {
            "type": "BPE", "unk_token": "?",
            "vocab": { "?": 0, "a": 1, "b": 2, "c": 3, "d": 4, " ": 5, "ab": 6, "abc": 7, "▁": 8 },
            "merges": ["a b", ["ab", "c"]],
        },
    });
    let Json::Object(changes) = changes else { panic!() };
    for (field, value) in changes {
        match field.strip_prefix("model.") {
            Some(field) => file["model"][field] = value,
            None => file[field] = value,
        }
    }
    json::read(&serde_json::to_vec(&file).unwrap())
}

fn encoded(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    tokenizer.encode(text, true, &mut Known::default(), &mut tokens).unwrap();
    tokens
}

#[track_caller]
fn gives(changes: Json, text: &str, expected: &[u32]) {
    assert_eq!(encoded(&made(changes).unwrap(), text), expected, "{text:?}");
}

#[test]
fn parts_of_a_file_do_what_their_names_say() {
    gives(json!({}), "abcd é", &[7, 4, 5, 0]);
    gives(json!({ "normalizer": { "type": "Lowercase" } }), "ABC", &[7]);
    let metaspace = json!({ "type": "Sequence", "normalizers": [
        { "type": "Prepend", "prepend": "▁" },
        { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
    ] });
    gives(json!({ "normalizer": metaspace }), "ab a", &[8, 6, 8, 1]);
    let split =
        json!({ "type": "Split", "pattern": { "Regex": "b" }, "behavior": "MergedWithNext" });
    gives(json!({ "pre_tokenizer": split }), "abc", &[1, 2, 3]);
    gives(json!({ "pre_tokenizer": { "type": "WhitespaceSplit" } }), " ab  c ", &[6, 3]);
    let template = json!({
        "type": "TemplateProcessing",
        "single": [
            { "SpecialToken": { "id": "[A]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
            { "SpecialToken": { "id": "[B]", "type_id": 0 } },
        ],
        "special_tokens": { "[A]": { "ids": [11] }, "[B]": { "ids": [12, 13] } },
    });
    gives(json!({ "post_processor": template }), "c", &[11, 3, 12, 13]);
    let roberta = json!({ "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 9] });
    gives(json!({ "post_processor": roberta }), "c", &[9, 3, 2]);
}

#[test]
fn added_tokens_come_before_everything_else() {
    let token = |id: u32, content: &str, more: Json| {
        let mut token =
            json!({ "id": id, "content": content, "special": true, "normalized": false });
        token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        token
    };
    let added = json!([
        token(20, "<x>", json!({})),
        token(21, "<x><y>", json!({})),
        token(22, "<m>", json!({ "lstrip": true, "rstrip": true })),
        token(23, "CD", json!({ "normalized": true })),
    ]);
    let lower = json!({ "type": "Lowercase" });
    gives(json!({ "added_tokens": added }), "a<x>b <x><y><m>  a", &[1, 20, 2, 5, 21, 22, 1]);
    gives(
        json!({ "added_tokens": added, "normalizer": lower }),
        "ABCdCD b <m> c",
        &[6, 23, 23, 5, 2, 22, 3],
    );
}

#[test]
fn other_kinds_of_files_are_refused_by_name() {
    let refused = |bytes: &[u8]| json::read(bytes).unwrap_err();
    assert!(refused(b"\x89PNG").contains("it is no JSON"));
    assert!(refused(br#"{"add_prefix_space": false}"#).contains("it has no `model`"));
    assert!(refused(br#"{"a": 1, "b": 2}"#).contains("no `tokenizer.json`"));
    for (changes, expected) in [
        (json!({ "model.type": "WordPiece" }), "type `WordPiece`; `tokenise` reads"),
        (json!({ "model.type": "Unigram" }), "type `Unigram`"),
        (json!({ "model.merges": null }), "no `merges`"),
        (json!({ "model.merges": ["a d"] }), "the token `ad` is not in its `vocab`"),
        (json!({ "model.merges": ["abc"] }), "is no pair"),
        (json!({ "model.vocab": { "a": -1 } }), "the id of token `a` is -1"),
        (json!({ "model.vocab": { "a": 4294967295u32 } }), "the id of token `a` is 4294967295"),
        (json!({ "model.unk_token": "<none>" }), "`<none>` is not in its `vocab`"),
        (json!({ "model.dropout": 0.1 }), "`dropout`"),
        (json!({ "model.end_of_word_suffix": "</w>" }), "`end_of_word_suffix`"),
        (json!({ "model.byte_fallback": true }), "`<0x00>` is not in its `vocab`"),
        (json!({ "truncation": { "max_length": 512 } }), "`truncation`"),
        (json!({ "normalizer": { "type": "BertNormalizer" } }), "normalizer `BertNormalizer`"),
        (json!({ "pre_tokenizer": { "type": "Metaspace" } }), "pre_tokenizer `Metaspace`"),
        (json!({ "post_processor": { "type": "New" } }), "post_processor `New`"),
        (json!({ "added_tokens": [{ "id": 1 }] }), "no `content`"),
    ] {
        let error = made(changes.clone()).unwrap_err();
        assert!(error.contains(expected), "{changes}: {error}");
    }
}

#[test]
fn a_record_without_tokens_is_refused_alone() {
    let folder = std::env::temp_dir().join(format!("anabranch-tokenise-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("tokenizer.json");
    let vocab = json!({ "model": { "vocab": { "a": 0, "b": 1 }, "merges": [] } });
    std::fs::write(&path, vocab.to_string()).unwrap();
    let options = TokeniseOptions {
        file: Some(path.display().to_string()),
        ..TokeniseOptions::of("text", TokenModel::Bpe)
    };
    let operator = options.clone().build().unwrap();
    let told = operator.options();
    assert_eq!(told["sha256"].as_str().unwrap().len(), 64);
    let batch = texts(&[Some("ab"), Some("abé"), None]);
    let outcome = operator.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.refused.len(), 1);
    assert!(outcome.refused[0].error.contains("no token"), "{:?}", outcome.refused);
    let lists = outcome.records.column_by_name("tokens").unwrap();
    assert!(lists.is_valid(0) && lists.is_null(1));
    // Another file under the same name is another plan, and not the one that was asked for.
    std::fs::write(&path, b"{}").unwrap();
    let options: TokeniseOptions = serde_json::from_value(told).unwrap();
    let error = options.build().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("its SHA-256 is"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    for (options, expected) in [
        (r#"{"model": "byte", "train": {}}"#, "bytes need no vocabulary"),
        (r#"{"model": "char", "file": "x"}"#, "characters are learned"),
        (r#"{"model": "bpe", "file": "x", "train": {}}"#, "not both"),
        (r#"{"model": "bpe", "file": "/nowhere/tokenizer.json"}"#, "`/nowhere/tokenizer.json`: "),
        (r#"{"model": "bpe", "train": {"vocabulary": 100}}"#, "here it is 257 to"),
        (r#"{"model": "bpe", "train": {"special": ["a", "b", "a"]}}"#, "names `a` twice"),
        (r#"{"model": "bpe", "sha256": "00"}"#, "there is none"),
        (r#"{"model": "bpe", "file": "s3://bucket/tokenizer.json"}"#, "with `sha256 = "),
        (
            r#"{"model": "bpe", "train": {"special": ["<s>", "|"]}}"#,
            "names `|`: a character is a token",
        ),
        (r#"{"model": "char", "train": {"special": ["é"]}}"#, "names `é`: a character is a token"),
    ] {
        let options: TokeniseOptions = serde_json::from_str(options).unwrap();
        let error = options.build().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

const VERSES: [Option<&str>; 4] = [
    Some("the cat sat on the mat, the cat sat"),
    None,
    Some("the mat the cat sat on"),
    Some("that cat"),
];

#[test]
fn training_merges_the_most_frequent_pairs() {
    let training = Training { vocabulary: 263, special: vec!["<end>".to_owned()] };
    let (operator, file) = trained(TokenModel::Bpe, training, &VERSES);
    // " t" and "th" stand 5 times each, "at" 9 times; equal counts go by the tokens' order.
    let merges = &file["model"]["merges"];
    assert_eq!(merges[0], json!(["a", "t"]));
    assert_eq!(file["model"]["vocab"].as_object().unwrap().len(), 263);
    assert_eq!(file["model"]["vocab"]["<end>"], 0);
    assert_eq!(merges.as_array().unwrap().len(), 6);
    let [first, second] = &tokens_of(&operator, &["at", "<end>at"])[..] else { panic!() };
    assert_eq!((first.as_slice(), second.as_slice()), (&[257][..], &[0, 257][..]));
}

#[test]
fn training_on_nothing_leaves_bytes() {
    let (operator, file) = trained(TokenModel::Bpe, Training::default(), &[]);
    assert_eq!(file["model"]["merges"], json!([]));
    assert_eq!(tokens_of(&operator, &["ab"])[0].len(), 2);
}

#[test]
fn characters_by_frequency_and_unknown_ones() {
    let training = Training { vocabulary: 4, special: Vec::new() };
    let (operator, _) = trained(TokenModel::Char, training, &[Some("aabbbcé")]);
    assert_eq!(tokens_of(&operator, &["bacé"]), [[1, 2, 3, 0]]);
}

/// The text that tokens of a byte-level vocabulary stand for.
fn decoded(file: &Json, tokens: &[i32]) -> String {
    let vocabulary = file["model"]["vocab"].as_object().unwrap();
    let names: HashMap<i64, &String> =
        vocabulary.iter().map(|(name, id)| (id.as_i64().unwrap(), name)).collect();
    let bytes: HashMap<char, u8> = (0..=255).map(|byte| (pieces::printable(byte), byte)).collect();
    let characters = tokens.iter().flat_map(|id| names[&i64::from(*id)].chars());
    String::from_utf8(characters.map(|c| bytes[&c]).collect()).unwrap()
}

static OF_VERSES: LazyLock<(Arc<dyn Operator>, Json)> = LazyLock::new(|| {
    let training = Training { vocabulary: 300, special: vec![] };
    trained(TokenModel::Bpe, training, &VERSES)
});

proptest! {
    #[test]
    fn tokens_of_bytes_give_the_text_back(text in "([a-e ]{0,12}|\\PC{0,6}|[ \n\t]{0,4}){0,6}") {
        let (operator, file) = &*OF_VERSES;
        prop_assert_eq!(decoded(file, &tokens_of(operator, &[&text])[0]), text);
    }
}
