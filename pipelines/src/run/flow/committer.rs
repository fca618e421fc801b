//! Closes commits: when every shard of its epochs is durable, the run log names them, and then each sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tokio::sync::{mpsc, watch};

use super::sink::Prepared;
use super::{Output, Shared, Waker};
use crate::graph::ErrorLimit;
use crate::log::{Commit, DEAD_LETTERS, RunLog, now};
use crate::run::RunError;
use crate::run::cutter::PlannedCommit;
use crate::sink::{RunStart, Shard, Sink};

/// A sink of the run, dead letters included, and what it was told at the start.
pub(crate) type Target = (RunStart, Arc<dyn Sink>);

type Ready = (PlannedCommit, Vec<Prepared>);

/// Collects shards on the first worker and hands each commit to the task once it is whole.
pub(super) fn committer<'scope>(
    prepared: StreamVec<'scope, u64, Prepared>,
    planned: StreamVec<'scope, u64, PlannedCommit>,
    shared: &Arc<Shared>,
    task: Option<CommitTask>,
) {
    let scope = prepared.scope();
    let mut builder = OperatorBuilder::new("committer".to_owned(), scope);
    let mut shards = builder.new_input(prepared, Exchange::new(|_: &Prepared| 0));
    let mut commits = builder.new_input(planned, Pipeline);
    // Nothing is sent here: the output exists so that a capability keeps the dataflow alive.
    let (output, _done) = builder.new_output::<Vec<()>>();
    let _output: Output<()> = Output::from(output);

    let waker = Waker::new();
    waker.attach(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));
    let (send, from_operator) = mpsc::unbounded_channel();
    let (to_operator, mut receive) = mpsc::unbounded_channel();
    if let Some(task) = task {
        shared.runtime.spawn(task.run(
            from_operator,
            to_operator,
            waker.clone(),
            Arc::clone(shared),
        ));
    }

    builder.build(move |_| {
        let mut collected: BTreeMap<u64, Vec<Prepared>> = BTreeMap::new();
        let mut waiting: BTreeMap<u64, (PlannedCommit, Capability<u64>)> = BTreeMap::new();
        let mut committing: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        move |frontiers| {
            waker.rest();
            shards.for_each(|_, prepared| {
                for shard in prepared.drain(..) {
                    collected.entry(shard.epoch).or_default().push(shard);
                }
            });
            commits.for_each(|capability, commits| {
                for commit in commits.drain(..) {
                    if let Some(capability) = capability.retain_least(0) {
                        waiting.insert(commit.number, (commit, capability));
                    }
                }
            });
            while let Some(entry) = waiting.first_entry() {
                let last = entry.get().0.epochs.end.saturating_sub(1);
                if frontiers.first().is_none_or(|frontier| frontier.less_equal(&last)) {
                    break;
                }
                let (number, (commit, capability)) = entry.remove_entry();
                let later = collected.split_off(&commit.epochs.end);
                let shards =
                    std::mem::replace(&mut collected, later).into_values().flatten().collect();
                committing.insert(number, capability);
                let _ = send.send((commit, shards));
            }
            while let Ok(number) = receive.try_recv() {
                committing.remove(&number);
            }
        }
    });
}

/// The only writer of the run log.
pub(crate) struct CommitTask {
    pub(crate) log: RunLog,
    pub(crate) run: String,
    pub(crate) generation: u64,
    /// All sinks by name, dead letters included.
    pub(crate) sinks: Vec<Target>,
    pub(crate) durable: watch::Sender<u64>,
    /// Records read and refused by earlier starts.
    pub(crate) records: u64,
    pub(crate) refused: u64,
}

impl CommitTask {
    async fn run(
        mut self,
        mut ready: mpsc::UnboundedReceiver<Ready>,
        done: mpsc::UnboundedSender<u64>,
        waker: Waker,
        shared: Arc<Shared>,
    ) {
        while let Some((planned, prepared)) = ready.recv().await {
            let number = planned.number;
            if let Err(error) = self.commit(planned, prepared, &shared).await {
                shared.failures.report(error);
                waker.wake();
                return;
            }
            self.durable.send_replace(number + 1);
            let _ = done.send(number);
            waker.wake();
        }
    }

    async fn commit(
        &mut self,
        planned: PlannedCommit,
        prepared: Vec<Prepared>,
        shared: &Shared,
    ) -> Result<(), RunError> {
        let mut shards: BTreeMap<String, Vec<Shard>> =
            self.sinks.iter().map(|(start, _)| (start.sink.clone(), Vec::new())).collect();
        for prepared in prepared {
            let shard = serde_json::from_str(&prepared.shard).map_err(|e| {
                RunError::Worker(format!("a shard came damaged to the committer: {e}"))
            })?;
            shards.entry(prepared.sink).or_default().push(shard);
        }
        shards
            .values_mut()
            .for_each(|shards| shards.sort_by_key(|shard| (shard.epoch, shard.lane)));
        let refused =
            shards.get(DEAD_LETTERS).into_iter().flatten().map(|shard| shard.rows).sum::<u64>();
        self.records += planned.cuts.iter().map(|cut| cut.records).sum::<u64>();
        self.refused += refused;
        self.check_limit(shared, planned.last)?;
        let commit = Commit {
            run: self.run.clone(),
            number: planned.number,
            generation: self.generation,
            epochs: planned.epochs,
            cuts: planned.cuts,
            decisions: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            shards,
            last: planned.last,
            written: now(),
        };
        let newest = self.log.generation().await?;
        if newest != self.generation {
            let number = commit.number;
            return Err(crate::log::LogError::Fenced { number, generation: newest }.into());
        }
        self.log.append(&commit).await?;
        for (start, sink) in &self.sinks {
            let committed = sink.commit(start, &commit).await;
            committed.map_err(|error| RunError::Sink { node: start.sink.clone(), error })?;
        }
        Ok(())
    }

    fn check_limit(&self, shared: &Shared, last: bool) -> Result<(), RunError> {
        let (over, limit) = match shared.plan.settings().max_errors {
            ErrorLimit::Unlimited => (false, String::new()),
            ErrorLimit::Count(most) => (self.refused > most, most.to_string()),
            ErrorLimit::Share(most) => {
                let judged = last || self.records >= 100;
                let over = self.refused as f64 > most * self.records as f64;
                (judged && over, format!("{}%", most * 100.0))
            }
        };
        if !over {
            return Ok(());
        }
        let example = shared.example().unwrap_or_default();
        Err(RunError::TooManyErrors {
            refused: self.refused,
            records: self.records,
            limit,
            example,
        })
    }
}
