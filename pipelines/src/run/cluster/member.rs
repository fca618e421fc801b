//! A process of a run that a supervisor started.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::message::{Command, Event, Failed, Order};
use super::wire::Wire;
use super::{BEAT, PEER_LOST};
use crate::graph::Plan;
use crate::panics;
use crate::run::process::{Place, Process, Pulse, start_sinks};
use crate::run::ticket::Ticket;
use crate::run::{LOOK, RunError, io_threads};

/// A process of a run, as its supervisor sees it. See the [module documentation](super).
pub struct Member {
    order: Order,
    peers: Vec<Option<UnixStream>>,
    /// Where to write down what runs.
    record: Option<File>,
    wire: Arc<Wire>,
    process: Arc<OnceLock<Process>>,
}

impl Member {
    /// Joins the run whose supervisor is at the other end of stdin.
    ///
    /// From now on the process reports that it lives, says nothing on the screen when it panics, and dies
    /// with its supervisor.
    ///
    /// # Errors
    /// When stdin is no supervisor's socket.
    pub fn join() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let wire = Arc::new(Wire::new(control)?);
        let order: Order =
            wire.receive()?.ok_or_else(|| io::Error::other("the supervisor is gone"))?;
        let record = Some(File::from(wire.take()?));
        let mut peers = Vec::new();
        for peer in 0..order.processes {
            let socket = (peer != order.index).then(|| wire.take()).transpose()?;
            peers.push(socket.map(UnixStream::from));
        }
        tell_panics(Arc::clone(&wire), order.index, order.processes);
        let member = Self { order, peers, record, wire, process: Arc::default() };
        member.beat()?;
        Ok(member)
    }

    /// What the supervisor said of the job.
    pub fn job(&self) -> &serde_json::Value {
        &self.order.job
    }

    /// Works on the run to its end and tells the supervisor how it went; true when it went well.
    ///
    /// The plan is made from [`job`](Self::job), and must be that of the supervisor. Where it could not be
    /// made, the supervisor is told why.
    pub fn run(mut self, plan: Result<Arc<Plan>, String>) -> bool {
        match self.work(plan) {
            Ok(Some(pulse)) => self.wire.send(&Event::Done(Box::new(pulse))).is_ok(),
            Ok(None) => false,
            // A panic of a worker may have come from anything; the next start may do better.
            Err(RunError::Worker(told)) => {
                self.tell(&Event::Broken(told));
                false
            }
            Err(error) => {
                self.tell(&Event::Failed(Failed::from(&error)));
                false
            }
        }
    }

    /// The last figures; `None` when the supervisor is gone.
    fn work(&mut self, plan: Result<Arc<Plan>, String>) -> Result<Option<Pulse>, RunError> {
        let plan = plan.map_err(RunError::Told)?;
        let Order { index, processes, .. } = self.order;
        if plan.hash() != self.order.plan || plan.settings().processes != processes {
            return Err(RunError::Told(format!(
                "process {} of {processes} came to another plan ({}) than its supervisor ({}); were files \
                 or the program changed at this moment? Run it again",
                index + 1,
                plan.hash().get(..8).unwrap_or_default(),
                self.order.plan.get(..8).unwrap_or_default(),
            )));
        }
        let runtime = io_threads()?;
        let ticket = Ticket::read(&plan, self.order.ticket.clone())?;
        runtime.block_on(start_sinks(&plan, &ticket))?;
        // The first process decides what the run needs decided, and only then is ready.
        let leading = (index == 0)
            .then(|| Process::new(Arc::clone(&plan), &ticket, true, runtime.handle()))
            .transpose()?;
        self.tell(&Event::Ready);
        let Ok(Some(Command::Go)) = self.wire.receive() else { return Ok(None) };
        let process = match leading {
            Some(process) => process,
            None => Process::new(plan, &ticket, false, runtime.handle())?,
        };
        if let Some(record) = self.record.take() {
            process.record_to(record);
        }
        let process = self.process.get_or_init(|| process);
        process.begin(&ticket, Place { index, peers: std::mem::take(&mut self.peers) })?;
        self.obey().map_err(|e| RunError::Worker(format!("cannot listen: {e}")))?;
        // After a failure its workers cannot end, for they wait for peers that know nothing of it.
        while !process.is_finished() && !process.failures().any() {
            std::thread::sleep(LOOK);
        }
        let end = process.end();
        runtime.shutdown_background();
        end.map_or(Ok(Some(process.pulse())), Err)
    }

    /// Has a thread of its own tell the supervisor that this process lives.
    fn beat(&self) -> io::Result<()> {
        let (wire, process) = (Arc::clone(&self.wire), Arc::clone(&self.process));
        let beat = move || {
            loop {
                let pulse = process.get().map(Process::pulse).unwrap_or_default();
                if wire.send(&Event::Pulse(Box::new(pulse))).is_err() {
                    end_now();
                }
                std::thread::sleep(BEAT);
            }
        };
        std::thread::Builder::new().name("heartbeat".to_owned()).spawn(beat).map(|_| ())
    }

    /// Has a thread of its own follow the supervisor's commands.
    fn obey(&self) -> io::Result<()> {
        let (wire, process) = (Arc::clone(&self.wire), Arc::clone(&self.process));
        let obey = move || {
            while let Ok(Some(command)) = wire.receive::<Command>() {
                if let (Command::Cancel, Some(process)) = (command, process.get()) {
                    process.cancel();
                }
            }
            end_now();
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(obey).map(|_| ())
    }

    fn tell(&self, event: &Event) {
        if self.wire.send(event).is_err() {
            end_now();
        }
    }
}

/// Ends a process whose supervisor is gone: what it wrote since the last commit, no entry will name.
fn end_now() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::exit(PEER_LOST)
}

/// A panic that nobody catches ends the process, and is told to the supervisor instead of the screen.
///
/// Timely's own threads panic when a peer is gone, and so do its workers a moment later: that says nothing
/// of this process, so it ends with a code of its own.
fn tell_panics(wire: Arc<Wire>, index: usize, processes: usize) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        if name.starts_with("timely:send") || name.starts_with("timely:recv") {
            std::process::exit(PEER_LOST);
        }
        if panics::is_caught() {
            tracing::debug!("caught: {panic}");
            return;
        }
        let text = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
        let process = index + 1;
        let told =
            format!("process {process} of {processes}: thread {name} panicked{place}: {text}");
        let _ = wire.send(&Event::Broken(told));
        // The heartbeat thread may hold the wire; a moment later it is through.
        std::thread::sleep(Duration::from_millis(1));
        std::process::exit(PEER_LOST);
    }));
}
