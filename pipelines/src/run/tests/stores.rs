use std::sync::atomic::{AtomicBool, Ordering};

use object_store::memory::InMemory;

use super::*;
use crate::store::{Patience, mount};
use crate::testing::{Fault, Faulty, copy, lines_of, objects, put_lines, settings, visible};

const INPUT: [(&str, usize); 3] = [("a", 17), ("b", 1), ("c", 30)];

fn quick() -> Patience {
    let (timeout, pause) = (Duration::from_millis(100), Duration::from_millis(1));
    Patience { timeout, attempts: 12, pause, longest: Duration::from_millis(4) }
}

fn fill(root: &str) {
    INPUT.iter().for_each(|(name, count)| put_lines(&format!("{root}/in"), name, *count));
}

/// The shards of a run in an undisturbed store.
fn undisturbed(root: &str) -> Vec<(String, String)> {
    fill(root);
    let report = run(&copy(root, settings()), IfExists::Resume).unwrap();
    assert_eq!(report.ending, Ending::Complete);
    shards(root)
}

fn shards(root: &str) -> Vec<(String, String)> {
    let objects = objects(&format!("{root}/out"), "/data/");
    assert_eq!(visible(&format!("{root}/out")), lines_of(&INPUT));
    // The run's id hashes the listing, whose versions differ from store to store.
    let name = |path: &str| path.split_once("-out-").unwrap().1.to_owned();
    objects.into_iter().map(|(path, text)| (name(&path), text)).collect()
}

#[test]
fn a_store_that_fails_one_request_in_ten_changes_nothing() {
    let expected = undisturbed("memory://fails-not");
    for seed in 0..4 {
        let root = format!("fails://seed-{seed}");
        let faulty = Faulty::one_in(10, seed, Arc::new(InMemory::new()));
        mount(&root, Arc::new(faulty.clone()), quick()).unwrap();
        fill(&root);
        let report = run(&copy(&root, settings()), IfExists::Resume).unwrap();
        assert_eq!(report.ending, Ending::Complete);
        assert_eq!(shards(&root), expected, "seed {seed}");
        assert!(faulty.requests() > 50);
    }
}

#[test]
fn a_store_that_stalls_now_and_then_changes_nothing() {
    let expected = undisturbed("memory://stalls-not");
    let root = "stalls://now-and-then";
    let stalls =
        |number: u64, _: &str, _: &_| if number % 9 == 4 { Fault::Stall } else { Fault::None };
    mount(root, Arc::new(Faulty::new(Arc::new(InMemory::new()), stalls)), quick()).unwrap();
    fill(root);
    run(&copy(root, settings()), IfExists::Resume).unwrap();
    assert_eq!(shards(root), expected);
}

#[test]
fn a_full_disk_is_one_clear_error_and_keeps_what_was_committed() {
    let expected = undisturbed("memory://full-not");
    let root = "full://disk";
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let disk = Faulty::new(Arc::new(InMemory::new()), move |_, operation, path| {
        let later = path.as_ref().contains("-p00000005-");
        let fails = operation == "put" && later && is_full.load(Ordering::Relaxed);
        if fails { Fault::Full } else { Fault::None }
    });
    mount(root, Arc::new(disk), quick()).unwrap();
    fill(root);
    let plan = copy(root, settings());
    let error = run(&plan, IfExists::Resume).unwrap_err().to_string();
    assert!(error.contains("sink `out`") && error.contains("free some space"), "{error}");
    // Commits of two parts: the third is not there at all, and was begun when the first was durable.
    assert!(matches!(visible(&format!("{root}/out")).len(), 10 | 20));

    full.store(false, Ordering::Relaxed);
    let report = run(&plan, IfExists::Resume).unwrap();
    assert_eq!((report.ending, report.resumed), (Ending::Complete, true));
    assert_eq!(shards(root), expected);
}

#[test]
fn a_source_that_fails_as_a_whole_is_one_clear_error() {
    let root = "gone://bucket";
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&gone);
    let store = Faulty::new(Arc::new(InMemory::new()), move |_, _, path| {
        let reads = path.as_ref().starts_with("in/") && is_gone.load(Ordering::Relaxed);
        if reads { Fault::Before } else { Fault::None }
    });
    mount(root, Arc::new(store), quick()).unwrap();
    fill(root);
    let plan = copy(root, settings());
    gone.store(true, Ordering::Relaxed);
    let error = run(&plan, IfExists::Resume).unwrap_err().to_string();
    assert!(error.starts_with("source `lines`: gone://bucket/in/"), "{error}");
    gone.store(false, Ordering::Relaxed);
    assert_eq!(run(&plan, IfExists::Resume).unwrap().ending, Ending::Complete);
    assert_eq!(visible(&format!("{root}/out")), lines_of(&INPUT));
}
