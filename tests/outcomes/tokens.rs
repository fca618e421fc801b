//! Tokens are those of Hugging Face's `tokenizers`, whoever made the vocabulary.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anabranch_operators::{TokenModel, TokeniseOptions};
use anabranch_pipelines::operator::{Allocation, Context};
use anabranch_tests::program::{data, python, root};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use std::sync::Arc;

use crate::{example, folder, table};

/// Runs `tests/clients/tokens.py` on these texts.
fn client(args: &[&str], texts: &[String]) -> String {
    let script = root().join("tests/clients/tokens.py");
    let mut command = Command::new(python());
    command.arg(script).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines: Vec<String> =
        texts.iter().map(|text| serde_json::to_string(text).unwrap()).collect();
    let mut stdin = child.stdin.take().unwrap();
    let written = std::thread::spawn(move || stdin.write_all(lines.join("\n").as_bytes()));
    let output = child.wait_with_output().unwrap();
    written.join().unwrap().unwrap();
    assert!(output.status.success(), "tokens.py {args:?} failed");
    String::from_utf8(output.stdout).unwrap()
}

fn theirs(file: &Path, texts: &[String]) -> Vec<Vec<i32>> {
    let ids = client(&["encode", file.to_str().unwrap()], texts);
    ids.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn lists(tokens: &ArrayRef) -> Vec<Vec<i32>> {
    let lists = tokens.as_list::<i32>().iter();
    lists.map(|list| list.unwrap().as_primitive::<Int32Type>().values().to_vec()).collect()
}

/// Paragraphs, and texts that paragraphs of one language are not.
fn texts() -> Vec<String> {
    let text = std::fs::read_to_string(data().join("text/tinyshakespeare.txt")).unwrap();
    let mut texts: Vec<String> = text.split("\n\n").take(1500).map(str::to_owned).collect();
    texts.extend(
        [
            "",
            " ",
            "  two  spaces \n\n and\tlines\r\n ",
            "I'LL we'll IT'S 1234567 3.14 ١٢٣",
            "Ünïcödé ﬁ e\u{301} 我喜欢喝茶 👩‍👩‍👧 \u{a0}x\u{2003}y",
            "the king and the Queen <mask> Queens <s> x </s><|endoftext|><|begin|>tail  <mask>",
            "\u{0}\u{1}\u{7f}",
            "!!!??? --- ... $$$ (a)(b) [c]",
        ]
        .map(str::to_owned),
    );
    texts
}

#[test]
fn client_tokenizers_of_others_give_the_same_tokens_here() {
    let (folder, texts) = (folder(), texts());
    for kind in ["gpt_2", "roberta", "llama_3", "llama_2", "composed"] {
        let file = folder.path().join(kind).with_extension("json");
        client(&["make", kind, file.to_str().unwrap()], &texts);
        let options = TokeniseOptions {
            file: Some(file.display().to_string()),
            ..TokeniseOptions::of("text", TokenModel::Bpe)
        };
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
        let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
        let tokenise = options.build().unwrap();
        let outcome = tokenise.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
        assert_eq!(outcome.refused, [], "{kind}");
        let ours = lists(outcome.records.column_by_name("tokens").unwrap());
        for ((ours, theirs), text) in ours.iter().zip(theirs(&file, &texts)).zip(&texts) {
            assert_eq!(*ours, theirs, "{kind}: {text:?}");
        }
    }
}

#[test]
fn client_vocabularies_of_ours_give_the_same_tokens_there() {
    let folder = folder();
    example(folder.path(), "tokens").succeed();
    let table = table(folder.path());
    let rows = table.rows("table");
    let texts = rows.column_by_name("text").unwrap().as_string::<i32>().clone();
    let texts: Vec<String> = texts.iter().flatten().map(str::to_owned).collect();
    let run = table.path.join("_anabranch/runs").read_dir().unwrap().next().unwrap().unwrap();
    let ours = lists(rows.column_by_name("tokens").unwrap());
    assert!(ours.len() > 5000, "{}", ours.len());
    for ((ours, theirs), text) in
        ours.iter().zip(theirs(&run.path().join("decisions/tokens"), &texts)).zip(&texts)
    {
        assert_eq!(*ours, theirs, "{text:?}");
    }
}
