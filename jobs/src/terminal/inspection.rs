//! A table as text: `anabranch inspect`.

use std::fmt::Write;

use super::number::{bytes, plural};
use crate::cli::{Column, Inspection, RunSeen};

/// What was seen of a table.
pub(crate) fn inspection(table: &Inspection) -> String {
    let mut out = format!(
        "{}\n  {} in {}, {}\n\ncolumns\n",
        table.location,
        plural(table.rows, "row"),
        plural(table.shards, "shard"),
        bytes(table.bytes)
    );
    let names = table.columns.iter().map(|column| column.name.len());
    let width = names.max().unwrap_or(0);
    for column in &table.columns {
        let _ = writeln!(out, "  {:<width$}  {}", column.name, kind(column));
    }
    out.push_str("\nruns\n");
    if table.runs.is_empty() {
        out.push_str(match table.location.strip_suffix("/_anabranch/dead_letters") {
            Some(_) => "  logged where the table of these dead letters is\n",
            None => {
                "  none logged here; a job with `state`, or with several sinks, logs elsewhere\n"
            }
        });
    }
    table.runs.iter().for_each(|seen| run(&mut out, seen));
    for (at, row) in table.first.iter().enumerate() {
        let _ = writeln!(out, "\nrow {}", at + 1);
        for (name, value) in row {
            let _ = writeln!(out, "  {name:<width$}  {value}");
        }
    }
    out
}

fn kind(column: &Column) -> String {
    format!("{}{}", column.kind, if column.nullable { "" } else { ", never null" })
}

fn run(out: &mut String, seen: &RunSeen) {
    let state = match (seen.complete, seen.overwrite) {
        (true, false) => "complete",
        (true, true) => "complete, replaced what was there",
        (false, _) if seen.superseded => "unfinished, and cannot go on: a newer run came after it",
        (false, _) => "unfinished: run the job again to go on",
    };
    let _ = writeln!(
        out,
        "  {} of {}, {}, {state}",
        seen.run,
        seen.job,
        plural(seen.commits, "commit")
    );
    for (sink, rows) in &seen.rows {
        let _ = writeln!(out, "    {} to {sink}", plural(*rows, "row"));
    }
    for (operator, told) in &seen.decisions {
        let _ = writeln!(out, "    {operator} decided: {told}");
    }
    if seen.dead_letters > 0 {
        let _ = writeln!(out, "    {}", plural(seen.dead_letters, "dead letter"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_table_of_two_runs() {
        let column = |name: &str, kind: &str, nullable| Column {
            name: name.into(),
            kind: kind.into(),
            nullable,
        };
        let run = |run: &str, complete, dead_letters| RunSeen {
            run: run.into(),
            job: "photos".into(),
            complete,
            superseded: false,
            overwrite: false,
            commits: 3,
            rows: [("table".to_owned(), 1998)].into(),
            decisions: BTreeMap::new(),
            dead_letters,
        };
        let row = vec![
            ("key".to_owned(), "a.png".to_owned()),
            ("image".to_owned(), "7.2 KiB from a.png".to_owned()),
        ];
        let table = Inspection {
            location: "file:///data/photos".into(),
            rows: 3996,
            shards: 8,
            bytes: 17_000_000,
            columns: vec![column("key", "Utf8", false), column("image", "image", true)],
            runs: vec![run("r1-5f0c9a12", true, 2), run("r2-5f0c9a12", false, 0)],
            first: vec![row],
        };
        insta::assert_snapshot!(inspection(&table));
    }

    #[test]
    fn a_run_that_a_newer_one_came_after_is_not_said_to_go_on() {
        let mut text = String::new();
        let seen = RunSeen {
            run: "r1-5f0c9a12".into(),
            job: "photos".into(),
            complete: false,
            superseded: true,
            overwrite: false,
            commits: 1,
            rows: [("table".to_owned(), 6152)].into(),
            dead_letters: 0,
            decisions: BTreeMap::new(),
        };
        run(&mut text, &seen);
        assert!(text.contains("cannot go on") && !text.contains("again"), "{text}");
    }
}
