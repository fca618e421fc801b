//! The same step in PyTorch: a child process that takes steps when it is told to.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(crate) struct Torch {
    process: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Torch {
    pub(crate) fn start(python: &OsStr) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/benches/train/step.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg(rayon::current_num_threads().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ask = process.stdin.take().unwrap();
        let answer = BufReader::new(process.stdout.take().unwrap());
        Self { process, ask, answer }
    }

    /// Seconds that so many steps took.
    pub(crate) fn take(&mut self, steps: usize) -> f64 {
        writeln!(self.ask, "{steps}").unwrap();
        let mut line = String::new();
        self.answer.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
