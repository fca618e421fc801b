//! Every example of the reference page and of the documentation runs as it stands there.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::{
    Architecture, FeedForward, Head, ImageTokens, Inputs,
};
use anabranch_models::engine::example;
use anabranch_tests::program::{data, root};
use anabranch_tests::table::Table;

use crate::{PROGRAM, folder};

/// Runs a job of the reference; `made` holds what the examples of sinks wrote.
fn run(name: &str, made: &Path, out: &Path) {
    let job = root().join("jobs/examples/reference").join(name).with_extension("toml");
    let text = std::fs::read_to_string(&job).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg(&job);
    for (key, path) in [("out", out), ("data", &data()), ("made", made)] {
        if text.contains(&format!("\n{key} = ")) {
            command.arg("--set").arg(format!("{key}={}", path.display()));
        }
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Packs the pictures of a folder as they are.
fn pack(folder: &Path, archive: &Path) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(archive).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for file in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        zip.start_file(name, stored).unwrap();
        zip.write_all(&std::fs::read(&file).unwrap()).unwrap();
    }
    zip.finish().unwrap();
}

/// A model of digits that has learned nothing.
fn train_nothing(folder: &Path) {
    let image = ImageTokens { height: 28, width: 28, channels: 1, patch: 14 };
    let architecture = Architecture {
        width: 16,
        heads: 2,
        layers: 1,
        inputs: Inputs::Image(image),
        head: Head::Classes(10),
        feed_forward: FeedForward::None,
    };
    example::random(&architecture).unwrap().save(folder).unwrap();
}

/// The jobs in `jobs/examples/reference` whose names begin so.
fn jobs(beginning: &str) -> Vec<String> {
    let folder = root().join("jobs/examples/reference");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let names = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

#[test]
fn reference_examples_of_all_kinds_run() {
    let folder = folder();
    let made = folder.path().join("made");
    for sink in jobs("sink-") {
        run(&sink, &made, &made.join(sink.trim_start_matches("sink-")));
    }
    pack(&data().join("photos"), &made.join("pictures.zip"));
    train_nothing(&made.join("digits"));
    for name in [jobs("source-"), jobs("operator-")].concat() {
        let out = folder.path().join(&name);
        run(&name, &made, &out);
        let table = Table::at(&out);
        assert!(table.rows("table").num_rows() > 0, "{name} wrote no rows");
        assert_eq!(table.dead_letters(), [], "{name}");
    }
}

#[test]
fn reference_jobs_in_documents_run() {
    let mut seen = 0;
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "jobs/COMPONENTS.md",
        "jobs/READING.md",
    ];
    for document in documents {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let job = block.split("```").next().unwrap();
            if !job.contains("[job]") {
                continue;
            }
            let folder = folder();
            std::os::unix::fs::symlink(data().join("photos"), folder.path().join("photos"))
                .unwrap();
            std::fs::write(folder.path().join("job.toml"), job).unwrap();
            let mut command = Command::new(PROGRAM);
            let output =
                command.args(["run", "job.toml"]).current_dir(folder.path()).output().unwrap();
            assert!(
                output.status.success(),
                "{document}: {job}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "no document shows a job");
}

/// What stands before a fragment of documentation: nodes of the names that fragments read.
const BEFORE: &str = r#"
[job]
name = "fragment"
credit = "1GiB"

[source.decode]
kind = "sample"
records = 1

[operator.labelled]
kind = "select"
keep = ["key", "image", "label"]
inputs = ["decode"]

[operator.encode]
kind = "encode"
column = "image"
codec = "jpeg"
inputs = ["labelled"]

[source.paragraphs]
kind = "text"
path = "texts/*.txt"
"#;

/// Nodes that nothing reads are no job.
const BEHIND: &str = r#"
[sink.rest]
kind = "table"
path = "rest"
inputs = ["decode"]

[sink.encoded]
kind = "table"
path = "encoded"
inputs = ["encode"]

[sink.texts]
kind = "table"
path = "texts-table"
inputs = ["paragraphs"]
"#;

/// A model of the name that fragments ask.
fn digits() -> Artifact {
    let image = ImageTokens { height: 28, width: 28, channels: 1, patch: 7 };
    example::random(&Architecture {
        width: 16,
        heads: 2,
        layers: 1,
        inputs: Inputs::Image(image),
        head: Head::Classes(10),
        feed_forward: FeedForward::None,
    })
    .unwrap()
}

/// TOML of the documentation of modules, with the file that it stands in.
fn fragments(folder: &Path, found: &mut Vec<(String, String)>) {
    for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            fragments(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter_map(|line| {
                let line = line.trim_start();
                line.strip_prefix("//!").or(line.strip_prefix("///")).map(str::trim)
            });
            let documentation = lines.collect::<Vec<_>>().join("\n");
            for block in documentation.split("```toml\n").skip(1) {
                let text = block.split("```").next().unwrap().to_owned();
                found.push((path.display().to_string(), text));
            }
        }
    }
}

#[test]
fn reference_fragments_in_documentation_are_parts_of_jobs() {
    let mut found = Vec::new();
    for part in ["pipelines/src", "operators/src", "connectors/src", "jobs/src"] {
        fragments(&root().join(part), &mut found);
    }
    // Others are Cargo's.
    found.retain(|(_, text)| text.contains("kind = "));
    assert!(found.len() >= 9, "{found:?}");
    for (file, fragment) in found {
        let folder = folder();
        std::os::unix::fs::symlink(data().join("text"), folder.path().join("texts")).unwrap();
        digits().save(&folder.path().join("models/digits")).unwrap();
        let fragment = fragment.replace("s3://bucket/", "bucket/");
        let mut job = format!("{BEFORE}\n{fragment}\n{BEHIND}");
        let operators = fragment.lines().filter_map(|line| line.strip_prefix("[operator."));
        for name in operators.filter_map(|line| line.strip_suffix(']')) {
            job += &format!(
                "\n[sink.of-{name}]\nkind = \"table\"\npath = \"of-{name}\"\ninputs = [\"{name}\"]\n"
            );
        }
        std::fs::write(folder.path().join("job.toml"), &job).unwrap();
        let mut command = Command::new(PROGRAM);
        let output =
            command.args(["check", "job.toml"]).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file}: {fragment}\n{said}");
    }
}
