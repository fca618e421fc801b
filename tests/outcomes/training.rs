//! A training is a run like any other: what it leaves does not depend on kills, workers or processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anabranch_models::artifact::Artifact;
use anabranch_tests::program::Job;
use anabranch_tests::table::{Table, assert_same};
use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};

use crate::{example, folder};

/// The example with a model that takes moments, and a commit every 70 steps or so.
pub(crate) fn small(folder: &Path, steps: u64) -> Job {
    let job = example(folder, "train-shakespeare").small_commits(10).set("steps", steps);
    let job = job.set("passes", 1).set("source.text.bytes", "2KiB");
    [
        ("width", "16"),
        ("heads", "2"),
        ("layers", "1"),
        ("batch", "8"),
        ("every", "10"),
        ("artifacts_every", "40"),
        ("holdout_examples", "64"),
        ("reservoir", "256"),
        ("tokens.context", "32"),
        ("feed_forward", "{ rows = { nodes = 4, inputs = 4, wires = \"projected\" } }"),
    ]
    .into_iter()
    .fold(job, |job, (key, value)| job.set(&format!("operator.learn.{key}"), value))
}

/// Every file below a folder, by its path.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

/// What two trainings must have in common: every file of every artifact, and every row of measures.
pub(crate) fn assert_learned_alike(one: &Path, other: &Path, when: &str) {
    let models = |of: &Path| files(&of.join("models/data"));
    let (mine, theirs) = (models(one), models(other));
    assert!(mine.len() > 2, "{:?}", mine.keys());
    assert!(mine.keys().eq(theirs.keys()), "{when}: {:?}, {:?}", mine.keys(), theirs.keys());
    for (path, bytes) in &mine {
        assert!(theirs[path] == *bytes, "{when}: {} differs", path.display());
    }
    let measures = |of: &Path| Table::at(of.join("measures")).rows("measures");
    assert_same(&measures(one), &measures(other), when);
}

#[test]
fn training_leaves_artifacts_that_open_and_measures_that_fall() {
    let folder = folder();
    let plot = folder.path().join("curve.svg");
    let ended = small(folder.path(), 50).arg("--plot").arg(plot.display().to_string()).succeed();
    let out = folder.path().join("table");
    let models = out.join("models/data");
    let mut names: Vec<_> =
        models.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["shakespeare-step-00000040", "shakespeare-step-00000050"]);
    let artifact = Artifact::open(&models.join("shakespeare-step-00000050")).unwrap();
    assert_eq!(artifact.card().training.steps, 50);
    assert!(artifact.card().training.data_commit.starts_with("tinyshakespeare: "));
    assert_eq!(artifact.card().accuracy[0].measure, "loss");

    let rows = Table::at(out.join("measures")).rows("measures");
    let steps = rows.column_by_name("step").unwrap().as_primitive::<Int64Type>();
    assert_eq!(steps.values(), &[10, 20, 30, 40, 50]);
    for loss in ["loss", "validation_loss"] {
        let losses = rows.column_by_name(loss).unwrap().as_primitive::<Float64Type>();
        // Nothing may be held out yet when the first row is made.
        let losses: Vec<f64> = losses.iter().flatten().collect();
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(losses.len() > 2 && last < first && first < 5.7, "{loss}: {losses:?}");
    }
    assert!(ended.out.contains("step 50/50") && ended.out.contains('█'), "{}", ended.out);
    assert!(std::fs::read_to_string(plot).unwrap().contains("validation"));
}

#[test]
fn training_is_the_same_for_one_and_four_workers() {
    let folder = folder();
    let of = |name: &str, sets: &[(&str, u64)]| {
        let job = small(folder.path(), 120).out(name).set("job.credit", "1GiB");
        sets.iter().fold(job, |job, (key, value)| job.set(key, value)).succeed();
        folder.path().join(name)
    };
    let one = of("one", &[("job.workers", 1), ("operator.learn.resources.threads", 1)]);
    let more = [("job.workers", 4), ("job.threads", 4), ("operator.learn.resources.threads", 3)];
    assert_learned_alike(&one, &of("four", &more), "four workers");
    let processes = [("job.processes", 3), ("job.workers", 2), ("job.batch.records", 5)];
    assert_learned_alike(&one, &of("three", &processes), "three processes");
}
