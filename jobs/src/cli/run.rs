//! `anabranch run`: starts a run, shows its progress, and reports how it ended.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_pipelines::graph::Plan;
use anabranch_pipelines::progress::{Ending, Report};
use anabranch_pipelines::run::{Run, RunError};

use super::signals::Interrupt;
use super::{Exit, Failure, LogFormat, RunArgs, page, plan, print, tell, watched, worker};
use crate::components::Registry;
use crate::plot;
use crate::terminal::{self, Bars};

/// Time between two looks at the run.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two lines of progress, off a terminal.
const LINE: Duration = Duration::from_secs(5);

/// Runs a job to its end.
pub(super) fn run(
    registry: &Registry,
    args: &RunArgs,
    format: LogFormat,
    quiet: bool,
) -> Result<Exit, Failure> {
    let report = reported(registry, args, (format, quiet), |_| Ok(()))?;
    if report.refused_all() {
        // The report says where they are; the exit code is for whoever waits for the output.
        let message =
            format!("error: nothing was written: every record was refused ({})", report.refused);
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(exit(&report))
}

/// What a run that ended well exits with.
pub(super) fn exit(report: &Report) -> Exit {
    if report.ending == Ending::Cancelled { Exit::Interrupted } else { Exit::Done }
}

/// Runs a job to its end, if its plan will do, and reports it.
pub(super) fn reported(
    registry: &Registry,
    args: &RunArgs,
    (format, quiet): (LogFormat, bool),
    will_do: impl FnOnce(&Arc<Plan>) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    let workers = args.workers.map(|n| format!("job.workers={n}"));
    let processes = args.processes.map(|n| format!("job.processes={n}"));
    let more: Vec<String> = workers.into_iter().chain(processes).collect();
    let text = args.job.text(&more)?;
    let job = text.read(registry)?;
    let name = job.options.name.clone();
    let if_exists = args.if_exists.unwrap_or(job.options.if_exists);
    let interrupt = Interrupt::listen().map_err(|error| {
        Failure::new(Exit::Failed, format!("error: cannot listen to signals: {error}"))
    })?;
    let plan = plan::planned(job)?;
    will_do(&plan)?;
    let planned = Arc::clone(&plan);
    let run = if plan.settings().processes > 1 {
        Run::start_processes(plan, if_exists.into(), worker::launch(&text, format)?)
    } else {
        Run::start(plan, if_exists.into())
    };
    let run = run.map_err(failed)?;
    if let (false, LogFormat::Text) = (quiet || run.already_complete(), format) {
        tell(&terminal::started(&name, run.id(), run.chosen(), run.resumed_after()));
    }
    let report = watch(run, &interrupt, Display::new(format, quiet))?;
    if let Some(path) = &args.report {
        save(path, &report)?;
    }
    if let Some(path) = &args.plot {
        draw(path, &report)?;
    }
    if let Some(path) = &args.page {
        page::write(registry, &planned, &report, path)?;
    }
    match format {
        _ if quiet => {}
        LogFormat::Text => print(&terminal::report(&report))?,
        LogFormat::Json => tell(&json_report(&report)),
    }
    Ok(report)
}

pub(super) fn watch(
    run: Run,
    interrupt: &Interrupt,
    mut display: Display,
) -> Result<Report, Failure> {
    while !run.is_finished() {
        if interrupt.came() {
            run.cancel();
            display.clear();
            tell(
                "Stopping: what is in flight is finished and committed. Interrupt again to end at once.",
            );
            break;
        }
        display.show(&run);
        std::thread::sleep(LOOK);
    }
    let report = run.wait().map_err(|error| match error {
        RunError::Grace { .. } => Failure { exit: Exit::Interrupted, ..failed(error) },
        error => failed(error),
    });
    display.clear();
    report
}

pub(super) fn failed(error: RunError) -> Failure {
    Failure::new(Exit::Failed, format!("error: {error}"))
}

fn json_report(report: &Report) -> String {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("event".into(), "report".into());
    }
    value.to_string()
}

fn save(path: &Path, report: &Report) -> Result<(), Failure> {
    let written = serde_json::to_string_pretty(report)
        .map_err(std::io::Error::other)
        .and_then(|text| std::fs::write(path, text + "\n"));
    written.map_err(|error| {
        let message = format!(
            "error: the job is done, but its report was not written to {}: {error}",
            path.display()
        );
        Failure::new(Exit::Failed, message)
    })
}

fn draw(path: &Path, report: &Report) -> Result<(), Failure> {
    let Some(svg) = plot::svg(&report.progress) else {
        tell("No operator has curves, so no plot was drawn.");
        return Ok(());
    };
    std::fs::write(path, svg).map_err(|error| {
        let path = path.display();
        let message =
            format!("error: the job is done, but its plot was not written to {path}: {error}");
        Failure::new(Exit::Failed, message)
    })
}

/// Where progress goes.
pub(super) enum Display {
    None,
    Bars(Bars),
    Lines { format: LogFormat, last: Instant },
}

impl Display {
    pub(super) fn new(format: LogFormat, quiet: bool) -> Self {
        match format {
            _ if quiet => Self::None,
            LogFormat::Text if watched() => Self::Bars(Bars::default()),
            format => Self::Lines { format, last: Instant::now() },
        }
    }

    fn show(&mut self, run: &Run) {
        match self {
            Self::None => {}
            Self::Bars(bars) => bars.update(&run.progress()),
            Self::Lines { format, last } if last.elapsed() >= LINE => {
                *last = Instant::now();
                tell(&match format {
                    LogFormat::Text => terminal::line(&run.progress()),
                    LogFormat::Json => terminal::json_line(&run.progress()),
                });
            }
            Self::Lines { .. } => {}
        }
    }

    fn clear(&self) {
        if let Self::Bars(bars) = self {
            bars.clear();
        }
    }
}
