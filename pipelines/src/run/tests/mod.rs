//! Whole runs over small data in memory.

use super::*;
use crate::progress::Ending;

mod cancels;
mod errors;
mod exists;
mod fences;
mod replays;
mod stores;
mod streams;

/// Runs a plan to its end.
fn run(plan: &Arc<Plan>, if_exists: IfExists) -> Result<Report, RunError> {
    Run::start(Arc::clone(plan), if_exists)?.wait()
}

/// Ends a run as a kill would: what is in flight is lost.
fn kill(run: Run) {
    drop(run);
}

/// Stops a run in order.
fn stop(run: Run) -> Report {
    run.cancel();
    let report = run.wait().unwrap();
    assert_eq!(report.ending, Ending::Cancelled);
    report
}
