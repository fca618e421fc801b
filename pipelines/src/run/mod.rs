//! Executes a [`Plan`] on timely dataflow: exactly once, in bounded memory, resumable at any moment.
//!
//! [`Run::start`] looks at the destination and begins or resumes a run; [`Run::progress`] can be asked at
//! any time; [`Run::wait`] gives the [`Report`]. The life of a record is told in `ARCHITECTURE.md`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::credit::Credit;
use crate::executor::Executor;
use crate::graph::{Plan, Work};
use crate::log::DEAD_LETTERS;
use crate::operator::Context;
use crate::progress::{Ending, Output, Progress, Report};
use crate::sink::RunStart;
use crate::store::StoreFetcher;

mod cursor;
mod cutter;
mod decide;
mod failure;
mod flow;
mod meter;
mod restore;
mod running;
mod ticket;
mod usage;

pub use failure::RunError;
pub(crate) use meter::Meter;

use cursor::Cursor;
use cutter::{Cutter, Measured};
use failure::Failures;
use flow::{CommitTask, Shared, Waker};
use running::Running;
use ticket::Ticket;

/// What to do about an earlier run at the same destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// Resume the unfinished run of this very plan and listing; say "already complete" of a finished
    /// one; refuse anything else.
    #[default]
    Resume,
    /// Add this run's rows to what is there.
    Append,
    /// Replace what is there when this run's first commit becomes visible.
    Overwrite,
    /// Refuse when anything is there.
    Error,
}

/// A run in progress. Dropping it cancels the run and waits for it.
pub struct Run {
    shared: Arc<Shared>,
    ticket: Ticket,
    outcome: Option<JoinHandle<()>>,
    cancelled: Arc<AtomicBool>,
    measured: Arc<Measured>,
    durable: watch::Receiver<u64>,
    started: Instant,
    // Last, because tasks and workers still run on it while the rest is dropped.
    _runtime: tokio::runtime::Runtime,
}

impl Run {
    /// Begins or resumes a run in this process and returns at once.
    ///
    /// # Errors
    /// When the destination holds something else, or a source or sink cannot be reached.
    pub fn start(plan: Arc<Plan>, if_exists: IfExists) -> Result<Self, RunError> {
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("io")
            .enable_all()
            .build()
            .map_err(|e| RunError::Worker(format!("cannot start I/O threads: {e}")))?;
        let ticket = runtime.block_on(ticket::take(&plan, if_exists))?;
        let failures = Failures::default();
        let resume = restore::Resume::of(&plan, &ticket.commits);
        let complete = ticket.complete();
        let memory = plan.memory();
        let slices = memory.threads * memory.slice;
        let declared =
            plan.nodes().iter().filter_map(|node| node.resources().memory).max().unwrap_or(0);
        let mut shared = Shared {
            run: ticket.record.run.clone(),
            log: ticket.log.clone(),
            generation: ticket.generation,
            first_epoch: resume.first_epoch,
            first_commit: ticket.commits.len() as u64,
            restored: Default::default(),
            decisions: Default::default(),
            passed: watch::Sender::new(resume.first_epoch),
            meters: plan.nodes().iter().map(|_| Arc::default()).collect(),
            credit: Credit::new(memory.in_flight),
            executor: Arc::new(Executor::new(memory.threads, slices.max(declared))),
            runtime: runtime.handle().clone(),
            context: Context::new(
                Arc::new(StoreFetcher::new(runtime.handle().clone())),
                failures.flag(),
            ),
            failures,
            running: Running::default(),
            examples: std::sync::Mutex::default(),
            plan,
        };
        if !complete {
            shared.restored = runtime.block_on(resume.load(&shared.plan, &ticket.log))?;
            shared.decisions = runtime.block_on(decide::decide(&shared, &ticket))?;
        }
        let shared = Arc::new(shared);
        let (durable, watching) = watch::channel(ticket.commits.len() as u64);
        let mut run = Self {
            shared,
            ticket,
            outcome: None,
            cancelled: Arc::default(),
            measured: Arc::default(),
            durable: watching,
            started,
            _runtime: runtime,
        };
        if !run.ticket.complete() {
            run.begin(durable)?;
        }
        Ok(run)
    }

    fn begin(&mut self, durable: watch::Sender<u64>) -> Result<(), RunError> {
        let (shared, ticket) = (&self.shared, &self.ticket);
        let sinks = self.start_sinks()?;
        let waker = Waker::new();
        let (output, cutting) = mpsc::unbounded_channel();
        let settings = shared.plan.settings();
        let resume = restore::Resume::of(&shared.plan, &ticket.commits);
        let cutter = Cutter {
            cursors: cursors(&shared.plan, ticket, &resume),
            parts: source_nodes(&shared.plan).map(|node| shared.plan.part(node)).collect(),
            passed: shared.plan.keyed().next().map(|_| shared.passed.subscribe()),
            replay: resume.replay(&ticket.commits).to_vec(),
            commit: settings.commit,
            open_commits: settings.open_commits,
            durable: self.durable.clone(),
            cancelled: Arc::clone(&self.cancelled),
            measured: Arc::clone(&self.measured),
            output,
            waker: waker.clone(),
        };
        let done = ticket.commits.last().cloned();
        let failures = shared.failures.clone();
        let end = waker.clone();
        shared.runtime.spawn(async move {
            if let Err(error) = cutter.run(done.as_ref()).await {
                failures.report(error);
            }
            end.wake();
        });
        let cuts = ticket.commits.iter().flat_map(|commit| &commit.cuts);
        let letters =
            ticket.commits.iter().filter_map(|commit| commit.shards.get(DEAD_LETTERS)).flatten();
        let task = CommitTask {
            log: ticket.log.clone(),
            run: ticket.record.run.clone(),
            generation: ticket.generation,
            sinks,
            durable,
            snapshots: restore::snapshots(&ticket.commits).map(|commit| commit.number).collect(),
            records: cuts.map(|cut| cut.records).sum(),
            refused: letters.map(|shard| shard.rows).sum(),
        };
        let first = std::sync::Mutex::new(Some(((cutting, waker), task)));
        let shared = Arc::clone(shared);
        let workers = settings.workers;
        let thread = std::thread::Builder::new().name("run".to_owned());
        let spawned = thread.spawn(move || work(&shared, workers, first));
        self.outcome =
            Some(spawned.map_err(|e| RunError::Worker(format!("cannot start the run: {e}")))?);
        Ok(())
    }

    fn start_sinks(&self) -> Result<Vec<flow::Target>, RunError> {
        let plan = &self.shared.plan;
        let named =
            plan.sinks().map(|(node, sink)| (node.name.clone(), sink, Arc::clone(&node.schema)));
        let letters = plan
            .dead_letters()
            .map(|sink| (DEAD_LETTERS.to_owned(), sink, crate::dead_letter::schema()));
        let mut sinks = Vec::new();
        for (name, sink, schema) in named.chain(letters) {
            let overwrite = self.ticket.record.overwrite && name != DEAD_LETTERS;
            let start =
                RunStart { run: self.ticket.record.run.clone(), sink: name.clone(), overwrite };
            let ready = async {
                sink.start(&start, &schema).await?;
                sink.recover(&start, &self.ticket.commits).await
            };
            let ready = self.shared.runtime.block_on(ready);
            ready.map_err(|error| RunError::Sink { node: name, error })?;
            sinks.push((start, Arc::clone(sink)));
        }
        Ok(sinks)
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.ticket.record.run
    }

    /// Whether everything was done before this start.
    pub fn already_complete(&self) -> bool {
        self.ticket.complete()
    }

    /// Whether the run has ended, well or not.
    pub fn is_finished(&self) -> bool {
        self.outcome.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The figures of this moment.
    pub fn progress(&self) -> Progress {
        let bytes = self.ticket.listing.iter().flatten().flatten().map(|split| split.bytes).sum();
        let passes = |at: usize| match self.shared.plan.nodes().get(at).map(|n| &n.work) {
            Some(Work::Source { order, .. }) => u64::from(order.passes),
            _ => 1,
        };
        let most = (0..self.shared.plan.nodes().len()).map(passes).max().unwrap_or(1);
        let complete = self.measured.complete.load(Ordering::Relaxed);
        Progress {
            nodes: meter::progress(&self.shared.plan, &self.shared.meters),
            commits: *self.durable.borrow(),
            records_total: complete.then(|| self.measured.records.load(Ordering::Relaxed)),
            bytes_total: (most == 1).then_some(bytes),
            credit_used: self.shared.credit.used() as u64,
            credit: self.shared.credit.total() as u64,
            seconds: self.started.elapsed().as_secs_f64(),
        }
    }

    /// Stops reading; what is in flight is finished, and whole commits are kept.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    /// Why it failed. What was committed stays, and the next start resumes after it.
    pub fn wait(mut self) -> Result<Report, RunError> {
        self.watch();
        if let Some(outcome) = self.outcome.take()
            && outcome.join().is_err()
        {
            self.shared.failures.report(RunError::Worker("the run's thread panicked".to_owned()));
        }
        match self.shared.failures.take() {
            Some(error) => Err(error),
            None => self.report(),
        }
    }

    /// Watches progress until the run ends: a stall or an overlong cancellation becomes a failure.
    fn watch(&self) {
        let settings = self.shared.plan.settings();
        let (mut seen, mut since) = (Vec::new(), Instant::now());
        let mut cancelled: Option<Instant> = None;
        while !self.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
            if self.cancelled.load(Ordering::Relaxed)
                && cancelled.get_or_insert_with(Instant::now).elapsed() > settings.grace
            {
                // What is not committed by now will be read again.
                self.shared.failures.report(RunError::Stalled {
                    seconds: settings.grace.as_secs(),
                    doing: "the cancelled run did not finish within `grace`".to_owned(),
                });
            }
            let now: Vec<u64> = self.shared.meters.iter().map(|meter| meter.total()).collect();
            let now = [now, vec![*self.durable.borrow()]].concat();
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > settings.stall {
                let doing = self.shared.running.longest().map(|(_, doing)| doing);
                self.shared.failures.report(RunError::Stalled {
                    seconds: settings.stall.as_secs(),
                    doing: doing
                        .unwrap_or_else(|| "a source or a store does not answer".to_owned()),
                });
                return;
            }
        }
    }

    fn report(&self) -> Result<Report, RunError> {
        let ticket = &self.ticket;
        let plan = &self.shared.plan;
        let commits = self.shared.runtime.block_on(ticket.log.commits())?;
        let complete = commits.last().is_some_and(|commit| commit.last);
        let count = |sink: &str| {
            let shards = commits.iter().filter_map(|commit| commit.shards.get(sink)).flatten();
            shards.fold(Output::default(), |sum, shard| Output {
                shards: sum.shards + 1,
                rows: sum.rows + shard.rows,
                bytes: sum.bytes + shard.bytes,
                ..sum
            })
        };
        let outputs: BTreeMap<String, Output> = plan
            .sinks()
            .map(|(node, sink)| {
                (node.name.clone(), Output { location: sink.location(), ..count(&node.name) })
            })
            .collect();
        let dead = count(DEAD_LETTERS).rows > 0;
        let (cpu_seconds, peak_rss) = usage::of_this_process();
        let examples =
            self.shared.examples.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Report {
            job: plan.name().to_owned(),
            run: ticket.record.run.clone(),
            ending: match (self.already_complete(), complete) {
                (true, _) => Ending::AlreadyComplete,
                (false, true) => Ending::Complete,
                (false, false) => Ending::Cancelled,
            },
            resumed: !ticket.commits.is_empty(),
            resumed_after: ticket.commits.last().map(|commit| commit.number),
            class: plan.class().name().to_owned(),
            cpu: ticket.record.cpu.clone(),
            progress: self.progress(),
            outputs,
            dead_letters: plan.dead_letters().filter(|_| dead).map(|sink| sink.location()),
            dead_letter_examples: examples.iter().cloned().collect(),
            cpu_seconds,
            peak_rss,
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.cancel();
        if let Some(outcome) = self.outcome.take() {
            self.shared.failures.report(RunError::Worker("the run was dropped".to_owned()));
            let _ = outcome.join();
        }
    }
}

fn source_nodes(plan: &Plan) -> impl Iterator<Item = usize> {
    let nodes = plan.nodes().iter().enumerate();
    nodes.filter(|(_, node)| matches!(node.work, Work::Source { .. })).map(|(at, _)| at)
}

/// Where to go on in each source: after the last commit, or further back when its rows rebuild state.
fn cursors(plan: &Plan, ticket: &Ticket, resume: &restore::Resume) -> Vec<Cursor> {
    let cursor = |at: usize| {
        let (node, splits) = (plan.nodes().get(at)?, ticket.listing.get(at)?);
        let Work::Source { source, order } = &node.work else { return None };
        let before = if plan.feeds_state(at) {
            resume.before(&ticket.commits)
        } else {
            ticket.commits.as_slice()
        };
        let splits = splits.clone().unwrap_or_default();
        Some(Cursor::new(&node.name, Arc::clone(source), *order, splits, before))
    };
    source_nodes(plan).filter_map(cursor).collect()
}

type First =
    std::sync::Mutex<Option<((mpsc::UnboundedReceiver<cutter::Cutting>, Waker), CommitTask)>>;

/// Runs the timely workers of this process until the dataflow completes or the run fails.
fn work(shared: &Arc<Shared>, workers: usize, first: First) {
    let config =
        if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let inner = Arc::clone(shared);
    let guards = timely::execute(config, move |worker| {
        let failures = inner.failures.clone();
        // A panic of one worker would leave the others waiting for ever; as a failure, all see it.
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mine = if worker.index() == 0 {
                first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
            } else {
                None
            };
            let (cutting, task) = mine.unzip();
            worker.dataflow::<u64, _, _>(|scope| flow::build(scope, &inner, cutting, task));
            while worker.has_dataflows() && !failures.any() {
                worker.step_or_park(Some(Duration::from_millis(100)));
            }
        }));
        if let Err(panic) = caught {
            let message = crate::executor::message(panic.as_ref());
            failures.report(RunError::Worker(format!(
                "timely worker {} panicked: {message}",
                worker.index()
            )));
        }
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    });
    match guards {
        Ok(guards) => drop(guards.join()),
        Err(error) => {
            shared.failures.report(RunError::Worker(format!("timely did not start: {error}")))
        }
    }
}
