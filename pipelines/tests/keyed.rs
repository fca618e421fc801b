//! Operators with state in a run: determinism, snapshots, resume, memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_pipelines::graph::{Graph, Plan, Settings};
use anabranch_pipelines::log::DEAD_LETTERS;
use anabranch_pipelines::progress::Ending;
use anabranch_pipelines::source::BatchSize;
use support::*;

/// words -> sums -> sums -> sink, with dead letters.
fn graph(folder: &Path, words: Words) -> Graph {
    let mut graph = Graph::new("keyed");
    let source = graph.source("words", Arc::new(words));
    let first = graph.operator("first", Arc::new(Sums { memory: 4 << 20 }), &[source]);
    let second = graph.operator("second", Arc::new(Sums { memory: 4 << 20 }), &[first]);
    graph.sink("out", Arc::new(Lines { folder: folder.to_owned() }), &[second]);
    graph.dead_letters(Arc::new(Lines { folder: folder.join("dead") }));
    graph
}

fn run_all(workers: usize, batch: usize) -> (tempfile::TempDir, Arc<Plan>) {
    let folder = tempfile::tempdir().unwrap();
    let batch = BatchSize { records: batch, bytes: 1 << 20 };
    let settings = Settings { workers, batch, ..settings() };
    let plan = plan(graph(folder.path(), Words::new(some_words(1000))), settings);
    let report = start(&plan).unwrap().wait().unwrap();
    assert_eq!(report.ending, Ending::Complete);
    (folder, plan)
}

/// What a plain loop makes of the words: rows of the first operator, its last rows, then those of the second.
fn expected_rows() -> usize {
    let words = some_words(1000);
    let kept = words.iter().filter(|(word, _)| !word.starts_with('!')).count();
    let distinct: std::collections::BTreeSet<_> = words.iter().map(|(word, _)| word).collect();
    let last = distinct.iter().filter(|w| !w.starts_with('!') && !w.starts_with('?')).count();
    kept + 2 * last
}

#[test]
fn shards_are_equal_for_any_workers_and_batches() {
    let (folder, _) = run_all(1, 64);
    let out = shards(folder.path(), "out");
    let rows: usize = out.values().map(|text| text.lines().count()).sum();
    assert_eq!(rows, expected_rows());
    let dead = shards(folder.path(), DEAD_LETTERS);
    let refused: usize = dead.values().map(|text| text.lines().count()).sum();
    let loud = some_words(1000).iter().filter(|(word, _)| word.starts_with('!')).count();
    assert_eq!(refused, loud + 2, "loud words, and one in doubt at each operator");
    for (workers, batch) in [(2, 64), (4, 64), (1, 7), (3, 1000)] {
        let (other, _) = run_all(workers, batch);
        assert!(shards(other.path(), "out") == out, "{workers} workers, batches of {batch}");
        assert_eq!(shards(other.path(), DEAD_LETTERS), dead);
    }
}

#[test]
fn a_resumed_run_restores_state_with_any_workers() {
    let (whole, _) = run_all(1, 64);
    for stop in [0, 1, 3, 4, 6, 8] {
        let folder = tempfile::tempdir().unwrap();
        let stuck = Arc::new(AtomicBool::new(true));
        // The source stalls in the middle of commit `stop`; the run is dropped there.
        let mut words = Words::new(some_words(1000));
        words.stuck = Some((stop * 100 + 60, Arc::clone(&stuck)));
        let plan_of =
            |words, workers| plan(graph(folder.path(), words), Settings { workers, ..settings() });
        let run = start(&plan_of(words, 1 + stop % 3)).unwrap();
        while run.progress().commits < stop as u64 {
            assert!(!run.is_finished(), "ended early: {:?}", run.wait().err());
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(run);
        stuck.store(false, Ordering::Relaxed);
        assert_eq!(commits(folder.path()).len(), stop);

        let again = plan_of(Words::new(some_words(1000)), 1 + (stop + 1) % 4);
        let report = start(&again).unwrap().wait().unwrap();
        assert_eq!(report.ending, Ending::Complete);
        assert_eq!(report.resumed, stop > 0);
        for sink in ["out", DEAD_LETTERS] {
            let (is, should) = (shards(folder.path(), sink), shards(whole.path(), sink));
            assert!(is == should, "{sink} differs after a stop in commit {stop}");
        }
    }
}

#[test]
fn snapshots_are_named_pruned_and_required() {
    let (folder, _) = run_all(2, 64);
    let commits = commits(folder.path());
    assert!(commits.last().unwrap().last);
    let with: Vec<u64> =
        commits.iter().filter(|c| !c.snapshots.is_empty()).map(|c| c.number).collect();
    assert_eq!(with, [1, 3, 5, 7]);
    assert!(commits[1].snapshots.keys().eq(["first", "second"].iter()));
    let run = std::fs::read_dir(folder.path().join("_anabranch/runs")).unwrap().next().unwrap();
    let kept = std::fs::read_dir(run.unwrap().path().join("snapshots")).unwrap();
    let mut kept: Vec<String> =
        kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    kept.retain(|name| {
        let run = std::fs::read_dir(folder.path().join("_anabranch/runs")).unwrap().next().unwrap();
        let folder = run.unwrap().path().join("snapshots").join(name);
        walk(&folder) > 0
    });
    kept.sort();
    assert_eq!(kept, ["00000005-g000001", "00000007-g000001"]);
}

fn walk(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[test]
fn a_missing_snapshot_is_no_fresh_start() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Arc::new(AtomicBool::new(true));
    let mut words = Words::new(some_words(1000));
    words.stuck = Some((460, Arc::clone(&stuck)));
    let run = start(&plan(graph(folder.path(), words), settings())).unwrap();
    while run.progress().commits < 4 {
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(run);
    stuck.store(false, Ordering::Relaxed);
    let runs = folder.path().join("_anabranch/runs");
    let run = std::fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
    let state = run.join("snapshots/00000003-g000001/first");
    let lost = std::fs::read_dir(&state).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&lost).unwrap();
    let again = plan(graph(folder.path(), Words::new(some_words(1000))), settings());
    let error = start(&again).unwrap().wait().unwrap_err().to_string();
    assert!(error.contains("snapshots/00000003-g000001/first"), "{error}");
    assert!(error.contains("is missing"), "{error}");
}

#[test]
fn state_beyond_its_memory_fails_the_run_and_says_what_to_raise() {
    let folder = tempfile::tempdir().unwrap();
    // Every word is another one, so the state grows with the input: 3,000 of at least 100 bytes.
    let words = (0..3000).map(|at| (format!("w{at}"), 1)).collect();
    let mut graph = Graph::new("keyed");
    let source = graph.source("words", Arc::new(Words::new(words)));
    let sums = graph.operator("sums", Arc::new(Sums { memory: 256 << 10 }), &[source]);
    graph.sink("out", Arc::new(Lines { folder: folder.path().to_owned() }), &[sums]);
    let error = start(&plan(graph, settings())).unwrap().wait().unwrap_err().to_string();
    assert!(error.contains("operator `sums`"), "{error}");
    assert!(error.contains("raise the operator's `memory`"), "{error}");
}

#[test]
fn parts_are_cut_smaller_where_they_feed_state_and_too_little_memory_is_refused() {
    let part = |memory: usize| {
        let folder = tempfile::tempdir().unwrap();
        let mut graph = Graph::new("keyed");
        let source = graph.source("words", Arc::new(Words::new(some_words(10))));
        let sums = graph.operator("sums", Arc::new(Sums { memory }), &[source]);
        graph.sink("out", Arc::new(Lines { folder: folder.path().to_owned() }), &[sums]);
        block_on(Plan::new(graph, Settings { credit: 64 << 20, ..Settings::default() }))
    };
    let (large, small) = (part(16 << 20).unwrap(), part(1 << 20).unwrap());
    assert!(large.part(0).bytes > small.part(0).bytes);
    assert!(small.part(0).bytes < (1 << 20) / 8);
    assert_ne!(large.hash(), small.hash());
    let error = part(10_000).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("sums: its memory of"), "{error}");
    assert!(error.contains("raise `memory`"), "{error}");
}
