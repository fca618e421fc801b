//! Runs a plan, as many trainings at a time as there are processors, and writes its page; or one seed of it again.
//!
//! A finished run is kept in `$ANABRANCH_RESULTS` (`target/results`) and not repeated, so that a study can be
//! stopped and gone on with. The page says with which commit each run was made.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::page;
use crate::plan::{Part, Plan};
use crate::run::{Outcome, Settings};

/// A run as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) commit: String,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// The runs of one part of a plan.
pub(crate) struct Runs<'a> {
    pub(crate) part: &'a Part,
    /// The best rate of each contender.
    pub(crate) best: BTreeMap<&'static str, f32>,
    pub(crate) kept: Vec<Kept>,
}

impl Runs<'_> {
    /// The run of a contender at its best rate.
    pub(crate) fn at_best(&self, contender: &str, steps: u64, seed: u64) -> Option<&Kept> {
        let (name, word) = self.part.contenders.iter().find(|(name, _)| *name == contender)?;
        let rate = *self.best.get(name)?;
        let settings = self.part.run(word, rate, steps, seed);
        self.kept.iter().find(|kept| kept.outcome.settings == settings)
    }
}

/// How good a run is: smaller is better.
pub(crate) fn merit(part: &Part, outcome: &Outcome) -> f64 {
    let score = outcome.scores.engine;
    if part.by_accuracy { -score.accuracy } else { score.loss }
}

/// Runs what is missing of a study and writes its page.
pub(crate) fn results(name: &str) -> Result<(), Box<dyn Error>> {
    let plan = Plan::of(name).ok_or_else(|| format!("{name}: no such study"))?;
    let mut all = Vec::new();
    for part in &plan.parts {
        let mut kept = train(name, &part.sweep())?;
        let mut best = BTreeMap::new();
        for (short, contender) in part.contenders {
            let of = kept.iter().filter(|kept| kept.outcome.settings.contender == *contender);
            let merit = |kept: &&Kept| merit(part, &kept.outcome);
            let least = of.min_by(|a, b| merit(a).total_cmp(&merit(b)));
            best.insert(*short, least.map_or(0.0, |kept| kept.outcome.settings.rate));
        }
        let lengths = std::iter::once(&part.steps).chain(part.longer);
        let further: Vec<Settings> = lengths
            .flat_map(|steps| part.seeds.iter().map(move |seed| (*steps, *seed)))
            .flat_map(|(steps, seed)| {
                part.contenders.iter().map(move |contender| (contender, steps, seed))
            })
            .filter_map(|((short, contender), steps, seed)| {
                Some(part.run(contender, *best.get(short)?, steps, seed))
            })
            .filter(|settings| kept.iter().all(|kept| kept.outcome.settings != *settings))
            .collect();
        kept.extend(train(name, &further)?);
        kept.extend(train(name, &part.beside())?);
        all.push(Runs { part, best, kept });
    }
    page::write(name, &all)
}

/// One seed of every contender again: fails when a figure is outside of the recorded spread.
pub(crate) fn verify(name: &str) -> Result<(), Box<dyn Error>> {
    let plan = Plan::of(name).ok_or_else(|| format!("{name}: no such study"))?;
    let file = page::folder().join(format!("{name}.json"));
    let text = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let page: serde_json::Value = serde_json::from_slice(&text)?;
    let recorded: Vec<Kept> =
        serde_json::from_value(page.pointer("/_run/raw").cloned().unwrap_or_default())?;
    let mut wrong = Vec::new();
    for part in &plan.parts {
        for (short, contender) in part.contenders {
            let of = |kept: &&Kept| {
                let settings = &kept.outcome.settings;
                (&*settings.task, &*settings.contender, settings.steps)
                    == (part.task, *contender, part.steps)
            };
            let mut rates: BTreeMap<String, Vec<&Kept>> = BTreeMap::new();
            for kept in recorded.iter().filter(of) {
                rates.entry(kept.outcome.settings.rate.to_string()).or_default().push(kept);
            }
            // The best rate is the one with all seeds.
            let runs = rates.into_values().max_by_key(Vec::len).unwrap_or_default();
            let Some(first) = runs.first() else {
                let missing = part.run(contender, 0.0, part.steps, 1).name();
                return Err(format!("{}: no run like {missing} is recorded", file.display()).into());
            };
            let merits: Vec<f64> = runs.iter().map(|kept| merit(part, &kept.outcome)).collect();
            let (mean, deviation) = page::mean_and_deviation(&merits);
            let again = child(&first.outcome.settings)?;
            let found = merit(part, &again);
            // Other processors sum in another order, which the training carries on.
            let allowed = 3.0 * deviation.max(0.01);
            let verdict = if (found - mean).abs() <= allowed { "within" } else { "OUTSIDE" };
            println!(
                "{}.{short} seed {}: {found:.4}, recorded {mean:.4} +- {deviation:.4}: {verdict} {allowed:.4}",
                part.figures, first.outcome.settings.seed
            );
            if verdict != "within" {
                wrong.push(format!("{}.{short}", part.figures));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("outside of the recorded spread: {}", wrong.join(", ")).into())
    }
}

/// The runs of these settings, as many at a time as there are processors, each on one thread.
fn train(study: &str, all: &[Settings]) -> Result<Vec<Kept>, Box<dyn Error>> {
    let folder = folder().join(study);
    std::fs::create_dir_all(&folder)?;
    let commit = page::commit()?;
    let queue = Mutex::new(all.iter());
    let work = || -> Result<(), String> {
        loop {
            let next = queue.lock().map_err(|error| error.to_string())?.next();
            let Some(settings) = next else { return Ok(()) };
            let file = folder.join(format!("{}.json", settings.name()));
            if file.exists() {
                continue;
            }
            let outcome = child(settings).map_err(|error| error.to_string())?;
            println!("{}  {:.4}", settings.name(), outcome.scores.engine.loss);
            let kept = Kept { commit: commit.clone(), outcome };
            let text = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let ends = workers.into_iter().map(|worker| worker.join());
        ends.map(|end| end.unwrap_or_else(|_| Err("a worker panicked".to_owned())))
            .collect::<Result<Vec<()>, String>>()
    })?;
    all.iter()
        .map(|settings| {
            let text = std::fs::read(folder.join(format!("{}.json", settings.name())))?;
            Ok(serde_json::from_slice(&text)?)
        })
        .collect()
}

/// Where finished runs are kept.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("ANABRANCH_RESULTS")
        .map_or_else(|| PathBuf::from("target/results"), PathBuf::from)
}

/// A training in a process of its own, on one thread: its weights do not depend on that.
fn child(settings: &Settings) -> Result<Outcome, Box<dyn Error>> {
    let Settings { task, contender, rate, steps, seed } = settings;
    let output = Command::new(std::env::current_exe()?)
        .args(["one", "--task", task, "--contender", contender, "--rate", &rate.to_string()])
        .args(["--steps", &steps.to_string(), "--seed", &seed.to_string()])
        .env("RAYON_NUM_THREADS", "1")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{}: {error}", settings.name()).into());
    }
    Ok(serde_json::from_str(last)?)
}
