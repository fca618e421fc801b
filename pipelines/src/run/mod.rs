//! Executes a [`Plan`] on timely dataflow: exactly once, in bounded memory, resumable at any moment.
//!
//! [`Run::start`] looks at the destination and begins or resumes a run; [`Run::progress`] can be asked at
//! any time; [`Run::wait`] gives the [`Report`]. The life of a record is told in `ARCHITECTURE.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::graph::Plan;
use crate::progress::{Chosen, Progress, Report};

pub mod cluster;
mod cursor;
mod cutter;
mod decide;
mod failure;
mod flow;
mod growth;
mod meter;
mod process;
mod report;
mod restore;
mod running;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod ticket;
mod usage;
mod watchdog;

pub(crate) use cluster::signal_name;
pub use failure::RunError;
pub(crate) use meter::{Count, Meter};

use cluster::{Launch, Supervisor};
use process::{Place, Process, Pulse};
use report::Last;
use ticket::Ticket;
pub(crate) use ticket::{listed, state};
use watchdog::Watchdog;

/// Time between two looks at a run.
const LOOK: Duration = Duration::from_millis(2);
/// Time between two looks of the watchdog.
const WATCH: Duration = Duration::from_millis(100);

/// What to do about earlier runs at the same destination.
///
/// A run is *this very job* when its plan, its listing and the CPU's feature level are the same, and it is
/// the newest there. Whatever is chosen is told by [`Report::chosen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// Resume the unfinished run of this very job, be it an append or an overwrite; say "already complete"
    /// of a finished one; refuse anything else, data that no run wrote included.
    #[default]
    Resume,
    /// Add this run's rows to what is there, as often as it is asked: two appends of the same job both
    /// count. Only an append that was killed goes on instead of beginning again. A stream is never
    /// complete, so it always goes on.
    Append,
    /// Replace what is there when this run's first commit becomes visible; until then the old rows stay. An
    /// overwrite that was killed goes on; a complete one is done again.
    Overwrite,
    /// Refuse when anything is there, an unfinished run of this very job included.
    Error,
}

/// A run in progress. Dropping it cancels the run and waits for it.
pub struct Run {
    plan: Arc<Plan>,
    ticket: Ticket,
    engine: Engine,
    started: Instant,
    /// What this process had spent before, as one that `cargo run` became has.
    cpu_before: f64,
    // Last, because tasks and workers still run on it while the rest is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

/// What executes a run.
enum Engine {
    /// Nothing: everything was done before.
    Done,
    /// This process, watched by a thread of its own.
    Here(Arc<Process>),
    /// Several processes.
    Supervised(Supervisor),
}

impl Run {
    /// Begins or resumes a run in this process and returns at once.
    ///
    /// # Errors
    /// When the destination holds something else, or a source or sink cannot be reached.
    pub fn start(plan: Arc<Plan>, if_exists: IfExists) -> Result<Self, RunError> {
        Self::take(plan, if_exists, |plan, ticket, runtime| {
            runtime.block_on(process::ready(&plan, ticket))?;
            let process = Process::new(plan, ticket, true, runtime.handle())?;
            process.begin(ticket, Place { index: 0, peers: Vec::new() })?;
            Ok(Engine::Here(watched(Arc::new(process))?))
        })
    }

    /// Begins or resumes a run in as many processes as the plan's settings say, and returns at once.
    /// See [`cluster`].
    ///
    /// # Errors
    /// When the destination holds something else, or a source or sink cannot be reached.
    pub fn start_processes(
        plan: Arc<Plan>,
        if_exists: IfExists,
        launch: Launch,
    ) -> Result<Self, RunError> {
        Self::take(plan, if_exists, |plan, ticket, runtime| {
            let handle = runtime.handle().clone();
            Supervisor::start(plan, ticket.clone(), launch, handle).map(Engine::Supervised)
        })
    }

    fn take(
        plan: Arc<Plan>,
        if_exists: IfExists,
        begin: impl FnOnce(Arc<Plan>, &Ticket, &tokio::runtime::Runtime) -> Result<Engine, RunError>,
    ) -> Result<Self, RunError> {
        let started = Instant::now();
        let (cpu_before, _) = usage::of_this_process();
        let runtime = io_threads()?;
        let ticket = runtime.block_on(ticket::take(&plan, if_exists))?;
        let engine = if ticket.complete() {
            // The run may have been killed between its last entry and what tells readers of it.
            runtime.block_on(process::ready(&plan, &ticket))?;
            Engine::Done
        } else {
            begin(Arc::clone(&plan), &ticket, &runtime)?
        };
        Ok(Self { plan, ticket, engine, started, cpu_before, runtime: Some(runtime) })
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.ticket.record.run
    }

    /// Whether everything was done before this start.
    pub fn already_complete(&self) -> bool {
        self.ticket.complete()
    }

    /// What this start does about earlier runs at the destination.
    pub fn chosen(&self) -> Chosen {
        self.ticket.chosen
    }

    /// The commit of an earlier start that this one goes on after.
    pub fn resumed_after(&self) -> Option<u64> {
        self.ticket.commits.last().map(|commit| commit.number)
    }

    /// Whether the run has ended, well or not.
    pub fn is_finished(&self) -> bool {
        match &self.engine {
            Engine::Done => true,
            Engine::Here(process) => process.is_finished(),
            Engine::Supervised(supervisor) => supervisor.is_finished(),
        }
    }

    /// The figures of this moment.
    pub fn progress(&self) -> Progress {
        let seconds = self.started.elapsed().as_secs_f64();
        Progress { seconds, ..merged(&self.plan, &self.pulses()) }
    }

    fn pulses(&self) -> Vec<Pulse> {
        match &self.engine {
            Engine::Done => Vec::new(),
            Engine::Here(process) => vec![process.pulse()],
            Engine::Supervised(supervisor) => supervisor.pulses(),
        }
    }

    /// Stops reading; what is in flight is finished, and whole commits are kept.
    pub fn cancel(&self) {
        match &self.engine {
            Engine::Done => {}
            Engine::Here(process) => process.cancel(),
            Engine::Supervised(supervisor) => supervisor.cancel(),
        }
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    /// Why it failed. What was committed stays, and the next start resumes after it.
    pub fn wait(self) -> Result<Report, RunError> {
        while !self.is_finished() {
            // Each look costs a thread its place; a long run may end a little late.
            std::thread::sleep((self.started.elapsed() / 256).clamp(LOOK, WATCH));
        }
        let last = self.end()?;
        let Some(runtime) = &self.runtime else { return Err(ended()) };
        runtime.block_on(report::report(&self.plan, &self.ticket, last))
    }

    /// The last figures, once finished.
    fn end(&self) -> Result<Last, RunError> {
        let (failure, (restarts, peak_rss)) = match &self.engine {
            Engine::Done => (None, (0, 0)),
            Engine::Here(process) => (process.end(), (0, 0)),
            Engine::Supervised(supervisor) => (supervisor.end(), supervisor.restarts_and_peak()),
        };
        if let Some(failure) = failure {
            return Err(failure);
        }
        let examples = self.pulses().into_iter().flat_map(|pulse| pulse.examples).collect();
        Ok(Last {
            progress: self.progress(),
            examples,
            cpu_before: self.cpu_before,
            peak_rss,
            restarts,
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.cancel();
        if !self.is_finished() {
            match &self.engine {
                Engine::Done => {}
                Engine::Here(process) => process.failures().report(ended()),
                Engine::Supervised(supervisor) => supervisor.abandon(),
            }
            while !self.is_finished() {
                std::thread::sleep(LOOK);
            }
        }
        match &self.engine {
            Engine::Done => {}
            Engine::Here(process) => drop(process.end()),
            Engine::Supervised(supervisor) => drop(supervisor.end()),
        }
        self.engine = Engine::Done;
        // A store that never answers must not hold up the end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(WATCH);
        }
    }
}

fn ended() -> RunError {
    RunError::Worker("the run was dropped".to_owned())
}

/// The threads that do all I/O of a process.
fn io_threads() -> Result<tokio::runtime::Runtime, RunError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|e| RunError::Worker(format!("cannot start I/O threads: {e}")))
}

/// The figures of all processes together.
fn merged(plan: &Plan, pulses: &[Pulse]) -> Progress {
    let mut progress = Progress { nodes: meter::nothing(plan), ..Progress::default() };
    pulses.iter().for_each(|pulse| progress.absorb(&pulse.progress));
    progress
}

/// Has a thread look after the process until it ends.
fn watched(process: Arc<Process>) -> Result<Arc<Process>, RunError> {
    let mut watchdog = Watchdog::new(process.plan().settings());
    let watched = Arc::downgrade(&process);
    let watch = move || {
        while let Some(process) = watched.upgrade().filter(|process| !process.is_finished()) {
            let pulses = [process.pulse()];
            let cancelled = process.is_cancelled();
            if let Some(error) = watchdog.look(&merged(process.plan(), &pulses), &pulses, cancelled)
            {
                process.failures().report(error);
            }
            drop(process);
            std::thread::sleep(WATCH);
        }
    };
    let spawned = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
    spawned.map_err(|e| RunError::Worker(format!("cannot start the watchdog: {e}")))?;
    Ok(process)
}
