//! A second run never vanishes into the first, whatever `if_exists` says.

use std::collections::BTreeSet;
use std::path::Path;

use anabranch_tests::program::{Ended, Job};
use anabranch_tests::table::Table;

use crate::{PROGRAM, example, folder, table};

/// The photos example in commits of four photos each.
fn photos(folder: &Path) -> Job {
    example(folder, "photos").small_commits(4)
}

fn again(job: &Job, choice: &str) -> Ended {
    job.clone().arg("--if-exists").arg(choice).run()
}

/// Everything below a folder, with contents, to see that nothing was touched.
fn state(table: &Table) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = table.visible();
    names.extend(table.runs().iter().map(|run| format!("{} {}", run.id, run.commits.len())));
    names
}

fn refused(ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    for text in says.iter().chain(&["--if-exists append", "--if-exists overwrite"]) {
        assert!(ended.err.contains(text), "`{text}` in {}", ended.err);
    }
}

#[test]
fn rerun_resume_of_a_complete_run_changes_nothing() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    job.succeed();
    let before = state(&table);
    for ended in [job.succeed(), again(&job, "resume")] {
        assert_eq!(ended.code, Some(0));
        assert!(ended.out.contains("already complete"), "{}", ended.out);
        assert!(ended.out.contains("--if-exists overwrite"), "{}", ended.out);
    }
    assert_eq!(state(&table), before);
}

#[test]
fn rerun_resume_refuses_another_job() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    job.succeed();
    let before = state(&table);
    let changed = job.set("operator.encode.quality", 50);
    refused(&changed.run(), &["complete run r1-", "of another plan"]);
    assert_eq!(state(&table), before);
}

#[test]
fn rerun_resume_refuses_other_input() {
    let folder = folder();
    let data = copied_photos(folder.path(), 5);
    let (job, table) = (photos(folder.path()).set("data", data.display()), table(folder.path()));
    job.succeed();
    let before = state(&table);
    std::fs::remove_file(data.join("photos/kodim02.png")).unwrap();
    refused(&job.run(), &["complete run r1-", "of other input files"]);
    assert_eq!(state(&table), before);
    // The choices that the message names work.
    assert_eq!(again(&job, "append").code, Some(0));
    assert_eq!(table.visible_rows(), 5 + 4);
    table.check("table");
}

#[test]
fn rerun_resume_refuses_an_unfinished_run_of_another_job() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    kill_after_commits(&job, &table, 1);
    let changed = job.clone().set("operator.encode.quality", 50);
    refused(&changed.run(), &["unfinished run r1-", "of another plan", "as it was to finish it"]);
    // Its own job still goes on.
    let ended = job.succeed();
    assert!(ended.out.contains("went on after commit"), "{}", ended.out);
    table.check("table");
    assert_eq!(table.visible_rows(), 15);
}

#[test]
fn rerun_resume_refuses_data_that_no_run_wrote() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    job.succeed();
    std::fs::remove_dir_all(table.path.join("_anabranch")).unwrap();
    refused(&job.run(), &["holds data that no run"]);
    assert_eq!(table.visible_rows(), 15);
}

#[test]
fn rerun_append_adds_each_time_it_is_asked() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    job.succeed();
    for times in 2..4 {
        assert_eq!(again(&job, "append").code, Some(0));
        table.check("table");
        assert_eq!((table.visible_rows(), table.runs().len()), (15 * times, times));
    }
}

#[test]
fn rerun_append_that_was_killed_goes_on() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    job.succeed();
    kill_after_commits(&job.clone().arg("--if-exists").arg("append"), &table, 1);
    assert_eq!(again(&job, "append").code, Some(0));
    table.check("table");
    assert_eq!((table.visible_rows(), table.runs().len()), (30, 2));
}

#[test]
fn rerun_overwrite_shows_the_old_rows_until_the_first_commit() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    job.succeed();
    let old = table.visible();
    let new = job.clone().set("operator.encode.quality", 50);
    let overwrite = new.clone().arg("--if-exists").arg("overwrite");
    let mut running = overwrite.start();
    // Killed between its registration and its first commit, if the machine is so kind; the table is
    // either the old one or holds whole commits of the new one.
    while table.runs().len() < 2 && !running.has_ended() {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    running.kill();
    if table.commits() == 0 {
        assert_eq!(table.visible(), old);
    }
    overwrite.succeed();
    table.check("table");
    assert!(table.visible().is_disjoint(&old), "nothing old is visible");
    assert_eq!((table.visible_rows(), table.runs().len()), (15, 2));
}

#[test]
fn rerun_overwrite_of_a_complete_overwrite_is_done_again() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    for times in 1..4 {
        assert_eq!(again(&job, "overwrite").code, Some(0));
        table.check("table");
        assert_eq!((table.visible_rows(), table.runs().len()), (15, times));
    }
}

#[test]
fn rerun_error_takes_only_an_empty_place() {
    let folder = folder();
    let (job, table) = (photos(folder.path()), table(folder.path()));
    assert_eq!(again(&job, "error").code, Some(0));
    let before = state(&table);
    refused(&again(&job, "error"), &["complete run r1-"]);
    assert_eq!(state(&table), before);
}

/// A folder `data` with the first photos in `data/photos`.
fn copied_photos(folder: &Path, photos: usize) -> std::path::PathBuf {
    let data = folder.join("data");
    std::fs::create_dir_all(data.join("photos")).unwrap();
    for photo in 1..=photos {
        let name = format!("photos/kodim{photo:02}.png");
        std::fs::copy(anabranch_tests::program::data().join(&name), data.join(&name)).unwrap();
    }
    data
}

/// Starts the job and kills it once its run has so many commits.
fn kill_after_commits(job: &Job, table: &Table, commits: usize) {
    let before = table.runs().len();
    let job = job.clone().set("job.threads", 1).set("job.open_commits", 1);
    let mut running = job.start();
    while table.runs().len() == before || table.commits() < commits {
        assert!(!running.has_ended(), "the job ended before commit {commits}");
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    running.kill();
    let last = table.runs().pop().unwrap().commits.pop().unwrap();
    assert!(!last.last, "the job was killed too late");
}

#[test]
fn rerun_over_names_of_files_that_collided_is_not_stuck() {
    let folder = folder();
    std::fs::write(folder.path().join("lines.txt"), "one\ntwo\nthree\n").unwrap();
    let text = "[job]\nname = 'lines'\npart = { records = 3 }\ncommit = { parts = 1 }\n[vars]\nout = 'out'\npasses = 2\n\
                [source.lines]\nkind = 'text'\npath = 'lines.txt'\norder = { passes = '${passes}' }\n\
                [sink.files]\nkind = 'files'\npath = '${out}'\ninputs = ['lines']\n";
    let job = Job::text(PROGRAM, folder.path(), text).out("files");
    // The second pass has the keys of the first. It is refused before the run log names it, again and again.
    for _ in 0..2 {
        let ended = job.clone().run();
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains("would be written by two records"), "{}", ended.err);
    }
    job.set("passes", 1).arg("--if-exists").arg("overwrite").succeed();
    let files = folder.path().join("files/data").read_dir().unwrap().count();
    assert_eq!(files, 3);
}
