//! A plan as text: `anabranch check` and `anabranch plan`.

use std::fmt::Write;

use anabranch_pipelines::graph::{Plan, PlannedNode, Work};
use anabranch_pipelines::record::Modality;

use super::number::bytes;

/// The nodes and their classes, and the class of the whole.
pub fn check(plan: &Plan) -> String {
    let mut out = String::new();
    let width = plan.nodes().iter().map(|node| node.name.len()).max().unwrap_or(0);
    for node in plan.nodes() {
        let (role, kind) = (node.work.role(), node.work.kind());
        let _ =
            writeln!(out, "  {:<width$}  {role:<8}  {kind:<10}  {}", node.name, node.class.name());
    }
    let _ = writeln!(out, "\n{} is valid; as a whole it is {}.", plan.name(), plan.class().name());
    out
}

/// Nodes with classes, columns and allocations, and what the run will hold in memory.
pub fn plan(plan: &Plan) -> String {
    let mut out =
        format!("{} (plan {})\n", plan.name(), plan.hash().get(..12).unwrap_or(plan.hash()));
    for node in plan.nodes() {
        let from: Vec<&str> = node
            .inputs
            .iter()
            .filter_map(|at| plan.nodes().get(*at))
            .map(|n| n.name.as_str())
            .collect();
        let from =
            if from.is_empty() { String::new() } else { format!(" reads {}", from.join(", ")) };
        let _ = writeln!(
            out,
            "\n{} {} ({}, {}){from}",
            node.work.role(),
            node.name,
            node.work.kind(),
            node.class.name()
        );
        allocation(&mut out, node);
        for field in node.schema.fields() {
            let null = if field.is_nullable() { "" } else { ", never null" };
            let kind = Modality::of(field)
                .map_or_else(|| field.data_type().to_string(), |modality| modality.to_string());
            let _ = writeln!(out, "    {}: {kind}{null}", field.name());
        }
    }
    let memory = plan.memory();
    let _ = writeln!(out, "\nmemory (credit {})", bytes(plan.settings().credit as u64));
    let rows = memory.reserves.iter().map(|reserve| (reserve.name.as_str(), reserve.bytes));
    for (name, size) in rows.chain([("batches in flight", memory.in_flight)]) {
        let _ = writeln!(out, "  {name:<20} {:>10}", bytes(size as u64));
    }
    let _ = writeln!(out, "\n{} is valid; as a whole it is {}.", plan.name(), plan.class().name());
    out
}

fn allocation(out: &mut String, node: &PlannedNode) {
    let Work::Operator { operator, resources } = &node.work else { return };
    let memory = resources.memory.map_or_else(
        || {
            let growth = operator.growth();
            format!(
                "{} times its input and {} per record",
                growth.factor,
                bytes(growth.per_record as u64)
            )
        },
        |memory| bytes(memory as u64),
    );
    let isolated = if resources.isolate { ", in a process of its own" } else { "" };
    let threads = super::number::plural(resources.threads as u64, "thread");
    let _ = writeln!(out, "  each invocation: {threads}, {memory}{isolated}");
}
