//! A page of results: a JSON file of figures with every raw value, and the same for people.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::run::Outcome;
use crate::study::Runs;
use crate::task::Task;
use crate::{costs, frontier};

/// Where pages are.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results"))
}

/// The commit of the working tree, with a `+` when it has changes.
pub(crate) fn commit() -> Result<String, Box<dyn Error>> {
    let git = |arguments: &[&str]| -> Result<String, Box<dyn Error>> {
        let output = Command::new("git").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no", "models"])?.is_empty();
    Ok(git(&["rev-parse", "--short=10", "HEAD"])? + if changed { "+" } else { "" })
}

/// Of the sample; the deviation of one value is 0.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

/// Writes `NAME.json` and `NAME.md`.
pub(crate) fn write(name: &str, all: &[Runs<'_>]) -> Result<(), Box<dyn Error>> {
    let mut figures: BTreeMap<String, Value> = BTreeMap::new();
    let mut text = format!(
        "# Results: {name}\n\nWritten by `ci/results {name}`, checked by `ci/verify {name}`. Machine: {}. Losses are \
         of what the engine runs, in nats per prediction: tables in 8 bits, in 4 where a contender ends in \
         `table-bits=4`, and MLPs in f32. Every contender was trained with the same rates, batches and number of \
         steps (those of a teacher and of a fit among them), and its best rate is compared.\n",
        machine()
    );
    for runs in all {
        part(runs, &mut figures, &mut text)?;
    }
    let raw: Vec<_> = all.iter().flat_map(|runs| &runs.kept).collect();
    let mut commits: Vec<&str> = raw.iter().map(|kept| kept.commit.as_str()).collect();
    commits.sort_unstable();
    commits.dedup();
    let seeds: Vec<u64> = all.first().map(|runs| runs.part.seeds.to_vec()).unwrap_or_default();
    figures.insert(
        "_run".to_owned(),
        json!({ "commit": commits.join(" "), "command": format!("ci/results {name}"),
                "machine": machine(), "seeds": seeds, "raw": raw }),
    );
    std::fs::create_dir_all(folder())?;
    let pretty = serde_json::to_string_pretty(&figures)? + "\n";
    std::fs::write(folder().join(format!("{name}.json")), pretty)?;
    std::fs::write(folder().join(format!("{name}.md")), text)?;
    Ok(())
}

fn part(
    runs: &Runs<'_>,
    figures: &mut BTreeMap<String, Value>,
    text: &mut String,
) -> Result<(), Box<dyn Error>> {
    let part = runs.part;
    let base = Task::read(part.task)?.base;
    writeln!(text, "\n## {}\n\nThe sweep, seed 1, {} steps:\n", part.title, part.steps)?;
    let header: Vec<String> = part.rates.iter().map(|rate| format!("{rate:e}")).collect();
    writeln!(text, "| | {} |\n|---|{}", header.join(" | "), "---|".repeat(header.len()))?;
    for (short, word) in part.contenders {
        let cells: Vec<String> = part
            .rates
            .iter()
            .map(|rate| {
                let settings = part.run(word, *rate, part.steps, 1);
                let found = runs.kept.iter().find(|kept| kept.outcome.settings == settings);
                found.map_or_else(String::new, |kept| shown(runs, &kept.outcome))
            })
            .collect();
        writeln!(text, "| {short} (`{word}`) | {} |", cells.join(" | "))?;
    }
    tried(runs, text)?;
    for steps in std::iter::once(part.steps).chain(part.longer.iter().copied()) {
        let prefix = if steps == part.steps {
            part.figures.to_owned()
        } else {
            format!("{}.{steps}", part.figures)
        };
        writeln!(
            text,
            "\n{steps} steps, each at its best rate, mean and deviation over seeds {:?}:\n\n\
             | | rate | held-out loss | accuracy | trained in f32 | in int8 | seconds of training |\n\
             |---|---|---|---|---|---|---|",
            part.seeds
        )?;
        for (short, _) in part.contenders {
            let of: Vec<&Outcome> = part
                .seeds
                .iter()
                .filter_map(|seed| runs.at_best(short, steps, *seed))
                .map(|kept| &kept.outcome)
                .collect();
            let column = |value: &dyn Fn(&Outcome) -> f64| {
                mean_and_deviation(&of.iter().map(|outcome| value(outcome)).collect::<Vec<_>>())
            };
            let (loss, loss_spread) = column(&|o| o.scores.engine.loss);
            let (right, right_spread) = column(&|o| 100.0 * o.scores.engine.accuracy);
            let (trained, _) = column(&|o| o.scores.trained.loss);
            let has = of.iter().all(|o| o.scores.engine_int8.is_some());
            let (int8, _) = column(&|o| o.scores.engine_int8.map_or(f64::NAN, |score| score.loss));
            let (seconds, _) = column(&|o| o.seconds);
            let int8 = if has { format!("{int8:.4}") } else { String::new() };
            writeln!(
                text,
                "| {short} | {:e} | {loss:.4} +- {loss_spread:.4} | {right:.2} +- {right_spread:.2} % | {trained:.4} | {int8} | {seconds:.0} |",
                runs.best.get(short).copied().unwrap_or_default()
            )?;
            figures.insert(format!("{prefix}.{short}.val_loss"), loss.into());
            figures.insert(format!("{prefix}.{short}.val_loss_deviation"), loss_spread.into());
            figures.insert(format!("{prefix}.{short}.accuracy_percent"), right.into());
        }
        gap(runs, steps, &prefix, figures, text)?;
    }
    costs::write(runs, &base, figures, text)?;
    frontier::write(runs, text)
}

/// What was tried beside the contenders.
fn tried(runs: &Runs<'_>, text: &mut String) -> Result<(), Box<dyn Error>> {
    let part = runs.part;
    if part.tried.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "\nTried beside them, seed 1, {} steps:\n\n| | rate | |\n|---|---|---|",
        part.steps
    )?;
    for (word, rates) in part.tried {
        for rate in *rates {
            let settings = part.run(word, *rate, part.steps, 1);
            let found = runs.kept.iter().find(|kept| kept.outcome.settings == settings);
            let cell = found.map_or_else(String::new, |kept| shown(runs, &kept.outcome));
            writeln!(text, "| `{word}` | {rate:e} | {cell} |")?;
        }
    }
    Ok(())
}

fn shown(runs: &Runs<'_>, outcome: &Outcome) -> String {
    let score = outcome.scores.engine;
    if runs.part.by_accuracy {
        format!("{:.2} %", 100.0 * score.accuracy)
    } else {
        format!("{:.4}", score.loss)
    }
}

/// What of the way from no feed-forward to the MLP the tables go, seed by seed.
fn gap(
    runs: &Runs<'_>,
    steps: u64,
    prefix: &str,
    figures: &mut BTreeMap<String, Value>,
    text: &mut String,
) -> Result<(), Box<dyn Error>> {
    let merit = |contender, seed| {
        let kept = runs.at_best(contender, steps, seed)?;
        Some(crate::study::merit(runs.part, &kept.outcome))
    };
    let (mut recovered, mut gaps) = (Vec::new(), Vec::new());
    for seed in runs.part.seeds {
        let all = (merit("none", *seed), merit("mlp", *seed), merit("lut", *seed));
        if let (Some(none), Some(mlp), Some(lut)) = all {
            gaps.push(none - mlp);
            recovered.push((none - lut) / (none - mlp));
        }
    }
    let (mean, deviation) = mean_and_deviation(&recovered);
    let (wide, _) = mean_and_deviation(&gaps);
    let (wide_shown, least) = if runs.part.by_accuracy {
        (format!("{:.2} points", 100.0 * wide), 0.02)
    } else {
        (format!("{wide:.4} nats"), 0.05)
    };
    let void =
        if wide < least { " The gap is too small for the figure to mean anything." } else { "" };
    writeln!(
        text,
        "\nFrom none to MLP: {wide_shown}. Recovered by tables, paired: **{mean:.3}** +- {deviation:.3} ({}).{void}",
        recovered.iter().map(|r| format!("{r:.3}")).collect::<Vec<_>>().join(", ")
    )?;
    figures.insert(format!("{prefix}.gap"), wide.into());
    figures.insert(format!("{prefix}.gap_recovered"), mean.into());
    figures.insert(format!("{prefix}.gap_recovered_deviation"), deviation.into());
    Ok(())
}

/// What the runs were made on.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!("{processors} cores of {model}, shared")
}
