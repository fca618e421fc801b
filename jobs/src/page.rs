//! A run on one page: what a colleague is shown of a dataset that was made smaller.
//!
//! The page needs nothing else: pictures stand in it. What it says comes from the run's report; examples are drawn by
//! whoever has the records.
//!
//! ```
//! use anabranch::page::{Example, Page};
//! # use anabranch_pipelines::progress::{Chosen, Ending, Progress, Report};
//! # let report: Report = serde_json::from_value(serde_json::json!({
//! #     "job": "photos", "run": "r1", "ending": "complete", "resumed": false, "resumed_after": null, "class": "pure",
//! #     "cpu": "v4", "progress": Progress::default(), "outputs": {}, "dead_letters": null, "dead_letter_examples": [],
//! #     "cpu_seconds": 1.0, "peak_rss": 1,
//! # })).unwrap();
//! let example = Example::Texts { column: "caption".into(), before: None, after: vec!["A <b>old</b> cat".into()] };
//! let html = Page { report: &report, examples: vec![example] }.html();
//! assert!(html.contains("<h1>photos</h1>") && html.contains("A &lt;b&gt;old&lt;/b&gt; cat"));
//! ```

use std::fmt::Write;

use anabranch_pipelines::progress::{NodeProgress, Report};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::terminal::{bytes, count, plural, seconds};

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2.5rem auto; padding: 0 1.2rem; color: #222; }
h1 { margin-bottom: 0; }
h2 { margin-top: 2.2rem; }
.lead { font-size: 1.35rem; margin: 0.6rem 0 1.4rem; }
table { border-collapse: collapse; margin: 0.8rem 0; }
th, td { padding: 0.25rem 1.1rem 0.25rem 0; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.bar { height: 1.1rem; background: #7b4f9d; margin: 0.2rem 0; min-width: 2px; }
.bar.before { background: #c9c3cf; }
figure { margin: 1rem 0; }
figcaption, .note { color: #666; }
img { max-width: 100%; height: auto; }
blockquote { margin: 0.6rem 0; padding-left: 1rem; border-left: 3px solid #c9c3cf; white-space: pre-wrap; }
";

/// Some records of a column, as they were read (if they could be found again) and as the table gives them back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Example {
    /// Pictures, or spectrograms of sounds: PNG files of sheets.
    Sheets {
        /// The column.
        column: String,
        /// Of what was read.
        before: Option<Vec<u8>>,
        /// Of what the table holds.
        after: Vec<u8>,
    },
    /// Beginnings of texts.
    Texts {
        /// The column.
        column: String,
        /// Of what was read.
        before: Option<Vec<String>>,
        /// Of what the table holds.
        after: Vec<String>,
    },
}

/// A run and its examples.
#[derive(Debug)]
pub struct Page<'a> {
    /// What the run came to.
    pub report: &'a Report,
    /// To look at.
    pub examples: Vec<Example>,
}

impl Page<'_> {
    /// The page.
    pub fn html(&self) -> String {
        let title = escaped(&self.report.job);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        );
        self.sizes(&mut out);
        self.decisions(&mut out);
        self.examples(&mut out);
        self.work(&mut out);
        self.origin(&mut out);
        out.push_str("</body>\n</html>\n");
        out
    }

    fn nodes(&self, role: &'static str) -> impl Iterator<Item = &NodeProgress> {
        self.report.progress.nodes.iter().filter(move |node| node.role == role)
    }

    /// Bytes before and after, which is what one looks for first.
    fn sizes(&self, out: &mut String) {
        let rows: u64 = self.report.outputs.values().map(|output| output.rows).sum();
        let after: u64 = self.report.outputs.values().map(|output| output.bytes).sum();
        let Some(before) = self.report.progress.bytes_total.filter(|before| *before > 0) else {
            let _ = writeln!(
                out,
                "<p class=\"lead\">{} in {}.</p>",
                escaped(&plural(rows, "record")),
                bytes(after)
            );
            return;
        };
        let smaller = match after {
            0 => String::new(),
            after if after <= before => {
                format!(": {:.1} times smaller", before as f64 / after as f64)
            }
            after => format!(": {:.1} times larger", after as f64 / before as f64),
        };
        let _ = writeln!(
            out,
            "<p class=\"lead\">{} from {} to {}{smaller}.</p>",
            plural(rows, "record"),
            bytes(before),
            bytes(after)
        );
        let most = before.max(after).max(1) as f64;
        for (class, name, size) in [(" before", "read", before), ("", "stored", after)] {
            let _ = writeln!(
                out,
                "<div>{name}: {}</div><div class=\"bar{class}\" style=\"width: {:.1}%\"></div>",
                bytes(size),
                100.0 * size as f64 / most
            );
        }
    }

    /// What was chosen by measuring, with its loss.
    fn decisions(&self, out: &mut String) {
        if self.report.decisions.is_empty() {
            out.push_str(
                "<p class=\"note\">No setting was chosen by a task: what a model loses by it, if it loses anything, was not \
                 measured in this run.</p>\n",
            );
            return;
        }
        out.push_str("<h2>What was decided</h2>\n");
        for (operator, told) in &self.report.decisions {
            let _ = writeln!(out, "<p><b>{}</b>: {}</p>", escaped(operator), escaped(told));
        }
    }

    fn examples(&self, out: &mut String) {
        if self.examples.is_empty() {
            return;
        }
        out.push_str("<h2>The first records</h2>\n");
        for example in &self.examples {
            match example {
                Example::Sheets { column, before, after } => {
                    for (png, what) in [(before.as_ref(), "as read"), (Some(after), "as stored")] {
                        let Some(png) = png else { continue };
                        let _ = writeln!(
                            out,
                            "<figure><img alt=\"{0}, {what}\" src=\"data:image/png;base64,{1}\">\
                             <figcaption>{0}, {what}</figcaption></figure>",
                            escaped(column),
                            STANDARD.encode(png)
                        );
                    }
                }
                Example::Texts { column, before, after } => {
                    // Texts come back as they were, so once is enough; if not, both are to be seen.
                    let other = before.as_ref().filter(|before| *before != after);
                    for (texts, what) in [(other, "as read"), (Some(after), "as stored")] {
                        let Some(texts) = texts else { continue };
                        let _ = writeln!(out, "<p class=\"note\">{}, {what}</p>", escaped(column));
                        for text in texts {
                            let _ = writeln!(out, "<blockquote>{}</blockquote>", escaped(text));
                        }
                    }
                }
            }
        }
    }

    /// Where the time went.
    fn work(&self, out: &mut String) {
        let busy: Vec<&NodeProgress> =
            self.nodes("operator").filter(|node| node.busy_seconds > 0.0).collect();
        if busy.is_empty() {
            return;
        }
        out.push_str(
            "<h2>Where the time went</h2>\n<table>\n<tr><th>operator</th><th>records</th><th>bytes in</th>\
             <th>bytes out</th><th>thread time</th><th>of a record</th><th>refused</th></tr>\n",
        );
        for node in busy {
            let each = 1e3 * node.busy_seconds / node.records_in.max(1) as f64;
            let _ = writeln!(
                out,
                "<tr><td>{} ({})</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{each:.2} ms</td>\
                 <td>{}</td></tr>",
                escaped(&node.name),
                escaped(&node.kind),
                count(node.records_in),
                bytes(node.bytes_in),
                bytes(node.bytes_out),
                seconds(node.busy_seconds),
                count(node.dead_letters)
            );
        }
        out.push_str("</table>\n");
        let _ = writeln!(
            out,
            "<p>The run took {} and {} of processor time.</p>",
            seconds(self.report.progress.seconds),
            seconds(self.report.cpu_seconds)
        );
    }

    fn origin(&self, out: &mut String) {
        out.push_str("<h2>Where it is</h2>\n");
        for (sink, output) in &self.report.outputs {
            let _ = writeln!(
                out,
                "<p><b>{}</b>: <code>{}</code>, {} in {}</p>",
                escaped(sink),
                escaped(&output.location),
                plural(output.rows, "record"),
                plural(output.shards, "shard")
            );
        }
        if self.report.refused > 0 {
            let place = self.report.dead_letters.as_deref().unwrap_or("a table of dead letters");
            let _ = writeln!(
                out,
                "<p>{} refused; with the reasons in <code>{}</code></p>",
                plural(self.report.refused, "record"),
                escaped(place)
            );
        }
        let _ = writeln!(
            out,
            "<p class=\"note\">Run {} of a job that is {}.</p>",
            escaped(&self.report.run),
            escaped(&self.report.class)
        );
    }
}

/// Text as it stands between tags and in attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_pipelines::progress::{Output, Progress};

    fn report() -> Report {
        let progress = Progress { bytes_total: Some(4 << 20), ..Progress::default() };
        let mut report: Report = serde_json::from_value(serde_json::json!({
            "job": "a & b", "run": "r1", "ending": "complete", "resumed": false, "resumed_after": null,
            "class": "pure", "cpu": "v4", "progress": progress, "outputs": {}, "dead_letters": null,
            "dead_letter_examples": [], "cpu_seconds": 1.0, "peak_rss": 1,
        }))
        .unwrap();
        let output = Output { location: "file:///t".into(), shards: 1, rows: 1200, bytes: 1 << 20 };
        report.outputs.insert("table".into(), output);
        report
    }

    #[test]
    fn sizes_come_first_and_a_choice_is_told() {
        let mut report = report();
        let page = Page { report: &report, examples: Vec::new() }.html();
        assert!(page.contains("1,200 records from 4 MiB to 1 MiB: 4.0 times smaller"), "{page}");
        assert!(page.contains("width: 25.0%") && page.contains("a &amp; b"));
        assert!(page.contains("was not measured in this run"));
        report.decisions.insert("opus".into(), "opus, bitrate 8: it loses 0.2%".into());
        report.refused = 3;
        let page = Page { report: &report, examples: Vec::new() }.html();
        assert!(page.contains("it loses 0.2%") && page.contains("3 records refused"), "{page}");
    }

    #[test]
    fn pictures_stand_in_the_page_and_equal_texts_once() {
        let report = report();
        let sheets = Example::Sheets { column: "image".into(), before: None, after: vec![1, 2, 3] };
        let same = vec!["one".to_owned()];
        let texts =
            Example::Texts { column: "text".into(), before: Some(same.clone()), after: same };
        let page = Page { report: &report, examples: vec![sheets, texts] }.html();
        assert!(page.contains("data:image/png;base64,AQID") && page.contains("image, as stored"));
        assert_eq!(page.matches("<blockquote>one</blockquote>").count(), 1);
        assert!(!page.contains("as read"));
    }
}
