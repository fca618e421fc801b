//! Processes that this program starts of itself: `anabranch worker`, a part of a run, and `anabranch invoke`,
//! a worker of an isolated operator. What they have to do comes over a socket that is their stdin.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anabranch_pipelines::executor::isolated::{Recipe, Worker, serve};
use anabranch_pipelines::operator::{Context, Operator};
use anabranch_pipelines::run::cluster::{Launch, Member};
use anabranch_pipelines::store::StoreFetcher;

use super::{Exit, Failure, JobText, LogFormat, plan};
use crate::components::{self, Registry};

/// The running program itself: by its name, unless another file has taken that since.
fn program() -> io::Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let this = Path::new("/proc/self/exe");
    let named = std::env::current_exe()?;
    let file = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino())).ok();
    Ok(if file(&named) == file(this) || !this.exists() { named } else { this.to_owned() })
}

/// How the processes of a run are started: this very program, with the job on the socket.
pub(super) fn launch(text: &JobText, format: LogFormat) -> Result<Launch, Failure> {
    let error = |error: String| {
        Failure::new(Exit::Failed, format!("error: cannot start the processes of the run: {error}"))
    };
    let program = program().map_err(|e| error(e.to_string()))?;
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

/// Starts a worker for an isolated operator.
pub(crate) fn start_worker() -> io::Result<Worker> {
    let mut command = Command::new(program()?);
    command.arg("invoke");
    Worker::in_process(command)
}

/// Invokes one operator for a run.
pub(super) fn invoke(registry: &Registry) -> Result<Exit, Failure> {
    let error = |error: io::Error| {
        Failure::new(Exit::Usage, format!("error: `invoke` is for `anabranch run`: {error}"))
    };
    let socket = Worker::socket().map_err(error)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(error)?;
    let fetcher = StoreFetcher::new(runtime.handle().clone());
    let context = Context::new(Arc::new(fetcher), Arc::default());
    serve(&socket, |recipe| build(registry, recipe), &context).map_err(error)?;
    Ok(Exit::Done)
}

fn build(registry: &Registry, recipe: &Recipe) -> Result<Arc<dyn Operator>, String> {
    let options = match &recipe.options {
        serde_json::Value::Null => "{}".to_owned(),
        options => components::inline(options)?,
    };
    components::make(registry, &registry.operators, &recipe.kind, &options)
}
