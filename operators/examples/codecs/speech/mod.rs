//! Spoken digits: the fewest bytes at which a model that never heard the speaker still understands him.
//!
//! Cross-validation by speaker: for each of six, models of digits are trained on originals of the other five and asked
//! about his recordings, as they are and as they come back from a setting. Losses are paired record by record, the mean
//! over the models, and put together over all speakers. Of each family of settings one goes from the best to the cheapest, and stops at the
//! first that cannot be shown to lose less than 1 %; the probability to be wrong is divided between the families.

pub(crate) mod judge;
pub(crate) mod recordings;

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::RangeInclusive;

use anabranch_models::latent::{Fit, Media as Samples, Options};
use anabranch_operators::choose::Losses;
use anabranch_operators::codec::{self, Codec, Facts, Latent, Limits, Media};
use anabranch_operators::task::Right;
use serde_json::{Value, json};

use self::recordings::{Recording, SPEAKERS};
use crate::part::{Found, Part, Runs};
use crate::program::{bytes, run_job};

pub(crate) struct Speech;

/// Kilobits per second, the best first. The tables are made with these too.
const BITRATES: [u16; 6] = [16, 12, 10, 9, 8, 6];
/// Channels of latents, and what a latent of 1 stands for in units of a 16-bit sample, the best first.
const LATENTS: [(usize, f64); 3] = [(64, 300.0), (48, 500.0), (32, 800.0)];
/// How much accuracy may be lost, and how sure that must be.
const MAX_LOSS: f64 = 0.01;
const ALPHA: f64 = 0.05;
/// Of the models of a speaker. One's answer to a recording that it hardly understands is chance; the mean of several is
/// less so.
const SEEDS: [u64; 3] = [1, 2, 3];

/// What a record can lose: so many of the models no longer understand it.
const LOSSES: RangeInclusive<i32> = -(SEEDS.len() as i32)..=SEEDS.len() as i32;

/// The two families.
const FAMILIES: [&str; 2] = ["opus_packets", "latent"];

impl Part for Speech {
    fn name(&self) -> &'static str {
        "speech"
    }

    fn runs(&self) -> Vec<String> {
        let folds = SPEAKERS.iter().map(|speaker| format!("fold-{speaker}"));
        folds.chain(BITRATES.iter().map(|bitrate| format!("table-{bitrate}"))).collect()
    }

    fn seeds(&self) -> Vec<u64> {
        SEEDS.to_vec()
    }

    fn run(&self, run: &str) -> Result<Value, Box<dyn Error>> {
        match run.split_once('-') {
            Some(("fold", speaker)) => fold(speaker),
            Some(("table", bitrate)) => table(bitrate),
            _ => Err(format!("{run} is no run").into()),
        }
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let folds: Vec<&Value> =
            SPEAKERS.iter().filter_map(|speaker| runs.get(&format!("fold-{speaker}"))).collect();
        let sum = |what: &str| -> f64 { folds.iter().filter_map(|fold| fold[what].as_f64()).sum() };
        let (records, wav) = (sum("records"), sum("wav"));
        let accuracy = sum("right") / records / SEEDS.len() as f64;
        let mut text = format!(
            "## Speech\n\nFSDD, {records} recordings of {} speakers at 8 kHz, WAV files of {:.0} bytes on average. \
             Each speaker is judged by {} models that were trained on originals of the other speakers and are right in \
             {:.1} % of the originals. The loss is Q_infer, of a record the mean over the models, with its bounds (each \
             97.5 %, at any number of records); below 0, what comes back is understood better than the originals. The bounds are \
             those of more recordings of these speakers, whose own losses, in the last column, differ by more: six are too \
             few for a bound over all people.\n\n| setting | bytes of a record | times smaller than WAV | loss | at most | accepted | speakers |\n\
             |---|---|---|---|---|---|---|\n",
            SPEAKERS.len(),
            wav / records,
            SEEDS.len(),
            100.0 * accuracy
        );
        let mut figures = BTreeMap::new();
        let mut cheapest = BTreeMap::new();
        for family in FAMILIES {
            let mut accepting = true;
            for name in names(family) {
                let of_folds = folds.iter().map(|fold| &fold["settings"][&name]);
                let bytes: f64 = of_folds.clone().filter_map(|found| found["bytes"].as_f64()).sum();
                let mut losses = Losses::default();
                let mut speakers = [f64::INFINITY, f64::NEG_INFINITY];
                for found in of_folds {
                    let mut alone = Losses::default();
                    for (loss, count) in
                        LOSSES.zip(found["losses"].as_array().into_iter().flatten())
                    {
                        let count = count.as_u64().ok_or("no count of records")?;
                        let loss = f64::from(loss) / SEEDS.len() as f64;
                        losses.extend(std::iter::repeat_n(loss, count as usize));
                        alone.extend(std::iter::repeat_n(loss, count as usize));
                    }
                    let [least, most] = &mut speakers;
                    (*least, *most) = (least.min(alone.mean()), most.max(alone.mean()));
                }
                let each = ALPHA / FAMILIES.len() as f64;
                accepting &= losses.below(MAX_LOSS, each);
                let interval = losses.interval(each);
                // The codec's own file is part of what is stored.
                let stored = bytes / records;
                text += &format!(
                    "| {name} | {stored:.0} | {:.1} | {:.2} % | {:.2} % | {} | {:+.1} to {:+.1} % |\n",
                    wav / records / stored,
                    100.0 * interval.mean,
                    100.0 * interval.high,
                    if accepting { "yes" } else { "no" },
                    100.0 * speakers[0],
                    100.0 * speakers[1],
                );
                let short = name.replace(' ', "_");
                figures.insert(format!("speech.loss_percent.{short}"), 100.0 * interval.mean);
                figures
                    .insert(format!("speech.worst_speaker_percent.{short}"), 100.0 * speakers[1]);
                figures.insert(format!("speech.records_vs_wav.{short}"), wav / records / stored);
                if accepting {
                    cheapest.insert(family, name);
                }
            }
        }
        text += "\nTables, everything in their folder counted: ids, names, labels, Parquet, log.\n\n\
                 | bitrate | bytes for each record | times smaller than WAV |\n|---|---|---|\n";
        for bitrate in BITRATES {
            let stored = runs.get(&format!("table-{bitrate}")).and_then(|t| t["bytes"].as_f64());
            let stored = stored.ok_or("a table is missing")?;
            text +=
                &format!("| {bitrate} kb/s | {:.0} | {:.1} |\n", stored / records, wav / stored);
            if cheapest.get("opus_packets") == Some(&format!("opus_packets {bitrate}")) {
                figures.insert("speech.vs_wav".to_owned(), wav / stored);
            }
        }
        figures.insert("speech.accuracy_percent".to_owned(), 100.0 * accuracy);
        Ok(Found { figures, text })
    }

    fn near(&self, name: &str, recorded: f64, found: f64) -> bool {
        // What was trained answers a few records otherwise on another processor.
        let trained = ["right", "losses"].iter().any(|word| name.contains(word));
        // Logs of tables hold times and names of folders.
        let near = (recorded - found).abs();
        near <= 1e-3 * recorded.abs() || trained && near <= 15.0
    }
}

/// The settings of a family, the best first.
fn names(family: &str) -> Vec<String> {
    match family {
        "latent" => LATENTS.iter().map(|(c, step)| format!("latent {c}x{step}")).collect(),
        _ => BITRATES.iter().map(|bitrate| format!("{family} {bitrate}")).collect(),
    }
}

/// A speaker, judged by a model of the others.
fn fold(speaker: &str) -> Result<Value, Box<dyn Error>> {
    let all = recordings::all()?;
    let (test, train): (Vec<&Recording>, Vec<&Recording>) =
        all.iter().partition(|recording| recording.speaker == speaker);
    let folder = tempfile::tempdir()?;
    let judge = |seed: u64| {
        let model = folder.path().join(seed.to_string());
        judge::train_on(&train, &judge::network(seed, judge::WIDTH, judge::STEPS), &model)?;
        judge::task(&model)
    };
    let judges = SEEDS.map(judge).into_iter().collect::<Result<Vec<_>, _>>()?;
    let right = test.iter().map(|recording| Some(Right::Class(recording.digit)));
    let right: Vec<Option<Right<'_>>> = right.collect();
    // How many of the models understand each.
    let scores = |media: &[Media<'_>]| -> Vec<i32> {
        let mut scores = vec![0; media.len()];
        for judge in &judges {
            let outcomes = judge.outcomes(media, &right).into_iter();
            for (score, outcome) in scores.iter_mut().zip(outcomes) {
                *score += i32::from(outcome.is_ok_and(|outcome| outcome.score > 0.5));
            }
        }
        scores
    };
    let media: Vec<Media<'_>> = test.iter().map(|recording| recording.media()).collect();
    let before = scores(&media);
    let mut settings = serde_json::Map::new();
    let mut add = |name: String, codec: &dyn Codec, step: Option<u16>, file: usize| {
        let tried = round_trips(codec, step, &media).map(|(bytes, back)| {
            let back: Vec<Media<'_>> =
                back.iter().map(|(samples, facts)| Media { samples, facts: *facts }).collect();
            let after = scores(&back);
            let lost = before.iter().zip(&after).map(|(before, after)| before - after);
            let lost: Vec<i32> = lost.collect();
            let counts = LOSSES.map(|loss| lost.iter().filter(|lost| **lost == loss).count());
            json!({ "bytes": bytes + file, "losses": counts.collect::<Vec<_>>() })
        });
        tried.map(|tried| settings.insert(name, tried))
    };
    let opus = codec::named("opus_packets").ok_or("no codec opus_packets")?;
    for (name, bitrate) in names("opus_packets").into_iter().zip(BITRATES) {
        add(name, opus, Some(bitrate), 0)?;
    }
    for (name, (channels, step)) in names("latent").into_iter().zip(LATENTS) {
        let (latent, file) = learn(&train, channels, step)?;
        // One file serves all records of a table, so each fold takes its share.
        add(name, &latent, None, file / SPEAKERS.len())?;
    }
    Ok(json!({
        "records": test.len(),
        "wav": test.iter().map(|recording| recording.wav).sum::<usize>(),
        "right": before.iter().sum::<i32>(),
        "settings": settings,
    }))
}

/// Bytes of all media, and what comes back of each.
type Back = (usize, Vec<(Vec<u8>, Facts)>);

fn round_trips(
    codec: &dyn Codec,
    step: Option<u16>,
    media: &[Media<'_>],
) -> Result<Back, Box<dyn Error>> {
    let (mut all, mut back) = (0, Vec::new());
    for media in media {
        let (mut bytes, mut samples) = (Vec::new(), Vec::new());
        codec.encode(media, step, &mut bytes)?;
        let facts = codec.decode(&bytes, &Limits::default(), &mut samples)?;
        all += bytes.len();
        back.push((samples, facts));
    }
    Ok((all, back))
}

/// A codec that is learned from recordings, and bytes of its file.
fn learn(
    recordings: &[&Recording],
    channels: usize,
    step: f64,
) -> Result<(Latent, usize), Box<dyn Error>> {
    let mut fit =
        Fit::new(Options { channels, step: Some(step), levels: None, ..Options::default() });
    for recording in recordings {
        let Facts::Audio { rate, channels, .. } = recording.facts else { continue };
        let (samples, _) = recording.samples.as_chunks::<2>();
        let samples: Vec<i16> = samples.iter().map(|two| i16::from_le_bytes(*two)).collect();
        fit.add(&Samples::Sound { rate, channels, samples: &samples })?;
    }
    let file = fit.finish()?.to_bytes()?;
    Ok((Latent::from_bytes(&file)?, file.len()))
}

/// The table of all recordings at a bitrate.
fn table(bitrate: &str) -> Result<Value, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("table");
    run_job("precompress-speech.toml", &out, &[("bitrate", bitrate)])?;
    Ok(json!({ "bytes": bytes(&out, |_| true)? }))
}
