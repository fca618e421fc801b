//! The part of a run that happens in this process: its timely workers, its tasks and its executor.
//!
//! A run in one process has one; a run of several has one in each, and they meet in timely's channels.
//! The first process of a run also cuts the sources and writes the run log.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::cursor::Cursor;
use super::cutter::{Cutter, Cutting, Measured};
use super::decide::{self, Decisions};
use super::failure::Failures;
use super::flow::{self, CommitTask, Target, Waker};
use super::restore::{self, Resume};
use super::running::Running;
use super::shared::Shared;
use super::stream::Stream;
use super::ticket::Ticket;
use super::{RunError, meter, usage};
use crate::credit::Credit;
use crate::executor::Executor;
use crate::graph::{Mode, Plan, Work};
use crate::log::DEAD_LETTERS;
use crate::operator::Context;
use crate::panics;
use crate::progress::Progress;
use crate::sink::RunStart;
use crate::store::StoreFetcher;

/// How long a failed run's workers may take to end; whoever waits for the run goes on without them then.
const ENDING: Duration = Duration::from_secs(3);

/// The process's place among those of the run.
pub(crate) struct Place {
    /// Its number, from 0.
    pub(crate) index: usize,
    /// A socket to each process of the run, `None` to itself. Empty when there is but one process.
    pub(crate) peers: Vec<Option<UnixStream>>,
}

/// What a process tells of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Pulse {
    pub(crate) progress: Progress,
    /// The last few dead letters.
    pub(crate) examples: Vec<String>,
    /// The invocation that has run longest: seconds, and where it is.
    pub(crate) longest: Option<(f64, String)>,
    pub(crate) peak_rss: u64,
    /// Marks that the sources gave to the cutter.
    #[serde(default)]
    pub(crate) marks: u64,
}

/// This process's part of a run.
pub(crate) struct Process {
    pub(super) shared: Arc<Shared>,
    outcome: Mutex<Option<JoinHandle<()>>>,
    cancelled: Arc<AtomicBool>,
    measured: Arc<Measured>,
    durable: watch::Sender<u64>,
    bytes_total: Option<u64>,
    started: Instant,
}

impl Process {
    /// Makes ready what this process needs: decisions, which the `first` process of the run takes and the
    /// others read.
    pub(crate) fn new(
        plan: Arc<Plan>,
        ticket: &Ticket,
        first: bool,
        runtime: &Handle,
    ) -> Result<Self, RunError> {
        let mut shared = shared(plan, ticket, runtime);
        shared.decisions = runtime.block_on(async {
            if first {
                decide::decide(&shared, ticket).await
            } else {
                Decisions::read(&shared.plan, &ticket.log).await
            }
        })?;
        Ok(Self {
            bytes_total: bytes_total(&shared.plan, ticket),
            shared: Arc::new(shared),
            outcome: Mutex::default(),
            cancelled: Arc::default(),
            measured: Arc::default(),
            durable: watch::Sender::new(ticket.commits.len() as u64),
            started: Instant::now(),
        })
    }

    /// Begins this process's part and returns at once. The sinks are [`ready`].
    pub(crate) fn begin(&self, ticket: &Ticket, place: Place) -> Result<(), RunError> {
        let first = (place.index == 0).then(|| self.lead(ticket));
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("run".to_owned());
        let spawned = thread.spawn(move || work(&shared, place, Mutex::new(first)));
        let spawned =
            spawned.map_err(|e| RunError::Worker(format!("cannot start the run: {e}")))?;
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(spawned);
        Ok(())
    }

    /// Starts the cutter, and makes the task that commits.
    fn lead(&self, ticket: &Ticket) -> First {
        let shared = &self.shared;
        let waker = Waker::new();
        let (output, cutting) = mpsc::unbounded_channel();
        let settings = shared.plan.settings();
        let resume = &shared.resume;
        let cutter = Cutter {
            cursors: cursors(&shared.plan, ticket, resume)
                .into_iter()
                .map(|cursor| cursor.counting(Arc::clone(&self.measured.marks)))
                .collect(),
            parts: source_nodes(&shared.plan).map(|node| shared.plan.part(node)).collect(),
            feeds_state: source_nodes(&shared.plan)
                .map(|node| shared.plan.feeds_state(node))
                .collect(),
            whole_epochs: shared.plan.keeps_epochs_whole(),
            passed: shared.plan.keyed().next().map(|_| shared.passed.subscribe()),
            replay: resume.replay(&ticket.commits).to_vec(),
            stream: Stream::of(shared),
            commit: settings.commit,
            open_commits: settings.open_commits,
            durable: self.durable.subscribe(),
            cancelled: Arc::clone(&self.cancelled),
            given_up: Arc::clone(&shared.given_up),
            measured: Arc::clone(&self.measured),
            output,
            waker: waker.clone(),
        };
        let done = ticket.commits.last().cloned();
        let failures = shared.failures.clone();
        let end = waker.clone();
        let cutting_task = async move {
            if let Err(error) = cutter.run(done.as_ref()).await {
                failures.report(error);
            }
            end.wake();
        };
        shared.spawn("the cutter".to_owned(), waker.clone(), cutting_task);
        let cuts = ticket.commits.iter().flat_map(|commit| &commit.cuts);
        let letters =
            ticket.commits.iter().filter_map(|commit| commit.shards.get(DEAD_LETTERS)).flatten();
        let task = CommitTask {
            log: ticket.log.clone(),
            run: ticket.record.run.clone(),
            generation: ticket.generation,
            sinks: targets(&shared.plan, ticket).into_iter().map(|(target, _)| target).collect(),
            durable: self.durable.clone(),
            committed: ticket.commits.clone(),
            snapshots: restore::snapshots(&ticket.commits).map(|commit| commit.number).collect(),
            records: cuts.map(|cut| cut.records).sum(),
            refused: letters.map(|shard| shard.rows).sum(),
        };
        ((cutting, waker), task)
    }

    /// Whether its part has ended, well or not. A failed part that cannot end counts as ended soon.
    pub(crate) fn is_finished(&self) -> bool {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.as_ref().is_none_or(JoinHandle::is_finished)
            || self.shared.failures.age().is_some_and(|age| age > ENDING)
    }

    /// Stops cutting; the oldest commit that was cut and is not durable is finished.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Also writes down what runs where the supervisor can read it when this process is gone.
    pub(crate) fn record_to(&self, file: std::fs::File) {
        self.shared.running.record_to(file);
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.shared.failures
    }

    /// The figures of this moment.
    pub(crate) fn pulse(&self) -> Pulse {
        let shared = &self.shared;
        let complete = self.measured.complete.load(Ordering::Relaxed);
        let progress = Progress {
            nodes: meter::progress(&shared.plan, &shared.meters),
            commits: *self.durable.borrow(),
            records_total: complete.then(|| self.measured.records.load(Ordering::Relaxed)),
            bytes_total: self.bytes_total,
            waiting_splits: self.measured.waiting_splits.load(Ordering::Relaxed),
            waiting_bytes: self.measured.waiting_bytes.load(Ordering::Relaxed),
            credit_used: shared.credit.used() as u64,
            credit: shared.credit.total() as u64,
            seconds: self.started.elapsed().as_secs_f64(),
        };
        let examples = shared.examples.lock().unwrap_or_else(PoisonError::into_inner);
        Pulse {
            progress,
            examples: examples.iter().cloned().collect(),
            longest: shared.running.longest().map(|(age, place)| (age.as_secs_f64(), place)),
            peak_rss: usage::of_this_process().1,
            marks: self.measured.marks.load(Ordering::Relaxed),
        }
    }

    /// The failure, once [finished](Self::is_finished). Threads that cannot end are left behind.
    pub(crate) fn end(&self) -> Option<RunError> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failures = &self.shared.failures;
        if let Some(outcome) = outcome.filter(JoinHandle::is_finished)
            && outcome.join().is_err()
        {
            failures.report(RunError::Worker("the run's thread panicked".to_owned()));
        }
        if failures.any() {
            self.shared.executor.abandon();
        }
        failures.take()
    }
}

/// Bytes that the sources hold, as far as a listing can tell; that of a stream tells nothing.
fn bytes_total(plan: &Plan, ticket: &Ticket) -> Option<u64> {
    let once = plan.nodes().iter().all(|node| match &node.work {
        Work::Source { order, .. } => order.passes == 1,
        _ => true,
    });
    let once = once && plan.settings().mode == Mode::Batch;
    once.then(|| ticket.listing.iter().flatten().flatten().map(|split| split.bytes).sum())
}

fn shared(plan: Arc<Plan>, ticket: &Ticket, runtime: &Handle) -> Shared {
    let resume = Resume::of(&plan, &ticket.commits);
    let failures = Failures::default();
    let memory = plan.memory();
    let slices = memory.threads * memory.slice;
    let declared = plan.nodes().iter().filter_map(|node| node.resources().memory).max();
    Shared {
        run: ticket.record.run.clone(),
        log: ticket.log.clone(),
        generation: ticket.generation,
        first_commit: ticket.commits.len() as u64,
        passed: watch::Sender::new(resume.first_epoch),
        resume,
        given_up: Arc::new(AtomicU64::new(u64::MAX)),
        decisions: Decisions::default(),
        meters: plan.nodes().iter().map(|_| Arc::default()).collect(),
        credit: Credit::new(memory.in_flight / plan.settings().processes),
        executor: Arc::new(Executor::new(memory.threads, slices.max(declared.unwrap_or(0)))),
        runtime: runtime.clone(),
        context: Context::new(Arc::new(StoreFetcher::new(runtime.clone())), failures.flag()),
        failures,
        running: Running::default(),
        examples: Mutex::default(),
        plan,
    }
}

/// All sinks with what they are told and the schema that they write, dead letters included.
fn targets(plan: &Plan, ticket: &Ticket) -> Vec<(Target, arrow::datatypes::SchemaRef)> {
    let named =
        plan.sinks().map(|(node, sink)| (node.name.clone(), sink, Arc::clone(&node.schema)));
    let letters = plan
        .dead_letters()
        .map(|sink| (DEAD_LETTERS.to_owned(), sink, crate::dead_letter::schema()));
    named
        .chain(letters)
        .map(|(name, sink, schema)| {
            let overwrite = ticket.record.overwrite && name != DEAD_LETTERS;
            let start = RunStart { run: ticket.record.run.clone(), sink: name, overwrite };
            ((start, Arc::clone(sink)), schema)
        })
        .collect()
}

/// Makes the sinks ready for the ticket's generation, before any process of it writes.
pub(crate) async fn ready(plan: &Plan, ticket: &Ticket) -> Result<(), RunError> {
    start_sinks(plan, ticket).await?;
    for ((start, sink), _) in targets(plan, ticket) {
        let recovered = sink.recover(&start, &ticket.commits).await;
        recovered.map_err(|error| RunError::Sink { node: start.sink.clone(), error })?;
        let cleaned = sink.clean(&start, &ticket.commits).await;
        cleaned.map_err(|error| RunError::Sink { node: start.sink.clone(), error })?;
    }
    Ok(())
}

/// Starts the sinks, which every process does that writes or commits.
pub(crate) async fn start_sinks(plan: &Plan, ticket: &Ticket) -> Result<(), RunError> {
    for ((start, sink), schema) in targets(plan, ticket) {
        let started = sink.start(&start, &schema).await;
        started.map_err(|error| RunError::Sink { node: start.sink.clone(), error })?;
    }
    Ok(())
}

fn source_nodes(plan: &Plan) -> impl Iterator<Item = usize> {
    let nodes = plan.nodes().iter().enumerate();
    nodes.filter(|(_, node)| matches!(node.work, Work::Source { .. })).map(|(at, _)| at)
}

/// Where to go on in each source: after the last commit, or further back when its rows rebuild state.
fn cursors(plan: &Plan, ticket: &Ticket, resume: &Resume) -> Vec<Cursor> {
    let cursor = |at: usize| {
        let node = plan.nodes().get(at)?;
        let Work::Source { source, order } = &node.work else { return None };
        let before = if plan.feeds_state(at) {
            resume.before(&ticket.commits)
        } else {
            ticket.commits.as_slice()
        };
        let splits = match plan.settings().mode {
            Mode::Batch => ticket.listing.get(at)?.clone().unwrap_or_default(),
            Mode::Stream => ticket.taken_up(&node.name),
        };
        Some(Cursor::new(&node.name, Arc::clone(source), *order, splits, before))
    };
    source_nodes(plan).filter_map(cursor).collect()
}

/// What the run's first worker has and no other.
type First = ((mpsc::UnboundedReceiver<Cutting>, Waker), CommitTask);

/// Runs the timely workers of this process until the dataflow completes or the run fails.
fn work(shared: &Arc<Shared>, place: Place, first: Mutex<Option<First>>) {
    let (builders, others) = match allocators(place, shared.plan.settings().workers) {
        Ok(made) => made,
        Err(error) => {
            let error = format!("timely did not start: {error}");
            return shared.failures.report(RunError::Worker(error));
        }
    };
    let inner = Arc::clone(shared);
    let config = timely::WorkerConfig::default();
    let guards = timely::execute::execute_from(builders, others, config, move |worker| {
        let failures = inner.failures.clone();
        // A panic of one worker would leave the others waiting for ever; as a failure, all see it.
        let flow = panics::catch(|| {
            let mine = if worker.index() == 0 {
                first.lock().unwrap_or_else(PoisonError::into_inner).take()
            } else {
                None
            };
            let (cutting, task) = mine.unzip();
            worker.dataflow::<u64, _, _>(|scope| flow::build(scope, &inner, cutting, task));
            while worker.has_dataflows() && !failures.any() {
                worker.step_or_park(Some(Duration::from_millis(100)));
            }
        });
        let index = worker.index();
        if let Err(panic) = flow {
            let message = format!("timely worker {index} panicked: {panic}");
            failures.report(RunError::Worker(message));
        }
        let dropped = panics::catch(|| {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        });
        if let Err(panic) = dropped {
            tracing::debug!("worker {index} could not be taken down: {panic}");
        }
    });
    match guards {
        Ok(guards) => drop(guards.join()),
        Err(error) => {
            shared.failures.report(RunError::Worker(format!("timely did not start: {error}")))
        }
    }
}

type Allocators = (Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>);

/// Channels between the workers of this process, and to those of its peers.
fn allocators(place: Place, workers: usize) -> Result<Allocators, String> {
    if place.peers.is_empty() {
        return match workers {
            1 => timely::CommunicationConfig::Thread.try_build(),
            _ => timely::CommunicationConfig::Process(workers).try_build(),
        };
    }
    let hooks = Hooks::default();
    let inside =
        ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) =
        initialize_networking_from_sockets(inside, place.peers, place.index, workers, hooks)
            .map_err(|error| error.to_string())?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}
