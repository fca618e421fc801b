//! Runs a job in a child process that a test may kill, stop and watch.
//!
//! ```no_run
//! use anabranch_tests::program::Job;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let job = Job::example("target/debug/anabranch", folder.path(), "photos").set("job.workers", 2);
//! assert_eq!(job.run().code, Some(0));
//! let mut again = job.arg("--if-exists").arg("overwrite").start();
//! again.kill();
//! ```

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// After this long a child counts as hung. Generous: a loaded machine must not fail a test.
pub const HUNG: Duration = Duration::from_secs(240);

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The folder of real data sets: `ANABRANCH_DATA`, else beside the repository.
pub fn data() -> PathBuf {
    let beside = || root().join("../shared/data");
    let data = std::env::var_os("ANABRANCH_DATA").map_or_else(beside, PathBuf::from);
    assert!(data.join("photos").is_dir(), "no data sets at {}; set ANABRANCH_DATA", data.display());
    data.canonicalize().unwrap_or(data)
}

/// Python with the packages that `ci/setup` installs.
pub fn python() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let venv =
        std::env::var_os("ANABRANCH_VENV").map_or_else(|| target.join("venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(python.is_file(), "no Python packages at {}; run ci/setup", venv.display());
    python
}

/// A job file with settings, and a folder that holds what it leaves behind.
#[derive(Debug, Clone)]
pub struct Job {
    program: PathBuf,
    folder: PathBuf,
    file: PathBuf,
    command: &'static str,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Job {
    /// `jobs/examples/NAME.toml` on the real data, writing to `FOLDER/table`.
    pub fn example(program: impl Into<PathBuf>, folder: &Path, name: &str) -> Self {
        let file = root().join("jobs/examples").join(name).with_extension("toml");
        let (program, folder) = (program.into(), folder.to_owned());
        let text = std::fs::read_to_string(&file).expect("an example of this name");
        let (args, env) = (Vec::new(), Vec::new());
        let job = Self { program, folder, file, command: "run", args, env }.out("table");
        let vars = text.split("\n[").find(|part| part.starts_with("vars]"));
        let wants = vars.is_some_and(|vars| vars.contains("\ndata = "));
        if wants { job.set("data", data().display()) } else { job }
    }

    /// A job of this text.
    pub fn text(program: impl Into<PathBuf>, folder: &Path, text: &str) -> Self {
        let file = folder.join("job.toml");
        std::fs::write(&file, text).expect("the folder takes a job file");
        let (program, folder) = (program.into(), folder.to_owned());
        Self { program, folder, file, command: "run", args: Vec::new(), env: Vec::new() }
    }

    /// With `--set KEY=VALUE`.
    #[must_use]
    pub fn set(self, key: &str, value: impl std::fmt::Display) -> Self {
        self.arg("--set").arg(format!("{key}={value}"))
    }

    /// With the variable `out` at `FOLDER/NAME`.
    #[must_use]
    pub fn out(self, name: &str) -> Self {
        let out = self.folder.join(name);
        self.set("out", out.display())
    }

    /// With another kind of sink in the place of the table.
    #[must_use]
    pub fn sink(self, kind: &str) -> Self {
        self.set("sink.table.kind", kind)
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// With commits of one record: a job that can be killed in many places.
    #[must_use]
    pub fn small_commits(self, records: u64) -> Self {
        self.set("job.part.records", records).set("job.commit.parts", 1)
    }

    /// With one more argument of `anabranch run`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The same job for `anabranch replay`.
    #[must_use]
    pub fn replay(self) -> Self {
        Self { command: "replay", ..self }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Ended {
        self.start().wait()
    }

    /// Runs it, and panics with what it said unless it exits with 0.
    pub fn succeed(&self) -> Ended {
        let ended = self.run();
        assert_eq!(ended.code, Some(0), "{self:?}\n{}{}", ended.out, ended.err);
        ended
    }

    /// Runs it twice in a mount namespace with a disk of `size` at `disk`: first until it is full, and
    /// again after it has grown to `then`. Copies what it wrote there to `copy`. The error output is that of
    /// the first start, which must fail.
    pub fn run_on_small_disk(&self, disk: &Path, size: &str, then: &str, copy: &Path) -> Ended {
        let script = r#"
            disk=$1; size=$2; then=$3; copy=$4; shift 4
            mount -t tmpfs -o size="$size" none "$disk" || exit 90
            "$@" && exit 91
            mount -o remount,size="$then" "$disk" || exit 92
            "$@" 2>/dev/null || exit 93
            cp -r "$disk/table" "$copy"
        "#;
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, "sh"]).arg(disk).args([size, then]).arg(copy);
        self.start_as(command.arg(&self.program)).wait()
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        self.start_as(&mut Command::new(&self.program))
    }

    fn start_as(&self, command: &mut Command) -> Running {
        static STARTS: AtomicU64 = AtomicU64::new(0);
        let log = self.folder.join(format!("log-{}", STARTS.fetch_add(1, Ordering::Relaxed)));
        let file = |suffix: &str| {
            File::create(log.with_extension(suffix)).expect("the folder takes a log")
        };
        let child = command
            .arg(self.command)
            .arg(&self.file)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .expect("the program starts");
        Running { child, log, ended: None }
    }
}

/// How a child ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

/// A child process and all that it started. Dropping it kills them.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    /// The child's process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.ended = self.ended.or_else(|| self.child.try_wait().ok().flatten());
        self.ended.is_some()
    }

    /// Waits for its end. A child that hangs is killed and fails the test.
    pub fn wait(mut self) -> Ended {
        let begun = Instant::now();
        while !self.has_ended() {
            if begun.elapsed() > HUNG {
                let doing = self.said();
                self.kill_all();
                panic!("the program hung; it had said:\n{}{}", doing.out, doing.err);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.said()
    }

    /// Kills the first process with SIGKILL and waits for its end. Processes that it started must notice.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended = self.ended.or_else(|| self.child.wait().ok());
    }

    /// Kills it and all that it started with SIGKILL.
    pub fn kill_all(&mut self) {
        let started = self.started();
        self.kill();
        started.into_iter().for_each(|process| signal_process(process, Signal::KILL));
    }

    /// Sends the first process a signal.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// The processes that it started and these in turn, as far as they live.
    pub fn started(&self) -> Vec<u32> {
        let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|process| Some((process, parent(process)?)))
            .collect();
        let mut found = vec![self.id()];
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(process, _)| process));
            at += 1;
        }
        found.split_off(1)
    }

    /// The largest resident set that each of its processes has had so far, in bytes.
    pub fn peaks(&self) -> Vec<u64> {
        let all = self.started().into_iter().chain([self.id()]);
        all.filter_map(peak).collect()
    }

    fn said(&self) -> Ended {
        let read = |suffix| {
            let bytes = std::fs::read(self.log.with_extension(suffix)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ended {
            code: self.ended.and_then(|status| status.code()),
            signal: self.ended.and_then(|status| status.signal()),
            out: read("out"),
            err: read("err"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// Sends one process a signal.
pub fn signal_process(process: u32, signal: Signal) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// The parent of a process.
fn parent(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // `pid (name) state ppid ...`, where the name may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The largest resident set that a process has had so far, in bytes.
pub fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
