//! Progress off a terminal: one line now and then.

use anabranch_pipelines::progress::Progress;
use serde_json::json;

use super::learning::figures;
use super::number::{bytes, count, plural, rate, records, seconds};

/// One line of text.
pub fn line(progress: &Progress) -> String {
    let sources = || progress.nodes.iter().filter(|node| node.role == "source");
    let read: u64 = sources().map(|node| node.records_out).sum();
    let wrote: u64 = progress.nodes.iter().filter(|n| n.role == "sink").map(|n| n.bytes_out).sum();
    let refused: u64 = progress.nodes.iter().map(|node| node.dead_letters).sum();
    let mut parts = vec![match progress.records_total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = (100.0 * read as f64 / total as f64).min(100.0);
            format!("{} of {} ({percent:.0} %)", count(read), records(total))
        }
        None => records(read),
    }];
    parts.extend(rate(read, progress.seconds));
    parts.push(format!("{} written", bytes(wrote)));
    parts.push(plural(progress.commits, "commit"));
    if refused > 0 {
        parts.push(plural(refused, "dead letter"));
    }
    if progress.waiting_splits > 0 {
        let splits = plural(progress.waiting_splits, "split");
        parts.push(format!("{splits} ({}) waiting", bytes(progress.waiting_bytes)));
    }
    for node in progress.nodes.iter().filter(|node| !node.figures.is_empty()) {
        parts.push(format!("{} {}", node.name, figures(node).join(" ")));
    }
    if let Some(node) = super::slowest(progress) {
        parts.push(format!("slowest {}", node.name));
    }
    if let Some(left) = remaining(progress) {
        parts.push(format!("{} left", seconds(left)));
    }
    parts.join(", ")
}

/// Seconds until the sources are read, at the speed so far.
pub(super) fn remaining(progress: &Progress) -> Option<f64> {
    let read: u64 =
        progress.nodes.iter().filter(|n| n.role == "source").map(|n| n.records_out).sum();
    let left = progress.records_total?.checked_sub(read).filter(|left| *left > 0)?;
    (read > 0 && progress.seconds > 1.0).then(|| left as f64 * progress.seconds / read as f64)
}

/// The same as a JSON object on one line.
pub fn json_line(progress: &Progress) -> String {
    let mut value = serde_json::to_value(progress).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("event".into(), json!("progress"));
        object.insert("seconds_left".into(), json!(remaining(progress)));
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::sample;

    #[test]
    fn a_line_names_what_matters() {
        insta::assert_snapshot!(line(&sample::complete().progress));
    }

    #[test]
    fn a_line_has_what_operators_show() {
        let line = line(&sample::learned().progress);
        assert!(line.contains(", learn step 1,200/2,000 loss 1.834 validation 1.791"), "{line}");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let value: serde_json::Value =
            serde_json::from_str(&json_line(&sample::complete().progress)).unwrap();
        assert_eq!(value["event"], "progress");
        assert_eq!(value["seconds_left"], 5.5);
    }

    #[test]
    fn the_lag_of_a_stream_is_told() {
        let lags = Progress { waiting_splits: 3, waiting_bytes: 2_000_000, ..Progress::default() };
        let waiting = format!(", 3 splits ({}) waiting", bytes(2_000_000));
        assert!(line(&lags).ends_with(&waiting), "{}", line(&lags));
    }

    #[test]
    fn nothing_read_yet_is_no_division_by_zero() {
        assert_eq!(line(&Progress::default()), "0 records, 0 B written, 0 commits");
    }
}
