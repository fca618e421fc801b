//! The run's side of one worker.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;

use super::serve::{Answer, Ask, serve};
use super::{Recipe, frame};
use crate::operator::{Allocation, Context, Operator, OperatorError, Outcome, Refused};
use crate::quantity::ByteSize;
use crate::record::{bytes_of, from_ipc, to_ipc};
use crate::run::signal_name;

/// How often a wait for a worker looks whether the run was cancelled.
const LOOK: Duration = Duration::from_millis(50);
/// Memory that a worker may take beyond its allocation and its copies of the batch.
const SLACK: u64 = 64 << 20;

/// A worker that was started. Dropping it ends it.
pub struct Worker {
    socket: UnixStream,
    process: Option<Child>,
    /// Data that the process held before its first batch.
    base: u64,
    /// Bytes that the last invocation was held to.
    held_to: Option<usize>,
}

/// Why there is no outcome.
pub(super) enum Lost {
    /// The worker died, or the operator in it panicked.
    Died(String),
    /// The invocation failed as a whole.
    Failed(OperatorError),
}

impl Worker {
    /// A process whose stdin is the socket: it calls [`serve`] through [`Worker::socket`].
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn in_process(mut command: Command) -> io::Result<Self> {
        let (socket, other) = UnixStream::pair()?;
        // What a crashing library prints is no message of ours: the dead letter says what happened.
        let stdio = command.stdin(OwnedFd::from(other)).stdout(Stdio::null()).stderr(Stdio::null());
        let process = stdio.process_group(0).spawn()?;
        Ok(Self { socket, process: Some(process), base: 0, held_to: None })
    }

    /// A thread in the place of a process, to run operators across the boundary without one.
    ///
    /// # Errors
    /// When no socket or thread can be made.
    pub fn in_thread(
        build: impl Fn(&Recipe) -> Result<Arc<dyn Operator>, String> + Send + 'static,
        context: Context,
    ) -> io::Result<Self> {
        let (socket, other) = UnixStream::pair()?;
        let serve = move || {
            if let Err(error) = serve(&other, build, &context) {
                tracing::debug!("a worker's socket failed: {error}");
            }
        };
        std::thread::Builder::new().name("worker".to_owned()).spawn(serve)?;
        Ok(Self { socket, process: None, base: 0, held_to: None })
    }

    /// The socket of this process, when it is a worker. It dies with the process that started it.
    ///
    /// # Errors
    /// When stdin is none.
    pub fn socket() -> io::Result<UnixStream> {
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::net::sockopt::socket_type(&socket)?;
        Ok(UnixStream::from(socket))
    }

    /// Has the worker rebuild the operator.
    pub(super) fn greet(&mut self, recipe: &Recipe, context: &Context) -> Result<(), Lost> {
        self.socket.set_read_timeout(Some(LOOK)).map_err(|error| self.died(&error.to_string()))?;
        let sent = frame::write(&self.socket, recipe, &[]);
        sent.map_err(|_| self.died("it did not start"))?;
        match self.answer(context)? {
            (Answer::Ready, _) => {
                self.base = self.data().unwrap_or(0);
                Ok(())
            }
            (Answer::Failed(error), _) => Err(Lost::Failed(OperatorError::Failed(format!(
                "the worker process cannot rebuild `{}`: {error}",
                recipe.kind
            )))),
            _ => Err(self.died("it answered out of turn")),
        }
    }

    /// Has the worker invoke the operator.
    pub(super) fn ask(
        &mut self,
        batch: &RecordBatch,
        allocation: &Allocation,
        context: &Context,
    ) -> Result<Outcome, Lost> {
        let arrow = |error| Lost::Failed(OperatorError::Arrow(error));
        let body = to_ipc(batch).map_err(arrow)?;
        self.limit(bytes_of(batch), allocation.bytes);
        // Slices of a batch already run beside one another, so each has one thread here.
        let one = Allocation { threads: 1, ..*allocation };
        let choice = context.choice().map(<[u8]>::to_vec);
        let ask = Ask { allocation: one, epoch: context.epoch(), choice };
        frame::write(&self.socket, &ask, &body).map_err(|_| self.died(""))?;
        match self.answer(context)? {
            (Answer::Done { refused }, body) => Ok(Outcome {
                records: from_ipc(&body).map_err(arrow)?,
                refused: refused.into_iter().map(|(row, error)| Refused { row, error }).collect(),
            }),
            (Answer::Failed(error), _) => Err(Lost::Failed(OperatorError::Failed(error))),
            (Answer::Panicked(panic), _) => {
                Err(Lost::Died(format!("the operator panicked: {panic}")))
            }
            (Answer::Ready, _) => Err(self.died("it answered out of turn")),
        }
    }

    fn answer(&mut self, context: &Context) -> Result<(Answer, Vec<u8>), Lost> {
        let patient = Patient { socket: &self.socket, context };
        match frame::read(patient) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.died("")),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Lost::Failed(OperatorError::Cancelled))
            }
            Err(error) => Err(self.died(&error.to_string())),
        }
    }

    /// How the worker ended, as a sentence.
    fn died(&mut self, otherwise: &str) -> Lost {
        let status = self.process.as_mut().and_then(|process| {
            // Its socket is closed, so it is about to end, if it has not.
            let _ = process.kill();
            process.wait().ok()
        });
        let how = match status.map(|status| (status.signal(), status.code())) {
            // Killed here, after it closed its socket without a crash.
            Some((Some(9), _)) if !otherwise.is_empty() => otherwise.to_owned(),
            // Allocators abort when they get no memory.
            Some((Some(6), _)) if let Some(bytes) = self.held_to => {
                let (signal, bytes) = (signal_name(6), ByteSize(bytes as u64));
                format!("{signal}; if it was for memory, raise `memory` ({bytes} was granted)")
            }
            Some((Some(signal), _)) => signal_name(signal),
            Some((None, Some(code))) => format!("exit code {code}"),
            _ => otherwise.to_owned(),
        };
        let how = if how.is_empty() { String::new() } else { format!(": {how}") };
        Lost::Died(format!("the worker process died{how}"))
    }

    /// Bounds the memory of the living process by what this invocation was granted.
    fn limit(&mut self, batch: usize, granted: usize) {
        #[cfg(target_os = "linux")]
        if let Some(process) = &self.process
            && let Some(pid) =
                i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            use rustix::process::{Resource, Rlimit, prlimit};
            let copies = 4 * batch as u64;
            let bounded = granted != usize::MAX;
            let current = bounded.then(|| self.base + copies + granted as u64 + SLACK);
            let limit = Rlimit { current, maximum: None };
            match prlimit(Some(pid), Resource::Data, limit) {
                Ok(_) => self.held_to = bounded.then_some(granted),
                Err(error) => tracing::debug!("a worker's memory could not be bounded: {error}"),
            }
        }
    }

    /// Bytes of data that the process holds.
    fn data(&self) -> Option<u64> {
        let pid = self.process.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmData:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Reads until something comes or the run is cancelled.
struct Patient<'a> {
    socket: &'a UnixStream,
    context: &'a Context,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
                result => return result,
            }
            if self.context.check_cancelled().is_err() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}
