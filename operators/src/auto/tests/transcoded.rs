//! A codec that is chosen for files: what is protected and watched, and what stays as it came.

use super::*;
use crate::conformance::graph;
use crate::task::moved;

fn transcode(extra: &str, if_larger: &str) -> Arc<dyn Operator> {
    let codec = serde_json::to_value(options(extra)).unwrap();
    let json = serde_json::json!({ "column": "image", "codec": codec, "if_larger": if_larger });
    serde_json::from_value::<TranscodeOptions>(json).unwrap().build().unwrap()
}

/// Pictures as these files hold them, and what a model makes of them.
fn files(records: &[Stripes], codec: &str, step: Option<u16>) -> RecordBatch {
    entering(&batch(records, Some((codec, step))))
}

const LITTLE: &str = r#", "codecs": ["png", "webp", "jpeg"], "max_loss": "5%""#;

#[test]
fn a_decided_transcode_is_the_plain_one() {
    let operator = transcode(LITTLE, "keep");
    let batch = files(&stripes(700, 43), "png", None);
    let (decided, decision) = decided(&operator, &batch);
    assert!(!decision.setting(None).unwrap().lossless(), "{}", decision.told);
    let plain = serde_json::json!({
        "column": "image", "codec": decision.codec, "quality": decision.step,
    });
    let plain = serde_json::from_value::<TranscodeOptions>(plain).unwrap().build().unwrap();
    assert_eq!(invoke(&decided, &batch), invoke(&plain, &batch));
}

#[test]
fn watched_files_lose_nothing_and_say_what_would_be_lost() {
    let extra = format!(r#"{LITTLE}, "shadow": "20%""#);
    let records = stripes(700, 43);
    let pngs = files(&records, "png", None);
    let auto = Auto::new(options(&extra)).unwrap();
    let lossless = auto.lossless.codec.name();
    let score = |media: Media<'_>, class| {
        let right = Some(Right::Class(class));
        auto.task.outcomes(&[media], &[right]).remove(0).unwrap().score
    };
    for if_larger in ["keep", "replace"] {
        let operator = transcode(&extra, if_larger);
        let (decided, decision) = decided(&operator, &pngs);
        let setting = decision.setting(None).unwrap();
        assert!(!setting.lossless(), "{}", decision.told);
        // The smallest that there is of files that are coarse already: nothing makes them smaller.
        for (codec, step) in [("png", None), ("qoi", None), ("jpeg", Some(90)), ("webp", Some(1))] {
            let batch = files(&records[..200], codec, step);
            let rows = invoke(&decided, &batch);
            assert_eq!(rows.schema(), operator.output(&[batch.schema()]).unwrap());
            let (came, losses) = (stored(&batch), losses_of(&rows));
            let (mut room, mut watched, mut kept) = (RoundTrip::default(), 0, 0);
            for (row, after) in stored(&rows).iter().enumerate() {
                let (samples, facts) = read(&came[row]);
                let media = Media { samples: &samples, facts };
                let back = room.go(setting, &media).unwrap();
                let stays = if_larger == "keep" && room.bytes.len() >= came[row].0.len();
                let Some(loss) = losses[row] else {
                    let made = (room.bytes.clone(), decision.codec.clone());
                    assert_eq!(after, if stays { &came[row] } else { &made });
                    continue;
                };
                (watched, kept) = (watched + 1, kept + usize::from(*after == came[row]));
                assert_eq!(read(after), (samples.clone(), facts), "{codec}");
                if if_larger == "replace" {
                    assert_eq!(after.1, lossless);
                } else {
                    assert!(after.0.len() <= came[row].0.len(), "{codec}");
                }
                let class = records[row].class;
                let lost = match stays {
                    true => 0.0,
                    false => score(media, class) - score(room.media(back), class),
                };
                assert_eq!(loss, lost, "{codec}");
            }
            assert!((20..60).contains(&watched), "{watched}");
            match (codec, if_larger) {
                // They are of the lossless codec already.
                ("png", _) => assert_eq!(kept, watched),
                // No lossless codec makes them smaller.
                ("webp", "keep") => assert_eq!(kept, watched),
                ("webp", _) => assert_eq!(kept, 0),
                // The tables of a JPEG file are more than so few pixels.
                ("jpeg", _) => assert_eq!(kept, 0),
                _ => {}
            }
        }
    }
}

#[test]
fn protected_files_get_the_better_setting_or_stay() {
    let extra = r#", "codecs": ["png", "webp", "jpeg"], "protect": "10%", "max_loss": "5%""#;
    let auto = Auto::new(options(extra)).unwrap();
    let records = stripes(700, 47);
    let operator = transcode(extra, "keep");
    let batch = files(&records, "png", None);
    let (decided, decision) = decided(&operator, &batch);
    let protected = decision.protected.clone().unwrap();
    let (setting, better) =
        (decision.setting(None).unwrap(), protected.protection(None).unwrap().better);
    let logits = |media: Media<'_>| auto.task.logits(&[media]).remove(0).unwrap();
    let (mut room, mut far, mut kept) = (RoundTrip::default(), 0, 0);
    for coarse in [false, true] {
        let (codec, step) = if coarse { ("webp", Some(20)) } else { ("png", None) };
        let batch = files(&records[..350], codec, step);
        let came = stored(&batch);
        for (row, after) in stored(&invoke(&decided, &batch)).iter().enumerate() {
            let (samples, facts) = read(&came[row]);
            let media = Media { samples: &samples, facts };
            let back = room.go(setting, &media).unwrap();
            let mut of = setting;
            if moved(&logits(media), &logits(room.media(back))) > protected.threshold {
                (of, far) = (better, far + 1);
                room.go(better, &media).unwrap();
            }
            let same = of.lossless() && of.codec.name() == came[row].1;
            if same || room.bytes.len() >= came[row].0.len() {
                assert_eq!(after, &came[row]);
                kept += 1;
            } else {
                assert_eq!(after, &(room.bytes.clone(), of.codec.name().to_owned()));
            }
        }
    }
    assert!(far > 20 && kept > 20, "{far}, {kept}");
}

#[test]
fn any_number_of_workers_transcodes_the_same() {
    let extra = r#", "codecs": ["png", "webp", "jpeg"], "max_loss": "40%", "protect": "34%", "shadow": "20%""#;
    let operator = transcode(extra, "keep");
    let batch = files(&stripes(160, 46), "png", None);
    let schema = operator.output(&[batch.schema()]).unwrap();
    // A run decides by its first part.
    let (decided, decision) = decided(&operator, &batch.slice(0, 32));
    assert!(decision.protected.is_some(), "{}", decision.told);
    let expected = invoke(&decided, &batch);
    for (workers, size) in [(1, 64), (4, 7)] {
        let delivered = graph::run(&operator, &batch, &schema, (workers, size)).unwrap();
        assert_eq!(delivered.refused, []);
        assert_eq!(delivered.records, expected, "{workers} workers");
    }
}
