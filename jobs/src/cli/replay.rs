//! `anabranch replay`: feeds back in what the newest run of a job refused.

use std::fmt::Write;
use std::sync::Arc;

use anabranch_connectors::table::TableLetters;
use anabranch_pipelines::progress::{Ending, Report};
use anabranch_pipelines::replay::{Replay, ReplayError};
use anabranch_pipelines::run::{IfExists, Run};

use super::run::{Display, failed, watch};
use super::signals::Interrupt;
use super::{Exit, Failure, JobArgs, LogFormat, print, tell};
use crate::components::Registry;
use crate::terminal::{count, plural};

/// Replays the dead letters of a job.
pub(super) fn replay(
    registry: &Registry,
    args: &JobArgs,
    format: LogFormat,
    quiet: bool,
) -> Result<Exit, Failure> {
    let job = args.read(registry, &[])?;
    let interrupt = Interrupt::listen().map_err(|error| {
        Failure::new(Exit::Failed, format!("error: cannot listen to signals: {error}"))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, format!("error: cannot start I/O: {error}")))?;
    let name = job.options.name.clone();
    let replay = runtime.block_on(Replay::of(job.graph, job.settings, Arc::new(TableLetters)));
    let replay = replay.map_err(|error| {
        let exit = if matches!(error, ReplayError::Plan(_)) { Exit::Usage } else { Exit::Failed };
        Failure::new(exit, format!("error: {error}"))
    })?;
    let report = match &replay.plan {
        None => None,
        Some(plan) => {
            let run = Run::start(Arc::clone(plan), IfExists::Append).map_err(failed)?;
            Some(watch(run, &interrupt, Display::new(format, quiet))?)
        }
    };
    match format {
        _ if quiet => {}
        LogFormat::Text => print(&text(&name, &replay, report.as_ref()))?,
        LogFormat::Json => tell(&json(&replay, report.as_ref())),
    }
    let stopped = report.is_some_and(|report| report.ending == Ending::Cancelled);
    Ok(if stopped { Exit::Interrupted } else { Exit::Done })
}

fn text(job: &str, replay: &Replay, report: Option<&Report>) -> String {
    let mut out = String::new();
    let records = |n: u64| plural(n, "record");
    let of = &replay.of;
    let _ = match report {
        None if replay.left.is_empty() => writeln!(
            out,
            "{job}: the replay of run {of} is already complete, or there was nothing to replay.\n\
             Change the job, and what is still refused is replayed through it."
        ),
        None => writeln!(out, "{job}: nothing that run {of} refused can be replayed."),
        Some(report) => {
            let ended = match report.ending {
                Ending::Cancelled => "was stopped; run the same command again to go on",
                Ending::Complete | Ending::AlreadyComplete => "is complete",
            };
            writeln!(out, "{job}: the replay of run {of} {ended} (run {})", report.run)
        }
    };
    if let Some(report) = report {
        let all = replay.records();
        let _ = writeln!(out, "\n  {:<16}{}", "went in", records(all));
        for (node, number) in &replay.letters {
            let _ = writeln!(out, "  {:<16}  {} that `{node}` refused", "", count(*number));
        }
        if report.ending != Ending::Cancelled {
            let passed = all.saturating_sub(report.refused);
            let _ = writeln!(out, "  {:<16}{}", "passed", records(passed));
            let _ = writeln!(out, "  {:<16}{}", "refused again", records(report.refused));
        }
        for example in &report.dead_letter_examples {
            let _ = writeln!(out, "    - {example}");
        }
        if report.ending != Ending::Cancelled && report.refused > 0 {
            out.push_str(
                "\n  A replay feeds in what was refused as it was then. A file that was mended since is read by a\n  \
                 run of a job over the mended files alone, with `--if-exists append`.\n",
            );
        }
    }
    for left in &replay.left {
        let _ = writeln!(
            out,
            "\n  {} that `{}` refused {}: {}.",
            records(left.records),
            left.node,
            if left.records == 1 { "stays where it is" } else { "stay where they are" },
            left.why
        );
    }
    out
}

fn json(replay: &Replay, report: Option<&Report>) -> String {
    let left = |left: &anabranch_pipelines::replay::Left| serde_json::json!({ "node": left.node, "records": left.records, "why": left.why });
    serde_json::json!({
        "event": "replay",
        "of": replay.of,
        "letters": replay.letters,
        "left": replay.left.iter().map(left).collect::<Vec<_>>(),
        "report": report,
    })
    .to_string()
}
