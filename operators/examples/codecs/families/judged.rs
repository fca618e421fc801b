//! Records of a subject through every setting.

use std::error::Error;

use anabranch_operators::choose::Losses;
use anabranch_operators::codec::{Facts, Limits, Media};
use anabranch_operators::metric::{
    MetricError, Seen, log_spectral_distance, ms_ssim, psnr, si_sdr, ssim, ssimulacra2,
};
use anabranch_operators::task::Right;
use serde_json::{Map, Value, json};

use super::published::DEEP;
use super::settings::{self, Setting};
use super::subjects::{Record, Scale, Subject, Truth};

/// Each bound is wrong with this probability at most.
const ALPHA: f64 = 0.025;

type Compare = fn(&Media<'_>, &Media<'_>) -> Result<f64, MetricError>;

const PICTURES: [(&str, Compare); 4] =
    [("psnr", psnr), ("ssim", ssim), ("ms_ssim", ms_ssim), ("ssimulacra2", ssimulacra2)];
const SOUNDS: [(&str, Compare); 2] =
    [("si_sdr", si_sdr), ("log_spectral_distance", log_spectral_distance)];

/// What every setting costs the subject's task: a JSON object.
pub(super) fn judged(subject: &Subject, scale: &Scale) -> Result<Value, Box<dyn Error>> {
    let right: Vec<Option<Right<'_>>> =
        subject.right.iter().map(|right| Some(right.right())).collect();
    let scores = |records: &[Record]| -> Vec<f64> {
        let media: Vec<Media<'_>> = records.iter().map(Record::media).collect();
        let outcomes = subject.judge.outcomes(&media, &right).into_iter();
        // What the network cannot take any more it gets wrong.
        outcomes.map(|outcome| outcome.map_or(0.0, |outcome| outcome.score)).collect()
    };
    let before = scores(&subject.tested);
    let seen = subject.tested.iter().map(|record| subject.features.seen(&record.media()));
    let seen = seen.collect::<Result<Vec<Seen>, _>>()?;
    let mut found = Vec::new();
    for setting in settings::all(subject, scale)? {
        let (bytes, back) = through(&setting, &subject.tested)?;
        let after = scores(&back);
        let mut losses = Losses::default();
        losses.extend(before.iter().zip(&after).map(|(before, after)| before - after));
        let loss = losses.interval(ALPHA);
        found.push(json!({
            "name": setting.name,
            "family": setting.family,
            "bytes": bytes as f64 / back.len() as f64,
            "score": mean(after),
            "loss": [loss.low, loss.mean, loss.high],
            "metrics": metrics(subject, &seen, &back)?,
        }));
    }
    let raw = subject.tested.iter().map(|record| record.samples.len() as f64);
    Ok(json!({
        "records": subject.tested.len(),
        "raw": mean(raw),
        "score": mean(before),
        "settings": found,
    }))
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) =
        values.into_iter().fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// Bytes of all records, and what comes back of each.
fn through(setting: &Setting, records: &[Record]) -> Result<(usize, Vec<Record>), Box<dyn Error>> {
    let (mut all, mut back) = (0, Vec::with_capacity(records.len()));
    for record in records {
        let (mut bytes, mut samples) = (Vec::new(), Vec::new());
        setting.codec().encode(&record.media(), setting.step, &mut bytes)?;
        let facts = setting.codec().decode(&bytes, &Limits::default(), &mut samples)?;
        all += bytes.len();
        back.push(Record { samples, facts });
    }
    Ok((all, back))
}

/// The means of the metrics over records. Of records that came back exactly there is no mean in decibels, so they are
/// left out there.
fn metrics(
    subject: &Subject,
    seen: &[Seen],
    back: &[Record],
) -> Result<Map<String, Value>, Box<dyn Error>> {
    let known: &[(&str, Compare)] = match subject.tested.first().map(|record| record.facts) {
        Some(Facts::Image { .. }) => &PICTURES,
        _ => &SOUNDS,
    };
    let mut found = Map::new();
    for (name, compare) in known {
        let pairs = subject.tested.iter().zip(back);
        let values = pairs.map(|(one, other)| compare(&one.media(), &other.media()));
        let values = values.collect::<Result<Vec<f64>, _>>()?;
        found.insert((*name).to_owned(), json!(mean(values.into_iter().filter(|v| v.is_finite()))));
    }
    let pairs = seen.iter().zip(back);
    let distances = pairs.map(|(seen, back)| subject.features.to(seen, &back.media()));
    let distances = distances.collect::<Result<Vec<f64>, _>>()?;
    found.insert(DEEP.to_owned(), json!(-10.0 * mean(distances).log10()));
    Ok(found)
}

impl Truth {
    fn right(&self) -> Right<'_> {
        match self {
            Self::Class(class) => Right::Class(*class),
            Self::Media(record) => Right::Media(record.media()),
        }
    }
}
