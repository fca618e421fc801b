//! What tasks make of records, and of what they cannot take.

use anabranch_models::artifact::architecture::{Architecture, FeedForward, Head, Inputs};
use anabranch_models::engine::example::random;

use super::*;
use crate::codec::{Facts, Pcm};
use crate::task::tones::{RATE, tones};

fn refused(options: serde_json::Value) -> String {
    let options: TaskOptions = serde_json::from_value(options).unwrap();
    options.build().err().map(|error| error.0).unwrap()
}

/// A GPT of bytes that was taught nothing.
fn gpt(vocabulary: usize) -> TaskOptions {
    let architecture = Architecture {
        width: 16,
        heads: 2,
        layers: 1,
        inputs: Inputs::Tokens { vocabulary, context: 8 },
        head: Head::NextToken,
        feed_forward: FeedForward::None,
    };
    let folder = example::saved(&random(&architecture).unwrap(), &format!("gpt{vocabulary}"));
    serde_json::from_value(serde_json::json!({ "kind": "tokens", "model": folder })).unwrap()
}

#[test]
fn sounds_are_classified_by_their_spectra() {
    let task = tones::options().build().unwrap();
    assert_eq!(task.modality(), Modality::Audio);
    let records = tones(200, 5);
    let media: Vec<Media<'_>> = records.iter().map(tones::Tone::media).collect();
    let right: Vec<Option<u32>> = records.iter().map(|record| Some(record.class)).collect();
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
        task.outcomes(&[Media { samples, facts }], &[Some(1)]).remove(0)
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
