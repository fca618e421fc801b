//! The report of a run that ended well, from its log and its last figures.

use std::collections::BTreeMap;

use super::ticket::Ticket;
use super::{RunError, usage};
use crate::graph::Plan;
use crate::log::{DEAD_LETTERS, told};
use crate::progress::{Ending, Output, Progress, Report};

/// What the processes of a run say at its end.
pub(super) struct Last {
    pub(super) progress: Progress,
    pub(super) examples: Vec<String>,
    /// CPU seconds that this process had spent before the run.
    pub(super) cpu_before: f64,
    /// Peak memory of the processes beside this one.
    pub(super) peak_rss: u64,
    pub(super) restarts: u64,
}

/// Reads the run log once more and puts the report together.
pub(super) async fn report(plan: &Plan, ticket: &Ticket, last: Last) -> Result<Report, RunError> {
    let commits = ticket.log.commits().await?;
    let complete = commits.last().is_some_and(|commit| commit.last);
    let count = |sink: &str| {
        let shards = commits.iter().filter_map(|commit| commit.shards.get(sink)).flatten();
        shards.fold(Output::default(), |sum, shard| Output {
            shards: sum.shards + 1,
            rows: sum.rows + shard.rows,
            bytes: sum.bytes + shard.bytes,
            ..sum
        })
    };
    let outputs: BTreeMap<String, Output> = plan
        .sinks()
        .map(|(node, sink)| {
            (node.name.clone(), Output { location: sink.location(), ..count(&node.name) })
        })
        .collect();
    let refused = count(DEAD_LETTERS).rows;
    let mut decisions = BTreeMap::new();
    for operator in commits.first().into_iter().flat_map(|commit| commit.decisions.keys()) {
        let decision = ticket.log.decision(operator).await?;
        let told = decision.and_then(|decision| told(&decision));
        decisions.extend(told.map(|told| (operator.clone(), told)));
    }
    let (cpu_seconds, peak_rss) = usage::of_this_process();
    Ok(Report {
        job: plan.name().to_owned(),
        run: ticket.record.run.clone(),
        chosen: ticket.chosen,
        ending: match (ticket.complete(), complete) {
            (true, _) => Ending::AlreadyComplete,
            (false, true) => Ending::Complete,
            (false, false) => Ending::Cancelled,
        },
        resumed: !ticket.commits.is_empty(),
        resumed_after: ticket.commits.last().map(|commit| commit.number),
        class: plan.class().name().to_owned(),
        cpu: ticket.record.cpu.clone(),
        progress: last.progress,
        outputs,
        decisions,
        refused,
        dead_letters: plan.dead_letters().filter(|_| refused > 0).map(|sink| sink.location()),
        dead_letter_examples: last.examples,
        processes: plan.settings().processes as u64,
        credit: plan.settings().credit as u64,
        restarts: last.restarts,
        cpu_seconds: cpu_seconds - last.cpu_before,
        peak_rss: peak_rss + last.peak_rss,
    })
}
