//! Builds the dataflow of a plan; every worker builds the same.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::SchemaRef;
use timely::dataflow::Scope;
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::vec::Map;
use tokio::sync::mpsc::UnboundedReceiver;

use super::committer::{CommitTask, committer};
use super::cuts::cuts;
use super::reader::reader;
use super::sink::{Writing, sink};
use super::stage::{Stage, stage};
use super::{Batches, Waker};
use crate::credit::Credit;
use crate::dead_letter::{self, DeadLetter};
use crate::executor::{Executor, Invocation, Member};
use crate::graph::{Plan, Work};
use crate::log::DEAD_LETTERS;
use crate::operator::{Context, Declared, Growth};
use crate::run::cutter::Cutting;
use crate::run::failure::Failures;
use crate::run::running::Running;
use crate::run::{Meter, RunError};
use crate::source::Source;

/// What all operators of a process share.
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) run: String,
    pub(crate) first_epoch: u64,
    pub(crate) meters: Vec<Arc<Meter>>,
    pub(crate) credit: Credit,
    pub(crate) executor: Arc<Executor>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) context: Context,
    pub(crate) failures: Failures,
    pub(crate) running: Running,
    /// The last few refusals, for reports.
    pub(crate) examples: Mutex<VecDeque<String>>,
}

impl Shared {
    pub(super) fn name(&self, node: usize) -> &str {
        self.plan.nodes().get(node).map_or("", |node| &node.name)
    }

    pub(super) fn meter(&self, node: usize) -> Arc<Meter> {
        self.meters.get(node).map(Arc::clone).unwrap_or_default()
    }

    pub(super) fn schema(&self, node: usize) -> SchemaRef {
        let schema = self.plan.nodes().get(node).map(|node| Arc::clone(&node.schema));
        schema.unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty()))
    }

    pub(super) fn source(&self, node: usize) -> Arc<dyn Source> {
        match self.plan.nodes().get(node).map(|node| &node.work) {
            Some(Work::Source { source, .. }) => Arc::clone(source),
            _ => unreachable!("readers are built for sources only"),
        }
    }

    pub(crate) fn example(&self) -> Option<String> {
        self.examples.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// Dead letters as rows. Without a sink for them, the first one fails the run.
    pub(super) fn letters(&self, letters: &[DeadLetter]) -> Result<RecordBatch, RunError> {
        {
            let mut examples = self.examples.lock().unwrap_or_else(PoisonError::into_inner);
            for letter in letters {
                let name =
                    if letter.key.is_empty() { letter.id.to_string() } else { letter.key.clone() };
                examples.push_back(format!("{}: {name}: {}", letter.operator, letter.error));
                if examples.len() > 5 {
                    examples.pop_front();
                }
            }
        }
        if let Some(letter) = letters.first().filter(|_| self.plan.dead_letters().is_none()) {
            return Err(RunError::Operator {
                node: letter.operator.clone(),
                record: Some(letter.key.clone()),
                error: format!("{} (this graph has no sink for dead letters)", letter.error),
            });
        }
        let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
        let ids: ArrayRef = if letters.is_empty() {
            arrow::array::new_empty_array(&arrow::datatypes::DataType::FixedSizeBinary(16))
        } else {
            let ids = FixedSizeBinaryArray::try_from_iter(letters.iter().map(|letter| letter.id.0));
            Arc::new(ids.map_err(|e| RunError::Worker(e.to_string()))?)
        };
        let text = |of: fn(&DeadLetter) -> Option<&str>| -> ArrayRef {
            Arc::new(letters.iter().map(of).collect::<StringArray>())
        };
        let bytes = |of: fn(&DeadLetter) -> Option<&[u8]>| -> ArrayRef {
            Arc::new(letters.iter().map(of).collect::<BinaryArray>())
        };
        let range = |of: fn(&std::ops::Range<u64>) -> u64| -> ArrayRef {
            Arc::new(
                letters.iter().map(|l| number(l.range.as_ref().map(of))).collect::<Int64Array>(),
            )
        };
        let columns = vec![
            ids,
            text(|letter| Some(&letter.key)),
            text(|letter| Some(&letter.operator)),
            text(|letter| Some(&letter.error)),
            bytes(|letter| letter.record.as_deref()),
            text(|letter| letter.split.as_deref()),
            range(|range| range.start),
            range(|range| range.end),
            bytes(|letter| letter.bytes.as_deref()),
        ];
        RecordBatch::try_new(dead_letter::schema(), columns)
            .map_err(|e| RunError::Worker(e.to_string()))
    }
}

/// Builds the whole graph. The cutter's channel and the commit task exist on the first worker alone.
pub(crate) fn build(
    scope: Scope<'_, u64>,
    shared: &Arc<Shared>,
    cutting: Option<(UnboundedReceiver<Cutting>, Waker)>,
    task: Option<CommitTask>,
) {
    let plan = &shared.plan;
    let is_source =
        |at: &usize| matches!(plan.nodes().get(*at).map(|n| &n.work), Some(Work::Source { .. }));
    let sources: Vec<usize> = (0..plan.nodes().len()).filter(is_source).collect();
    let (parts, planned) = cuts(scope, sources.len(), shared.first_epoch, cutting);

    let mut outputs: Vec<Option<Batches<'_>>> = plan.nodes().iter().map(|_| None).collect();
    let mut letters: Vec<(u32, Batches<'_>)> = Vec::new();
    let mut prepared = Vec::new();
    for (node, parts) in sources.into_iter().zip(parts) {
        let (batches, dead) = reader(parts, node, shared);
        letters.push((1, dead));
        if let Some(slot) = outputs.get_mut(node) {
            *slot = Some(batches);
        }
    }
    for (at, node) in plan.nodes().iter().enumerate() {
        let inputs: Vec<Batches<'_>> = node
            .inputs
            .iter()
            .zip(&node.lane_offsets)
            .filter_map(|(input, offset)| Some(shift(outputs.get(*input)?.clone()?, *offset)))
            .collect();
        match &node.work {
            Work::Source { .. } => {}
            Work::Operator { .. } => {
                let Some(members) = plan.stages().iter().find(|stage| stage.first() == Some(&at))
                else {
                    continue;
                };
                let (batches, dead) =
                    stage(scope.concatenate(inputs), a_stage(members, shared), shared);
                letters.push((node.lanes, dead));
                let slot = members.last().and_then(|last| outputs.get_mut(*last));
                if let Some(slot) = slot {
                    *slot = Some(batches);
                }
            }
            Work::Sink { sink: target } => {
                let writing = Writing {
                    name: node.name.clone(),
                    sink: Arc::clone(target),
                    schema: Arc::clone(&node.schema),
                    meter: shared.meter(at),
                };
                prepared.push(sink(scope.concatenate(inputs), writing, shared));
            }
        }
    }
    if let Some(target) = plan.dead_letters() {
        let mut offset = 0;
        let shifted: Vec<Batches<'_>> = letters
            .into_iter()
            .map(|(lanes, stream)| {
                let stream = shift(stream, offset);
                offset += lanes;
                stream
            })
            .collect();
        let writing = Writing {
            name: DEAD_LETTERS.to_owned(),
            sink: Arc::clone(target),
            schema: dead_letter::schema(),
            meter: Arc::default(),
        };
        prepared.push(sink(scope.concatenate(shifted), writing, shared));
    }
    committer(scope.concatenate(prepared), planned, shared, task);
}

/// Numbers the lanes of one input of a fan-in apart from those before it.
fn shift(batches: Batches<'_>, offset: u32) -> Batches<'_> {
    if offset == 0 {
        return batches;
    }
    batches.map(move |mut batch| {
        batch.position.lane += offset;
        batch
    })
}

fn a_stage(members: &[usize], shared: &Arc<Shared>) -> Stage {
    let plan = &shared.plan;
    let nodes: Vec<_> =
        members.iter().filter_map(|at| Some((*at, plan.nodes().get(*at)?))).collect();
    let name = nodes.iter().map(|(_, node)| node.name.as_str()).collect::<Vec<_>>().join(" > ");
    let mut growth = Growth::NONE;
    let mut invocation = Invocation {
        members: Vec::new(),
        schema: members.last().map_or_else(|| shared.schema(0), |last| shared.schema(*last)),
        context: shared.context.clone(),
        slice: plan.memory().slice,
    };
    for (at, node) in &nodes {
        if let Work::Operator { operator, .. } = &node.work {
            let own = operator.growth();
            growth = Growth {
                factor: growth.factor * own.factor,
                per_record: (growth.per_record as f64 * own.factor) as usize + own.per_record,
            };
            invocation.members.push(Member {
                name: node.name.as_str().into(),
                operator: Arc::clone(operator),
                meter: shared.meter(*at),
            });
        }
    }
    let resources = nodes.first().map(|(_, node)| node.resources()).unwrap_or_default();
    let last = members.last().copied().unwrap_or(0);
    let only_sinks = plan
        .readers(last)
        .all(|reader| matches!(plan.nodes().get(reader).map(|n| &n.work), Some(Work::Sink { .. })));
    let resources = crate::operator::Resources {
        // Inside a stage only slices are held at their largest, and those have a bound.
        memory: resources.memory.or(Some(plan.memory().slice)),
        ..resources
    };
    Stage { name, invocation, sizing: Arc::new(Declared { resources, growth }), last: only_sinks }
}
