//! A run that was killed any number of times, at any moments, leaves what an undisturbed one leaves.

use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_tests::program::{Job, Running};
use anabranch_tests::random::Random;
use anabranch_tests::table::{Table, assert_same};
use rustix::process::Signal;

use crate::{example, folder, soak, table};

/// A moment of a run.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after the start: while it recovers, reads, computes or writes.
    After(Duration),
    /// As soon as the run log has so many commits more: before or while readers are told.
    Commit(usize),
}

impl Moment {
    fn random(random: &mut Random, whole: Duration) -> Self {
        match random.below(4) {
            0 => Self::After(Duration::from_millis(random.below(80))),
            1 => Self::Commit(1 + random.below(3) as usize),
            _ => Self::After(Duration::from_millis(random.below(whole.as_millis() as u64 + 1))),
        }
    }

    /// Waits for the moment; false when the run ended before it.
    fn wait(self, running: &mut Running, table: &Table) -> bool {
        let (begun, had) = (Instant::now(), table.commits());
        while !running.has_ended() {
            let come = match self {
                Self::After(time) => begun.elapsed() >= time,
                Self::Commit(more) => table.commits() >= had + more,
            };
            if come {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        false
    }
}

/// Kills and resumes `job` so many times, each start with one of these worker counts; its table must then
/// be that of the undisturbed job.
fn survives(folder: &Path, job: &Job, sink: &str, kills: usize, workers: &[u64]) {
    let mut random = Random::seeded();
    let begun = Instant::now();
    job.clone().out("undisturbed").succeed();
    let whole = begun.elapsed();
    let undisturbed = Table::at(folder.join("undisturbed"));
    undisturbed.check(sink);
    let (mut killed, mut rounds) = (0, 0);
    while killed < kills {
        let name = format!("table-{rounds}");
        let (job, table) = (job.clone().out(&name), Table::at(folder.join(&name)));
        rounds += 1;
        loop {
            let workers = *random.pick(workers);
            let mut running = job.clone().set("job.workers", workers).start();
            let moment = Moment::random(&mut random, whole);
            let last = killed >= kills;
            if last || !moment.wait(&mut running, &table) {
                let ended = running.wait();
                assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
                break;
            }
            if random.below(2) == 0 {
                running.kill();
            } else {
                // One process of several: the others must notice.
                let processes = running.processes();
                Running::signal_process(*random.pick(&processes), Signal::KILL);
                running.kill();
            }
            killed += 1;
            println!("killed at {moment:?}, {} commits", table.commits());
        }
        table.check(sink);
        assert_eq!(table.hashes(sink), undisturbed.hashes(sink), "shards after kills");
        assert_same(&table.rows(sink), &undisturbed.rows(sink), "rows after kills");
    }
    println!("{killed} kills in {rounds} runs");
}

#[test]
fn kill_photos_at_any_moment() {
    let folder = folder();
    let job = example(folder.path(), "photos").small_commits(1);
    survives(folder.path(), &job, "table", if soak() { 20 } else { 4 }, &[1, 2]);
}

/// A complete photos table whose newest Delta entry is missing: what a kill between the last entry of the
/// run log and its derivation leaves.
fn readers_were_not_told(folder: &Path) -> (Job, Table) {
    let job = example(folder, "photos").small_commits(8);
    job.succeed();
    let table = table(folder);
    let log = std::fs::read_dir(table.path.join("_delta_log")).unwrap();
    let entries = log.map(|entry| entry.unwrap().path());
    let newest = entries.filter(|path| path.extension().is_some_and(|e| e == "json")).max();
    std::fs::remove_file(newest.unwrap()).unwrap();
    assert_eq!(table.visible_rows(), 8);
    (job, table)
}

#[test]
fn kill_between_the_last_entry_and_the_delta_log() {
    let folder = folder();
    let (job, table) = readers_were_not_told(folder.path());
    let again = job.succeed();
    assert!(again.out.contains("already complete"), "{}", again.out);
    table.check("table");
    assert_eq!(table.visible_rows(), 15);
}

#[test]
fn kill_between_the_last_entry_and_the_delta_log_before_an_append() {
    let folder = folder();
    let (job, table) = readers_were_not_told(folder.path());
    job.arg("--if-exists").arg("append").succeed();
    table.check("table");
    assert_eq!(table.visible_rows(), 30);
}
