//! The command line: what it takes, and what each command ends with.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::components::Registry;
use crate::job::{IfExists, Job, editor_schema};
use crate::reference::reference;

mod diff;
mod evaluate;
mod exit;
mod init;
mod inspect;
mod logs;
mod manual;
mod models;
mod page;
mod plan;
mod read;
mod replay;
mod run;
mod sample;
mod scan;
mod show;
mod signals;
mod worker;

pub(crate) use diff::{Difference, Named};
pub use exit::{Exit, Failure};
pub(crate) use inspect::{Column, Inspection, RunSeen};
pub(crate) use models::{Compared, ModelSeen};
pub(crate) use sample::Prediction;
pub(crate) use worker::start_worker;

/// A streaming dataflow for multimodal data.
///
/// A job file says what to read, what to do with it and where to write it. Exit codes: 0 done,
/// 1 the job failed, 2 a bad job file or command line, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "anabranch", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How progress and logs are written to stderr.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Print nothing but errors.
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// How progress and logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job until its sources are read, or go on with an unfinished run.
    Run(RunArgs),
    /// Run a job that evaluates codecs, and draw what it found: accuracy and likeness over bytes, as an HTML page.
    Evaluate(evaluate::EvaluateArgs),
    /// Check a job, its files and its columns, without running it.
    Check(JobArgs),
    /// Show what a job would do: columns, allocations and memory of every operator.
    Plan {
        #[command(flatten)]
        job: JobArgs,
        /// Run the first N records of every source, keep nothing, and predict the whole job from them.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        sample: Option<u64>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a table: its columns, its size, the runs that wrote it, and its first rows.
    Inspect {
        /// The table, as a path or URL.
        #[arg(value_name = "TABLE")]
        table: String,
        /// How many rows to show.
        #[arg(long, value_name = "N", default_value_t = 3)]
        rows: usize,
        /// Also draw the first N pictures, and spectrograms of the first N sounds, as PNG files. At most 1024.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
        show: Option<u16>,
        /// The folder for what `--show` draws.
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        to: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show which records of two tables differ, and in which columns.
    Diff(diff::DiffArgs),
    /// Look into a path and write a job file for what is there.
    Init(init::InitArgs),
    /// Read a table to stdout as an Arrow IPC stream, shuffled and decoded if asked to: for training.
    Read(read::ReadArgs),
    /// Look at trained models: what they are, what they were measured to do, and what they write.
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Feed what the newest run of a job refused back in, through the job as it is now.
    Replay(JobArgs),
    /// Print the JSON Schema of job files, for editors.
    Schema,
    /// Print the reference of all kinds and their options, as Markdown.
    Reference,
    /// Print a script that completes this command line, e.g. `anabranch completions bash >> ~/.bashrc`.
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command to a folder: `anabranch man ~/.local/share/man/man1`.
    Man {
        /// The folder, made if it is not there.
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// A process of a run, which `run` starts.
    #[command(hide = true)]
    Worker,
    /// A worker process of an operator with `isolate = true`.
    #[command(hide = true)]
    Invoke,
}

/// Which job, and what is set in it.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job file; `-` reads it from stdin.
    #[arg(value_name = "JOB")]
    job: PathBuf,
    /// Set a variable of the job, or any key as TABLE.NAME.KEY; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// How to run it.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Timely workers, as `workers` in `[job]`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// Processes of the run, as `processes` in `[job]`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    processes: Option<u16>,
    /// What to do when the destination holds data already, as `if_exists` in `[job]`.
    #[arg(long, value_name = "CHOICE")]
    if_exists: Option<IfExists>,
    /// Also write the final report to FILE, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Also draw the curves of operators that learn (loss and validation loss by step) to FILE, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Also write the run on one page to FILE, as HTML: bytes before and after, and the first records.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// Runs the program with the process's arguments and the standard kinds.
pub fn main() -> ExitCode {
    main_with(&Registry::standard())
}

/// Runs the program with the process's arguments; job files may name what is in `registry`.
pub fn main_with(registry: &Registry) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    logs::start(cli.log_format);
    anabranch_pipelines::panics::keep_quiet();
    let ended = match cli.command {
        Command::Run(args) => run::run(registry, &args, cli.log_format, cli.quiet),
        Command::Evaluate(args) => evaluate::evaluate(registry, &args, cli.log_format, cli.quiet),
        Command::Check(args) => plan::check(registry, &args, cli.quiet),
        Command::Plan { job, sample: Some(records), json } => {
            sample::sample(registry, &job, records, json)
        }
        Command::Plan { job, sample: None, json } => plan::plan(registry, &job, json),
        Command::Inspect { table, rows, show, to, json } => {
            let show = show.map(|records| (usize::from(records), to.as_path()));
            inspect::inspect(registry, &table, rows, show, json)
        }
        Command::Diff(args) => diff::diff(registry, &args),
        Command::Init(args) => init::init(registry, &args),
        Command::Read(args) => read::read(&args, cli.quiet),
        Command::Models(command) => models::models(&command),
        Command::Replay(args) => replay::replay(registry, &args, cli.log_format, cli.quiet),
        Command::Worker => worker::worker(registry),
        Command::Invoke => worker::invoke(registry),
        Command::Reference => print(&reference(registry)).map(|()| Exit::Done),
        Command::Completions { shell } => manual::completions(shell).map(|()| Exit::Done),
        Command::Man { folder } => manual::man(folder.as_deref()).map(|()| Exit::Done),
        Command::Schema => serde_json::to_string_pretty(&editor_schema(registry))
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
            .and_then(|schema| print(&format!("{schema}\n")))
            .map(|()| Exit::Done),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            tell(&failure.message);
            failure.exit.into()
        }
    }
}

/// A job's text and what is set in it, as a process of its run gets them.
#[derive(Debug, Serialize, Deserialize)]
struct JobText {
    label: String,
    text: String,
    sets: Vec<String>,
}

impl JobText {
    fn read(&self, registry: &Registry) -> Result<Job, Failure> {
        Job::read(registry, &self.label, &self.text, &self.sets)
            .map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))
    }
}

impl JobArgs {
    /// Reads the job with `more` settings on top.
    fn read(&self, registry: &Registry, more: &[String]) -> Result<Job, Failure> {
        self.text(more)?.read(registry)
    }

    /// The job's text with `more` settings on top.
    fn text(&self, more: &[String]) -> Result<JobText, Failure> {
        let stdin = self.job.as_os_str() == "-";
        let label = if stdin { "stdin".to_owned() } else { self.job.display().to_string() };
        let text = if stdin {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(&self.job)
        };
        let text = text.map_err(|error| {
            Failure::new(Exit::Usage, format!("error: cannot read the job file {label}: {error}"))
        })?;
        Ok(JobText { label, text, sets: [self.sets.as_slice(), more].concat() })
    }
}

/// Prints to stdout. A reader that went away has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("error: cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Tells a line on stderr; there is nobody to tell when that fails.
fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person watches stderr.
fn watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
