//! A bucket is as good as a disk, also when the way to it is bad.
//!
//! The program is the real one, the server is `moto`, and requests go wrong between them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anabranch_tests::dataset::Dataset;
use anabranch_tests::program::{Job, data};
use anabranch_tests::random::Random;
use anabranch_tests::s3::{BUCKET, Fault, Proxy, Request, Server, through};

use crate::{example, folder, soak};

/// A server that has the photos, and a job that reads and writes there.
fn photos(server: &Server, folder: &Path, kind: &str, out: &str) -> Job {
    server.upload(&data().join("photos"), "in/photos");
    let job = example(folder, "photos").small_commits(3).sink(kind);
    job.set("data", format!("s3://{BUCKET}/in")).set("out", format!("s3://{BUCKET}/{out}"))
}

/// What is at a destination, checked, in a folder of this machine.
fn fetched(server: &Server, kind: &'static str, out: &str, to: &Path) -> Dataset {
    let folder = to.join(out);
    server.download(out, &folder);
    let dataset = Dataset::at(kind, folder);
    dataset.check();
    dataset
}

/// About one request in seven goes wrong in a way that passes, and the answers of some conditional puts are lost.
fn bad_way(random: Random) -> impl Fn(&Request) -> Fault + Send + Sync {
    let state = Mutex::new((random, HashSet::new()));
    move |request| {
        let mut state = state.lock().unwrap();
        let (random, lost) = &mut *state;
        if request.conditional && lost.insert(request.target.clone()) && random.below(3) == 0 {
            return Fault::LostAnswer;
        }
        match random.below(40) {
            0 | 1 => Fault::Unavailable,
            2 | 3 => Fault::Slow,
            4 | 5 if request.method == "GET" => Fault::HalfBody,
            _ => Fault::None,
        }
    }
}

/// Through faults and kills, a destination holds what it holds without.
fn survives(kind: &'static str, kills: u64) {
    let (folder, server) = (folder(), Server::start());
    let quiet = photos(&server, folder.path(), kind, "quiet");
    through(quiet, server.address()).succeed();
    let expected = fetched(&server, kind, "quiet", folder.path());

    let mut random = Random::seeded();
    let proxy = Proxy::to(server.address(), Arc::new(bad_way(random.clone())));
    let noisy = through(photos(&server, folder.path(), kind, "noisy"), proxy.address());
    for kill in 0..kills {
        let begin = proxy.requests();
        let until = begin + random.below(60);
        let mut running = noisy.start();
        while proxy.requests() < until && !running.has_ended() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        println!("kill {kill} after {} requests", proxy.requests() - begin);
        running.kill();
    }
    noisy.succeed();
    println!("{} of {} requests went wrong", proxy.faults(), proxy.requests());
    assert!(proxy.faults() > 0);
    let found = fetched(&server, kind, "noisy", folder.path());
    assert_eq!(found.contents(), expected.contents(), "{kind}");
    let again = noisy.succeed();
    assert!(again.out.contains("already complete"), "{}", again.out);
}

#[test]
fn s3_table_survives_faults_and_kills() {
    survives("table", if soak() { 20 } else { 3 });
}

#[test]
fn s3_parquet_survives_faults_and_kills() {
    survives("parquet", if soak() { 20 } else { 2 });
}

#[test]
fn s3_webdataset_survives_faults_and_kills() {
    survives("webdataset", if soak() { 20 } else { 2 });
}

#[test]
fn s3_mds_survives_faults_and_kills() {
    survives("mds", if soak() { 20 } else { 2 });
}

/// The answer to every first attempt to create an object is lost: the object is there, and nobody said so.
#[test]
fn s3_lost_answers_are_no_conflicts() {
    let (folder, server) = (folder(), Server::start());
    let seen = Mutex::new(HashSet::new());
    let choose = move |request: &Request| {
        let first = request.conditional && seen.lock().unwrap().insert(request.target.clone());
        if first { Fault::LostAnswer } else { Fault::None }
    };
    let proxy = Proxy::to(server.address(), Arc::new(choose));
    let job = photos(&server, folder.path(), "table", "lost");
    through(job, proxy.address()).succeed();
    assert!(
        proxy.faults() >= 5,
        "each commit creates an entry; {} answers were lost",
        proxy.faults()
    );
    let dataset = fetched(&server, "table", "lost", folder.path());
    assert_eq!(dataset.table.visible_rows(), 15);
}

/// What another attempt cannot mend is told at once, and what was done until then is not lost.
#[test]
fn s3_refusals_end_the_run_with_the_reason() {
    let (folder, server) = (folder(), Server::start());
    let refuse = Arc::new(AtomicBool::new(true));
    let refusing = Arc::clone(&refuse);
    let choose = move |request: &Request| {
        let entry = request.method == "PUT" && request.target.contains("_delta_log");
        if entry && refusing.load(Ordering::SeqCst) { Fault::Forbidden } else { Fault::None }
    };
    let proxy = Proxy::to(server.address(), Arc::new(choose));
    let job = through(photos(&server, folder.path(), "table", "refused"), proxy.address());
    let ended = job.run();
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("s3://lake/refused"), "{}", ended.err);
    assert!(ended.err.contains("403") || ended.err.contains("permission"), "{}", ended.err);
    refuse.store(false, Ordering::SeqCst);
    job.succeed();
    let dataset = fetched(&server, "table", "refused", folder.path());
    assert_eq!(dataset.table.visible_rows(), 15);
}
