//! A stream whose model is replaced while it runs: every record is answered once, by one model, and a model takes
//! over between epochs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_models::artifact::architecture::{Architecture, FeedForward, Head, Inputs};
use anabranch_models::artifact::{Artifact, Card, WEIGHTS};
use anabranch_models::engine::example;
use anabranch_tests::program::{HUNG, Job, Running};
use anabranch_tests::table::Table;
use arrow::array::{Array, AsArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rustix::process::Signal;

use crate::{PROGRAM, folder, table};

const FOLLOW: &str = r#"
[job]
name = "follow"
mode = "stream"
poll = "50ms"
part = { records = 4 }
commit = { interval = "200ms" }

[vars]
out = "table"

# Two sources, so that parts of one epoch could be worked on apart.
[source.a]
kind = "text"
path = "inbox/a-*.txt"

[source.b]
kind = "text"
path = "inbox/b-*.txt"

[operator.tokens]
kind = "tokenise"
model = "byte"
inputs = ["a", "b"]

[operator.next]
kind = "infer"
model = "models"
follow = true
every = "0s"
inputs = ["tokens"]

[sink.table]
kind = "table"
path = "${out}"
inputs = ["next"]
"#;

/// Publishes a model, as a trainer does after so many steps.
fn publish(folder: &Path, steps: u64) {
    let architecture = Architecture {
        width: 8,
        heads: 2,
        layers: 1,
        inputs: Inputs::Tokens { vocabulary: 256, context: 8 },
        head: Head::NextToken,
        feed_forward: FeedForward::None,
    };
    let random = example::random(&architecture).unwrap();
    let mut card = Card::new(format!("after {steps}"), architecture);
    card.training.steps = steps;
    let artifact = Artifact::new(card, random.tensors().clone()).unwrap();
    artifact.save(&model(folder, steps)).unwrap();
}

fn model(folder: &Path, steps: u64) -> std::path::PathBuf {
    folder.join(format!("models/step-{steps:08}"))
}

/// Adds a file of ten lines for each source.
fn add(folder: &Path, number: usize) {
    for source in ["a", "b"] {
        let lines: String = (0..10).map(|line| format!("{source} {number} {line}\n")).collect();
        let part = folder.join(format!("{source}-{number}.part"));
        std::fs::write(&part, lines).unwrap();
        std::fs::rename(part, folder.join(format!("inbox/{source}-{number:03}.txt"))).unwrap();
    }
}

/// The models that answered records of each epoch, by their names, and how many records readers see.
fn answered(table: &Table) -> (BTreeMap<u64, BTreeSet<String>>, usize) {
    let mut epochs = BTreeMap::<u64, BTreeSet<String>>::new();
    let mut records = 0;
    let runs = table.runs();
    let shards = runs.iter().flat_map(|run| &run.commits).filter_map(|it| it.shards.get("table"));
    for shard in shards.flatten() {
        let file = std::fs::File::open(table.path.join(&shard.path)).unwrap();
        let rows = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        for batch in rows.map(Result::unwrap) {
            let models = batch.column_by_name("prediction_model").unwrap().as_string::<i32>();
            assert_eq!(models.null_count(), 0);
            let names = models.iter().flatten().map(|name| name.split('@').next().unwrap());
            epochs.entry(shard.epoch).or_default().extend(names.map(str::to_owned));
            records += batch.num_rows();
        }
    }
    (epochs, records)
}

/// What all starts said so far.
fn said(folder: &Path) -> String {
    let logs = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "err"));
    logs.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Adds files until this model has answered some of their records.
fn until_it_answers(folder: &Path, name: &str, files: &mut usize, running: &mut Running) {
    let (begun, table) = (Instant::now(), table(folder));
    while !answered(&table).0.values().any(|models| models.contains(name)) {
        assert!(!running.has_ended(), "the stream ended by itself: {}", said(folder));
        assert!(begun.elapsed() < HUNG, "`{name}` does not answer");
        add(folder, *files);
        *files += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn follow_swaps_models_between_epochs_and_loses_no_record() {
    let folder = folder();
    let at = folder.path();
    std::fs::create_dir(at.join("inbox")).unwrap();
    let job = Job::text(PROGRAM, at, FOLLOW).out("table");
    publish(at, 1);
    let mut files = 0;
    let mut running = job.clone().set("job.workers", 2).start();
    until_it_answers(at, "after 1", &mut files, &mut running);
    publish(at, 2);
    until_it_answers(at, "after 2", &mut files, &mut running);
    // A third one is damaged, and a fourth is whole again, after a kill with records on their way.
    publish(at, 3);
    let weights = model(at, 3).join(WEIGHTS);
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    for _ in 0..5 {
        add(at, files);
        files += 1;
    }
    running.kill_all();
    let mut running =
        job.set("operator.next.resources.isolate", true).set("job.processes", 2).start();
    let table = table(at);
    let begun = Instant::now();
    while answered(&table).1 < 20 * files {
        assert!(!running.has_ended(), "the stream ended by itself: {}", said(at));
        assert!(begun.elapsed() < HUNG, "records are missing");
        std::thread::sleep(Duration::from_millis(50));
    }
    publish(at, 4);
    until_it_answers(at, "after 4", &mut files, &mut running);
    running.signal(Signal::INT);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}{}", ended.out, ended.err);
    let told = ended.err.lines().filter(|line| line.contains("is damaged"));
    assert!(told.count() >= 1, "{}", ended.err);

    let (epochs, _) = answered(&table);
    let mut seen = BTreeSet::new();
    for (epoch, models) in &epochs {
        assert_eq!(models.len(), 1, "epoch {epoch} was answered by {models:?}");
        seen.extend(models.clone());
    }
    let expected = ["after 1", "after 2", "after 4"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(expected), "a damaged model answers nothing");
    let rows = table.sorted();
    let keys = rows.column_by_name("key").unwrap().as_string::<i32>();
    let distinct: BTreeSet<_> = keys.iter().flatten().collect();
    assert_eq!(distinct.len(), rows.num_rows(), "no record twice");
    let texts = rows.column_by_name("text").unwrap().as_string::<i32>();
    let texts: BTreeSet<_> = texts.iter().flatten().map(str::to_owned).collect();
    // What was not cut when the signal came is read by the next start; without gaps up to there.
    let whole = (0..files).filter(|file| texts.contains(&format!("a {file} 9"))).count();
    for file in 0..whole {
        let there = |line| texts.contains(&format!("a {file} {line}"));
        assert!((0..10).all(there), "file {file} has gaps");
    }
    assert!(whole > 5);

    // An old start that lives on cannot write over shards of a newer one.
    let runs = table.runs();
    let commits = runs.iter().flat_map(|run| &run.commits);
    let starts: BTreeSet<u64> = commits
        .flat_map(|commit| commit.shards.values().flatten().map(move |shard| (commit, shard)))
        .map(|(commit, shard)| {
            let start = format!("-g{:06}", commit.generation);
            assert!(shard.path.contains(&start), "{} of start {start}", shard.path);
            commit.generation
        })
        .collect();
    assert!(starts.len() > 1, "{starts:?}");
}
