//! Loss against time: the best loss of each form of feed-forward beside what `ci/bench lut` measured of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use serde_json::Value;

use crate::study::{self, Runs};

/// Writes the table, for what was trained at the part's length with seed 1 and timed by the benchmark of this checkout;
/// nothing when the benchmark was not run.
pub(crate) fn write(runs: &Runs<'_>, text: &mut String) -> Result<(), Box<dyn Error>> {
    let file = study::folder().join("../bench/lut.json");
    let Ok(bytes) = std::fs::read(&file) else { return Ok(()) };
    let times: Value = serde_json::from_slice(&bytes)?;
    let nanoseconds = |form: &str, batch: &str| {
        times.get(format!("{form}_ffn_{batch}_ns")).and_then(Value::as_f64)
    };
    let mut best: BTreeMap<String, (f64, &str)> = BTreeMap::new();
    for kept in &runs.kept {
        let settings = &kept.outcome.settings;
        if (settings.steps, settings.seed) != (runs.part.steps, 1) {
            continue;
        }
        let Some(form) = form(&settings.contender) else { continue };
        let loss = kept.outcome.scores.engine.loss;
        let entry = best.entry(form).or_insert((f64::INFINITY, ""));
        if loss < entry.0 {
            *entry = (loss, &settings.contender);
        }
    }
    let mut rows: Vec<(f64, f64, f64, &str)> = best
        .iter()
        .filter_map(|(form, (loss, word))| {
            Some((nanoseconds(form, "b512")?, nanoseconds(form, "b1")?, *loss, *word))
        })
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    if rows.is_empty() || runs.part.task != "shakespeare" {
        return Ok(());
    }
    writeln!(
        text,
        "\nLoss against time, seed 1, {} steps, the best that was tried of each form; nanoseconds of one feed-forward, \
         norm and residual included, for a token of 512 and for one alone, one thread (`ci/bench lut`):\n\n\
         | | held-out loss | of 512 | alone |\n|---|---|---|---|",
        runs.part.steps
    )?;
    for (batch, single, loss, word) in rows {
        writeln!(text, "| `{word}` | {loss:.4} | {batch:.0} | {single:.0} |")?;
    }
    Ok(())
}

/// What the benchmark calls a contender's feed-forward; how it was trained makes no difference to time.
fn form(contender: &str) -> Option<String> {
    let mut parts = contender.split(':');
    match (parts.next()?, parts.next(), parts.next()) {
        ("mlp", ..) => Some("mlp_f32".to_owned()),
        ("bits", Some(multiple), _) => Some(format!("bits_{multiple}d")),
        ("rows", Some(size), Some(wires)) => {
            let bits = if contender.contains("table-bits=4") { "_of_4_bits" } else { "" };
            Some(format!("{wires}_{size}{bits}"))
        }
        _ => None,
    }
}
