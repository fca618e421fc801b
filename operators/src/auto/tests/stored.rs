//! What is stored is what was tested: records that are protected, and records that are watched.

use super::*;
use crate::WatchOptions;
use crate::auto::acting::Record;
use crate::conformance::graph;
use crate::task::moved;
use arrow::array::{Array, BooleanArray, Float64Array};

fn encode(extra: &str) -> Arc<dyn Operator> {
    let json = serde_json::json!({
        "column": "image", "codec": serde_json::to_value(options(extra)).unwrap(),
    });
    serde_json::from_value::<EncodeOptions>(json).unwrap().build().unwrap()
}

fn logits(auto: &Auto, samples: &[u8]) -> Vec<f32> {
    let media = Media { samples, facts: FACTS };
    auto.task.logits(&[media]).remove(0).unwrap()
}

#[test]
fn what_is_protected_moves_most_and_what_was_tested_is_what_is_stored() {
    let extra = r#", "codecs": ["png", "webp", "jpeg"], "protect": "10%", "max_loss": "2%""#;
    let auto = Auto::new(options(extra)).unwrap();
    let records = stripes(1_500, 41);
    let decision = auto.decide(sampled(&records));
    assert_eq!(decision, auto.decide(sampled(&records)));
    let protected = decision.protected.clone().unwrap();
    assert!(decision.told.contains("would get a better setting"), "{}", decision.told);
    let json = serde_json::to_vec_pretty(&decision).unwrap();
    assert_eq!(serde_json::from_slice::<Decision>(&json).unwrap(), decision);

    // A tenth of the pilot moves farther than the threshold, and of others about as many.
    let share = protected.protected as f64 / protected.tested as f64;
    assert!((0.05..0.2).contains(&share), "{protected:?}");
    // The better setting is the one that was walked over before.
    let accepted = decision.steps.iter().filter(|s| s.found.verdict == Verdict::Accepted).count();
    let at = accepted - 1;
    match at.checked_sub(1) {
        Some(before) => {
            let before = &decision.steps[before];
            assert_eq!((&protected.codec, protected.step), (&before.codec, before.step));
        }
        None => assert!(protected.protection(None).unwrap().better.lossless()),
    }

    // The records on which the setting was tested, as they are stored.
    let step = &decision.steps[at].found;
    let tested = &records[decision.pilot as usize..][..step.records as usize];
    let acting = auto.acting(&decision).unwrap();
    let (setting, better) =
        (decision.setting(None).unwrap(), protected.protection(None).unwrap().better);
    let (mut losses, mut bytes, mut better_ones) = (Losses::default(), Vec::new(), 0);
    let (mut room, mut far, mut near) = (RoundTrip::default(), f64::INFINITY, 0.0_f64);
    for record in tested {
        bytes.clear();
        let media = record.media();
        let right = Some(Right::Class(record.class));
        let storing = Record { id: None, media, right, original: None };
        let kept = acting.store(&storing, &mut room, &mut bytes).unwrap();
        let (back, _) = read(&(bytes.clone(), kept.encoding.to_owned()));
        let right = Some(record.class);
        let [before, after] = [&record.samples, &back].map(|samples| logits(&auto, samples));
        let score = |logits: &[f32]| crate::task::Outcome::of(logits, right).score;
        losses.add(score(&before) - score(&after));
        // How far it would have moved, and which of the two settings made the bytes.
        let facts = room.go(setting, &media).unwrap();
        let moves = moved(&before, &logits(&auto, room.media(facts).samples));
        if moves > protected.threshold {
            (far, better_ones) = (far.min(moves), better_ones + 1);
            room.go(better, &media).unwrap();
        } else {
            near = near.max(moves);
            room.go(setting, &media).unwrap();
        }
        assert_eq!((&bytes, kept.loss), (&room.bytes, None));
    }
    assert_eq!(losses.mean(), step.interval.mean);
    assert_eq!((losses.records(), better_ones), (protected.tested, protected.protected));
    assert!(near > 0.0 && far.is_finite(), "{near} {far}");
}

#[test]
fn watched_records_are_stored_without_loss_and_say_what_would_be_lost() {
    let extra = r#", "codecs": ["png", "webp", "jpeg"], "max_loss": "5%", "shadow": "20%""#;
    let operator = encode(extra);
    let records = stripes(700, 43);
    let batch = entering(&batch(&records, None));
    let journaled = operator.journaled().unwrap();
    let decision = journaled.decide(std::slice::from_ref(&batch)).unwrap();
    let decided = journaled.decided(&decision).unwrap();
    let decision: Decision = serde_json::from_slice(&decision).unwrap();
    assert!(!decision.setting(None).unwrap().lossless(), "{}", decision.told);
    let rows = invoke(&decided, &batch);
    assert_eq!(rows.schema(), operator.output(&[batch.schema()]).unwrap());
    let losses = rows.column_by_name("image_shadow_loss").unwrap();
    let losses = losses.as_primitive::<Float64Type>().clone();
    let watched = 700 - losses.null_count();
    assert!((100..180).contains(&watched), "{watched}");

    let auto = Auto::new(options(extra)).unwrap();
    let mut room = RoundTrip::default();
    for (row, stored) in stored(&rows).iter().enumerate() {
        let record = &records[row];
        if losses.is_null(row) {
            assert_eq!(stored.1, decision.codec);
            continue;
        }
        assert_eq!((stored.1.as_str(), &read(stored).0), ("png", &record.samples));
        let facts = room.go(decision.setting(None).unwrap(), &record.media()).unwrap();
        let both = [record.media(), room.media(facts)];
        let both = auto.task.outcomes(&both, &[Some(Right::Class(record.class)); 2]);
        let [before, after] = [0, 1].map(|at| both[at].as_ref().unwrap().score);
        assert_eq!(losses.value(row), before - after);
    }
    // A record is watched, or not, whatever stands around it.
    for (from, count) in [(0, 1), (13, 60), (350, 350)] {
        assert_eq!(invoke(&decided, &batch.slice(from, count)), rows.slice(from, count));
    }
    // Without an id nobody can say whether it is.
    let id = batch.schema().index_of("id").unwrap();
    let others: Vec<usize> = (0..batch.num_columns()).filter(|at| *at != id).collect();
    let anonymous = invoke(&decided, &batch.project(&others).unwrap());
    assert_eq!(anonymous.column_by_name("image_shadow_loss").unwrap().null_count(), 700);
    assert!(operator.output(&[rows.schema()]).is_err());
}

#[test]
fn a_watch_of_what_was_stored_tells_when_records_change() {
    let extra = r#", "codecs": ["png", "webp"], "max_loss": "5%", "shadow": "50%""#;
    let operator = encode(extra);
    let batch = entering(&batch(&stripes(700, 44), None));
    let journaled = operator.journaled().unwrap();
    let decision = journaled.decide(std::slice::from_ref(&batch)).unwrap();
    let decided = journaled.decided(&decision).unwrap();
    // Stripes so faint that no setting but a good one keeps them.
    let faint = |mut record: Stripes| {
        let mean = record.samples.iter().map(|s| u32::from(*s)).sum::<u32>() / 768;
        for sample in &mut record.samples {
            let off = f64::from(*sample) - f64::from(mean);
            *sample = (f64::from(mean) + 0.3 * off).round() as u8;
        }
        record
    };
    let changed: Vec<Stripes> = stripes(700, 45).into_iter().map(faint).collect();
    let changed = entering(&super::batch(&changed, None));
    let watch: WatchOptions = serde_json::from_str(r#"{ "column": "image_shadow_loss" }"#).unwrap();
    let watch = watch.build().unwrap();
    let schema = operator.output(&[batch.schema()]).unwrap();
    // The column says what may be lost.
    assert!(watch.output(&[Arc::clone(&schema)]).is_ok());
    let mut shard = watch.keyed().unwrap().shard(&[schema]).unwrap();
    let alarms = |made: Vec<RecordBatch>| {
        let of = |rows: &RecordBatch| rows.column_by_name("alarm").unwrap().as_boolean().clone();
        made.iter().map(of).any(|alarms: BooleanArray| alarms.true_count() > 0)
    };
    for _ in 0..3 {
        assert!(!alarms(shard.absorb(0, &invoke(&decided, &batch)).unwrap().records));
    }
    let rows = invoke(&decided, &changed);
    let losses: &Float64Array = rows.column_by_name("image_shadow_loss").unwrap().as_primitive();
    let mean = losses.iter().flatten().sum::<f64>() / (700 - losses.null_count()) as f64;
    assert!(mean > 0.1, "{mean}: the test needs records that lose more");
    assert!(alarms(shard.absorb(0, &rows).unwrap().records));
}

#[test]
fn any_number_of_workers_stores_the_same() {
    let extra = r#", "codecs": ["png", "webp", "jpeg"], "max_loss": "40%", "protect": "34%", "shadow": "20%""#;
    let operator = encode(extra);
    let batch = entering(&batch(&stripes(160, 46), None));
    let schema = operator.output(&[batch.schema()]).unwrap();
    // A run decides by its first part.
    let first = batch.slice(0, 32);
    let journaled = operator.journaled().unwrap();
    let decision = journaled.decide(&[first]).unwrap();
    let decided = journaled.decided(&decision).unwrap();
    let decision: Decision = serde_json::from_slice(&decision).unwrap();
    assert!(decision.protected.is_some(), "{}", decision.told);
    let expected = invoke(&decided, &batch);
    for (workers, size) in [(1, 64), (4, 7)] {
        let delivered = graph::run(&operator, &batch, &schema, (workers, size)).unwrap();
        assert_eq!(delivered.refused, []);
        assert_eq!(delivered.records, expected, "{workers} workers");
    }
}
