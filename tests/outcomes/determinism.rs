//! Shards have the same bytes, however many workers, processes and threads made them.

use crate::{example, folder, table};

/// Ways to run a job that must not show in its shards.
const WAYS: [&[&str]; 6] = [
    &["job.workers=1", "job.threads=1"],
    &["job.workers=2", "job.threads=2"],
    &["job.workers=4", "job.threads=3", "job.credit=512MiB"],
    &["job.workers=2", "job.batch.records=1"],
    &["job.workers=1", "job.batch.records=7", "job.open_commits=1"],
    &["job.workers=4", "job.batch.bytes=100KiB", "job.credit=512MiB"],
];

/// Runs the job in every way and compares the shards of all.
fn same_every_way(name: &str, sink: &str, sets: &[&str]) {
    let mut first: Option<Vec<(String, String)>> = None;
    for way in WAYS {
        let folder = folder();
        let sets = sets.iter().chain(way);
        let job = sets.fold(example(folder.path(), name), |job, set| job.arg("--set").arg(*set));
        job.succeed();
        let table = table(folder.path());
        table.check(sink);
        let hashes = table.hashes(sink);
        assert!(hashes.len() > 1, "one shard compares little: {hashes:?}");
        match &first {
            Some(first) => assert_eq!(&hashes, first, "{name}: {way:?}"),
            None => first = Some(hashes),
        }
    }
}

#[test]
fn determinism_of_photos() {
    same_every_way("photos", "table", &["job.part.records=4", "job.commit.parts=2"]);
}

#[test]
fn determinism_of_quickstart() {
    same_every_way("quickstart", "table", &["records=90", "job.part.records=40"]);
}
