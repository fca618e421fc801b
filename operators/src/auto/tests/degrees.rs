//! What is chosen by models that are right by degrees, and what is not.

use super::*;
use crate::task::squares::{self, Square, squares};
use crate::task::voices::{self, Voice, voices};
use std::path::Path;

fn of_squares(model: &Path, extra: serde_json::Value) -> AutoOptions {
    let mut json = serde_json::json!({
        "auto": "segment", "model": model, "label": "mask", "max_loss": "10%", "codecs": ["png", "webp"],
    });
    let extra = extra.as_object().unwrap().clone();
    json.as_object_mut().unwrap().extend(extra);
    serde_json::from_value(json).unwrap()
}

fn plain() -> AutoOptions {
    of_squares(squares::model(), serde_json::json!({}))
}

fn drawn(records: &[Square]) -> Vec<Sampled<'_>> {
    let of = |(record, order)| Sampled {
        media: Square::media(record),
        right: Some(Right::Media(Square::right(record))),
        order,
    };
    records.iter().zip(0..).map(of).collect()
}

fn sung(records: &[Voice]) -> Vec<Sampled<'_>> {
    let of = |(record, order)| Sampled {
        media: Voice::media(record),
        right: Some(Right::Media(Voice::right(record))),
        order,
    };
    records.iter().zip(0..).map(of).collect()
}

/// Why nothing is lost.
fn told(decision: &Decision) -> &str {
    assert!(decision.setting(None).unwrap().lossless(), "{}", decision.told);
    assert!(decision.steps.is_empty());
    &decision.told
}

#[test]
fn pictures_get_the_cheapest_setting_that_keeps_what_is_drawn_of_them() {
    let auto = Auto::new(plain()).unwrap();
    let records = squares(300, 21);
    let mut sample = drawn(&records);
    // The mask of every tenth is missing, and that of another tenth is none of the model's size.
    let dot = Media { samples: &[255], facts: Facts::Image { width: 1, height: 1, channels: 1 } };
    sample.iter_mut().step_by(10).for_each(|record| record.right = None);
    let others = sample.iter_mut().skip(5).step_by(10);
    others.for_each(|record| record.right = Some(Right::Media(dot)));
    let decision = auto.decide(sample);
    assert_eq!((decision.skipped, decision.pilot, decision.fresh), (60, 48, 192));
    assert_eq!((decision.codec.as_str(), decision.loss.as_str()), ("webp", "Q_infer"));
    assert!(!decision.setting(None).unwrap().lossless(), "{}", decision.told);
    assert!(decision.told.contains("of segment score (Q_infer)"), "{}", decision.told);
    let sizes = decision.sizes.unwrap();
    assert!(sizes.chosen * 1.2 < sizes.lossless, "{sizes:?}");
    assert!(decision.steps.iter().all(|step| step.found.worst_class.is_none()));

    // Pictures that nobody looked at lose as little.
    let (mut losses, mut room) = (Losses::default(), RoundTrip::default());
    for record in squares(200, 22) {
        let facts = room.go(decision.setting(None).unwrap(), &record.media()).unwrap();
        let both = [record.media(), room.media(facts)];
        let both = auto.task.outcomes(&both, &[Some(Right::Media(record.right())); 2]);
        let [before, after] = [0, 1].map(|at| both[at].as_ref().unwrap().score);
        losses.add(before - after);
    }
    assert!(losses.mean() < 0.1, "{}", losses.mean());
}

#[test]
fn sounds_get_the_cheapest_setting_that_keeps_their_voices() {
    let options = |model: &Path| -> AutoOptions {
        serde_json::from_value(serde_json::json!({
            "auto": "separate", "model": model, "label": "voice", "spectrum": voices::SPECTRA,
            "max_loss": "10%", "codecs": ["flac", "opus_packets"],
        }))
        .unwrap()
    };
    let auto = Auto::new(options(voices::model())).unwrap();
    let records = voices(120, 23);
    let decision = auto.decide(sung(&records));
    let found = (decision.codec.as_str(), decision.skipped);
    assert_eq!(found, ("opus_packets", 0), "{}", decision.told);
    assert!(decision.told.contains("of separate score"), "{}", decision.told);
    let sizes = decision.sizes.unwrap();
    assert!(sizes.chosen * 2.0 < sizes.lossless, "{sizes:?}");
    // One that takes half of everything leaves the mixture as it is, which is right to a degree.
    let half = example::zeros(&voices::architecture(), "half");
    let decision = Auto::new(options(&half)).unwrap().decide(sung(&records[..80]));
    assert!(told(&decision).contains("with its answers to other records"), "{}", decision.told);
}

#[test]
fn drawings_that_do_not_hang_on_the_picture_lose_nothing() {
    let records = squares(300, 24);
    let nothing = example::zeros(&squares::architecture(), "nothing");
    let auto = Auto::new(of_squares(&nothing, serde_json::json!({}))).unwrap();
    let decision = auto.decide(drawn(&records));
    assert!(
        told(&decision).contains(
            "the model scores 0% of 60 records, and 0% with its answers to other records"
        ),
        "{}",
        decision.told
    );
    // Where there is nothing, it is always right.
    let black = vec![0; squares::SIDE * squares::SIDE];
    let mut sample = drawn(&records);
    let empty = Media { samples: &black, facts: squares::FACTS };
    sample.iter_mut().for_each(|record| record.right = Some(Right::Media(empty)));
    let decision = auto.decide(sample);
    assert!(told(&decision).contains("scores 100% of 60 records, and 100%"), "{}", decision.told);

    let auto = Auto::new(plain()).unwrap();
    // Right answers of other pictures.
    let mut turned = drawn(&records);
    let masks = records.iter().cycle().skip(1);
    for (record, other) in turned.iter_mut().zip(masks) {
        record.right = Some(Right::Media(other.right()));
    }
    let decision = auto.decide(turned);
    assert!(told(&decision).contains("too little hangs on the record"), "{}", decision.told);
    // Pictures that are all alike.
    let alike = vec![records[0].clone(); 300];
    let decision = auto.decide(drawn(&alike));
    assert!(told(&decision).contains("too little hangs on the record"), "{}", decision.told);
    // Too few of them.
    let decision = auto.decide(drawn(&records[..40]));
    assert!(told(&decision).contains("32 records are fewer than"), "{}", decision.told);
}

/// A column of decoded pictures of one size, with its facts.
fn pictures(name: &str, samples: Vec<Option<&[u8]>>) -> (Vec<Field>, Vec<ArrayRef>) {
    let rows = samples.len();
    let mut fields = vec![media::field(name, Modality::Image, media::State::Decoded)];
    fields.extend(media::fact_fields(name, Modality::Image));
    let number = |number: i32| Arc::new(Int32Array::from(vec![number; rows])) as ArrayRef;
    let side = squares::SIDE as i32;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(media::column(samples, vec![None; rows])),
        Arc::new(StringArray::from(vec!["raw"; rows])),
        number(side),
        number(side),
        number(1),
    ];
    (fields, columns)
}

/// Pictures and their masks, of which every seventh is missing.
fn with_masks(records: &[Square]) -> RecordBatch {
    let masks = records.iter().enumerate();
    let masks = masks.map(|(at, of)| (at % 7 != 3).then_some(of.mask.as_slice())).collect();
    let (fields, columns) =
        pictures("image", records.iter().map(|of| Some(of.samples.as_slice())).collect());
    let (more_fields, more) = pictures("mask", masks);
    let fields = Schema::new([fields, more_fields].concat());
    entering(&RecordBatch::try_new(Arc::new(fields), [columns, more].concat()).unwrap())
}

fn encode(auto: &AutoOptions) -> Arc<dyn Operator> {
    let json = serde_json::json!({ "column": "image", "codec": auto });
    serde_json::from_value::<EncodeOptions>(json).unwrap().build().unwrap()
}

#[test]
fn a_choice_by_masks_is_acted_on_like_any_other() {
    let operator = encode(&plain());
    let batch = with_masks(&squares(280, 25));
    let (decided, decision) = decided(&operator, &batch);
    assert_eq!((decision.skipped, decision.pilot + decision.fresh), (40, 240));
    assert_eq!(decision.codec, "webp", "{}", decision.told);
    let quality = decision.step.unwrap();
    let plain = serde_json::json!({ "column": "image", "codec": "webp", "quality": quality });
    let plain = serde_json::from_value::<EncodeOptions>(plain).unwrap().build().unwrap();
    let rows = invoke(&decided, &batch);
    assert_eq!(rows, invoke(&plain, &batch));
    assert_eq!(rows.schema(), operator.output(&[batch.schema()]).unwrap());
}

#[test]
fn watched_pictures_say_what_their_drawings_would_lose() {
    let options = of_squares(squares::model(), serde_json::json!({ "shadow": "30%" }));
    let operator = encode(&options);
    let records = squares(280, 26);
    let batch = with_masks(&records);
    let (decided, decision) = decided(&operator, &batch);
    let setting = decision.setting(None).unwrap();
    assert!(!setting.lossless(), "{}", decision.told);
    let rows = invoke(&decided, &batch);
    assert_eq!(rows.schema(), operator.output(&[batch.schema()]).unwrap());
    let auto = Auto::new(options).unwrap();
    let (mut room, mut known, mut unknown) = (RoundTrip::default(), 0, 0);
    for ((at, loss), stored) in losses_of(&rows).into_iter().enumerate().zip(stored(&rows)) {
        let record = &records[at];
        assert!(loss.is_none() || at % 7 != 3, "a loss without a mask");
        // One that is watched is stored without loss even if nobody knows what is right of it.
        if stored.1 == "png" {
            assert_eq!(read(&stored), (record.samples.clone(), squares::FACTS));
            unknown += usize::from(loss.is_none());
        }
        let Some(loss) = loss else { continue };
        assert_eq!(stored.1, "png");
        let facts = room.go(setting, &record.media()).unwrap();
        let right = Some(Right::Media(record.right()));
        let alone = |media| auto.task.outcomes(&[media], &[right]).remove(0).unwrap().score;
        assert_eq!(loss, alone(record.media()) - alone(room.media(facts)));
        known += 1;
    }
    assert!((40..110).contains(&known) && unknown > 0, "{known}, {unknown}");
}

#[test]
fn options_and_columns_that_do_not_fit_masks_are_told() {
    let told = |extra| Auto::new(of_squares(squares::model(), extra)).err().unwrap().0;
    let why = told(serde_json::json!({ "protect": "5%" }));
    assert!(why.contains("`protect`") && why.contains("\"segment\" has no classes"), "{why}");
    assert!(told(serde_json::json!({ "class_loss": "5%" })).contains("`class_loss`"));
    assert!(told(serde_json::json!({ "label": null })).contains("the column of masks"));
    assert!(told(serde_json::json!({ "codecs": ["webp", "opus"] })).contains("for no image"));

    let operator = encode(&plain());
    let input = with_masks(&squares(1, 1)).schema();
    assert!(operator.output(&[Arc::clone(&input)]).is_ok());
    let with = |mask: Option<Field>| {
        let of = |field: &Arc<Field>| match field.name() == "mask" {
            true => mask.clone(),
            false => Some(field.as_ref().clone()),
        };
        let fields: Vec<Field> = input.fields().iter().filter_map(of).collect();
        operator.output(&[Arc::new(Schema::new(fields))]).unwrap_err().to_string()
    };
    let media = |modality, state| Some(media::field("mask", modality, state));
    let stored = with(media(Modality::Image, media::State::Encoded));
    assert!(stored.contains("kind `decode`"), "{stored}");
    let sound = with(media(Modality::Audio, media::State::Decoded));
    assert!(sound.contains("audio media"), "{sound}");
    let number = with(Some(Field::new("mask", DataType::Int64, true)));
    assert!(number.contains("image media"), "{number}");
    assert!(with(None).contains("mask"));
}
