//! The published study's question, asked again: what families of codecs cost four tasks, and which metric tells.
//!
//! The study (MPQ, arXiv 2401.07957) took one severe setting of a few codecs, models that others had trained, and no
//! intervals. Here every codec has a sweep, losses are paired record by record, and the networks are our own and small.
//! A run is a task: a network that judges is trained on originals, two others give the deep similarity, latent codecs
//! are learned from what trained, and records that were never seen go through every setting.

mod judged;
mod published;
mod settings;
mod subjects;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use anabranch_operators::evaluate::correlation;
use serde_json::Value;

use self::published::{DEEP, Published, STUDY};
use self::settings::FAMILIES;
use self::subjects::{FULL, Scale, TINY, subject};
use crate::part::{Found, Part, Runs};

pub(crate) struct Families;

/// The loss that is allowed.
const MOST: f64 = 0.01;

/// What was found of a setting.
struct Row<'a> {
    name: &'a str,
    family: &'a str,
    /// Bytes of a record.
    bytes: f64,
    score: f64,
    /// From, mean, to.
    loss: [f64; 3],
    metrics: &'a Value,
}

impl<'a> Row<'a> {
    fn of(setting: &'a Value) -> Option<Self> {
        let number = |name: &str| setting[name].as_f64().unwrap_or(f64::NAN);
        Some(Self {
            name: setting["name"].as_str()?,
            family: setting["family"].as_str()?,
            bytes: number("bytes"),
            score: number("score"),
            loss: [0, 1, 2].map(|at| setting["loss"][at].as_f64().unwrap_or(f64::NAN)),
            metrics: &setting["metrics"],
        })
    }
}

/// The fewest bytes of a family whose mean loss is what is allowed, at most.
fn least<'a>(rows: &'a [Row<'_>], family: &str) -> Option<&'a Row<'a>> {
    let kept = rows.iter().filter(|row| row.family == family && row.loss[1] <= MOST);
    kept.min_by(|one, other| one.bytes.total_cmp(&other.bytes))
}

impl Families {
    fn scaled(run: &str, scale: &Scale) -> Result<Value, Box<dyn Error>> {
        judged::judged(&subject(run, scale)?, scale)
    }
}

impl Part for Families {
    fn name(&self) -> &'static str {
        "families"
    }

    fn runs(&self) -> Vec<String> {
        STUDY.iter().map(|task| task.ours.to_owned()).collect()
    }

    fn seeds(&self) -> Vec<u64> {
        subjects::SEEDS.to_vec()
    }

    fn run(&self, run: &str) -> Result<Value, Box<dyn Error>> {
        Self::scaled(run, &FULL)
    }

    fn tiny(&self) -> Option<Result<Value, Box<dyn Error>>> {
        STUDY.first().map(|task| Self::scaled(task.ours, &TINY))
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let mut figures = BTreeMap::new();
        let mut text = "## The published study, again\n\n\
             MPQ (arXiv 2401.07957) asked what codecs cost four tasks. Its families: classical (here JPEG and WebP, Opus for \
             sounds), neural (our latent codec with a linear and a residual decoder), generative (the same with a decoder \
             that was trained against a critic). Its tasks: classification (CIFAR-10, pixel-exact records test), \
             segmentation (NLVR), speech (FSDD, digits of speakers that were not trained on) and separation (voices over \
             music). `loss` is Q_infer of a network that was trained on originals, in points of its score, with bounds \
             of 97.5 % each over records; deep similarity is -10 log10 of the mean distance of features of two other \
             networks. Of records that came back exactly there is no mean in decibels: they are left out there, so that PSNR \
             says little of flat drawings. The file of a latent codec, which a table holds once, is not among the bytes of \
             its records; of pictures the three decoders store the same bytes.\n"
            .to_owned();
        let number = |value: &Value, name: &str| value[name].as_f64().unwrap_or(f64::NAN);
        let (mut agreement, mut best, mut gains) = (String::new(), String::new(), Vec::new());
        for task in &STUDY {
            let Some(run) = runs.get(task.ours) else { continue };
            let rows = run["settings"].as_array().into_iter().flatten();
            let rows: Vec<Row<'_>> = rows.filter_map(Row::of).collect();
            let (score, raw) = (number(run, "score"), number(run, "raw"));
            let names: Vec<String> = rows
                .iter()
                .filter_map(|row| row.metrics.as_object())
                .take(1)
                .flat_map(|m| m.keys().cloned())
                .collect();
            write!(
                text,
                "\n### {}\n\n{} records test; {} of the originals: {score:.3}. Raw, a record has {raw:.0} bytes.\n\n\
                 | family | setting | bytes | times smaller | {} | loss | from | to |",
                task.heading,
                number(run, "records"),
                task.score,
                task.score,
            )?;
            names.iter().try_for_each(|name| write!(text, " {name} |"))?;
            writeln!(text, "\n|---|---|---|---|---|---|---|---|{}", "---|".repeat(names.len()))?;
            for row in &rows {
                let [low, mean, high] = row.loss.map(|loss| 100.0 * loss);
                write!(
                    text,
                    "| {} | {} | {:.0} | {:.1} | {:.3} | {mean:+.2} | {low:+.2} | {high:+.2} |",
                    row.family,
                    row.name,
                    row.bytes,
                    raw / row.bytes,
                    row.score
                )?;
                names
                    .iter()
                    .try_for_each(|name| write!(text, " {:.2} |", number(row.metrics, name)))?;
                text.push('\n');
                if row.loss[2] < 0.0 {
                    gains.push(format!("{} ({}, {mean:+.2} points)", row.name, task.ours));
                }
            }
            for name in &names {
                let pairs: Vec<(f64, f64)> =
                    rows.iter().map(|row| (number(row.metrics, name), row.score)).collect();
                let theirs = task.published(name);
                let Some(found) = correlation(&pairs) else { continue };
                let [low, high] = found.interval;
                let verdict = theirs.map_or("not asked there", |r| {
                    if (low..=high).contains(&r) { "inside" } else { "outside" }
                });
                let theirs = theirs.map_or("-".to_owned(), |r| format!("{r:.2}"));
                writeln!(
                    agreement,
                    "| {} | {name} | {:.2} | {low:.2} to {high:.2} | {} | {theirs} | {verdict} |",
                    task.heading, found.r, found.count
                )?;
                figures.insert(format!("families.{}.correlation.{name}", task.ours), found.r);
            }
            write!(best, "| {} |", task.heading)?;
            for family in FAMILIES {
                let least = least(&rows, family);
                if let Some(row) = least {
                    figures.insert(
                        format!("families.{}.{family}.vs_raw_at_mean_loss", task.ours),
                        raw / row.bytes,
                    );
                }
                let cell = least.map_or("none".to_owned(), |row| {
                    format!("{:.1} ({})", raw / row.bytes, row.name)
                });
                write!(best, " {cell} |")?;
            }
            best.push('\n');
            figures.insert(format!("families.{}.score", task.ours), score);
        }
        writeln!(
            text,
            "\n### What agrees with the study\n\n\
             How metrics go with the score over settings (Pearson, Fisher's interval; settings of one codec are not \
             independent, so intervals are too narrow rather than too wide). The study's numbers are over three or four codecs, \
             too few for an interval of their own, and were computed from its notebooks; `{DEEP}` stands against its LPIPS or \
             CDPAM in decibels.\n\n\
             | task | metric | r | 95 % interval | settings | study | in our interval |\n|---|---|---|---|---|---|---|\n{agreement}\n\
             Times smaller than raw at the fewest bytes whose mean loss is {:.0} point at most (the mean as it was found; its \
             bound is above that):\n\n\
             | task | classical | neural | generative |\n|---|---|---|---|\n{best}",
            100.0 * MOST
        )?;
        text += &Published::told(&figures, &gains);
        Ok(Found { figures, text })
    }

    /// What was trained scores a little otherwise on another processor; bytes of codecs that were learned follow.
    fn near(&self, name: &str, recorded: f64, found: f64) -> bool {
        let near = (recorded - found).abs();
        let trained = name.ends_with("score") || name.contains("/loss");
        if trained { near <= 0.03 } else { near <= 0.05 * recorded.abs().max(1.0) }
    }
}
