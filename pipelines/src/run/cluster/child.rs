//! One process of a run, from its supervisor's side.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child as Spawned, Command as Program, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::PEER_LOST;
use super::message::{Command, Event, Order};
use super::wire::Wire;
use crate::run::process::Pulse;
use crate::run::running::recorded;

/// What comes from a process: an event, or `None` when its socket has closed.
pub(super) type Said = (usize, Option<Event>);

/// A process that was started. Dropping it kills it.
pub(super) struct Child {
    spawned: Spawned,
    wire: Arc<Wire>,
    pub(super) heard: Instant,
    pub(super) pulse: Pulse,
    pub(super) ready: bool,
    pub(super) done: bool,
    /// Where it writes down what it runs.
    record: File,
}

impl Child {
    /// Starts a process, gives it its order and its peers, and has a thread listen to it.
    ///
    /// It dies with the calling thread.
    pub(super) fn start(
        mut program: Program,
        order: &Order,
        peers: Vec<Option<UnixStream>>,
        said: Sender<Said>,
    ) -> io::Result<Self> {
        let (control, other) = UnixStream::pair()?;
        // A group of its own: Ctrl-C is for the supervisor, which tells its processes.
        program.stdin(OwnedFd::from(other)).stdout(Stdio::null()).process_group(0);
        let spawned = program.spawn()?;
        let wire = Arc::new(Wire::new(control)?);
        let child = Self {
            spawned,
            wire: Arc::clone(&wire),
            heard: Instant::now(),
            pulse: Pulse::default(),
            ready: false,
            done: false,
            record: memory()?,
        };
        wire.send(order)?;
        wire.give(&child.record)?;
        for peer in peers.iter().flatten() {
            wire.give(peer)?;
        }
        let index = order.index;
        let listen = move || {
            while let Ok(Some(event)) = wire.receive::<Event>() {
                if said.send((index, Some(event))).is_err() {
                    return;
                }
            }
            let _ = said.send((index, None));
        };
        std::thread::Builder::new().name(format!("process-{index}")).spawn(listen)?;
        Ok(child)
    }

    /// Tells it something. If it is gone, its socket says so.
    pub(super) fn tell(&self, command: &Command) {
        let _ = self.wire.send(command);
    }

    pub(super) fn pid(&self) -> u32 {
        self.spawned.id()
    }

    /// What it runs, or was running when it died.
    pub(super) fn running(&self) -> Vec<String> {
        recorded(&self.record)
    }

    /// How it ended, if it does so soon.
    pub(super) fn status(&mut self) -> Option<ExitStatus> {
        let asked = Instant::now();
        loop {
            match self.spawned.try_wait() {
                Ok(None) if asked.elapsed() < Duration::from_secs(1) => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }
}

/// A file that is nowhere but in memory, where there is such a thing.
fn memory() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{MemfdFlags, memfd_create};
        Ok(File::from(memfd_create("anabranch-running", MemfdFlags::CLOEXEC)?))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let path = std::env::temp_dir().join(format!("anabranch-running-{}", std::process::id()));
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.spawned.kill();
        let _ = self.spawned.wait();
    }
}

/// How a process ended, as a phrase; `None` when it only followed another one.
pub(super) fn ending(status: Option<ExitStatus>) -> Option<String> {
    let Some(status) = status else { return Some("closed its socket".to_owned()) };
    match (status.signal(), status.code()) {
        (Some(signal), _) => Some(format!("was ended by {}", signal_name(signal))),
        (None, Some(PEER_LOST)) => None,
        (None, code) => Some(format!("exited with code {}", code.unwrap_or_default())),
    }
}

/// A signal as people know it.
pub(crate) fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}
