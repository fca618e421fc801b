//! The four tasks: records, what is right of them, and networks that were trained on others.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_models::artifact::Artifact;
use anabranch_models::random::Random;
use anabranch_operators::codec::{Facts, Media};
use anabranch_operators::evaluate::Labelled;
use anabranch_operators::metric::FeatureDistance;
use anabranch_operators::task::{Spectra, Task, TaskOptions};
use serde_json::json;

use crate::cifar;
use crate::dense::{mixtures, scenes, segment, separate};
use crate::speech::judge;
use crate::speech::recordings::{self, Recording};

/// Of the network that judges, and of those whose features are compared.
pub(super) const SEEDS: [u64; 3] = [1, 11, 12];
/// Who tests speech.
const TESTED: [&str; 2] = ["theo", "yweweler"];

/// How much is done.
pub(super) struct Scale {
    /// Steps of networks, as a share of what they need.
    share: f64,
    /// Records that test, and that codecs are learned from, at most.
    records: usize,
    pub(super) gradient_steps: u64,
}

pub(super) const FULL: Scale = Scale { share: 1.0, records: 1000, gradient_steps: 300 };
pub(super) const TINY: Scale = Scale { share: 0.01, records: 8, gradient_steps: 2 };

impl Scale {
    fn steps(&self, of: u64) -> u64 {
        (of as f64 * self.share) as u64
    }
}

/// Samples and what they are.
pub(super) struct Record {
    pub(super) samples: Vec<u8>,
    pub(super) facts: Facts,
}

impl Record {
    pub(super) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: self.facts }
    }

    fn of(media: &Media<'_>) -> Self {
        Self { samples: media.samples.to_vec(), facts: media.facts }
    }
}

/// What is right of a record.
pub(super) enum Truth {
    Class(u32),
    Media(Record),
}

/// What codecs are judged on.
pub(super) struct Subject {
    /// What codecs are learned from.
    pub(super) seen: Vec<Record>,
    pub(super) tested: Vec<Record>,
    /// Of what is tested.
    pub(super) right: Vec<Truth>,
    pub(super) judge: Arc<dyn Task>,
    pub(super) features: FeatureDistance,
}

/// The subject of a run.
pub(super) fn subject(name: &str, scale: &Scale) -> Result<Subject, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    match name {
        "classification" => classification(folder, scale),
        "segmentation" => segmentation(folder, scale),
        "speech" => speech(folder, scale),
        "separation" => separation(folder, scale),
        _ => Err(format!("{name} is no task").into()),
    }
}

/// The folder of the network of a seed.
fn model(folder: &Path, seed: u64) -> PathBuf {
    folder.join(seed.to_string())
}

/// The networks whose features are compared, trained already.
fn features(folder: &Path, spectra: Option<Spectra>) -> Result<FeatureDistance, Box<dyn Error>> {
    let [_, features @ ..] = SEEDS;
    let open = |seed| Ok((Artifact::open(&model(folder, seed))?, spectra));
    let networks = features.into_iter().map(open).collect::<Result<_, Box<dyn Error>>>()?;
    Ok(FeatureDistance::new(networks)?)
}

fn task(options: serde_json::Value) -> Result<Arc<dyn Task>, Box<dyn Error>> {
    Ok(serde_json::from_value::<TaskOptions>(options)?.build()?)
}

fn classification(folder: &Path, scale: &Scale) -> Result<Subject, Box<dyn Error>> {
    let [exact, mut test] = cifar::exact()?;
    test.truncate(scale.records);
    let record = |labelled: &Labelled| Record::of(&cifar::media(labelled));
    let seen = exact.iter().take(3 * scale.records).map(record).collect();
    let mut train = exact;
    train.extend(cifar::lossy()?);
    for seed in SEEDS {
        cifar::train_on(&train, seed, scale.steps(cifar::JUDGED), &model(folder, seed))?;
    }
    Ok(Subject {
        seen,
        tested: test.iter().map(record).collect(),
        right: test.iter().map(|labelled| Truth::Class(labelled.class)).collect(),
        judge: task(json!({ "kind": "classify", "model": model(folder, SEEDS[0]) }))?,
        features: features(folder, None)?,
    })
}

fn segmentation(folder: &Path, scale: &Scale) -> Result<Subject, Box<dyn Error>> {
    let [train, mut test] = scenes::all()?;
    test.truncate(scale.records);
    for seed in SEEDS {
        let network = segment::network(seed, segment::WIDTH, scale.steps(segment::FULL.steps));
        segment::train_on(&train, &network, &model(folder, seed))?;
    }
    Ok(Subject {
        seen: train.iter().take(scale.records).map(|scene| Record::of(&scene.media())).collect(),
        tested: test.iter().map(|scene| Record::of(&scene.media())).collect(),
        right: test.iter().map(|scene| Truth::Media(Record::of(&scene.right()))).collect(),
        judge: task(
            json!({ "kind": "segment", "model": model(folder, SEEDS[0]), "label": "mask" }),
        )?,
        features: features(folder, None)?,
    })
}

fn speech(folder: &Path, scale: &Scale) -> Result<Subject, Box<dyn Error>> {
    let all = recordings::all()?;
    let (test, train): (Vec<&Recording>, Vec<&Recording>) =
        all.iter().partition(|recording| TESTED.contains(&recording.speaker.as_str()));
    for seed in SEEDS {
        let network = judge::network(seed, judge::WIDTH, scale.steps(judge::STEPS));
        judge::train_on(&train, &network, &model(folder, seed))?;
    }
    let test: Vec<&Recording> = test.into_iter().take(scale.records).collect();
    // In the order of the archive digits follow one another.
    let every = (train.len() / scale.records).max(1);
    let seen = train.iter().step_by(every).map(|r| Record::of(&r.media())).collect();
    Ok(Subject {
        seen,
        tested: test.iter().map(|recording| Record::of(&recording.media())).collect(),
        right: test.iter().map(|recording| Truth::Class(recording.digit)).collect(),
        judge: judge::task(&model(folder, SEEDS[0]))?,
        features: features(folder, Some(judge::SPECTRA))?,
    })
}

fn separation(folder: &Path, scale: &Scale) -> Result<Subject, Box<dyn Error>> {
    let [train, test] = mixtures::all()?;
    for seed in SEEDS {
        let network = separate::network(seed, separate::WIDTH, scale.steps(separate::FULL.steps));
        separate::train_on(&train, &network, &model(folder, seed))?;
    }
    let random = &mut Random::new(SEEDS[0]);
    let mut mixed = |sounds: &mixtures::Sounds| {
        let voices = 0..sounds.voices.len().min(scale.records);
        voices.map(|voice| sounds.mixture(voice, random)).collect::<Result<Vec<_>, _>>()
    };
    let (seen, test) = (mixed(&train)?, mixed(&test)?);
    Ok(Subject {
        seen: seen.iter().map(|mixture| Record::of(&mixture.media())).collect(),
        tested: test.iter().map(|mixture| Record::of(&mixture.media())).collect(),
        right: test.iter().map(|mixture| Truth::Media(Record::of(&mixture.right()))).collect(),
        judge: task(json!({
            "kind": "separate", "model": model(folder, SEEDS[0]), "label": "voice",
            "spectrum": separate::SPECTRA,
        }))?,
        features: features(folder, Some(separate::SPECTRA))?,
    })
}
