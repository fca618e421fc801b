//! Two starts of one run at the same time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::memory::InMemory;

use super::*;
use crate::log::{Commit, LogError, RunLog};
use crate::store::{Location, Patience, mount};
use crate::testing::{Fault, Faulty, copy, lines_of, put_lines, settings, until, visible, wait};

#[test]
fn an_old_start_that_wakes_up_at_its_append_loses_no_row() {
    let root = "fences://wakes";
    let (reached, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (at, open) = (Arc::clone(&reached), Arc::clone(&go_on));
    let store = Faulty::new(Arc::new(InMemory::new()), move |_, operation, path| {
        let append = operation == "put" && path.as_ref().ends_with("/commits/00000001.json");
        if append && !at.swap(true, Ordering::SeqCst) {
            while !open.load(Ordering::SeqCst) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        Fault::None
    });
    mount(root, Arc::new(store), Patience::default()).unwrap();
    put_lines(&format!("{root}/in"), "a", 40);
    let plan = copy(root, settings());
    let old = Run::start(Arc::clone(&plan), IfExists::Resume).unwrap();
    until("the second append", || reached.load(Ordering::SeqCst));
    // A second start makes everything ready, and dies before it writes a shard.
    wait(async {
        let ticket = ticket::take(&plan, IfExists::Resume).await.unwrap();
        process::ready(&plan, &ticket).await.unwrap();
    });
    go_on.store(true, Ordering::SeqCst);
    let error = old.wait().unwrap_err();
    assert!(matches!(error, RunError::Log(LogError::Fenced { .. })), "{error}");
    assert_eq!(visible(&format!("{root}/out")).len(), 20);
    assert_eq!(run(&plan, IfExists::Resume).unwrap().ending, Ending::Complete);
    assert_eq!(visible(&format!("{root}/out")), lines_of(&[("a", 40)]));
}

#[test]
fn a_new_start_goes_on_after_a_commit_of_the_old_one_that_says_the_same() {
    let log = RunLog::new(Location::parse("memory://fences-same/log").unwrap());
    let commit = |generation, last| Commit {
        run: "r1".to_owned(),
        number: 0,
        generation,
        epochs: 0..1,
        cuts: Vec::new(),
        decisions: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        shards: BTreeMap::new(),
        last,
        written: generation as i64,
    };
    wait(async {
        log.append(&commit(2, false)).await.unwrap();
        log.append(&commit(3, false)).await.unwrap();
        let error = log.append(&commit(3, true)).await.unwrap_err();
        assert!(matches!(error, LogError::Fenced { generation: 2, .. }), "{error}");
        let error = log.append(&commit(1, false)).await.unwrap_err();
        assert!(matches!(error, LogError::Fenced { generation: 2, .. }), "{error}");
        assert_eq!(log.commits().await.unwrap(), [commit(2, false)]);
    });
}

#[test]
fn starts_of_one_millisecond_are_told_apart() {
    let root = "memory://fences-nonce/log";
    let log = RunLog::new(Location::parse(root).unwrap());
    let taken: Vec<u64> =
        wait(async { futures::future::join_all((0..8).map(|_| log.next_generation())).await })
            .into_iter()
            .map(Result::unwrap)
            .collect();
    assert_eq!(taken.iter().collect::<std::collections::BTreeSet<_>>().len(), 8);
    let entries = crate::testing::objects(root, "/generations/");
    let nonce = |text: &String| {
        serde_json::from_str::<serde_json::Value>(text).unwrap()["nonce"].as_u64().unwrap()
    };
    let nonces: std::collections::BTreeSet<u64> = entries.values().map(nonce).collect();
    assert_eq!(nonces.len(), 8);
}
