//! `anabranch check` and `anabranch plan`.

use std::sync::Arc;

use anabranch_pipelines::graph::{Plan, Work};
use anabranch_pipelines::record::Modality;
use serde_json::json;

use super::{Exit, Failure, JobArgs, print};
use crate::components::Registry;
use crate::job::Job;
use crate::terminal;

/// Checks a job and says what it is made of.
pub(super) fn check(registry: &Registry, args: &JobArgs, quiet: bool) -> Result<Exit, Failure> {
    let plan = planned(args.read(registry, &[])?)?;
    if !quiet {
        print(&terminal::check(&plan))?;
    }
    Ok(Exit::Done)
}

/// Shows the plan of a job.
pub(super) fn plan(registry: &Registry, args: &JobArgs, as_json: bool) -> Result<Exit, Failure> {
    let plan = planned(args.read(registry, &[])?)?;
    let text = if as_json { format!("{:#}\n", json(&plan)) } else { terminal::plan(&plan) };
    print(&text)?;
    Ok(Exit::Done)
}

/// Checks the graph, looking into the sources.
pub(super) fn planned(job: Job) -> Result<Arc<Plan>, Failure> {
    with_io(job.plan())?.map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))
}

/// Waits for what reads and lists.
pub(super) fn with_io<R>(work: impl Future<Output = R>) -> Result<R, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, format!("error: cannot start I/O: {error}")))?;
    Ok(runtime.block_on(work))
}

fn json(plan: &Plan) -> serde_json::Value {
    let name = |at: &usize| plan.nodes().get(*at).map(|node| node.name.clone());
    let nodes: Vec<_> = plan
        .nodes()
        .iter()
        .map(|node| {
            let columns: Vec<_> = node
                .schema
                .fields()
                .iter()
                .map(|field| {
                    json!({
                        "name": field.name(),
                        "type": field.data_type().to_string(),
                        "nullable": field.is_nullable(),
                        "modality": Modality::of(field).map(|modality| modality.to_string()),
                    })
                })
                .collect();
            let resources = match &node.work {
                Work::Operator { resources, .. } => json!({
                    "threads": resources.threads,
                    "memory": resources.memory,
                    "isolate": resources.isolate,
                }),
                _ => serde_json::Value::Null,
            };
            json!({
                "name": node.name,
                "role": node.work.role(),
                "kind": node.work.kind(),
                "class": node.class.name(),
                "inputs": node.inputs.iter().filter_map(name).collect::<Vec<_>>(),
                "columns": columns,
                "resources": resources,
            })
        })
        .collect();
    let reserves: Vec<_> = plan
        .memory()
        .reserves
        .iter()
        .map(|row| json!({ "name": row.name, "bytes": row.bytes }))
        .collect();
    json!({
        "job": plan.name(),
        "hash": plan.hash(),
        "class": plan.class().name(),
        "nodes": nodes,
        "memory": {
            "credit": plan.settings().credit,
            "reserves": reserves,
            "in_flight": plan.memory().in_flight,
        },
    })
}
