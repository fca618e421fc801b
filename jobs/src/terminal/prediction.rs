//! A sample as text: what was measured, and what that says of the whole.

use std::fmt::Write;

use anabranch_pipelines::progress::Report;

use super::number::{bytes, count, plural, ratio, records, seconds};
use super::report::operators;
use crate::cli::Prediction;

/// The measured sample and the predicted whole.
pub(crate) fn sample(report: &Report, whole: &Prediction) -> String {
    let nodes = &report.progress.nodes;
    let read = || nodes.iter().filter(|node| node.role == "source");
    let (rows, size): (u64, u64) =
        (read().map(|n| n.records_out).sum(), read().map(|n| n.bytes_out).sum());
    let mut out =
        format!("{}: a sample of {} was run; nothing was kept\n", report.job, records(rows));
    let row = |out: &mut String, name: &str, text: String| {
        let _ = writeln!(out, "  {name:<13}{text}");
    };
    out.push_str("\nmeasured\n");
    row(&mut out, "read", format!("{}, {}", records(rows), bytes(size)));
    let written: u64 = report.outputs.values().map(|output| output.bytes).sum();
    for (name, output) in &report.outputs {
        row(
            &mut out,
            "written",
            format!("{} to {name}, {}", plural(output.rows, "row"), bytes(output.bytes)),
        );
    }
    if let Some(ratio) = ratio(size, written) {
        row(&mut out, "size", ratio);
    }
    row(&mut out, "time", seconds(report.progress.seconds));
    operators(&mut out, report);
    for example in &report.dead_letter_examples {
        row(&mut out, "refused", example.clone());
    }
    out.push_str("\npredicted for the whole\n");
    let how = if whole.counted { "counted" } else { "estimated from the bytes listed" };
    row(&mut out, "read", format!("{} ({how})", records(whole.records.round() as u64)));
    for (name, rows, size) in &whole.outputs {
        let rows = plural(rows.round() as u64, "row");
        row(&mut out, "written", format!("{rows} to {name}, {}", bytes(*size as u64)));
    }
    if whole.dead_letters > 0.0 {
        let refused = count(whole.dead_letters.round() as u64);
        row(&mut out, "refused", format!("{refused}, kept as dead letters"));
    }
    let (least, most) = (seconds(whole.least_seconds), seconds(whole.most_seconds));
    row(&mut out, "time", if least == most { most } else { format!("{least} to {most}") });
    row(&mut out, "memory", format!("{} at most", bytes(whole.peak as u64)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::sample as examples;

    #[test]
    fn a_sample_and_the_whole() {
        let whole = Prediction {
            records: 1_000_000.0,
            counted: false,
            outputs: vec![("table".into(), 999_000.0, 4.25e9)],
            dead_letters: 1000.0,
            least_seconds: 2440.0,
            most_seconds: 2750.0,
            peak: 400e6,
        };
        insta::assert_snapshot!(sample(&examples::complete(), &whole));
    }
}
