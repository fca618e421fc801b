//! What is chosen for pictures of stripes, and what is not.

use std::sync::Arc;

use super::*;
use crate::choose::{Losses, Verdict};
use crate::codec::{Codec, CodecError, Facts, Ladder, Limits, Media, named};
use crate::round_trip::RoundTrip;
use crate::task::Right;
use crate::task::example::{self, FACTS, Stripes, stripes};
use crate::task::tones::{self, Tone};
use crate::{EncodeOptions, TranscodeOptions};
use anabranch_models::random::Random;
use anabranch_pipelines::operator::{Allocation, Class, Context, Operator};
use anabranch_pipelines::record::{KEY, media, with_ids};
use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};

fn options(extra: &str) -> AutoOptions {
    let model = example::model().display();
    let json = format!(r#"{{ "auto": "classify", "model": "{model}", "label": "label"{extra} }}"#);
    serde_json::from_str(&json).unwrap()
}

fn sampled(records: &[Stripes]) -> Vec<Sampled<'_>> {
    let order = records.iter().zip(0..);
    order
        .map(|(record, order)| Sampled {
            media: record.media(),
            right: Some(Right::Class(record.class)),
            order,
        })
        .collect()
}

/// The loss of a setting on these records.
fn losses(auto: &Auto, setting: Setting, records: &[Stripes]) -> Losses {
    let (mut losses, mut room) = (Losses::default(), RoundTrip::default());
    for record in records {
        let facts = room.go(setting, &record.media()).unwrap();
        let both = auto
            .task
            .outcomes(&[record.media(), room.media(facts)], &[Some(Right::Class(record.class)); 2]);
        let scores: Vec<f64> = both.into_iter().map(|outcome| outcome.unwrap().score).collect();
        losses.add(scores[0] - scores[1]);
    }
    losses
}

#[test]
fn the_choice_is_smaller_and_loses_as_little_as_is_said() {
    let auto = Auto::new(options(r#", "codecs": ["png", "webp"]"#)).unwrap();
    let records = stripes(2_000, 11);
    let decision = auto.decide(sampled(&records));
    assert_eq!(decision, auto.decide(sampled(&records)));
    assert_eq!(decision.codec, "webp", "{}", decision.told);
    assert_eq!(decision.loss, "Q_infer");
    let sizes = decision.sizes.unwrap();
    assert!(sizes.chosen * 1.5 < sizes.lossless, "{sizes:?}");
    // The last that was accepted is chosen, and the first that was not ends the walk.
    let verdicts: Vec<Verdict> = decision.steps.iter().map(|step| step.found.verdict).collect();
    let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count();
    assert!(accepted >= 1 && accepted + 1 >= verdicts.len(), "{verdicts:?}");
    let step = &decision.steps[accepted - 1];
    assert_eq!((&step.codec, step.step), (&decision.codec, decision.step));
    assert!(step.found.interval.high <= 0.01 && step.found.records <= decision.fresh);
    // What nobody looked at says the same, and stripes do vanish at the end of the ladder.
    let others = stripes(1_000, 12);
    let setting = decision.setting(None).unwrap();
    assert!(losses(&auto, setting, &others).mean() < 0.01);
    let worst = Setting::of(named("jpeg").unwrap(), Some(1));
    assert!(losses(&auto, worst, &others).mean() > 0.1);
}

#[test]
fn few_records_and_blind_models_lose_nothing() {
    let auto = Auto::new(options(r#", "codecs": ["png", "jpeg"]"#)).unwrap();
    let told = |auto: &Auto, records: Vec<Sampled<'_>>| {
        let decision = auto.decide(records);
        assert!(decision.setting(None).unwrap().lossless(), "{}", decision.told);
        assert!(decision.steps.is_empty());
        decision.told
    };
    let records = stripes(700, 13);
    assert!(told(&auto, Vec::new()).contains("fewer than the 541"));
    assert!(told(&auto, sampled(&records[..500])).contains("400 records are fewer than the 541"));
    // Labels that say nothing leave nothing to lose.
    let mut shuffled = sampled(&records);
    let random = &mut Random::new(3);
    let mut drawn = || Some(Right::Class(random.below(2) as u32));
    shuffled.iter_mut().for_each(|record| record.right = drawn());
    let why = told(&auto, shuffled);
    assert!(why.contains("no more than always the same answer"), "{why}");
    let mut blind = options("");
    blind.model = example::constant().display().to_string();
    let why = told(&Auto::new(blind).unwrap(), sampled(&records));
    assert!(why.contains("the model answers 0 to everything"), "{why}");
}

/// A codec that keeps the mean colour.
struct Mean;

impl Codec for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn lossless(&self, _: Option<u16>) -> bool {
        false
    }

    fn ladder(&self) -> Option<Ladder> {
        None
    }

    fn recognises(&self, _: &[u8]) -> bool {
        false
    }

    fn encode(
        &self,
        media: &Media<'_>,
        _: Option<u16>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        bytes.extend([0, 1, 2].map(|channel| {
            let of: Vec<u64> =
                media.samples.iter().skip(channel).step_by(3).map(|s| u64::from(*s)).collect();
            (of.iter().sum::<u64>() / of.len() as u64) as u8
        }));
        Ok(())
    }

    fn decode(&self, bytes: &[u8], _: &Limits, samples: &mut Vec<u8>) -> Result<Facts, CodecError> {
        (0..FACTS.bytes() / 3).for_each(|_| samples.extend_from_slice(bytes));
        Ok(FACTS)
    }
}

#[test]
fn honest_figures_a_codec_that_returns_the_mean_colour_is_rejected() {
    let mut auto = Auto::new(options(r#", "codecs": ["png"]"#)).unwrap();
    auto.settings.push(Setting::of(&Mean, None));
    let decision = auto.decide(sampled(&stripes(1_000, 14)));
    assert_eq!(decision.codec, "png");
    let [step] = &decision.steps[..] else { panic!("{:?}", decision.steps) };
    assert_eq!((step.codec.as_str(), step.found.verdict), ("mean", Verdict::Rejected));
    assert!(step.found.interval.low > 0.1 && step.found.records <= 128, "{step:?}");
    assert!(decision.told.contains("every other setting loses too much"), "{}", decision.told);
}

/// Sounds with labels, to be decided about with 5 % of loss, which takes fewer records.
fn of_tones(codecs: &str) -> Auto {
    let task = tones::options();
    let json = serde_json::json!({
        "auto": "classify", "model": task.model, "label": "label", "spectrum": task.spectrum,
        "max_loss": "5%", "codecs": codecs.split(' ').collect::<Vec<_>>(),
    });
    Auto::new(serde_json::from_value(json).unwrap()).unwrap()
}

fn sounds(records: &[Tone]) -> Vec<Sampled<'_>> {
    let order = records.iter().zip(0..);
    order
        .map(|(tone, order)| Sampled {
            media: tone.media(),
            right: Some(Right::Class(tone.class)),
            order,
        })
        .collect()
}

#[test]
fn sounds_get_the_cheapest_setting_that_keeps_their_tones() {
    let auto = of_tones("flac opus");
    assert_eq!(auto.modality(), Modality::Audio);
    let records = tones::tones(250, 3);
    let decision = auto.decide(sounds(&records));
    assert_eq!((decision.codec.as_str(), decision.loss.as_str()), ("opus", "Q_infer"));
    let sizes = decision.sizes.unwrap();
    assert!(sizes.chosen * 1.5 < sizes.lossless, "{sizes:?}");
    assert!(decision.told.starts_with("opus, bitrate"), "{}", decision.told);
    // A hundred records of which the model takes none, and too few of which it does.
    let mut some = sounds(&records[..150]);
    let other =
        Facts::Audio { format: crate::codec::Pcm::S16, rate: 16_000, channels: 1, frames: 640 };
    some.iter_mut().take(100).for_each(|record| record.media.facts = other);
    let few = auto.decide(some);
    assert_eq!((few.codec.as_str(), few.skipped, few.pilot + few.fresh), ("flac", 100, 50));
    assert!(few.told.contains("40 records are fewer than the 106"), "{}", few.told);
}

#[test]
fn silence_alone_decides_nothing() {
    let silent = |class| Tone { samples: vec![0; 1280], class };
    let records: Vec<Tone> = (0..200).map(|at| silent(at % 3)).collect();
    let decision = of_tones("flac opus").decide(sounds(&records));
    assert!(decision.setting(None).unwrap().lossless());
    assert!(
        decision.told.contains("to everything, so that no loss can be seen"),
        "{}",
        decision.told
    );
}

/// Pictures and their classes; decoded, or as a codec stores them at a step.
fn batch(records: &[Stripes], encode: Option<(&str, Option<u16>)>) -> RecordBatch {
    let bytes: Vec<Vec<u8>> = records
        .iter()
        .map(|record| match encode {
            None => record.samples.clone(),
            Some((codec, step)) => {
                let mut bytes = Vec::new();
                named(codec).unwrap().encode(&record.media(), step, &mut bytes).unwrap();
                bytes
            }
        })
        .collect();
    let column = media::column(
        bytes.iter().map(|b| Some(b.as_slice())).collect(),
        vec![None; records.len()],
    );
    let state = if encode.is_some() { media::State::Encoded } else { media::State::Decoded };
    let rows = records.len();
    let mut fields = vec![media::field("image", Modality::Image, state)];
    fields.extend(media::fact_fields("image", Modality::Image));
    fields.push(Field::new("label", DataType::Int32, true));
    let number = |number: i32| Arc::new(Int32Array::from(vec![number; rows])) as ArrayRef;
    let name = encode.map_or("raw", |(codec, _)| codec);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(column),
        Arc::new(StringArray::from(vec![name; rows])),
        number(16),
        number(16),
        number(3),
        Arc::new(records.iter().map(|record| Some(record.class as i32)).collect::<Int32Array>()),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn encode_and_transcode_take_the_decision_and_act_on_it() {
    let records = stripes(900, 15);
    let codec =
        r#"{ "auto": "classify", "model": "MODEL", "label": "label", "codecs": ["png", "webp"] }"#;
    let codec = codec.replace("MODEL", &example::model().display().to_string());
    let json = format!(r#"{{ "column": "image", "codec": {codec} }}"#);
    let encode = serde_json::from_str::<EncodeOptions>(&json).unwrap().build().unwrap();
    let transcode = serde_json::from_str::<TranscodeOptions>(&json).unwrap().build().unwrap();
    for (operator, batch) in
        [(encode, batch(&records, None)), (transcode, batch(&records, Some(("qoi", None))))]
    {
        assert_eq!(operator.class(), Class::Journaled);
        assert!(operator.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).is_err());
        let journaled = operator.journaled().unwrap();
        let decision = journaled.decide(std::slice::from_ref(&batch)).unwrap();
        let read: Decision = serde_json::from_slice(&decision).unwrap();
        assert_eq!((read.pilot, read.fresh, read.skipped), (180, 720, 0));
        let decided = journaled.decided(&decision).unwrap();
        let outcome = decided.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
        assert_eq!(outcome.records.num_rows(), 900);
        let names = outcome.records.column_by_name("image_encoding").unwrap();
        let names = names.as_string::<i32>();
        // Transcode keeps a record that would grow.
        let chosen = (0..900).filter(|row| names.value(*row) == read.codec).count();
        assert!(chosen >= 890, "{chosen} are {}", read.codec);
        assert!(journaled.decided(b"{}").is_err());
        // The model is part of what the plan knows.
        let hash = operator.options()["codec"]["sha256"].as_str().map(str::len);
        assert_eq!(hash, Some(64));
    }
}

#[test]
fn options_that_choose_nothing_are_told() {
    let told = |extra: &str| Auto::new(options(extra)).err().map(|error| error.0).unwrap();
    assert!(told(r#", "max_loss": "100%""#).contains("max_loss"));
    assert!(told(r#", "confidence": 1.0"#).contains("confidence"));
    assert!(told(r#", "class_loss": 0"#).contains("class_loss"));
    assert!(told(r#", "protect": "60%""#).contains("`protect = \"60%\"`"));
    assert!(told(r#", "shadow": 0"#).contains("`shadow = \"0%\"`"));
    assert!(told(r#", "codecs": ["jpeg"]"#).contains("add \"png\""));
    assert!(told(r#", "spectrum": { "rate": 8000 }"#).contains("leave `spectrum` out"));
    assert!(told(r#", "sha256": "00""#).contains("not 00"));
    let mut unknown = options("");
    unknown.auto = "clasify".to_owned();
    assert!(Auto::new(unknown).err().unwrap().0.contains("did you mean \"classify\"?"));
    let quality =
        r#"{ "column": "a", "quality": 5, "codec": { "auto": "classify", "model": "m" } }"#;
    let error = serde_json::from_str::<EncodeOptions>(quality).unwrap().build().err().unwrap();
    assert!(error.0.contains("the setting is chosen"), "{error}");
    let unknown =
        r#"{ "column": "a", "codec": { "auto": "classify", "model": "m", "quality": 5 } }"#;
    let error = serde_json::from_str::<EncodeOptions>(unknown).unwrap_err().to_string();
    assert!(error.contains("unknown field `quality`"), "{error}");
    // Labels are numbers.
    let json = format!(
        r#"{{ "column": "image", "codec": {} }}"#,
        serde_json::to_value(options("")).unwrap()
    );
    let encode = serde_json::from_str::<EncodeOptions>(&json).unwrap().build().unwrap();
    let input = batch(&stripes(1, 1), None).schema();
    assert!(encode.output(&[Arc::clone(&input)]).is_ok());
    let fields: Vec<Field> = input
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            "label" => Field::new("label", DataType::Utf8, true),
            _ => field.as_ref().clone(),
        })
        .collect();
    let error = encode.output(&[Arc::new(Schema::new(fields))]).unwrap_err().to_string();
    assert!(error.contains("whole numbers"), "{error}");
}

/// With ids, as records reach an operator.
fn entering(batch: &RecordBatch) -> RecordBatch {
    let keys: StringArray = (0..batch.num_rows()).map(|at| Some(format!("{at:06}"))).collect();
    let key = Arc::new(Field::new(KEY, DataType::Utf8, false));
    let there = batch.schema();
    let fields = std::iter::once(key).chain(there.fields().iter().cloned());
    let columns = std::iter::once(Arc::new(keys) as ArrayRef).chain(batch.columns().to_vec());
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema, columns.collect()).unwrap();
    with_ids("stripes", &batch).unwrap()
}

fn invoke(operator: &Arc<dyn Operator>, batch: &RecordBatch) -> RecordBatch {
    let outcome = operator.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.refused, []);
    outcome.records
}

/// The operator that acts on the decision about these records, and that decision.
fn decided(operator: &Arc<dyn Operator>, batch: &RecordBatch) -> (Arc<dyn Operator>, Decision) {
    let journaled = operator.journaled().unwrap();
    let decision = journaled.decide(std::slice::from_ref(batch)).unwrap();
    (journaled.decided(&decision).unwrap(), serde_json::from_slice(&decision).unwrap())
}

/// The bytes and the codec's name of each row.
fn stored(rows: &RecordBatch) -> Vec<(Vec<u8>, String)> {
    let names = rows.column_by_name("image_encoding").unwrap().as_string::<i32>();
    let media = media::of(rows, "image").unwrap();
    let row = |row| (media::bytes(media, row).unwrap().to_vec(), names.value(row).to_owned());
    (0..rows.num_rows()).map(row).collect()
}

/// What a reader that knows nothing of decisions makes of stored bytes.
fn read((bytes, codec): &(Vec<u8>, String)) -> (Vec<u8>, Facts) {
    let mut samples = Vec::new();
    let facts = named(codec).unwrap().decode(bytes, &Limits::default(), &mut samples).unwrap();
    (samples, facts)
}

/// What is lost of each row, where it is watched.
fn losses_of(rows: &RecordBatch) -> Vec<Option<f64>> {
    let losses = rows.column_by_name("image_shadow_loss").unwrap();
    losses.as_primitive::<Float64Type>().iter().collect()
}

mod degrees;
mod latents;
mod stored;
mod transcoded;
