//! What a person sees of a run: bars, lines, and the final report. Everything here is a pure function of
//! [`Progress`] or [`Report`](anabranch_pipelines::progress::Report), except [`Bars`], which draws.

use anabranch_pipelines::progress::{NodeProgress, Progress};

mod bars;
mod difference;
mod inspection;
mod learning;
mod line;
mod models;
mod number;
mod plan;
mod prediction;
mod report;
#[cfg(test)]
mod sample;

pub use bars::Bars;
pub(crate) use difference::difference;
pub(crate) use inspection::inspection;
pub use line::{json_line, line};
pub(crate) use models::{compared, model, models};
pub(crate) use number::{bytes, count, plural, seconds};
pub use plan::{check, plan};
pub(crate) use prediction::sample as sampled;
pub use report::report;
pub(crate) use report::started;

/// The operator that computed longest so far; none while that says nothing.
pub(crate) fn slowest(progress: &Progress) -> Option<&NodeProgress> {
    let operators = || progress.nodes.iter().filter(|node| node.role == "operator");
    let busiest = operators().max_by(|a, b| a.busy_seconds.total_cmp(&b.busy_seconds))?;
    (operators().count() > 1 && busiest.busy_seconds > 0.0).then_some(busiest)
}
