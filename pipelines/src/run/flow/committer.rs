//! Closes commits: when every shard of its epochs is durable, the run log names them, and then each sink.
//!
//! Only the newest start of a run may go on. What fences the others is that each commit's number is written
//! once: looking for a newer generation before that merely stops an old start early, for it may be stopped
//! between the look and the write, and append one commit beside the newer start. That commit is as good as
//! the newer start's own: its shards are kept until its number is taken (see [`Sink::clean`]), and where both
//! made the same of it, the newer start goes on after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tokio::sync::{mpsc, watch};

use super::parcel::Snapped;
use super::sink::Prepared;
use super::{Output, Shared, Waker};
use crate::graph::{ErrorLimit, Mode};
use crate::log::{Commit, DEAD_LETTERS, RunLog, now};
use crate::run::RunError;
use crate::run::cutter::PlannedCommit;
use crate::sink::{RunStart, Shard, Sink};

/// A sink of the run, dead letters included, and what it was told at the start.
pub(crate) type Target = (RunStart, Arc<dyn Sink>);

/// How many snapshots stay.
const KEPT_SNAPSHOTS: usize = 2;

type Ready = (PlannedCommit, Vec<Prepared>, Vec<Snapped>);

/// Collects shards on the first worker and hands each commit to the task once it is whole.
pub(super) fn committer<'scope>(
    prepared: StreamVec<'scope, u64, Prepared>,
    planned: StreamVec<'scope, u64, PlannedCommit>,
    snapped: StreamVec<'scope, u64, Snapped>,
    shared: &Arc<Shared>,
    task: Option<CommitTask>,
) {
    let scope = prepared.scope();
    let mut builder = OperatorBuilder::new("committer".to_owned(), scope);
    let mut shards = builder.new_input(prepared, Exchange::new(|_: &Prepared| 0));
    let mut commits = builder.new_input(planned, Pipeline);
    let mut snapshots = builder.new_input(snapped, Exchange::new(|_: &Snapped| 0));
    // Nothing is sent here: the output exists so that a capability keeps the dataflow alive.
    let (output, _done) = builder.new_output::<Vec<()>>();
    let _output: Output<()> = Output::from(output);

    let waker = Waker::new();
    waker.attach(scope.worker().sync_activator_for(builder.operator_info().address.to_vec()));
    let (send, from_operator) = mpsc::unbounded_channel();
    let (to_operator, mut receive) = mpsc::unbounded_channel();
    if let Some(task) = task {
        let task = task.run(from_operator, to_operator, waker.clone(), Arc::clone(shared));
        shared.spawn("the committer".to_owned(), waker.clone(), task);
    }

    // Every worker snapshots each operator with state.
    let shared = Arc::clone(shared);
    let states = shared.plan.keyed().count() * scope.peers();
    let every = shared.plan.settings().snapshot_every;
    builder.build(move |_| {
        let mut states_of: BTreeMap<u64, Vec<Snapped>> = BTreeMap::new();
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
            snapshots.for_each(|_, snapped| {
                for snapshot in snapped.drain(..) {
                    states_of.entry(snapshot.commit).or_default().push(snapshot);
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
                let planned = &entry.get().0;
                if shared.gives_up(planned.number) {
                    // Its parts may have been left unread, which is known here before any of them is.
                    entry.remove();
                    continue;
                }
                let last = planned.epochs.end.saturating_sub(1);
                let there = states_of.get(&planned.number).map_or(0, Vec::len);
                if frontiers.first().is_none_or(|frontier| frontier.less_equal(&last))
                    || (planned.snapshots(every) && there < states)
                {
                    break;
                }
                let (number, (commit, capability)) = entry.remove_entry();
                let later = collected.split_off(&commit.epochs.end);
                let shards =
                    std::mem::replace(&mut collected, later).into_values().flatten().collect();
                let snapped = states_of.remove(&number).unwrap_or_default();
                committing.insert(number, capability);
                let _ = send.send((commit, shards, snapped));
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
    /// All commits so far, until what they do not name was removed after the last.
    pub(crate) committed: Vec<Commit>,
    /// The commits with snapshots, oldest first.
    pub(crate) snapshots: Vec<u64>,
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
        while let Some((planned, prepared, snapped)) = ready.recv().await {
            let number = planned.number;
            if let Err(error) = self.commit(planned, prepared, snapped, &shared).await {
                shared.failures.report(error);
                waker.wake();
                return;
            }
            self.durable.send_replace(number + 1);
            let _ = done.send(number);
            waker.wake();
            self.drop_old_snapshots().await;
        }
    }

    /// The newest two snapshots stay: the last one, and one to fall back on by hand.
    async fn drop_old_snapshots(&mut self) {
        while self.snapshots.len() > KEPT_SNAPSHOTS {
            self.snapshots.remove(0);
            let Some(oldest) = self.snapshots.first() else { return };
            if let Err(error) = self.log.drop_snapshots_before(*oldest).await {
                tracing::warn!("old snapshots stay where they are: {error}");
            }
        }
    }

    async fn commit(
        &mut self,
        planned: PlannedCommit,
        prepared: Vec<Prepared>,
        snapped: Vec<Snapped>,
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
        let mut snapshots: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for Snapped { operator, shards, .. } in snapped {
            snapshots.entry(operator).or_default().extend(shards);
        }
        snapshots.values_mut().for_each(|shards| shards.sort_unstable());
        let commit = Commit {
            run: self.run.clone(),
            number: planned.number,
            generation: self.generation,
            epochs: planned.epochs,
            cuts: planned.cuts,
            decisions: shared.decisions.hashes(),
            snapshots,
            shards,
            last: planned.last,
            written: now(),
        };
        let newest = self.log.generation().await?;
        if newest != self.generation {
            let number = commit.number;
            return Err(crate::log::LogError::Fenced { number, generation: newest }.into());
        }
        for (start, sink) in &self.sinks {
            let admitted = sink.admit(start, &commit).await;
            admitted.map_err(|error| RunError::Sink { node: start.sink.clone(), error })?;
        }
        self.log.append(&commit).await?;
        if !commit.snapshots.is_empty() {
            self.snapshots.push(commit.number);
        }
        for (start, sink) in &self.sinks {
            let committed = sink.commit(start, &commit).await;
            committed.map_err(|error| RunError::Sink { node: start.sink.clone(), error })?;
        }
        self.clean(commit, shared.plan.settings().mode).await;
        Ok(())
    }

    /// After the run's last commit nothing will name what is left of earlier starts. A stream has no last one;
    /// its next start cleans.
    async fn clean(&mut self, commit: Commit, mode: Mode) {
        let last = commit.last;
        if mode == Mode::Batch {
            self.committed.push(commit);
        }
        for (start, sink) in self.sinks.iter().filter(|_| last) {
            if let Err(error) = sink.clean(start, &self.committed).await {
                tracing::warn!("shards that no commit names stay, which costs space only: {error}");
            }
        }
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
