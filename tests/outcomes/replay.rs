//! What a run refused goes in again where it was refused, once, when the job can take it.

use anabranch_tests::program::Job;
use anabranch_tests::table::assert_same;

use crate::{PROGRAM, example, folder, table};

#[test]
fn replay_adds_what_a_mended_job_takes_and_nothing_twice() {
    let folder = folder();
    let job = example(folder.path(), "photos").small_commits(4);
    let strict = job.clone().set("operator.decode.limits.pixels", 600_000);
    strict.succeed();
    let refused = table(folder.path()).dead_letters();
    let taken = table(folder.path()).visible_rows();
    assert!(!refused.is_empty() && taken > 0, "{taken} rows, {refused:?}");
    assert!(refused.iter().all(|(_, operator, _)| operator == "decode"), "{refused:?}");

    // The job as it is refuses them again; nothing is added, and nothing is lost.
    let again = strict.clone().replay().succeed();
    assert!(
        again.out.contains(&format!("{} that `decode` refused", refused.len())),
        "{}",
        again.out
    );
    assert_eq!(table(folder.path()).visible_rows(), taken);

    let mended = job.clone().replay();
    let ended = mended.succeed();
    assert!(ended.out.contains("is complete"), "{}", ended.out);
    assert_eq!(table(folder.path()).visible_rows(), taken + refused.len());
    let once_more = mended.succeed();
    assert!(once_more.out.contains("already complete"), "{}", once_more.out);
    table(folder.path()).check("table");

    // Together they are what a job that could take everything writes.
    let whole = self::folder();
    example(whole.path(), "photos").succeed();
    let (found, expected) = (table(folder.path()).sorted(), table(whole.path()).sorted());
    assert_same(&found, &expected, "replayed photos");
}

/// Byte offsets of a file that was edited name other bytes: half a row was replayed as a row of its own.
#[test]
fn replay_of_places_in_a_changed_file_is_refused() {
    let folder = folder();
    let file = folder.path().join("people.csv");
    std::fs::write(&file, "name,age\nann\nbob,4\ncy\ndeb,1234\n").unwrap();
    let text = "[job]\nname = 'people'\n\n[vars]\nout = 'table'\n\n[source.rows]\nkind = 'csv'\npath = 'people.csv'\n\n\
                [sink.table]\nkind = 'table'\npath = '${out}'\ninputs = ['rows']\n";
    let job = Job::text(PROGRAM, folder.path(), text).out("table");
    job.succeed();
    assert_eq!(table(folder.path()).visible_rows(), 2);
    let replay = job.replay();
    std::fs::write(&file, "name,age\nann,333\nbob,4\ncy,5\ndeb,1234\n").unwrap();
    let ended = replay.run();
    assert!(ended.out.contains("the input changed"), "{}{}", ended.out, ended.err);
    assert_eq!(table(folder.path()).visible_rows(), 2);
}
