//! `anabranch worker`: a process of a run, at the other end of its supervisor's socket.

use std::process::Command;

use anabranch_pipelines::run::cluster::{Launch, Member};

use super::{Exit, Failure, JobText, LogFormat, plan};
use crate::components::Registry;

/// How the processes of a run are started: this very program, with the job on the socket.
pub(super) fn launch(text: &JobText, format: LogFormat) -> Result<Launch, Failure> {
    let error = |error: String| {
        Failure::new(Exit::Failed, format!("error: cannot start the processes of the run: {error}"))
    };
    // The file itself, even if another program has taken its name since.
    let program = match std::path::Path::new("/proc/self/exe") {
        this if this.exists() => this.to_owned(),
        _ => std::env::current_exe().map_err(|e| error(e.to_string()))?,
    };
    let job = serde_json::to_value(text).map_err(|e| error(e.to_string()))?;
    let command = move || {
        let mut command = Command::new(&program);
        command.arg("worker");
        if format == LogFormat::Json {
            command.args(["--log-format", "json"]);
        }
        command
    };
    Ok(Launch { command: Box::new(command), job })
}

/// Works on a part of a run. Its supervisor tells the person how it went.
pub(super) fn worker(registry: &Registry) -> Result<Exit, Failure> {
    let member = Member::join().map_err(|error| {
        let message =
            format!("error: `worker` is for `anabranch run`, not for the command line: {error}");
        Failure::new(Exit::Usage, message)
    })?;
    let plan = serde_json::from_value::<JobText>(member.job().clone())
        .map_err(|error| error.to_string())
        .and_then(|text| text.read(registry).and_then(plan::planned).map_err(|f| f.message));
    Ok(if member.run(plan) { Exit::Done } else { Exit::Failed })
}
