//! Every value of [`IfExists`], on what a first run, a killed one or somebody else left.

use super::*;
use crate::graph::{Graph, PartSize, Settings};
use crate::log::RunRecord;
use crate::progress::Chosen;
use crate::testing::{
    Lines, LinesSink, copy, lines_of, objects, put, put_lines, settings, until, visible, wait,
};

/// A destination under a name of its own, with an input of 12 lines.
fn fresh(name: &str) -> (String, Arc<Plan>) {
    let root = format!("memory://exists-{name}");
    put_lines(&format!("{root}/in"), "a", 12);
    let plan = copy(&root, settings());
    (root, plan)
}

fn rows(root: &str) -> usize {
    visible(&format!("{root}/out")).len()
}

fn refused(plan: &Arc<Plan>, if_exists: IfExists) -> String {
    let error = run(plan, if_exists).unwrap_err();
    assert!(matches!(error, RunError::Exists { .. }), "{error}");
    error.to_string()
}

/// Starts a run and kills it after its first commit.
fn killed(root: &str, plan: &Arc<Plan>, if_exists: IfExists) -> String {
    // The third part cannot be read, so the run never ends by itself.
    put(&format!("{root}/in"), "b", "never read\n");
    let run = Run::start(Arc::clone(plan), if_exists).unwrap();
    let id = run.id().to_owned();
    until("a commit", || run.progress().commits >= 1 || run.is_finished());
    kill(run);
    id
}

/// The folder of a run's log.
fn folder_of(run: &str) -> &str {
    run.split('-').next().unwrap()
}

/// Takes the last commit of a run away, as if it had been killed before it.
fn undo_last_commit(root: &str, run: &str) {
    let out = format!("{root}/out");
    let commits = objects(&out, &format!("{}/commits/", folder_of(run)));
    let last = commits.keys().next_back().unwrap();
    crate::testing::delete(&out, last.strip_prefix("out/").unwrap());
    let visible = objects(&out, &format!("visible/{run}-out-"));
    let last = visible.keys().next_back().unwrap();
    crate::testing::delete(&out, last.strip_prefix("out/").unwrap());
}

#[test]
fn resume_goes_on_says_complete_and_refuses_the_rest() {
    let (root, plan) = fresh("resume");
    let first = run(&plan, IfExists::Resume).unwrap();
    assert_eq!((first.chosen, first.ending, rows(&root)), (Chosen::Began, Ending::Complete, 12));
    let second = run(&plan, IfExists::Resume).unwrap();
    assert_eq!((second.chosen, second.ending), (Chosen::Nothing, Ending::AlreadyComplete));
    assert_eq!((second.run, rows(&root)), (first.run.clone(), 12));

    undo_last_commit(&root, &first.run);
    assert_eq!(rows(&root), 10);
    let third = run(&plan, IfExists::Resume).unwrap();
    assert_eq!((third.chosen, third.resumed_after), (Chosen::Resumed, Some(0)));
    assert_eq!((third.run, rows(&root)), (first.run, 12));

    let other = Settings { part: PartSize { records: 4, bytes: 1 << 20 }, ..settings() };
    let error = refused(&copy(&root, other), IfExists::Resume);
    assert!(error.contains("another plan") && error.contains("--if-exists append"), "{error}");
    put_lines(&format!("{root}/in"), "b", 1);
    let error = refused(&plan, IfExists::Resume);
    assert!(error.contains("other input files"), "{error}");
}

#[test]
fn error_refuses_whatever_is_there() {
    let (root, plan) = fresh("error");
    let first = run(&plan, IfExists::Error).unwrap();
    assert_eq!((first.chosen, rows(&root)), (Chosen::Began, 12));
    let error = refused(&plan, IfExists::Error);
    assert!(error.contains("complete run r1-") && !error.contains("resume"), "{error}");
    undo_last_commit(&root, &first.run);
    let error = refused(&plan, IfExists::Error);
    assert!(error.contains("unfinished") && error.contains("--if-exists resume"), "{error}");
}

#[test]
fn appends_count_each_time() {
    let (root, plan) = fresh("append");
    let runs: Vec<_> = (0..3).map(|_| run(&plan, IfExists::Append).unwrap()).collect();
    assert_eq!(rows(&root), 36);
    assert!(runs.iter().all(|report| report.chosen == Chosen::Appended));
    assert_eq!(runs.iter().map(|r| &r.run[..3]).collect::<Vec<_>>(), ["r1-", "r2-", "r3-"]);
    // The newest is complete, so the default has nothing to do.
    assert_eq!(run(&plan, IfExists::Resume).unwrap().chosen, Chosen::Nothing);

    // One that was killed goes on, whether append or resume is asked.
    for if_exists in [IfExists::Append, IfExists::Resume] {
        undo_last_commit(&root, &runs[2].run);
        assert_eq!(rows(&root), 34);
        let again = run(&plan, if_exists).unwrap();
        assert_eq!((again.chosen, &again.run), (Chosen::Resumed, &runs[2].run));
        assert_eq!(rows(&root), 36);
    }

    // One of other input begins anew beside it.
    put_lines(&format!("{root}/in"), "b", 1);
    let other = run(&plan, IfExists::Append).unwrap();
    assert_eq!((other.chosen, rows(&root)), (Chosen::Appended, 49));
}

#[test]
fn an_overwrite_replaces_at_its_first_commit() {
    let (root, plan) = fresh("overwrite");
    let first = run(&plan, IfExists::Resume).unwrap();
    crate::testing::delete(&format!("{root}/in"), "a");
    put_lines(&format!("{root}/in"), "b", 11);
    let second = run(&plan, IfExists::Overwrite).unwrap();
    assert_eq!((second.chosen, second.ending), (Chosen::Overwrote, Ending::Complete));
    assert_ne!(first.run, second.run);
    assert_eq!(visible(&format!("{root}/out")), lines_of(&[("b", 11)]));

    // Killed, it goes on as an overwrite; the default goes on with it too.
    for if_exists in [IfExists::Overwrite, IfExists::Resume] {
        undo_last_commit(&root, &second.run);
        assert_eq!(rows(&root), 10);
        assert_eq!(run(&plan, if_exists).unwrap().chosen, Chosen::Resumed);
        assert_eq!(rows(&root), 11);
    }
    // Complete, it is done again; an append beside an unfinished overwrite is a run of its own.
    let third = run(&plan, IfExists::Overwrite).unwrap();
    assert_eq!((third.chosen, rows(&root)), (Chosen::Overwrote, 11));
    undo_last_commit(&root, &third.run);
    let fourth = run(&plan, IfExists::Append).unwrap();
    assert_eq!((fourth.chosen, rows(&root)), (Chosen::Appended, 21));
}

#[test]
fn an_overwrite_that_dies_before_its_first_commit_replaces_nothing() {
    let (root, plan) = fresh("overwrite-dies");
    run(&plan, IfExists::Resume).unwrap();
    put(&format!("{root}/in"), "b", "bad\n");
    let mut strict = settings();
    strict.max_errors = crate::graph::ErrorLimit::Count(0);
    strict.commit.parts = 100;
    let error = run(&copy(&root, strict), IfExists::Overwrite).unwrap_err();
    assert!(matches!(error, RunError::TooManyErrors { .. }), "{error}");
    assert_eq!(visible(&format!("{root}/out")), lines_of(&[("a", 12)]));
}

#[test]
fn another_cpu_level_is_refused_by_name() {
    let (root, plan) = fresh("cpu");
    let first = run(&plan, IfExists::Resume).unwrap();
    let path = format!("_anabranch/runs/{}/run.json", folder_of(&first.run));
    let text = objects(&format!("{root}/out"), "run.json").into_values().next().unwrap();
    let mut record: RunRecord = serde_json::from_str(&text).unwrap();
    record.cpu = "x86_64+none".to_owned();
    put(&format!("{root}/out"), &path, &serde_json::to_string(&record).unwrap());
    let error = refused(&plan, IfExists::Resume);
    assert!(error.contains("another CPU feature level (x86_64+none"), "{error}");
}

#[test]
fn foreign_data_is_refused_added_to_or_replaced() {
    let (root, plan) = fresh("foreign");
    let foreign = || {
        put(&format!("{root}/out"), "data/theirs.txt", "theirs\n");
        put(&format!("{root}/out"), "visible/theirs", "data/theirs.txt\n");
    };
    foreign();
    for if_exists in [IfExists::Resume, IfExists::Error] {
        assert!(refused(&plan, if_exists).contains("no run of this state wrote"));
    }
    assert_eq!(run(&plan, IfExists::Append).unwrap().chosen, Chosen::Appended);
    assert_eq!(rows(&root), 13);
    assert_eq!(run(&plan, IfExists::Overwrite).unwrap().chosen, Chosen::Overwrote);
    assert_eq!(rows(&root), 12);
}

#[test]
fn a_run_that_was_killed_before_its_first_commit_goes_on() {
    let (root, plan) = fresh("early");
    let id = killed(&root, &plan, IfExists::Resume);
    // Its listing had `b` in it from the start.
    let report = run(&plan, IfExists::Resume).unwrap();
    assert_eq!((report.run, rows(&root)), (id, 13));
}

#[test]
fn two_starts_at_the_same_moment_are_one_run() {
    let (root, plan) = fresh("race");
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let plan = Arc::clone(&plan);
            std::thread::spawn(move || run(&plan, IfExists::Resume))
        })
        .collect();
    let ends: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    assert!(ends.iter().any(Result::is_ok), "{ends:?}");
    assert_eq!(run(&plan, IfExists::Resume).unwrap().ending, Ending::AlreadyComplete);
    assert_eq!(visible(&format!("{root}/out")), lines_of(&[("a", 12)]));
    assert_eq!(objects(&format!("{root}/out"), "run.json").len(), 1);
}

#[test]
fn every_sink_is_looked_at() {
    let root = "memory://exists-second";
    put_lines(&format!("{root}/in"), "a", 3);
    put(&format!("{root}/second"), "visible/theirs", "");
    let mut graph = Graph::new("two");
    let lines = graph.source("lines", Lines::of(&format!("{root}/in")));
    graph.sink("first", LinesSink::at(&format!("{root}/first")), &[lines]);
    graph.sink("second", LinesSink::at(&format!("{root}/second")), &[lines]);
    let plan = wait(Plan::new(graph, settings())).unwrap();
    assert!(refused(&plan, IfExists::Resume).contains("second"));
}

/// Two copies of the lines below `root/in`, with the run log beside them.
fn two_sinks(root: &str, second: &str) -> Arc<Plan> {
    let mut graph = Graph::new("two");
    let lines = graph.source("lines", Lines::of(&format!("{root}/in")));
    graph.sink("first", LinesSink::at(&format!("{root}/all/first")), &[lines]);
    graph.sink("second", LinesSink::at(second), &[lines]);
    graph.dead_letters(LinesSink::at(&format!("{root}/all/dead")));
    wait(Plan::new(graph, Settings { state: Some(format!("{root}/all")), ..settings() })).unwrap()
}

#[test]
fn a_job_whose_sink_was_moved_is_another_run() {
    let root = "memory://exists-moved";
    put_lines(&format!("{root}/in"), "a", 12);
    let (old, new) = (format!("{root}/old"), format!("{root}/all/new"));
    let first = run(&two_sinks(root, &old), IfExists::Resume).unwrap();
    let moved = two_sinks(root, &new);
    let error = refused(&moved, IfExists::Resume);
    assert!(
        error.contains("`second` writes to `memory://exists-moved/old`, not to `./new`")
            && error.contains("let `second` write to `memory://exists-moved/old` again"),
        "{error}"
    );
    assert!(objects(&new, "").is_empty());

    // Added to, it is a run of its own, and the new place is told nothing of the shards at the old one.
    let second = run(&moved, IfExists::Append).unwrap();
    assert_ne!(first.run, second.run);
    assert_eq!((visible(&new).len(), visible(&format!("{root}/all/first")).len()), (12, 24));
    assert_eq!(run(&moved, IfExists::Resume).unwrap().ending, Ending::AlreadyComplete);
}

#[test]
fn a_folder_that_is_copied_as_a_whole_holds_the_same_run() {
    let root = "memory://exists-copied";
    put_lines(&format!("{root}/in"), "a", 12);
    let plan = |all: &str| {
        let mut graph = Graph::new("whole");
        let lines = graph.source("lines", Lines::of(&format!("{root}/in")));
        graph.sink("out", LinesSink::at(all), &[lines]);
        graph.dead_letters(LinesSink::at(&format!("{all}/_anabranch/dead_letters")));
        wait(Plan::new(graph, settings())).unwrap()
    };
    let (here, there) = (format!("{root}/here"), format!("{root}/there"));
    let first = run(&plan(&here), IfExists::Resume).unwrap();
    for (path, text) in objects(&here, "") {
        put(&there, path.strip_prefix("here/").unwrap(), &text);
    }
    let again = run(&plan(&there), IfExists::Resume).unwrap();
    assert_eq!((again.run, again.ending), (first.run, Ending::AlreadyComplete));
}

#[test]
fn rows_are_added_though_the_log_of_the_first_run_was_deleted() {
    let (root, plan) = fresh("no-log");
    let out = format!("{root}/out");
    let first = run(&plan, IfExists::Resume).unwrap();
    for path in objects(&out, "_anabranch").keys() {
        crate::testing::delete(&out, path.strip_prefix("out/").unwrap());
    }
    let second = run(&plan, IfExists::Append).unwrap();
    assert_eq!((second.chosen, rows(&root)), (Chosen::Appended, 24));
    assert_eq!((folder_of(&first.run), folder_of(&second.run)), ("r1", "r1"));
    assert_ne!(first.run, second.run);
}

#[test]
fn two_different_jobs_that_start_at_the_same_moment_do_not_both_begin() {
    let (root, plan) = fresh("rivals");
    let other =
        copy(&root, Settings { part: PartSize { records: 4, bytes: 1 << 20 }, ..settings() });
    let starts: Vec<_> = [plan, other]
        .map(|plan| std::thread::spawn(move || run(&plan, IfExists::Resume)))
        .into_iter()
        .map(|start| start.join().unwrap())
        .collect();
    assert_eq!(starts.iter().filter(|end| end.is_ok()).count(), 1, "{starts:?}");
    assert_eq!(rows(&root), 12);
}

#[test]
fn a_run_that_failed_before_its_first_commit_stands_in_nobodys_way() {
    let (root, plan) = fresh("failed");
    run(&plan, IfExists::Resume).unwrap();
    // Another job appends, and fails before it has written anything.
    put(&format!("{root}/other"), "b", "bad\n");
    let mut graph = Graph::new("other");
    let lines = graph.source("lines", Lines::of(&format!("{root}/other")));
    graph.sink("out", LinesSink::at(&format!("{root}/out")), &[lines]);
    let other = wait(Plan::new(graph, settings())).unwrap();
    run(&other, IfExists::Append).unwrap_err();
    let again = run(&plan, IfExists::Resume).unwrap();
    assert_eq!((again.ending, rows(&root)), (Ending::AlreadyComplete, 12));
}
