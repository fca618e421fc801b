//! Shards have the same bytes, however many workers, processes and threads made them.

use std::collections::BTreeMap;

use anabranch_tests::dataset::Dataset;

use crate::{example, folder, soak};

/// Ways to run a job that must not show in its shards.
const WAYS: [&[&str]; 8] = [
    &["job.workers=1", "job.threads=1"],
    &["job.workers=2", "job.threads=2"],
    &["job.workers=4", "job.threads=3"],
    &["job.workers=2", "job.batch.records=1"],
    &["job.workers=1", "job.batch.records=7", "job.open_commits=1"],
    &["job.workers=4", "job.batch.bytes=100KiB"],
    &["job.processes=3"],
    &["job.processes=3", "job.workers=2", "job.batch.records=5"],
];

/// Runs the job in these ways and compares the shards of all.
fn same(name: &str, sets: &[&str], ways: &[&[&str]]) {
    same_as("table", name, sets, ways);
}

/// The same with a sink of any kind.
fn same_as(kind: &'static str, name: &str, sets: &[&str], ways: &[&[&str]]) {
    let mut first: Option<BTreeMap<String, String>> = None;
    for way in ways {
        let folder = folder();
        let sets = ["job.credit=1GiB"].iter().chain(sets).chain(*way);
        let job = example(folder.path(), name).sink(kind);
        sets.fold(job, |job, set| job.arg("--set").arg(*set)).succeed();
        let dataset = Dataset::at(kind, folder.path().join("table"));
        dataset.check();
        let contents = dataset.contents();
        assert!(dataset.visible().len() > 1, "one shard compares little: {contents:?}");
        match &first {
            Some(first) => assert_eq!(&contents, first, "{name}: {way:?}"),
            None => first = Some(contents),
        }
    }
}

/// As many ways as there is time for: the larger jobs run in two that differ in everything.
fn ways() -> Vec<&'static [&'static str]> {
    if soak() { WAYS.to_vec() } else { vec![WAYS[0], WAYS[7]] }
}

#[test]
fn determinism_of_photos() {
    same("photos", &["job.part.records=4", "job.commit.parts=2"], &WAYS);
}

/// Every operator of the job in worker processes.
const ISOLATED: &[&str] = &[
    "operator.decode.resources.isolate=true",
    "operator.resize.resources.isolate=true",
    "operator.encode.resources.isolate=true",
];

#[test]
fn determinism_across_worker_processes() {
    same("photos", &["job.part.records=4", "job.commit.parts=2"], &[WAYS[0], ISOLATED]);
}

#[test]
fn determinism_of_a_decision_across_worker_processes() {
    let isolated: &[&str] = &["operator.compress.resources.isolate=true"];
    same("text", &["job.part.records=3000"], &[WAYS[0], isolated]);
}

#[test]
fn determinism_of_quickstart() {
    same("quickstart", &["records=90", "job.part.records=40"], &WAYS);
}

#[test]
fn determinism_of_fashion() {
    same("fashion", &["job.part.records=2000"], &ways());
}

#[test]
fn determinism_of_spoken_digits() {
    same("spoken-digits", &["job.part.records=900"], &ways());
}

#[test]
fn determinism_of_tokens() {
    same("tokens", &["job.part.records=1500"], &ways());
}

#[test]
fn determinism_of_text() {
    same("text", &["job.part.records=3000"], &ways());
}

#[test]
fn determinism_of_cifar10() {
    same("cifar10", &["job.part.records=1500"], &ways());
}

#[test]
fn determinism_of_avmnist() {
    same("avmnist", &["job.part.records=5000"], &ways());
}

#[test]
fn determinism_of_sinks_that_are_no_tables() {
    for kind in ["parquet", "webdataset", "mds"] {
        same_as(kind, "quickstart", &["records=90", "job.part.records=40"], &ways());
    }
}

#[test]
fn determinism_of_packed_mds() {
    let sets = ["records=90", "job.part.records=40", "sink.table.compression=zstd"];
    same_as("mds", "quickstart", &sets, &ways());
}
