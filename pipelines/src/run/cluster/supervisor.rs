//! Starts the processes of a run, listens to them, and starts again when one is lost.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::child::{Child, Said, ending};
use super::message::{Command, Event, Order};
use crate::graph::Plan;
use crate::run::failure::Failures;
use crate::run::process::{Pulse, ready};
use crate::run::ticket::Ticket;
use crate::run::watchdog::Watchdog;
use crate::run::{RunError, merged};

/// Time between two looks at the processes.
const LOOK: Duration = Duration::from_millis(20);
/// How long a process that only followed another one is no cause yet: the other one's socket says more.
const ECHO: Duration = Duration::from_millis(500);

/// How many of its invocations the line about a lost process names.
const NAMED: usize = 4;

/// How the processes of a run are started.
pub struct Launch {
    /// The program, which begins with [`Member::join`](super::Member::join).
    pub command: Box<dyn Fn() -> std::process::Command + Send>,
    /// What it makes the plan from.
    pub job: serde_json::Value,
}

/// The supervisor of a run, on a thread of its own, for processes die with the thread that made them.
pub(crate) struct Supervisor {
    state: Arc<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    plan: Arc<Plan>,
    cancelled: AtomicBool,
    failures: Failures,
    seen: Mutex<Seen>,
}

/// What was heard of the processes.
#[derive(Default)]
struct Seen {
    pulses: Vec<Pulse>,
    restarts: u64,
    /// The largest sum of peak memories over the processes of one start.
    peak_rss: u64,
}

/// How one start of all processes ended.
enum Ended {
    Done,
    Failed(RunError),
    /// A process was lost; the line says which and why.
    Lost(String),
}

impl Supervisor {
    /// Begins the run and returns at once.
    pub(crate) fn start(
        plan: Arc<Plan>,
        ticket: Ticket,
        launch: Launch,
        runtime: Handle,
    ) -> Result<Self, RunError> {
        let state = Arc::new(State {
            plan,
            cancelled: AtomicBool::new(false),
            failures: Failures::default(),
            seen: Mutex::default(),
        });
        let inner = Arc::clone(&state);
        let supervise = move || {
            if let Err(error) = inner.supervise(ticket, &launch, &runtime) {
                inner.failures.report(error);
            }
        };
        let thread = std::thread::Builder::new().name("supervisor".to_owned()).spawn(supervise);
        let thread = thread.map_err(|e| RunError::Worker(format!("cannot start the run: {e}")))?;
        Ok(Self { state, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn is_finished(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(crate) fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::Relaxed);
    }

    /// Ends all processes at once.
    pub(crate) fn abandon(&self) {
        self.state.failures.report(RunError::Worker("the run was dropped".to_owned()));
    }

    pub(crate) fn pulses(&self) -> Vec<Pulse> {
        self.state.seen().pulses.clone()
    }

    /// Starts after the first, and the sum of the processes' peak memories.
    pub(crate) fn restarts_and_peak(&self) -> (u64, u64) {
        let seen = self.state.seen();
        (seen.restarts, seen.peak_rss)
    }

    /// The failure, once finished.
    pub(crate) fn end(&self) -> Option<RunError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            self.abandon();
        }
        self.state.failures.take()
    }
}

impl State {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn supervise(
        &self,
        mut ticket: Ticket,
        launch: &Launch,
        runtime: &Handle,
    ) -> Result<(), RunError> {
        let settings = self.plan.settings();
        let mut watchdog = Watchdog::new(settings);
        let mut fruitless = 0;
        loop {
            runtime.block_on(ready(&self.plan, &ticket))?;
            if ticket.complete() {
                return Ok(());
            }
            let lost = match self.one_start(&ticket, launch, &mut watchdog)? {
                Ended::Done => return Ok(()),
                Ended::Failed(error) => return Err(error),
                Ended::Lost(_) if self.cancelled.load(Ordering::Relaxed) => return Ok(()),
                Ended::Lost(lost) => lost,
            };
            let before = ticket.commits.len();
            runtime.block_on(ticket.renew())?;
            fruitless = if ticket.commits.len() > before { 1 } else { fruitless + 1 };
            if fruitless > settings.restarts {
                return Err(RunError::Lost { lost, restarts: settings.restarts });
            }
            tracing::warn!(
                "{lost}; starting again after commit {} ({fruitless} of {} starts without a new one)",
                ticket.commits.len(),
                settings.restarts
            );
            self.seen().restarts += 1;
        }
    }

    /// Runs all processes from one ticket. None of them is left when this returns.
    fn one_start(
        &self,
        ticket: &Ticket,
        launch: &Launch,
        watchdog: &mut Watchdog,
    ) -> Result<Ended, RunError> {
        let (said, events) = channel();
        let made = self.processes(ticket, launch, &said);
        drop(said);
        let mut children =
            made.map_err(|e| RunError::Worker(format!("cannot start the processes: {e}")))?;
        let ended = self.listen(&mut children, &events, watchdog);
        // What a process said before it was ended is a better reason than a closed socket.
        drop(children);
        let told = events.iter().find_map(|(_, event)| match event {
            Some(Event::Failed(failed)) => Some(Ended::Failed(failed.into_error(self.examples()))),
            Some(Event::Broken(told)) => Some(Ended::Lost(told)),
            _ => None,
        });
        Ok(match (ended, told) {
            (Ended::Lost(_), Some(told)) => told,
            (ended, _) => ended,
        })
    }

    fn processes(
        &self,
        ticket: &Ticket,
        launch: &Launch,
        said: &std::sync::mpsc::Sender<Said>,
    ) -> std::io::Result<Vec<Child>> {
        let processes = self.plan.settings().processes;
        let mut children = Vec::with_capacity(processes);
        for (index, peers) in mesh(processes)?.into_iter().enumerate() {
            let order = Order {
                index,
                processes,
                plan: self.plan.hash().to_owned(),
                ticket: ticket.written(),
                job: launch.job.clone(),
            };
            children.push(Child::start((launch.command)(), &order, peers, said.clone())?);
        }
        self.seen().pulses = vec![Pulse::default(); processes];
        Ok(children)
    }

    /// Listens until all are done, or one is lost or has failed.
    fn listen(
        &self,
        children: &mut [Child],
        events: &Receiver<Said>,
        watchdog: &mut Watchdog,
    ) -> Ended {
        let heartbeat = self.plan.settings().heartbeat;
        let mut cancelled = false;
        let mut echo: Option<Instant> = None;
        let mut looked = Instant::now();
        loop {
            let heard = self.hear(children, events, &mut echo);
            let pulses = self.note(children);
            if let Some(ended) = heard {
                return ended;
            }
            if children.iter().all(|child| child.done) {
                return Ended::Done;
            }
            // Whoever was stopped itself (Ctrl-Z, a sleeping machine) could hear nothing.
            let paused = looked.elapsed();
            looked = Instant::now();
            if paused > Duration::from_secs(1) {
                children.iter_mut().for_each(|child| child.heard += paused);
            }
            let silent = |child: &&Child| !child.done && child.heard.elapsed() > heartbeat;
            if let Some(index) = children.iter().position(|child| silent(&child)) {
                let how = format!("was silent for {} s", heartbeat.as_secs());
                return self.lost(children, index, &how);
            }
            if echo.is_some_and(|since| since.elapsed() > ECHO) {
                return Ended::Lost("a process of the run lost its peers".to_owned());
            }
            if !cancelled && self.cancelled.load(Ordering::Relaxed) {
                cancelled = true;
                children.iter().for_each(|child| child.tell(&Command::Cancel));
            }
            if let Some(error) = watchdog.look(&merged(&self.plan, &pulses), &pulses, cancelled) {
                return Ended::Failed(error);
            }
            if self.failures.any() {
                return Ended::Failed(RunError::Worker("the run was dropped".to_owned()));
            }
        }
    }

    /// Takes in what was said for a moment.
    fn hear(
        &self,
        children: &mut [Child],
        events: &Receiver<Said>,
        echo: &mut Option<Instant>,
    ) -> Option<Ended> {
        let mut next = events.recv_timeout(LOOK);
        loop {
            let (index, event) = match next {
                Ok(said) => said,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            };
            let child = children.get_mut(index)?;
            child.heard = child.heard.max(Instant::now());
            match event {
                Some(Event::Ready) => {
                    child.ready = true;
                    if children.iter().all(|child| child.ready) {
                        children.iter().for_each(|child| child.tell(&Command::Go));
                    }
                }
                Some(Event::Pulse(pulse)) => child.pulse = *pulse,
                Some(Event::Done(pulse)) => (child.pulse, child.done) = (*pulse, true),
                Some(Event::Failed(failed)) => {
                    return Some(Ended::Failed(failed.into_error(self.examples())));
                }
                Some(Event::Broken(told)) => return Some(Ended::Lost(told)),
                None if child.done => {}
                None => match ending(child.status()) {
                    Some(how) => return Some(self.lost(children, index, &how)),
                    None => {
                        echo.get_or_insert_with(Instant::now);
                    }
                },
            }
            next = events.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
    }

    /// A process was lost: which, why, and where it was.
    fn lost(&self, children: &[Child], index: usize, how: &str) -> Ended {
        let Some(child) = children.get(index) else { return Ended::Lost(how.to_owned()) };
        let running = child.running();
        let places = running.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = running.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let place = if places.is_empty() { places } else { format!(" in {places}{more}") };
        let (number, of) = (index + 1, children.len());
        Ended::Lost(format!("process {number} of {of} (pid {}) {how}{place}", child.pid()))
    }

    /// Keeps the figures for whoever asks.
    fn note(&self, children: &[Child]) -> Vec<Pulse> {
        let pulses: Vec<Pulse> = children.iter().map(|child| child.pulse.clone()).collect();
        let mut seen = self.seen();
        seen.peak_rss = seen.peak_rss.max(pulses.iter().map(|pulse| pulse.peak_rss).sum());
        seen.pulses.clone_from(&pulses);
        pulses
    }

    fn examples(&self) -> std::vec::IntoIter<String> {
        let pulses = self.seen().pulses.clone();
        pulses.into_iter().flat_map(|pulse| pulse.examples).collect::<Vec<_>>().into_iter()
    }
}

/// A socket between any two of so many processes: row by row, what each has to the others.
fn mesh(processes: usize) -> std::io::Result<Vec<Vec<Option<UnixStream>>>> {
    let row = || (0..processes).map(|_| None).collect::<Vec<Option<UnixStream>>>();
    let mut rows: Vec<_> = (0..processes).map(|_| row()).collect();
    for one in 0..processes {
        for other in one + 1..processes {
            let (here, there) = UnixStream::pair()?;
            if let Some(slot) = rows.get_mut(one).and_then(|row| row.get_mut(other)) {
                *slot = Some(here);
            }
            if let Some(slot) = rows.get_mut(other).and_then(|row| row.get_mut(one)) {
                *slot = Some(there);
            }
        }
    }
    Ok(rows)
}
