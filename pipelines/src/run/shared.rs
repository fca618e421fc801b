//! What everything that works for a run in one process shares.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;

use super::decide::Decisions;
use super::failure::Failures;
use super::flow::Waker;
use super::restore::Resume;
use super::running::Running;
use super::{Meter, RunError};
use crate::credit::Credit;
use crate::executor::Executor;
use crate::graph::{Plan, Work};
use crate::log::RunLog;
use crate::operator::{Allocation, Context, Operator};
use crate::source::Source;

/// What all operators of a process share.
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) run: String,
    /// Where snapshots go, and which start of the run this is.
    pub(crate) log: RunLog,
    pub(crate) generation: u64,
    /// From where on sources are cut, and the state there.
    pub(crate) resume: Resume,
    /// The first commit to make. Epochs of earlier ones are replayed for the state of operators.
    pub(crate) first_commit: u64,
    /// From which commit on a cancelled run makes none; [`u64::MAX`] until then.
    pub(crate) given_up: Arc<AtomicU64>,
    pub(crate) decisions: Decisions,
    /// Epochs before this one have passed every operator with state.
    pub(crate) passed: tokio::sync::watch::Sender<u64>,
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
    pub(crate) fn name(&self, node: usize) -> &str {
        self.plan.nodes().get(node).map_or("", |node| &node.name)
    }

    pub(crate) fn meter(&self, node: usize) -> Arc<Meter> {
        self.meters.get(node).map(Arc::clone).unwrap_or_default()
    }

    pub(crate) fn schema(&self, node: usize) -> SchemaRef {
        let schema = self.plan.nodes().get(node).map(|node| Arc::clone(&node.schema));
        schema.unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty()))
    }

    pub(crate) fn source(&self, node: usize) -> Arc<dyn Source> {
        match self.plan.nodes().get(node).map(|node| &node.work) {
            Some(Work::Source { source, .. }) => Arc::clone(source),
            _ => unreachable!("readers are built for sources only"),
        }
    }

    /// The operator at a node, as its decision made it.
    pub(crate) fn operator(&self, node: usize) -> Arc<dyn Operator> {
        match self.plan.nodes().get(node) {
            Some(planned) => match (self.decisions.operator(&planned.name), &planned.work) {
                (Some(decided), _) => decided,
                (None, Work::Operator { operator, .. }) => Arc::clone(operator),
                _ => unreachable!("only operators are invoked or fed"),
            },
            None => unreachable!("nodes are numbered by the plan"),
        }
    }

    /// Whether a commit was made by an earlier start: its epochs are replayed for state alone.
    pub(crate) fn is_replay(&self, commit: u64) -> bool {
        commit < self.first_commit
    }

    /// Whether a commit will not be made, because the run was cancelled: nobody needs what is read for it.
    pub(crate) fn gives_up(&self, commit: u64) -> bool {
        commit >= self.given_up.load(Ordering::SeqCst)
    }

    /// Runs `work` for node `name` on a thread of the executor.
    pub(crate) async fn compute<R: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, RunError> {
        self.compute_on(None, name, work).await
    }

    /// Runs `work` for node `name` on the executor: on one of its threads, or inside a pool of so many.
    pub(crate) async fn compute_on<R: Send + 'static>(
        &self,
        pool: Option<usize>,
        name: &str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, RunError> {
        let (send, receive) = tokio::sync::oneshot::channel();
        let watch = self.running.begin(name, None);
        let job = move |_| {
            let _watch = watch;
            let _ = send.send(crate::panics::catch(work));
        };
        match pool {
            Some(threads) => {
                self.executor.submit_parallel(Allocation { threads, bytes: 0 }, job);
            }
            None => self.executor.submit(Allocation { threads: 1, bytes: 0 }, job),
        }
        let failed = |error| RunError::Operator { node: name.to_owned(), record: None, error };
        match receive.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(panic)) => Err(failed(format!("the operator panicked: {panic}"))),
            Err(_) => Err(failed("the executor was shut down".to_owned())),
        }
    }

    /// Runs a task on the I/O threads. A panic in it fails the run, which would wait for it for ever.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        what: String,
        waker: Waker,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let failures = self.failures.clone();
        self.runtime.spawn(async move {
            if let Err(panic) = crate::panics::catch_in(task).await {
                failures.report(RunError::Worker(format!("{what} panicked: {panic}")));
                waker.wake();
            }
        });
    }

    pub(crate) fn example(&self) -> Option<String> {
        self.examples.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }
}
