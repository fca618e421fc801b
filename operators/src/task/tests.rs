//! What tasks make of records, and of what they cannot take.

use anabranch_models::artifact::architecture::{Architecture, Head};

use super::*;
use crate::codec::{Facts, Pcm};
use crate::task::tones::{RATE, tones};

fn refused(options: serde_json::Value) -> String {
    let options: TaskOptions = serde_json::from_value(options).unwrap();
    options.build().err().map(|error| error.0).unwrap()
}

fn gpt(vocabulary: usize) -> TaskOptions {
    let folder = example::gpt(vocabulary);
    serde_json::from_value(serde_json::json!({ "kind": "tokens", "model": folder })).unwrap()
}

#[test]
fn sounds_are_classified_by_their_spectra() {
    let task = tones::options().build().unwrap();
    assert_eq!(task.modality(), Modality::Audio);
    let records = tones(200, 5);
    let media: Vec<Media<'_>> = records.iter().map(tones::Tone::media).collect();
    let right: Vec<Option<Right<'_>>> =
        records.iter().map(|record| Some(Right::Class(record.class))).collect();
    let outcomes = task.outcomes(&media, &right);
    let score: f64 = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().score).sum();
    assert!(score > 190.0, "{score} of 200");
    // Together or alone, the answer is the same.
    let alone = task.outcomes(&media[150..151], &right[150..151]).remove(0);
    assert_eq!(alone, outcomes[150]);
}

#[test]
fn silence_and_clipping_are_answered_and_what_is_no_sound_is_told() {
    let task = tones::options().build().unwrap();
    let of = |format: Pcm, rate, samples: &[u8]| {
        let frames = samples.len() as u64 / format.bytes() as u64;
        let facts = Facts::Audio { format, rate, channels: 1, frames };
        task.outcomes(&[Media { samples, facts }], &[Some(Right::Class(1))]).remove(0)
    };
    let clipped: Vec<u8> = (0..500)
        .flat_map(|at| if at / 4 % 2 == 0 { i16::MAX } else { i16::MIN }.to_le_bytes())
        .collect();
    for samples in [&[0; 1000][..], &[], &clipped] {
        let outcome = of(Pcm::S16, RATE, samples).unwrap();
        assert!(outcome.answer.is_some_and(|answer| answer < 3), "{outcome:?}");
        assert_eq!(outcome.score, f64::from(u8::from(outcome.answer == Some(1))));
    }
    let nan: Vec<u8> = [0.5, f32::NAN].iter().flat_map(|sample| sample.to_le_bytes()).collect();
    assert!(of(Pcm::F32, RATE, &nan).unwrap_err().contains("sample 1 is no finite number"));
    assert!(of(Pcm::S16, 16_000, &[0; 1000]).unwrap_err().contains("`resample`"));
    let picture = example::stripes(1, 1).remove(0);
    let [one, other] = &task.outcomes(&[picture.media(), tones(1, 1)[0].media()], &[None; 2])[..]
    else {
        panic!("two outcomes")
    };
    assert!(one.as_ref().is_err_and(|told| told.contains("no sound")) && other.is_ok());
}

#[test]
fn texts_are_scored_by_what_a_model_saves_of_their_bytes() {
    let task = gpt(256).build().unwrap();
    assert_eq!(task.modality(), Modality::Text);
    let texts = ["", "a", "A text that is longer than the context.", "Grüße"];
    let outcomes = task.texts(&texts);
    assert!(outcomes[0].as_ref().is_err_and(|told| told.contains("empty")));
    // Nothing stands before the first byte.
    assert_eq!(outcomes[1], Ok(Outcome { score: 0.0, answer: None }));
    for outcome in &outcomes[2..] {
        assert!((0.0..=1.0).contains(&outcome.as_ref().unwrap().score), "{outcome:?}");
    }
    let short = gpt(70).build().unwrap();
    let told = short.texts(&["a"]).remove(0).unwrap_err();
    assert!(told.contains("token 97") && told.contains("`tokenizer`"), "{told}");
    assert_eq!(short.texts(&["!"]), [Ok(Outcome { score: 0.0, answer: None })]);
    assert!(task.outcomes(&[tones(1, 1)[0].media()], &[None])[0].is_err());
    assert!(tones::options().build().unwrap().texts(&["a"])[0].is_err());
}

#[test]
fn fewer_likely_tokens_are_fewer_bits_per_byte() {
    // Of two tokens even chance foretells one in a bit, where bytes take eight; the first is always all eight.
    let bits = "\u{1}\u{0}\u{1}\u{1}\u{0}";
    let score = gpt(2).build().unwrap().texts(&[bits]).remove(0).unwrap().score;
    assert!(score > 0.4 && score < 0.8, "{score}");
    let bytes = gpt(256).build().unwrap().texts(&["aaaaa"]).remove(0).unwrap().score;
    assert!(bytes < 0.4, "{bytes}");
}

#[test]
fn models_that_do_not_fit_the_task_are_told_with_the_way_out() {
    let (pictures, sounds) = (example::model(), tones::model());
    let json = |kind: &str, model: &Path| serde_json::json!({ "kind": kind, "model": model });
    let told = refused(json("classify", sounds));
    assert!(told.contains("`spectrum = { rate = .. }`"), "{told}");
    let mut with = json("classify", pictures);
    with["spectrum"] = serde_json::json!({ "rate": 8000 });
    assert!(refused(with.clone()).contains("leave `spectrum` out"));
    with["spectrum"] = serde_json::json!({ "rate": 0 });
    with["model"] = serde_json::json!(sounds);
    assert!(refused(with).contains("`rate` is from 1"));
    assert!(refused(json("tokens", pictures)).contains("does not foretell tokens"));
    let mut labelled = serde_json::to_value(gpt(256)).unwrap();
    labelled["label"] = serde_json::json!("label");
    assert!(refused(labelled).contains("`label` is an option of the task \"classify\""));
    let mut lost = serde_json::to_value(gpt(256)).unwrap();
    lost["tokenizer"] = serde_json::json!("/nowhere.json");
    assert!(refused(lost).contains("/nowhere.json"));
    assert!(refused(json("token", pictures)).contains("did you mean \"tokens\"?"));
}

#[test]
fn drawings_are_scored_by_their_overlap() {
    let task = squares::options().build().unwrap();
    assert_eq!((task.modality(), task.labels()), (Modality::Image, Labels::Media));
    let records = squares::squares(100, 5);
    let media: Vec<Media<'_>> = records.iter().map(squares::Square::media).collect();
    let right = |by: usize| -> Vec<Option<Right<'_>>> {
        let turned = records.iter().cycle().skip(by).take(100);
        turned.map(|record| Some(Right::Media(record.right()))).collect()
    };
    let mean = |outcomes: Vec<Result<Outcome, String>>| -> f64 {
        let scores = outcomes.into_iter().map(|outcome| outcome.unwrap().score);
        let scores: Vec<f64> = scores.collect();
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
        scores.iter().sum::<f64>() / 100.0
    };
    let (drawn, foreign) =
        (mean(task.outcomes(&media, &right(0))), mean(task.outcomes(&media, &right(1))));
    assert!(drawn > 0.85, "{drawn}");
    assert!(foreign < 0.4, "masks of other pictures: {foreign}");
    let alone = task.outcomes(&media[50..51], &right(0)[50..51]).remove(0).unwrap();
    assert_eq!(alone, task.outcomes(&media, &right(0))[50].clone().unwrap());
    // What is drawn is what is right to a mask that says the same, as colours too.
    let colours: Vec<u8> = records[50].mask.iter().flat_map(|grey| [*grey; 3]).collect();
    let Facts::Image { width, height, .. } = squares::FACTS else { panic!("pictures") };
    let colours = Media { samples: &colours, facts: Facts::Image { width, height, channels: 3 } };
    let again = task.outcomes(&media[50..51], &[Some(Right::Media(colours))]).remove(0);
    assert_eq!(again, Ok(alone));
}

#[test]
fn nothing_drawn_of_nothing_is_right_and_what_has_no_mask_is_told() {
    let task = squares::options().build().unwrap();
    let black = [0; squares::SIDE * squares::SIDE];
    let empty = Media { samples: &black, facts: squares::FACTS };
    let grey = [100; squares::SIDE * squares::SIDE];
    let flat = Media { samples: &grey, facts: squares::FACTS };
    let outcome = task.outcomes(&[flat], &[Some(Right::Media(empty))]).remove(0).unwrap();
    assert_eq!(outcome, Outcome { score: 1.0, answer: None });
    // All black is nothing that the model ever saw; it answers all the same.
    assert!(task.outcomes(&[empty], &[Some(Right::Media(empty))])[0].is_ok());
    let told = |right| task.outcomes(&[flat], &[right]).remove(0).unwrap_err();
    assert!(told(None).contains("no mask"));
    assert!(told(Some(Right::Class(1))).contains("class 1"));
    let small = Media { samples: &[0], facts: Facts::Image { width: 1, height: 1, channels: 1 } };
    assert!(told(Some(Right::Media(small))).contains("a mask of as many"));
    let sound = voices::voices(1, 1).remove(0);
    assert!(told(Some(Right::Media(sound.media()))).contains("a mask of as many"));
    let [one, other] = &task.outcomes(&[small, flat], &[Some(Right::Media(empty)); 2])[..] else {
        panic!("two outcomes")
    };
    assert!(one.as_ref().is_err_and(|told| told.contains("`resize`")) && other.is_ok());
}

#[test]
fn voices_are_scored_by_the_share_of_power_that_is_theirs() {
    let task = voices::options().build().unwrap();
    assert_eq!((task.modality(), task.labels()), (Modality::Audio, Labels::Media));
    let records = voices::voices(60, 5);
    let media: Vec<Media<'_>> = records.iter().map(voices::Voice::media).collect();
    let right: Vec<Option<Right<'_>>> =
        records.iter().map(|record| Some(Right::Media(record.right()))).collect();
    let scores: Vec<f64> =
        task.outcomes(&media, &right).into_iter().map(|outcome| outcome.unwrap().score).collect();
    let mean = scores.iter().sum::<f64>() / 60.0;
    assert!(mean > 0.9 && scores.iter().all(|score| (0.0..=1.0).contains(score)), "{mean}");
    // The voices alone need no model; the mixtures as they are would be worth much less.
    let untouched = records.iter().map(|record| {
        let decibels = crate::metric::si_sdr(&record.right(), &record.media()).unwrap();
        1.0 / (1.0 + 10_f64.powf(-decibels / 10.0))
    });
    assert!(untouched.sum::<f64>() / 60.0 < 0.6);
    // Louder or a little later is the same voice.
    let quiet: Vec<f32> = Pcm::S16.floats(&records[3].voice).iter().map(|s| s / 2.0).collect();
    let mut samples = Vec::new();
    Pcm::S16.extend(quiet, &mut samples);
    let quiet = Media { samples: &samples, facts: voices::facts(&samples) };
    let again = task.outcomes(&media[3..4], &[Some(Right::Media(quiet))]).remove(0).unwrap();
    assert!((again.score - scores[3]).abs() < 1e-3, "{} {}", again.score, scores[3]);
}

#[test]
fn silent_voices_and_sounds_of_another_rate_are_told() {
    let task = voices::options().build().unwrap();
    let record = voices::voices(1, 3).remove(0);
    let silence = vec![0; 2 * voices::LENGTH];
    let silent = Media { samples: &silence, facts: voices::facts(&silence) };
    let of = |media, right| task.outcomes(&[media], &[right]).remove(0);
    assert_eq!(of(record.media(), Some(Right::Media(silent))).unwrap().score, 0.0);
    assert!(of(silent, Some(Right::Media(silent))).unwrap_err().contains("silent"));
    // Nothing of the voice comes back.
    assert_eq!(of(silent, Some(Right::Media(record.right()))).unwrap().score, 0.0);
    assert!(of(record.media(), None).unwrap_err().contains("no voice"));
    let Facts::Audio { format, channels, frames, .. } = record.media().facts else { panic!() };
    let facts = Facts::Audio { format, rate: 16_000, channels, frames };
    let fast = Media { samples: &record.samples, facts };
    assert!(of(fast, Some(Right::Media(record.right()))).unwrap_err().contains("`resample`"));
    assert!(of(record.media(), Some(Right::Media(fast))).unwrap_err().contains("`resample`"));
    let short = Media { samples: &[1, 0], facts: voices::facts(&[1, 0]) };
    assert!(of(short, Some(Right::Media(record.right()))).is_ok());
}

#[test]
fn models_of_masks_that_do_not_fit_are_told() {
    let change = |options: TaskOptions, name: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(options).unwrap();
        json[name] = value;
        refused(json)
    };
    let null = serde_json::Value::Null;
    let told = change(squares::options(), "label", null.clone());
    assert!(told.contains("needs `label`, the column of masks"), "{told}");
    assert!(change(voices::options(), "label", null.clone()).contains("voices by themselves"));
    let told = change(voices::options(), "spectrum", null);
    assert!(told.contains("`spectrum = { rate = .. }`"), "{told}");
    let spectrum = serde_json::json!(voices::SPECTRA);
    assert!(change(squares::options(), "spectrum", spectrum).contains("leave `spectrum` out"));
    let (stripes, tones) = (serde_json::json!(example::model()), serde_json::json!(tones::model()));
    assert!(change(squares::options(), "model", stripes).contains("its head must be `masks`"));
    assert!(change(squares::options(), "model", tones.clone()).contains("pictures alone"));
    assert!(change(voices::options(), "model", tones).contains("its head must be `masks`"));
    let wide = serde_json::json!({ "rate": voices::RATE, "window": 128, "hop": 64 });
    let told = change(voices::options(), "spectrum", wide);
    assert!(told.contains("66 bits") && told.contains("wants 130"), "{told}");
    assert!(
        change(squares::options(), "kind", "classify".into())
            .contains("does not answer with classes")
    );
    let fine = Architecture { head: Head::Masks(4), ..squares::architecture() };
    let record = squares::squares(1, 1).remove(0);
    let told = lesson(&fine, None, &record.media(), &record.right()).unwrap_err();
    assert!(told.contains("4 bits") && told.contains("16 pixels"), "{told}");
}

#[test]
fn blind_answers_are_judged_by_the_records_that_they_are_given_to() {
    let task = squares::options().build().unwrap();
    let records = squares::squares(6, 51);
    let media: Vec<Media<'_>> = records.iter().map(squares::Square::media).collect();
    let right = records.iter().map(|record| Some(Right::Media(record.right())));
    let right: Vec<Option<Right<'_>>> = right.collect();
    let blind = task.blind_outcomes(&media, &right);
    let scores = |at: usize| -> Vec<f64> {
        blind[at].outcomes.iter().map(|outcome| outcome.as_ref().unwrap().score).collect()
    };
    let others = (0..6).map(|record| {
        let other = media[(record + 5) % 6];
        task.outcomes(&[other], &[right[record]]).remove(0).unwrap().score
    });
    assert_eq!(scores(0), others.collect::<Vec<_>>());
    assert!(scores(0).iter().sum::<f64>() < 3.0, "{:?}", scores(0));
    // Where all is to be drawn, everything is right and nothing is wrong.
    let white = vec![255; squares::SIDE * squares::SIDE];
    let all = Some(Right::Media(Media { samples: &white, facts: squares::FACTS }));
    let blind = task.blind_outcomes(&media, &[all; 6]);
    for (at, score) in [(1, 1.0), (2, 0.0)] {
        assert!(blind[at].outcomes.iter().all(|outcome| outcome.as_ref().unwrap().score == score));
    }
}
