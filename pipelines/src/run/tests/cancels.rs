//! What a cancelled run still does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use object_store::memory::InMemory;

use super::*;
use crate::store::{Patience, mount};
use crate::testing::{Fault, Faulty, copy, lines_of, put_lines, settings, until, visible};

/// A store that gives the object `b` once, to whoever measures it, and then only when the door is open.
fn measured_but_not_read(root: &str) -> Arc<AtomicBool> {
    let open = Arc::new(AtomicBool::new(false));
    let (door, gets) = (Arc::clone(&open), AtomicU64::new(0));
    let store = Faulty::new(Arc::new(InMemory::new()), move |_, operation, path| {
        let read = operation == "get"
            && path.as_ref().ends_with("in/b")
            && gets.fetch_add(1, Ordering::SeqCst) > 0;
        if read && !door.load(Ordering::SeqCst) { Fault::Stall } else { Fault::None }
    });
    let timeout = Duration::from_millis(20);
    mount(root, Arc::new(store), Patience { timeout, attempts: 3000, ..quick() }).unwrap();
    open
}

fn quick() -> Patience {
    let pause = Duration::from_millis(1);
    Patience { pause, longest: pause, ..Patience::default() }
}

/// Cancels a run whose first commit is durable and that reads the second, and lets it go on once it has
/// given up what comes later; gives its number of commits.
fn cancelled_in_the_second_commit(root: &str, lines: usize) -> u64 {
    let door = measured_but_not_read(root);
    put_lines(&format!("{root}/in"), "a", 10);
    put_lines(&format!("{root}/in"), "b", lines);
    let plan = copy(root, settings());
    let run = Run::start(Arc::clone(&plan), IfExists::Resume).unwrap();
    until("the first commit", || run.progress().commits == 1);
    run.cancel();
    let Engine::Here(process) = &run.engine else { panic!("it runs here") };
    let given_up = Arc::clone(&process.shared.given_up);
    until("giving up", || given_up.load(Ordering::SeqCst) < u64::MAX);
    door.store(true, Ordering::SeqCst);
    let report = run.wait().unwrap();
    assert_eq!(report.ending, Ending::Cancelled);
    let commits = report.progress.commits;
    // Nothing of what was given up is seen, and a resume does it.
    assert_eq!(visible(&format!("{root}/out")).len(), 10 * commits as usize);
    assert_eq!(super::run(&plan, IfExists::Resume).unwrap().ending, Ending::Complete);
    assert_eq!(visible(&format!("{root}/out")), lines_of(&[("a", 10), ("b", lines)]));
    commits
}

#[test]
fn a_cancelled_run_finishes_the_oldest_commit_and_gives_up_those_after_it() {
    assert_eq!(cancelled_in_the_second_commit("cancels://middle", 100), 2);
}

#[test]
fn a_cancelled_run_gives_up_its_last_commit_too() {
    assert_eq!(cancelled_in_the_second_commit("cancels://last", 20), 2);
}
