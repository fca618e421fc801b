//! Progress on a terminal: one bar per node.

use anabranch_pipelines::progress::{NodeProgress, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::learning::figures;
use super::line::remaining;
use super::number::{count, plural, rate, ratio, seconds};

/// The bars of a run, drawn to stderr.
pub struct Bars {
    all: MultiProgress,
    nodes: Vec<ProgressBar>,
}

impl Default for Bars {
    fn default() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        Self { all, nodes: Vec::new() }
    }
}

impl Bars {
    /// Draws `progress`.
    pub fn update(&mut self, progress: &Progress) {
        let width = progress.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
        for (at, node) in progress.nodes.iter().enumerate() {
            if at >= self.nodes.len() {
                let bar = self.all.add(ProgressBar::new(0));
                let template = "{prefix} {bar:24.cyan/blue} {msg}";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("━╸─"));
                }
                self.nodes.push(bar);
            }
            let Some(bar) = self.nodes.get(at) else { continue };
            let done = if node.role == "source" { node.records_out } else { node.records_in };
            bar.set_length(progress.records_total.unwrap_or(0).max(done));
            bar.set_position(done);
            bar.set_prefix(format!("{:<width$}", node.name));
            bar.set_message(message(node, progress));
        }
    }

    /// Takes the bars off the terminal, to make room for the report.
    pub fn clear(&self) {
        let _ = self.all.clear();
    }
}

/// What stands beside a bar.
fn message(node: &NodeProgress, progress: &Progress) -> String {
    let done = if node.role == "source" { node.records_out } else { node.records_in };
    let mut parts = vec![count(done)];
    parts.extend(rate(done, progress.seconds));
    if node.role != "source" {
        parts.extend(ratio(node.bytes_in, node.bytes_out));
    }
    parts.extend(figures(node));
    if node.dead_letters > 0 {
        parts.push(plural(node.dead_letters, "dead letter"));
    }
    if super::slowest(progress).is_some_and(|slowest| slowest.name == node.name) {
        parts.push("slowest".into());
    }
    if node.role == "sink" {
        parts.extend(remaining(progress).map(|left| format!("{} left", seconds(left))));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::sample;

    #[test]
    fn what_an_operator_shows_stands_beside_its_bar() {
        let progress = sample::learned().progress;
        let learn = progress.nodes.iter().find(|node| node.name == "learn").unwrap();
        let message = message(learn, &progress);
        assert!(
            message.contains(" · step 1,200/2,000 · loss 1.834 · validation 1.791"),
            "{message}"
        );
    }

    #[test]
    fn what_stands_beside_the_bars() {
        let progress = sample::complete().progress;
        let all: Vec<String> = progress.nodes.iter().map(|node| message(node, &progress)).collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
