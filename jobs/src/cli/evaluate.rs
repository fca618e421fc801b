//! `anabranch evaluate`: runs a job that evaluates codecs, and draws what its table says.
//!
//! The run is one like any other: it resumes, it is exactly once, and a second call only draws again.

use std::path::PathBuf;
use std::sync::Arc;

use anabranch_operators::evaluate::{POINTS, Summary};
use anabranch_pipelines::graph::{Plan, Work};
use anabranch_pipelines::progress::{Ending, Report};
use anabranch_pipelines::source::Source;
use clap::Args;
use futures::StreamExt;

use super::{Exit, Failure, LogFormat, RunArgs, plan, print, run, scan};
use crate::components::{Registry, make, with_path};
use crate::terminal::count;

/// What to run, and where the page goes.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    #[command(flatten)]
    run: RunArgs,
    /// The page.
    #[arg(long, value_name = "FILE", default_value = "evaluation.html")]
    html: PathBuf,
}

/// Runs the job to its end and draws the page.
pub(super) fn evaluate(
    registry: &Registry,
    args: &EvaluateArgs,
    format: LogFormat,
    quiet: bool,
) -> Result<Exit, Failure> {
    let report = run::reported(registry, &args.run, (format, quiet), evaluates)?;
    if report.ending == Ending::Cancelled {
        return Ok(run::exit(&report));
    }
    let failed = |message: String| Failure::new(Exit::Failed, format!("error: {message}"));
    let summary = summary(registry, &report).map_err(failed)?;
    let page = summary.html(&report.job);
    let place = args.html.display();
    std::fs::write(&args.html, page).map_err(|error| {
        failed(format!("the job is done, but {place} was not written: {error}"))
    })?;
    if !quiet {
        let (settings, records) = (summary.settings().len(), count(summary.records()));
        print(&format!("\n{place}: {settings} settings on {records} records\n"))?;
    }
    Ok(Exit::Done)
}

/// Whether there will be something to draw.
fn evaluates(plan: &Arc<Plan>) -> Result<(), Failure> {
    let kind = |work: &Work| match work {
        Work::Operator { operator, .. } => operator.kind() == "evaluate",
        _ => false,
    };
    let tables = plan
        .sinks()
        .any(|(node, sink)| sink.kind() == "table" && node.schema.field_with_name(POINTS).is_ok());
    if plan.nodes().iter().any(|node| kind(&node.work)) && tables {
        return Ok(());
    }
    let message = "error: this job evaluates nothing: it needs an operator `kind = \"evaluate\"` whose rows reach a \
                   sink `kind = \"table\"`; with `anabranch run` it runs as it is";
    Err(Failure::new(Exit::Usage, message.to_owned()))
}

/// The sum of the rows of all tables that hold points.
fn summary(registry: &Registry, report: &Report) -> Result<Summary, String> {
    let mut summary = Summary::default();
    for output in report.outputs.values() {
        let options = with_path(&output.location);
        let Ok(table) = make(registry, &registry.sources, "table", &options) else { continue };
        let added = plan::with_io(add(table.as_ref(), &mut summary));
        added.map_err(|failure| failure.message)??;
    }
    match summary.records() {
        0 => Err("no record was evaluated: the column is null in all of them, or the dead letters say why".to_owned()),
        _ => Ok(summary),
    }
}

async fn add(table: &dyn Source, summary: &mut Summary) -> Result<(), String> {
    let schema = table.schema().await.map_err(|error| error.to_string())?;
    if schema.field_with_name(POINTS).is_err() {
        return Ok(());
    }
    let mut rows = scan::open(table).await.map_err(|error| error.to_string())?;
    while let Some(batch) = rows.next().await {
        let batch = batch.and_then(scan::whole).map_err(|error| error.to_string())?;
        summary.add(&batch).map_err(|error| error.to_string())?;
    }
    Ok(())
}
