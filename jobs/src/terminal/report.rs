//! The final report, for a person who sees it for the first time.

use std::fmt::Write;

use anabranch_pipelines::progress::{Chosen, Ending, NodeProgress, Report};

use super::number::{bytes, count, plural, rate, ratio, records, seconds};

/// What a start does about what is at the destination.
pub(crate) fn started(job: &str, run: &str, chosen: Chosen, resumed_after: Option<u64>) -> String {
    let does = match (chosen, resumed_after) {
        (_, Some(commit)) => format!("goes on after commit {commit} of an earlier start"),
        (Chosen::Resumed, None) => "was begun by an earlier start, which committed nothing".into(),
        (Chosen::Began, None) => "is new".into(),
        (Chosen::Appended, None) => "adds to whatever is there".into(),
        (Chosen::Overwrote, None) => "replaces whatever is there with its first commit".into(),
        (Chosen::Replayed, None) => "feeds in again what another run refused".into(),
        (Chosen::Nothing, None) => "is complete already".into(),
    };
    format!("{job}: run {run} {does}")
}

/// The report as text, ending in a newline.
pub fn report(report: &Report) -> String {
    let mut out = String::new();
    heading(&mut out, report);
    if report.ending != Ending::AlreadyComplete {
        figures(&mut out, report);
        operators(&mut out, report);
        super::learning::curves(&mut out, report);
    }
    decisions(&mut out, report);
    outputs(&mut out, report);
    dead_letters(&mut out, report);
    next(&mut out, report);
    out
}

fn nodes<'a>(report: &'a Report, role: &'static str) -> impl Iterator<Item = &'a NodeProgress> {
    report.progress.nodes.iter().filter(move |node| node.role == role)
}

fn heading(out: &mut String, report: &Report) {
    let Report { job, run, .. } = report;
    let _ = match report.ending {
        Ending::Complete if report.refused_all() => {
            writeln!(out, "{job} is complete (run {run}), but every record was refused")
        }
        Ending::Complete => writeln!(out, "{job} is complete (run {run})"),
        Ending::AlreadyComplete => {
            writeln!(out, "{job} is already complete (run {run}); nothing was done")
        }
        Ending::Cancelled => {
            writeln!(out, "{job} was stopped (run {run}); what was committed stays")
        }
    };
    if let (false, Some(commit)) = (report.ending == Ending::AlreadyComplete, report.resumed_after)
    {
        let _ = writeln!(out, "It went on after commit {commit} of an earlier start.");
    }
}

fn row(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "  {name:<13}{text}");
}

fn figures(out: &mut String, report: &Report) {
    out.push('\n');
    for node in nodes(report, "source") {
        row(out, "read", &format!("{} from {}", records(node.records_out), node.name));
    }
    for node in nodes(report, "sink") {
        let text =
            format!("{}, {} to {}", records(node.records_in), bytes(node.bytes_out), node.name);
        row(out, "written", &text);
    }
    if let Some(size) = size(report) {
        row(out, "size", &size);
    }
    let total: u64 = nodes(report, "source").map(|node| node.records_out).sum();
    let time = report.progress.seconds;
    let speed = rate(total, time).map(|rate| format!(", {rate}")).unwrap_or_default();
    row(out, "time", &format!("{}{speed}", seconds(time)));
    let memory = format!(
        "{} of CPU, {} of memory at its peak{} (the job's credit is {})",
        seconds(report.cpu_seconds),
        bytes(report.peak_rss),
        match report.processes {
            0 | 1 => String::new(),
            processes => format!(" in {processes} processes"),
        },
        bytes(report.credit)
    );
    row(out, "used", &memory);
}

/// What the input took where it was stored, and what it takes now: told where every record that was read was
/// also written, or refused, so that the two are of the same records.
fn size(report: &Report) -> Option<String> {
    let before = report.progress.bytes_total?;
    let read: u64 = nodes(report, "source").map(|node| node.records_out).sum();
    let mut sinks = nodes(report, "sink");
    let (sink, None) = (sinks.next()?, sinks.next()) else { return None };
    let refused: u64 = report.progress.nodes.iter().map(|node| node.dead_letters).sum();
    if report.resumed || report.ending != Ending::Complete || sink.records_in + refused < read {
        return None;
    }
    let ratio = ratio(before, sink.bytes_out)?;
    Some(format!("{} before, {} now: {ratio}", bytes(before), bytes(sink.bytes_out)))
}

pub(super) fn operators(out: &mut String, report: &Report) {
    let operators: Vec<&NodeProgress> = nodes(report, "operator").collect();
    if operators.is_empty() {
        return;
    }
    let width = operators.iter().map(|node| node.name.len()).max().unwrap_or(0).max(8);
    let slowest = super::slowest(&report.progress).map(|node| node.name.as_str());
    let _ = writeln!(
        out,
        "\n  {:<width$}  {:>11}  {:>10}  {:>10}  {:>11}",
        "operator", "records", "in", "out", "busy"
    );
    for node in operators {
        let mark = if slowest == Some(node.name.as_str()) { "  slowest" } else { "" };
        let _ = writeln!(
            out,
            "  {:<width$}  {:>11}  {:>10}  {:>10}  {:>11}{mark}",
            node.name,
            count(node.records_in),
            bytes(node.bytes_in),
            bytes(node.bytes_out),
            seconds(node.busy_seconds),
        );
    }
}

fn decisions(out: &mut String, report: &Report) {
    if report.decisions.is_empty() {
        return;
    }
    out.push_str("\n  decided before the run, from its first records\n");
    for (operator, told) in &report.decisions {
        let _ = writeln!(out, "    {operator}: {told}");
    }
}

fn outputs(out: &mut String, report: &Report) {
    if report.outputs.is_empty() {
        return;
    }
    out.push('\n');
    for (name, output) in &report.outputs {
        let _ = writeln!(out, "  {name}: {}", output.location);
        let rows = plural(output.rows, "row");
        let _ = writeln!(
            out,
            "    {rows} in {}, {}",
            plural(output.shards, "shard"),
            bytes(output.bytes)
        );
    }
}

fn dead_letters(out: &mut String, report: &Report) {
    let Report { refused, dead_letters: Some(location), .. } = report else { return };
    // What a source cannot read may be one record, or all that is left of a file: it cannot know how many.
    let may_be_files = nodes(report, "source").any(|node| node.dead_letters > 0);
    let what = match (may_be_files, *refused) {
        (true, 1) => {
            "1 record, or the rest of a file, was refused; it is kept as a dead letter at".into()
        }
        (true, n) => {
            format!(
                "{}, or rests of files, were refused; they are kept as dead letters at",
                records(n)
            )
        }
        (false, 1) => "1 record refused; nothing is lost, it is kept as a dead letter at".into(),
        (false, n) => {
            format!("{} refused; nothing is lost, they are kept as dead letters at", records(n))
        }
    };
    let _ = writeln!(out, "\n  {what}\n    {location}");
    for example in &report.dead_letter_examples {
        let _ = writeln!(out, "    - {example}");
    }
    let _ = writeln!(
        out,
        "  Look at them:            anabranch inspect {location}\n  \
           Once the job takes them: anabranch replay, with the same job file"
    );
}

fn next(out: &mut String, report: &Report) {
    match report.ending {
        Ending::Cancelled => {
            out.push_str("\nRun the same command again to go on from there.\n");
            return;
        }
        Ending::AlreadyComplete => {
            out.push_str(
                "\nTo do it again: --if-exists overwrite\nTo add to it:   --if-exists append\n",
            );
        }
        Ending::Complete => {}
    }
    if nodes(report, "sink").any(|node| node.kind == "table") {
        out.push_str(
            "\nA table is Parquet under a Delta log: open it with Polars (read_delta), DuckDB\n",
        );
        out.push_str("(delta_scan), Spark, or anything else that reads Delta Lake.\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::sample;

    #[test]
    fn a_complete_run() {
        insta::assert_snapshot!(report(&sample::complete()));
    }

    #[test]
    fn decisions_are_told() {
        let mut decided = sample::complete();
        let told = "webp, quality 60: it loses 0.2% of classify accuracy (Q_infer)";
        decided.decisions.insert("shrink".into(), told.into());
        assert!(report(&decided).contains(&format!("    shrink: {told}\n")));
        assert!(!report(&sample::complete()).contains("decided"));
    }

    #[test]
    fn what_was_chosen_is_told() {
        let told = |chosen, after| started("photos", "r1-a", chosen, after);
        assert_eq!(told(Chosen::Began, None), "photos: run r1-a is new");
        // The number says nothing of what is there: the log of earlier runs may be gone.
        assert!(told(Chosen::Appended, None).ends_with("adds to whatever is there"));
        assert!(told(Chosen::Overwrote, None).contains("replaces"));
        assert!(told(Chosen::Resumed, Some(3)).contains("after commit 3"));
        assert!(told(Chosen::Resumed, None).contains("committed nothing"));
    }

    #[test]
    fn a_second_run() {
        let mut second = sample::complete();
        second.ending = Ending::AlreadyComplete;
        (second.resumed, second.resumed_after) = (true, Some(2));
        // This start refused nothing, the run did.
        second.progress.nodes.iter_mut().for_each(|node| node.dead_letters = 0);
        second.dead_letter_examples.clear();
        insta::assert_snapshot!(report(&second));
    }

    #[test]
    fn a_stopped_and_resumed_run() {
        let mut stopped = sample::complete();
        stopped.ending = Ending::Cancelled;
        (stopped.resumed, stopped.resumed_after) = (true, Some(3));
        insta::assert_snapshot!(report(&stopped));
    }

    #[test]
    fn a_file_that_a_source_refuses_is_not_told_as_one_record_of_which_nothing_is_lost() {
        let mut unread = sample::complete();
        unread.refused = 1;
        for node in &mut unread.progress.nodes {
            node.dead_letters = u64::from(node.role == "source");
        }
        let text = report(&unread);
        assert!(text.contains("1 record, or the rest of a file, was refused"), "{text}");
        assert!(!text.contains("nothing is lost"), "{text}");
    }

    #[test]
    fn an_empty_run_divides_by_nothing() {
        let mut empty = sample::complete();
        empty.progress = Default::default();
        empty.outputs.clear();
        assert!(!report(&empty).contains("NaN"));
    }
}
