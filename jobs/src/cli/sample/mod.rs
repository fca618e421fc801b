//! `anabranch plan --sample N`: runs the first records for real, and predicts the whole from them.

use std::sync::Arc;

use anabranch_pipelines::graph::{Graph, Plan, Work};
use anabranch_pipelines::progress::Report;
use anabranch_pipelines::run::{IfExists, Run};
use anabranch_pipelines::source::SourceError;

use super::{Exit, Failure, JobArgs, plan, print};
use crate::components::Registry;
use crate::terminal;

mod limited;
mod size;

use limited::Limited;

/// Where a sample's output and run log go: into this process's memory, and away with it.
const PLACE: &str = "memory://anabranch-sample";

/// Runs the first `records` records of every source and prints what that says of the whole.
pub(super) fn sample(
    registry: &Registry,
    args: &JobArgs,
    records: u64,
    as_json: bool,
) -> Result<Exit, Failure> {
    let mut job = args.read(registry, &elsewhere(&args.read(registry, &[])?.graph))?;
    let (whole, counted) = plan::with_io(whole(&job.graph))??;
    job.graph = job.graph.with_sources(|source| Arc::new(Limited::new(source, records)));
    let plan = plan::planned(job)?;
    let threads = plan.memory().threads;
    let report = measured(plan)?;
    let prediction = Prediction::of(&report, whole, counted, threads);
    let text = if as_json {
        let value = serde_json::json!({ "measured": report, "predicted": prediction });
        format!("{value:#}\n")
    } else {
        terminal::sampled(&report, &prediction)
    };
    print(&text)?;
    Ok(Exit::Done)
}

/// Records that all sources hold, and whether every one was counted.
async fn whole(graph: &Graph) -> Result<(f64, bool), Failure> {
    let (mut records, mut counted) = (0.0, true);
    for node in graph.nodes() {
        let Work::Source { source, order } = &node.work else { continue };
        let size = size::of(source.as_ref()).await;
        let size = size.map_err(|error| unreadable(&node.name, &error))?;
        records += size.records * f64::from(order.passes);
        counted &= size.counted;
    }
    Ok((records, counted))
}

/// Settings that move everything a job writes to where it harms nothing.
fn elsewhere(graph: &Graph) -> Vec<String> {
    let sinks = graph.nodes().iter().filter(|node| matches!(node.work, Work::Sink { .. }));
    let paths = sinks.map(|node| format!("sink.{}.path={PLACE}/{}", node.name, node.name));
    let others = [
        format!("job.state={PLACE}/state"),
        format!("job.dead_letters={PLACE}/dead_letters"),
        "job.mode=batch".to_owned(),
        "job.processes=1".to_owned(),
    ];
    paths.chain(others).collect()
}

fn measured(plan: Arc<Plan>) -> Result<Report, Failure> {
    let run = Run::start(plan, IfExists::Overwrite).and_then(Run::wait);
    run.map_err(|error| Failure::new(Exit::Failed, format!("error: the sample failed: {error}")))
}

fn unreadable(source: &str, error: &SourceError) -> Failure {
    Failure::new(Exit::Usage, format!("error: source `{source}`: {error}"))
}

/// What a sample says of the whole job.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Prediction {
    /// Records that the sources hold.
    pub(crate) records: f64,
    /// Whether they were counted, or estimated from the listing's bytes.
    pub(crate) counted: bool,
    /// Rows and bytes of each sink.
    pub(crate) outputs: Vec<(String, f64, f64)>,
    /// Records that will be refused.
    pub(crate) dead_letters: f64,
    /// Seconds if every executor thread computes all the time.
    pub(crate) least_seconds: f64,
    /// Seconds at the sample's own pace, start and end of the run included.
    pub(crate) most_seconds: f64,
    /// Bytes of memory: the sample's peak and the credit that it may have left unused.
    pub(crate) peak: f64,
}

impl Prediction {
    fn of(report: &Report, records: f64, counted: bool, threads: usize) -> Self {
        let nodes = &report.progress.nodes;
        let read: u64 = nodes.iter().filter(|n| n.role == "source").map(|n| n.records_out).sum();
        let times = if read == 0 { 0.0 } else { (records / read as f64).max(1.0) };
        let busy: f64 = nodes.iter().map(|node| node.busy_seconds).sum();
        let most = report.progress.seconds * times;
        let refused: u64 = nodes.iter().map(|node| node.dead_letters).sum();
        let outputs = report.outputs.iter();
        Self {
            records,
            counted,
            outputs: outputs
                .map(|(name, output)| {
                    (name.clone(), output.rows as f64 * times, output.bytes as f64 * times)
                })
                .collect(),
            dead_letters: refused as f64 * times,
            least_seconds: (busy * times / threads.max(1) as f64).min(most),
            most_seconds: most,
            peak: report.peak_rss.max(report.progress.credit) as f64,
        }
    }
}
