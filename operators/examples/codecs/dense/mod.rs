//! Tasks that are right by degrees: what codecs cost a model that draws masks.
//!
//! A small model is trained on originals, and asked about records that it never saw, as they are and as they come back
//! from every setting of some codecs. The loss is Q_infer, paired record by record. Of each codec one goes from the best
//! setting to the cheapest, and stops at the first that cannot be shown to lose less than 1 %.

pub(crate) mod mixtures;
pub(crate) mod scenes;
pub(crate) mod segment;
pub(crate) mod separate;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use anabranch_operators::codec::Media;
use anabranch_operators::evaluate::{EvaluateOptions, Summary, Tried, correlation};
use anabranch_pipelines::operator::{Allocation, Context};
pub(crate) use segment::Segment;
pub(crate) use separate::Separate;
use serde_json::{Map, Value, json};

use crate::part::{Found, Runs};
use crate::records;

/// The one run of each part.
const RUN: &str = "sweep";
pub(crate) const SEED: u64 = 1;
/// How much of the score may be lost.
const MAX_LOSS: f64 = 0.01;

/// How much is done: all of it, or just enough to see that it works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) steps: u64,
    pub(crate) records: usize,
}

impl Size {
    pub(crate) const TINY: Self = Self { steps: 10, records: 2 };
}

/// What every setting of these codecs costs the task: a JSON object.
fn sweep(
    task: &Value,
    codecs: &[&str],
    records: Vec<Media<'_>>,
    right: Vec<Media<'_>>,
) -> Result<Map<String, Value>, Box<dyn Error>> {
    let count = records.len();
    let label = task["label"].as_str().ok_or("no label")?;
    let batch = records::batch(&[("record", records), (label, right)])?;
    let options = json!({ "column": "record", "codecs": codecs, "task": task, "times": false });
    let operator = serde_json::from_value::<EvaluateOptions>(options)?.build()?;
    let outcome = operator.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
    if let Some(refused) = outcome.refused.first() {
        return Err(refused.error.clone().into());
    }
    let mut summary = Summary::default();
    summary.add(&outcome.records)?;
    let point = |tried: &Tried| -> Option<Value> {
        let loss = tried.loss()?;
        let metrics = tried.metrics.iter();
        // What is infinite is null in JSON.
        let metrics: Map<String, Value> =
            metrics.map(|(name, mean)| (name.clone(), json!(mean.mean()))).collect();
        Some(json!({
            "codec": tried.codec, "bytes": tried.bytes.mean(), "failed": tried.failed,
            "score": tried.score.mean(), "loss": [loss.low, loss.mean, loss.high],
            "metrics": metrics,
        }))
    };
    let settings = summary.settings().iter();
    let settings: Map<String, Value> =
        settings.filter_map(|tried| Some((tried.name(), point(tried)?))).collect();
    // Objects of JSON are sorted by name.
    let order: Vec<String> = summary.settings().iter().map(Tried::name).collect();
    let mut found = Map::new();
    found.insert("records".to_owned(), json!(count));
    found.insert("order".to_owned(), json!(order));
    found.insert("settings".to_owned(), Value::Object(settings));
    Ok(found)
}

/// Figures and tables of a sweep, below `intro`.
fn found(part: &str, score: &str, intro: &str, runs: &Runs) -> Result<Found, Box<dyn Error>> {
    let run = runs.get(RUN).ok_or("the sweep is missing")?;
    let number = |value: &Value, name: &str| value[name].as_f64().unwrap_or(f64::NAN);
    let order = run["order"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let settings: Vec<(&str, &Value)> = order.map(|name| (name, &run["settings"][name])).collect();
    let raw = number(run, "raw");
    let mut figures = BTreeMap::new();
    let mut text = format!(
        "{intro} The loss is Q_infer with its bounds (each 97.5 %, at any number of records); \
         of each codec the settings are accepted, from the best on, until one is not shown to lose less than {} %.\n\n\
         | setting | bytes of a record | times smaller than samples | {score} | loss | from | to | accepted |\n\
         |---|---|---|---|---|---|---|---|\n",
        100.0 * MAX_LOSS
    );
    let mut accepting: BTreeMap<&str, bool> = BTreeMap::new();
    for (name, setting) in &settings {
        let codec = setting["codec"].as_str().unwrap_or_default();
        let [low, mean, high] = [0, 1, 2].map(|at| setting["loss"][at].as_f64().unwrap_or(1.0));
        let accepted = accepting.entry(codec).or_insert(true);
        *accepted &= high < MAX_LOSS;
        let bytes = number(setting, "bytes");
        writeln!(
            text,
            "| {name} | {bytes:.0} | {:.1} | {:.3} | {:.2} % | {:.2} % | {:.2} % | {} |",
            raw / bytes,
            number(setting, "score"),
            100.0 * mean,
            100.0 * low,
            100.0 * high,
            if *accepted { "yes" } else { "no" }
        )?;
        let short = name.replace(' ', "_");
        figures.insert(format!("{part}.loss_percent.{short}"), 100.0 * mean);
        if *accepted {
            // The smallest, which of flat drawings may be one that loses nothing.
            let times: &mut f64 = figures.entry(format!("{part}.vs_samples.{codec}")).or_default();
            *times = f64::max(*times, raw / bytes);
        }
    }
    figures.insert(format!("{part}.score"), number(run, "score"));
    let metrics = settings.first().and_then(|(_, setting)| setting["metrics"].as_object());
    let metrics: Vec<&String> = metrics.into_iter().flat_map(Map::keys).collect();
    writeln!(
        text,
        "\nHow metrics go with the {score} over settings (Pearson; those with an infinite mean left out; settings of one \
         codec are not independent, so the intervals are too narrow rather than too wide):\n\n\
         | metric | r | 95 % interval | settings |\n|---|---|---|---|"
    )?;
    for metric in metrics {
        let pairs = settings
            .iter()
            .map(|(_, setting)| (number(&setting["metrics"], metric), number(setting, "score")));
        let Some(found) = correlation(&pairs.collect::<Vec<_>>()) else {
            writeln!(text, "| {metric} | - | too few settings differ | - |")?;
            continue;
        };
        let [low, high] = found.interval;
        writeln!(text, "| {metric} | {:.2} | {low:.2} to {high:.2} | {} |", found.r, found.count)?;
        figures.insert(format!("{part}.correlation.{metric}"), found.r);
    }
    Ok(Found { figures, text })
}

/// Bytes are the same everywhere; what was trained scores a little otherwise on another processor.
fn near(name: &str, recorded: f64, found: f64) -> bool {
    let of = |word: &str| name.contains(word);
    let trained = of("/loss") || of("score");
    let near = (recorded - found).abs();
    if trained { near <= 0.02 } else { near <= 1e-3 * recorded.abs() }
}
