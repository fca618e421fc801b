//! Takes the decisions of journaled operators before the dataflow starts, once for the whole run.
//!
//! A decision looks at the first records of part 0 as they reach the operator, which depend on the sources and
//! the plan alone. It is written to the run log before anything acts on it; a resumed run reads it there,
//! even if it would decide differently by now. Every commit names the hash.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::StreamExt;
use sha2::{Digest, Sha256};

use super::RunError;
use super::cursor::Cursor;
use super::shared::Shared;
use super::ticket::Ticket;
use crate::executor::{Invocation, Member};
use crate::graph::{Mode, Plan, Work};
use crate::log::{LogError, RunLog};
use crate::operator::{Allocation, Operator, OperatorError};
use crate::record::{bytes_of, with_ids};
use crate::source::{BatchSize, SourceError};

/// The decisions of a run, by operator.
#[derive(Default)]
pub(crate) struct Decisions {
    taken: BTreeMap<String, Decision>,
}

struct Decision {
    hash: String,
    operator: Arc<dyn Operator>,
}

impl Decisions {
    /// The operator that acts on the decision of the node called `name`, if it took one.
    pub(crate) fn operator(&self, name: &str) -> Option<Arc<dyn Operator>> {
        self.taken.get(name).map(|decision| Arc::clone(&decision.operator))
    }

    /// SHA-256 of each decision, as commits name it.
    pub(crate) fn hashes(&self) -> BTreeMap<String, String> {
        self.taken.iter().map(|(name, decision)| (name.clone(), decision.hash.clone())).collect()
    }

    /// Reads what was decided, for a process that did not decide.
    ///
    /// # Errors
    /// When a decision is not there, or not one of its operator's.
    pub(crate) async fn read(plan: &Plan, log: &RunLog) -> Result<Self, RunError> {
        let mut decisions = Self::default();
        for (name, operator) in journaled(plan) {
            let decision = log.decision(name).await?.ok_or_else(|| missing(log, name))?;
            decisions.take(name, operator, &decision)?;
        }
        Ok(decisions)
    }

    fn take(&mut self, name: &str, by: &Arc<dyn Operator>, bytes: &[u8]) -> Result<(), RunError> {
        let Some(journaled) = by.journaled() else { return Ok(()) };
        let operator = journaled.decided(bytes).map_err(|error| failed(name, error))?;
        let hash = crate::hex(&Sha256::digest(bytes));
        self.taken.insert(name.to_owned(), Decision { hash, operator });
        Ok(())
    }
}

/// Takes or replays every decision of the plan, in its order.
///
/// # Errors
/// When a source or an operator fails on the sample, or the run log lacks a decision that commits name.
pub(crate) async fn decide(shared: &Shared, ticket: &Ticket) -> Result<Decisions, RunError> {
    let named = ticket.commits.last().map(|commit| &commit.decisions);
    let mut decisions = Decisions::default();
    for (name, operator) in journaled(&shared.plan) {
        let expected = named.and_then(|decisions| decisions.get(name));
        let bytes = match (ticket.log.decision(name).await?, expected) {
            (Some(bytes), _) => bytes,
            (None, Some(_)) => return Err(missing(&ticket.log, name)),
            (None, None) => {
                let sample = sample(shared, ticket, &decisions, name).await?;
                let decided = Arc::clone(operator);
                let decision = shared.compute(name, move || match decided.journaled() {
                    Some(journaled) => journaled.decide(&sample),
                    None => Err(OperatorError::Failed("it takes no decision".to_owned())),
                });
                let decision = decision.await?.map_err(|error| failed(name, error))?;
                ticket.log.decide(name, decision).await?
            }
        };
        decisions.take(name, operator, &bytes)?;
        let hash = decisions.taken.get(name).map(|decision| &decision.hash);
        if expected.is_some_and(|expected| Some(expected) != hash) {
            let path = format!("{}/decisions/{name}", ticket.log.root());
            let message = "its hash is not the one that the commits name".to_owned();
            return Err(LogError::Damaged { path, message }.into());
        }
    }
    Ok(decisions)
}

fn journaled(plan: &Plan) -> impl Iterator<Item = (&str, &Arc<dyn Operator>)> {
    plan.nodes().iter().filter_map(|node| match &node.work {
        Work::Operator { operator, .. } if operator.journaled().is_some() => {
            Some((node.name.as_str(), operator))
        }
        _ => None,
    })
}

/// The first records that will reach the operator called `name`, as one batch; none when there are none.
async fn sample(
    shared: &Shared,
    ticket: &Ticket,
    decisions: &Decisions,
    name: &str,
) -> Result<Vec<RecordBatch>, RunError> {
    let plan = &shared.plan;
    let Some(at) = plan.nodes().iter().position(|node| node.name == name) else {
        return Ok(Vec::new());
    };
    let Some(node) = plan.nodes().get(at) else { return Ok(Vec::new()) };
    let Work::Operator { operator, .. } = &node.work else { return Ok(Vec::new()) };
    let Some(size) = operator.journaled().map(|journaled| journaled.sample()) else {
        return Ok(Vec::new());
    };
    let mut rows = Sample { size, batches: Vec::new(), records: 0, bytes: 0, full: false };
    for way in ways(plan, at) {
        let Some((source, operators)) = way.split_first() else { continue };
        let invocation = Invocation {
            members: members(shared, decisions, operators),
            schema: shared.plan.nodes().get(*way.last().unwrap_or(source)).map_or_else(
                || Arc::new(arrow::datatypes::Schema::empty()),
                |node| Arc::clone(&node.schema),
            ),
            context: shared.context.clone(),
            slice: plan.memory().slice,
        };
        let invocation = Arc::new(invocation);
        let mut batches = first_part(plan, ticket, *source).await?;
        while !rows.full
            && let Some(batch) = batches.next().await
        {
            let source = plan.nodes().get(*source).map_or("", |node| &node.name);
            let failed_source = |error| RunError::Source { node: source.to_owned(), error };
            let records = batch.map_err(failed_source)?.records;
            let records = with_ids(source, &records)
                .map_err(|e| failed_source(SourceError::Options(e.to_string())))?;
            let running = Arc::clone(&invocation);
            let verdict = shared.compute(name, move || {
                if running.members.is_empty() {
                    return Ok(records);
                }
                let allocation = Allocation { threads: 1, bytes: running.slice };
                // Decisions look at the first part, which is of the first epoch.
                running.run(&records, 0, &allocation).map(|verdict| verdict.records)
            });
            let records = verdict.await?.map_err(|failure| RunError::Operator {
                node: failure.operator.to_string(),
                record: failure.record.map(|id| id.to_string()),
                error: failure.error.to_string(),
            })?;
            rows.add(&records);
        }
    }
    let Some(schema) = rows.batches.first().map(|batch| batch.schema()) else {
        return Ok(Vec::new());
    };
    let sample = concat_batches(&schema, &rows.batches);
    Ok(vec![sample.map_err(|error| failed(name, error.into()))?])
}

/// Every way from a source to node `at`, in order of lanes: the source, then the operators before `at`.
fn ways(plan: &Plan, at: usize) -> Vec<Vec<usize>> {
    let inputs = plan.nodes().get(at).map(|node| node.inputs.as_slice()).unwrap_or_default();
    let mut all = Vec::new();
    for input in inputs {
        match plan.nodes().get(*input).map(|node| &node.work) {
            Some(Work::Source { .. }) => all.push(vec![*input]),
            _ => all.extend(ways(plan, *input).into_iter().map(|mut way| {
                way.push(*input);
                way
            })),
        }
    }
    all
}

fn members(shared: &Shared, decisions: &Decisions, operators: &[usize]) -> Vec<Member> {
    let member = |at: &usize| {
        let node = shared.plan.nodes().get(*at)?;
        let Work::Operator { operator, .. } = &node.work else { return None };
        let operator = decisions.operator(&node.name).unwrap_or_else(|| Arc::clone(operator));
        // The sample's rows are read again by the run: they count there.
        Some(Member { name: node.name.as_str().into(), operator, meter: Arc::default() })
    };
    operators.iter().filter_map(member).collect()
}

/// The batches of the first part of a source, as the cutter will cut it.
async fn first_part(
    plan: &Plan,
    ticket: &Ticket,
    at: usize,
) -> Result<crate::source::SourceBatches, RunError> {
    let node = plan.nodes().get(at);
    let Some(Work::Source { source, order }) = node.map(|node| &node.work) else {
        return Ok(futures::stream::empty().boxed());
    };
    let name = node.map_or("", |node| &node.name);
    let splits = match plan.settings().mode {
        Mode::Batch => ticket.listing.get(at).cloned().flatten().unwrap_or_default(),
        Mode::Stream => {
            // A stream cuts what comes; its decision is taken from what is there when it first starts.
            let there = source.splits().await;
            let there = there.map_err(|error| RunError::Source { node: name.to_owned(), error })?;
            there.into_iter().map(Arc::new).collect()
        }
    };
    let mut cursor = Cursor::new(name, Arc::clone(source), *order, splits, &[]);
    Ok(match cursor.cut(0, plan.part(at)).await? {
        Some((_, ranges)) => source.open(ranges, plan.batch_size(at)),
        None => futures::stream::empty().boxed(),
    })
}

/// Collects rows up to a size that is judged row by row, so that it does not depend on batches.
struct Sample {
    size: BatchSize,
    batches: Vec<RecordBatch>,
    records: usize,
    bytes: usize,
    full: bool,
}

impl Sample {
    fn add(&mut self, batch: &RecordBatch) {
        let mut fitting = 0;
        while fitting < batch.num_rows() && !self.full {
            let bytes = self.bytes + bytes_of(&batch.slice(fitting, 1));
            if self.records >= self.size.records || (self.records > 0 && bytes > self.size.bytes) {
                self.full = true;
                break;
            }
            (self.records, self.bytes) = (self.records + 1, bytes);
            fitting += 1;
        }
        if fitting > 0 {
            self.batches.push(batch.slice(0, fitting));
        }
    }
}

fn missing(log: &RunLog, name: &str) -> RunError {
    let path = format!("{}/decisions/{name}", log.root());
    LogError::Damaged { path, message: "it is gone, though the run needs it".into() }.into()
}

fn failed(name: &str, error: OperatorError) -> RunError {
    RunError::Operator { node: name.to_owned(), record: None, error: error.to_string() }
}
