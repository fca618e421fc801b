//! When refused records fail a run, and what they leave.

use super::*;
use crate::graph::{ErrorLimit, Settings};
use crate::testing::{copy, put, settings, visible};

/// Runs over so many lines, of which every `nth` is bad, counting from the first.
fn with(name: &str, lines: usize, nth: usize, limit: ErrorLimit) -> Result<Report, RunError> {
    let root = format!("memory://errors-{name}");
    let line = |at: usize| if at.is_multiple_of(nth) { "bad\n".into() } else { format!("{at}\n") };
    put(&format!("{root}/in"), "a", &(0..lines).map(line).collect::<String>());
    run(&copy(&root, Settings { max_errors: limit, ..settings() }), IfExists::Resume)
}

#[test]
fn a_count_allows_so_many_and_no_more() {
    let report = with("count-at", 40, 10, ErrorLimit::Count(4)).unwrap();
    assert_eq!((report.refused, report.outputs["out"].rows), (4, 36));
    assert_eq!(visible("memory://errors-count-at/dead"), ["bad"; 4]);
    let error = with("count-over", 40, 10, ErrorLimit::Count(3)).unwrap_err();
    let RunError::TooManyErrors { refused: 4, limit, .. } = &error else { panic!("{error}") };
    assert_eq!(limit, "3");
    assert!(error.to_string().contains("lines: a:30: bad"), "{error}");
}

#[test]
fn a_share_is_judged_from_the_hundredth_record_on_and_at_the_end() {
    // All of the first records are bad, a tenth of all: an early judgement would fail it.
    let text: String = (0..200).map(|at| if at < 20 { "bad\n" } else { "good\n" }).collect();
    put("memory://errors-share/in", "a", &text);
    let share = |share| Settings { max_errors: ErrorLimit::Share(share), ..settings() };
    run(&copy("memory://errors-share", share(0.2)), IfExists::Resume).unwrap();
    let error = with("share-over", 200, 5, ErrorLimit::Share(0.19)).unwrap_err();
    assert!(matches!(error, RunError::TooManyErrors { records: 100, .. }), "{error}");
    // Fewer than a hundred are judged at the end.
    with("share-few", 50, 5, ErrorLimit::Share(0.2)).unwrap();
    let error = with("share-few-over", 50, 5, ErrorLimit::Share(0.19)).unwrap_err();
    assert!(matches!(error, RunError::TooManyErrors { refused: 10, records: 50, .. }), "{error}");
}

#[test]
fn without_a_limit_nothing_fails() {
    let report = with("all", 30, 1, ErrorLimit::Unlimited).unwrap();
    assert_eq!((report.ending, report.refused), (Ending::Complete, 30));
}

#[test]
fn a_limit_counts_over_all_starts_and_keeps_what_was_committed() {
    let root = "memory://errors-resumed";
    let line = |at: usize| if at % 10 == 3 { "bad\n".into() } else { format!("{at}\n") };
    put(&format!("{root}/in"), "a", &(0..60).map(line).collect::<String>());
    let limit = |most| copy(root, Settings { max_errors: ErrorLimit::Count(most), ..settings() });
    // Commits of ten records, each with one that is bad.
    let error = run(&limit(3), IfExists::Resume).unwrap_err();
    assert!(matches!(error, RunError::TooManyErrors { refused: 4, .. }), "{error}");
    assert_eq!(visible(&format!("{root}/out")).len(), 27);
    let error = run(&limit(3), IfExists::Resume).unwrap_err();
    assert!(matches!(error, RunError::TooManyErrors { refused: 4, .. }), "{error}");
    // The limit is no part of the plan: raised, the same run goes on.
    let report = run(&limit(6), IfExists::Resume).unwrap();
    assert_eq!(
        (report.ending, report.resumed_after, report.refused),
        (Ending::Complete, Some(2), 6)
    );
    assert_eq!(visible(&format!("{root}/out")).len(), 54);
}
