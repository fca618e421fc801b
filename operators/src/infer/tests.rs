use std::path::Path;
use std::sync::Arc;

use anabranch_models::artifact::architecture::{
    Architecture, AudioTokens, FeedForward, Head, ImageTokens, Inputs, Rows, TextTokens, Wires,
};
use anabranch_models::artifact::{Accuracy, Artifact, CARD, Card, Tensor, Values, WEIGHTS};
use anabranch_models::engine::{Encoder, Gpt, Input, example};
use anabranch_pipelines::operator::{Allocation, Class, Context, Operator, Outcome};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, ListArray, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Schema};
use proptest::prelude::*;

use super::{Gate, InferOptions, Score};
use crate::conformance::operator::{check, numbered};

fn architecture(inputs: Inputs, head: Head) -> Architecture {
    let rows = Rows { nodes: 8, inputs: 4, wires: Wires::Axis };
    Architecture {
        width: 16,
        heads: 2,
        layers: 2,
        inputs,
        head,
        feed_forward: FeedForward::Rows(rows),
    }
}

fn texts() -> Architecture {
    architecture(Inputs::Tokens { vocabulary: 11, context: 6 }, Head::NextToken)
}

fn pictures() -> Architecture {
    let image = ImageTokens { height: 4, width: 6, channels: 3, patch: 2 };
    architecture(Inputs::Image(image), Head::Classes(5))
}

fn everything() -> Architecture {
    let image = Some(ImageTokens { height: 4, width: 6, channels: 3, patch: 2 });
    let audio = Some(AudioTokens { bands: 3, frames: 4, frames_per_token: 2 });
    let text = Some(TextTokens { vocabulary: 11, length: 6 });
    architecture(Inputs::Modalities { image, audio, text }, Head::Classes(4))
}

/// A card with these measures: task, measure, value.
pub(super) fn card(measures: &[(&str, &str, f64)]) -> Card {
    let accuracy = measures.iter().map(|(task, measure, value)| Accuracy {
        task: (*task).to_owned(),
        measure: (*measure).to_owned(),
        value: *value,
        interval: [*value, *value],
        examples: 100,
    });
    Card { accuracy: accuracy.collect(), ..Card::new("test", texts()) }
}

/// An artifact that differs from others of the same sizes by its number, which are its steps too.
fn numbered_artifact(architecture: &Architecture, number: u16, accuracy: f64) -> Artifact {
    let random = example::random(architecture).unwrap();
    let mut tensors = random.tensors().clone();
    let head = &tensors["head.weight"];
    let Values::F32(values) = head.values() else { panic!("the head is of floats") };
    let turned = values.iter().cycle().skip(usize::from(number)).take(values.len());
    let head = Tensor::new(head.shape(), turned.copied().collect::<Vec<_>>());
    tensors.insert("head.weight".to_owned(), head);
    let accuracy = card(&[("test", "accuracy", accuracy)]).accuracy;
    let mut card = Card { accuracy, ..Card::new("test", architecture.clone()) };
    card.training.steps = number.into();
    Artifact::new(card, tensors).unwrap()
}

fn saved(folder: &Path, artifact: &Artifact) -> InferOptions {
    artifact.save(folder).unwrap();
    InferOptions::of(folder.to_str().unwrap())
}

fn with(batch: &RecordBatch, field: Field, column: ArrayRef) -> RecordBatch {
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(field));
    let mut columns = batch.columns().to_vec();
    columns.push(column);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Decoded pictures of 6 x 4 pixels; each seventh is missing and each ninth is smaller.
fn with_pictures(batch: &RecordBatch) -> RecordBatch {
    let rows = batch.num_rows();
    let height = |row: usize| if row % 9 == 4 { 3 } else { 4 };
    let samples = |row: usize| (0..height(row) * 18).map(move |at| (at * 7 + row * 13) as u8);
    let samples: Vec<Option<Vec<u8>>> =
        (0..rows).map(|row| (row % 7 != 3).then(|| samples(row).collect())).collect();
    let there = |row: usize, value: i32| samples[row].as_ref().map(|_| value);
    let numbers = |of: &dyn Fn(usize) -> i32| -> ArrayRef {
        Arc::new((0..rows).map(|row| there(row, of(row))).collect::<Int32Array>())
    };
    let raw = |row: usize| samples[row].as_ref().map(|_| "raw");
    let columns: [ArrayRef; 4] = [
        Arc::new((0..rows).map(raw).collect::<StringArray>()),
        numbers(&|_| 6),
        numbers(&|row| height(row) as i32),
        numbers(&|_| 3),
    ];
    let bytes = samples.iter().map(Option::as_deref).collect();
    let field = media::field("image", Modality::Image, media::State::Decoded);
    let batch = with(batch, field, Arc::new(media::column(bytes, vec![None; rows])));
    let facts = media::fact_fields("image", Modality::Image).into_iter().zip(columns);
    facts.fold(batch, |batch, (field, column)| with(&batch, field, column))
}

/// Texts of 0 to 14 tokens; each eighth is missing and each eleventh has an unknown token.
fn with_tokens(batch: &RecordBatch) -> RecordBatch {
    let text = |row: usize| {
        let tokens =
            (0..row % 15).map(move |at| if row % 11 == 9 { 11 } else { (at * row) as i32 % 11 });
        (row % 8 != 5).then(|| tokens.map(Some).collect::<Vec<_>>())
    };
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>((0..batch.num_rows()).map(text));
    with(batch, Field::new("tokens", lists.data_type().clone(), true), Arc::new(lists))
}

/// Spectrograms; each fifth is missing and each thirteenth holds what is no number.
fn with_spectra(batch: &RecordBatch) -> RecordBatch {
    let value = |row: usize, at: usize| match (row % 13, at) {
        (6, 3) => f32::NAN,
        _ => (row * 12 + at) as f32 / 500.0 - 1.0,
    };
    let spectrum = |row: usize| (row % 5 != 1).then(|| (0..12).map(move |at| Some(value(row, at))));
    let lists = (0..batch.num_rows()).map(spectrum);
    let lists = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(lists, 12);
    with(batch, Field::new("audio", lists.data_type().clone(), true), Arc::new(lists))
}

#[track_caller]
fn holds(options: InferOptions, input: &RecordBatch) {
    let rebuild = |recipe: &anabranch_pipelines::executor::isolated::Recipe| {
        let options = serde_json::from_value::<InferOptions>(recipe.options.clone());
        options.map_err(|e| e.to_string())?.build().map_err(|e| e.to_string())
    };
    let checked = check(&options.build().unwrap(), input, &Context::plain(), rebuild);
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

fn invoke(operator: &dyn Operator, batch: &RecordBatch) -> Outcome {
    operator.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

#[test]
fn what_models_say_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let ids = numbered(100, "number");
    let of_pictures = saved(&folder.path().join("a"), &example::random(&pictures()).unwrap());
    holds(of_pictures.clone(), &with_pictures(&ids));
    let named = InferOptions { labels: names(5), top: Some(3), ..of_pictures.clone() };
    holds(named, &with_pictures(&ids));
    holds(InferOptions { follow: true, ..of_pictures }, &with_pictures(&ids));
    let of_texts = saved(&folder.path().join("b"), &example::random(&texts()).unwrap());
    holds(InferOptions { top: Some(11), ..of_texts.clone() }, &with_tokens(&ids));
    holds(InferOptions { score: Score::Loss, ..of_texts }, &with_tokens(&ids));
    let of_all = saved(&folder.path().join("c"), &example::random(&everything()).unwrap());
    holds(of_all, &with_spectra(&with_tokens(&with_pictures(&ids))));
}

#[test]
fn pictures_are_told_apart_as_the_engine_does() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = example::random(&pictures()).unwrap();
    let options = saved(folder.path(), &artifact);
    let operator = InferOptions { labels: names(5), top: Some(2), ..options }.build().unwrap();
    let batch = with_pictures(&numbered(12, "number"));
    let Outcome { records, refused } = invoke(operator.as_ref(), &batch);
    let errors: Vec<_> = refused.iter().map(|r| (r.row, r.error.as_str())).collect();
    let error = "its picture has 6 x 3 pixels of 3 channels; the model takes 6 x 4 of 3 channels";
    assert_eq!(errors, [(4, error)]);
    assert_eq!(records.num_rows(), 11);
    let encoder = Encoder::load(&artifact).unwrap();
    let images = media::of(&records, "image").unwrap();
    let prediction = records.column_by_name("prediction").unwrap().as_string::<i32>();
    let confidence = records.column_by_name("prediction_confidence").unwrap();
    let confidence = confidence.as_primitive::<Float32Type>();
    let top = records.column_by_name("prediction_top").unwrap().as_list::<i32>();
    for row in 0..records.num_rows() {
        let Some(samples) = media::bytes(images, row) else {
            assert!(prediction.is_null(row) && confidence.is_null(row) && top.is_null(row));
            continue;
        };
        let pixels: Vec<f32> = crate::brightness::brightness(samples).collect();
        let logits =
            encoder.predict(&[Input { image: Some(&pixels), ..Input::default() }]).unwrap();
        let best = (0..5).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        assert_eq!(prediction.value(row), format!("class {best}"));
        assert_eq!(top.value(row).as_string::<i32>().value(0), prediction.value(row));
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        assert!((confidence.value(row) - logits[best].exp() / sum).abs() < 1e-5);
    }
    assert_eq!(prediction.null_count(), 2);
}

#[test]
fn a_text_has_a_next_token_and_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = example::random(&texts()).unwrap();
    let options = saved(folder.path(), &artifact);
    let gpt = Gpt::load(&artifact).unwrap();
    let text: Vec<u32> = (0..14).map(|at| at * at % 11).collect();
    let tokens = |of: &[u32]| Some(of.iter().map(|token| Some(*token as i32)).collect::<Vec<_>>());
    let lists =
        [tokens(&text), tokens(&text[..3]), None, tokens(&[]), tokens(&[4]), tokens(&[2, 40])];
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    let batch =
        RecordBatch::try_from_iter_with_nullable([("tokens", Arc::new(lists) as ArrayRef, true)]);
    let batch = batch.unwrap();

    let next = invoke(options.clone().build().unwrap().as_ref(), &batch);
    let errors: Vec<_> = next.refused.iter().map(|r| (r.row, r.error.as_str())).collect();
    let unknown = "token 40 at position 1 is unknown: the vocabulary has 11 tokens, from 0";
    assert_eq!(errors, [(3, "its text is empty: there is nothing to answer to"), (5, unknown)]);
    let tokens = next.records.column_by_name("prediction").unwrap().as_primitive::<Int32Type>();
    // The context is 6.
    for (row, seen) in [(0, &text[8..]), (1, &text[..3]), (3, &[4][..])] {
        let logits = gpt.prefill(&mut gpt.start(), seen).unwrap();
        let best = (0..11).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        assert_eq!(tokens.value(row), best as i32, "{row}");
    }
    assert!(tokens.is_null(2) && tokens.len() == 4);

    let loss = InferOptions { score: Score::Loss, ..options }.build().unwrap();
    let scored = invoke(loss.as_ref(), &batch);
    assert_eq!(scored.refused.iter().map(|r| r.row).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(scored.refused[1].error.contains("one token"), "{:?}", scored.refused);
    let losses = scored.records.column_by_name("loss").unwrap().as_primitive::<Float32Type>();
    let mut expected = 0.0;
    for (read, targets) in [(0..6, 1..7), (6..12, 7..13), (12..13, 13..14)] {
        let logits = gpt.logits(&[&text[read]]).unwrap();
        for (logits, target) in logits.chunks(11).zip(&text[targets]) {
            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
            expected -= (logits[*target as usize].exp() / sum).ln() / 13.0;
        }
    }
    assert!((losses.value(0) - expected).abs() < 1e-5, "{} {expected}", losses.value(0));
}

#[test]
fn a_model_of_several_modalities_takes_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = example::random(&everything()).unwrap();
    let options = saved(folder.path(), &artifact);
    let operator = options.clone().build().unwrap();
    let encoder = Encoder::load(&artifact).unwrap();
    let batch = with_spectra(&numbered(5, "number"));
    let outcome = invoke(operator.as_ref(), &batch);
    let predictions = outcome.records.column_by_name("prediction").unwrap();
    let predictions = predictions.as_primitive::<Int32Type>();
    assert_eq!(
        predictions.nulls().unwrap().iter().collect::<Vec<_>>(),
        [true, false, true, true, true]
    );
    let spectrum: Vec<f32> = (0..12).map(|at| at as f32 / 500.0 - 1.0).collect();
    let logits = encoder.predict(&[Input { audio: Some(&spectrum), ..Input::default() }]).unwrap();
    let best = (0..4).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
    assert_eq!(predictions.value(0), best as i32);
    // Texts are cut or filled up to the length that the model was trained with.
    let texts = [vec![Some(3), Some(7)], (1..9).map(Some).collect()];
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(texts.into_iter().map(Some));
    let texts = RecordBatch::try_from_iter([("tokens", Arc::new(lists) as ArrayRef)]).unwrap();
    let outcome = invoke(operator.as_ref(), &texts);
    let predictions = outcome.records.column_by_name("prediction").unwrap();
    let best = [[3, 7, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]].map(|text| {
        let input = Input { text: Some(&text), ..Input::default() };
        let logits = encoder.predict(&[input]).unwrap();
        (0..4).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as i32
    });
    assert_eq!(predictions.as_primitive::<Int32Type>().values(), &best);
    // A column that is named must be there, and no column at all is a mistake.
    let named = InferOptions { image: Some("imago".to_owned()), ..options };
    let error = named.build().unwrap().output(&[batch.schema()]).unwrap_err().to_string();
    assert!(error.contains("imago"), "{error}");
    let error = operator.output(&[numbered(1, "number").schema()]).unwrap_err().to_string();
    assert!(error.contains("name one for image or audio or tokens"), "{error}");
}

#[test]
fn a_pinned_model_is_the_newest_that_passes_and_part_of_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    for (number, accuracy) in [(1, 0.9), (2, 0.8), (3, 0.1)] {
        let artifact = numbered_artifact(&texts(), number, accuracy);
        artifact.save(&folder.path().join(format!("run/step-{number}"))).unwrap();
    }
    std::fs::create_dir_all(folder.path().join("run/step-4")).unwrap();
    std::fs::write(folder.path().join("run/step-4").join(CARD), "{").unwrap();
    let at_least = |bound| {
        let gate = Gate {
            measure: "accuracy".to_owned(),
            task: None,
            at_least: Some(bound),
            at_most: None,
        };
        InferOptions { gate: Some(gate), ..InferOptions::of(folder.path().to_str().unwrap()) }
    };
    let operator = at_least(0.5).build().unwrap();
    assert_eq!(operator.class(), Class::Pure);
    let chosen = operator.options();
    assert!(chosen["model"].as_str().unwrap().ends_with("run/step-2"), "{chosen}");
    assert_eq!(chosen["sha256"].as_str().unwrap().len(), 64);
    // What the options say is rebuilt, whatever came since.
    let rebuilt: InferOptions = serde_json::from_value(chosen.clone()).unwrap();
    assert_eq!(rebuilt.build().unwrap().options(), chosen);
    let error = at_least(0.95).build().err().unwrap().to_string();
    assert!(error.contains("step-3 does not pass the gate: its accuracy of `test`"), "{error}");
    let other = InferOptions { sha256: Some("00".to_owned()), ..at_least(0.5) };
    assert!(other.build().err().unwrap().to_string().contains("not 00"));
    let first = InferOptions::of(folder.path().join("run/step-1").to_str().unwrap());
    let first = first.build().unwrap().options()["sha256"].as_str().unwrap().to_uppercase();
    let by_hash = InferOptions { sha256: Some(first), ..at_least(0.5) }.build().unwrap();
    assert!(by_hash.options()["model"].as_str().unwrap().ends_with("run/step-1"));
}

#[test]
fn options_that_do_not_go_together_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = |options: InferOptions| options.build().err().unwrap().to_string();
    let nothing = InferOptions::of(folder.path().to_str().unwrap());
    assert!(error(nothing.clone()).contains("there is no artifact at"));
    let remote = InferOptions::of("memory://infer/nothing");
    assert!(error(remote).contains("with `sha256 = \"..\"`"));
    let wait = Some("1s".parse().unwrap());
    assert!(error(InferOptions { wait, ..nothing.clone() }).contains("go with `follow = true`"));
    let both = InferOptions { sha256: Some(String::new()), follow: true, ..nothing };
    assert!(error(both).contains("leave one out"));

    let of_pictures = saved(&folder.path().join("a"), &example::random(&pictures()).unwrap());
    let labels = InferOptions { labels: names(4), ..of_pictures.clone() };
    assert!(error(labels).contains("it tells 5 classes, and `labels` names 4"));
    let top = InferOptions { top: Some(6), ..of_pictures.clone() };
    assert!(error(top).contains("the model tells 5 things apart"));
    let loss = InferOptions { score: Score::Loss, ..of_pictures.clone() };
    assert!(error(loss).contains("this one tells classes"));
    let tokens = InferOptions { tokens: Some("words".to_owned()), ..of_pictures.clone() };
    let pictures = with_pictures(&numbered(1, "number"));
    let output = |options: InferOptions, schema: Schema| {
        options.build().unwrap().output(&[Arc::new(schema)]).unwrap_err().to_string()
    };
    let schema = || pictures.schema().as_ref().clone();
    assert!(output(tokens, schema()).contains("the model takes image, no tokens"));
    let taken = InferOptions { into: Some("number".to_owned()), ..of_pictures.clone() };
    assert!(output(taken, schema()).contains("there is a column `number` already"));
    let encoded = media::field("image", Modality::Image, media::State::Encoded);
    assert!(output(of_pictures, Schema::new(vec![encoded])).contains("kind `decode`"));
    let of_texts = saved(&folder.path().join("b"), &example::random(&texts()).unwrap());
    let words = Schema::new(vec![Field::new("tokens", DataType::Utf8, true)]);
    assert!(output(of_texts, words).contains("`tokenise` makes tokens"));
    // Damage is told with its place.
    std::fs::write(folder.path().join("b").join(WEIGHTS), "x").unwrap();
    let damaged = error(InferOptions::of(folder.path().join("b").to_str().unwrap()));
    assert!(damaged.contains("/b: weights.safetensors has 1 bytes"), "{damaged}");
}

/// The model that answers one text in an epoch.
fn answers(operator: &dyn Operator, epoch: u64) -> Result<String, String> {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let batch = RecordBatch::try_from_iter([("tokens", Arc::new(lists) as ArrayRef)]).unwrap();
    let context = Context::plain().in_epoch(epoch);
    let outcome =
        operator.invoke(batch, &Allocation::PLAIN, &context).map_err(|e| e.to_string())?;
    let models = outcome.records.column_by_name("prediction_model").unwrap();
    Ok(models.as_string::<i32>().value(0).to_owned())
}

fn following(folder: &Path) -> InferOptions {
    let every = Some("0s".parse().unwrap());
    InferOptions { follow: true, every, ..InferOptions::of(folder.to_str().unwrap()) }
}

#[test]
fn a_newer_artifact_answers_from_the_next_epoch_on() {
    let folder = tempfile::tempdir().unwrap();
    let save = |number: u16| {
        let artifact = numbered_artifact(&texts(), number, 0.5);
        artifact.save(&folder.path().join(format!("step-{number}"))).unwrap();
    };
    let operator = following(folder.path()).build().unwrap();
    assert_eq!(operator.class(), Class::Live);
    let model = |epoch| answers(operator.as_ref(), epoch).unwrap();
    assert!(answers(operator.as_ref(), 3).unwrap_err().contains("wait = \"10m\""));
    save(1);
    let first = model(3);
    assert!(first.starts_with("test@") && first.len() == "test@".len() + 12, "{first}");
    save(2);
    assert_eq!(model(3), first, "this epoch has begun");
    let second = model(5);
    assert_ne!(second, first);
    assert_eq!([model(4), model(3), model(5)], [first.clone(), first.clone(), second.clone()]);
    // Damage, an older one, one that takes something else and one without weights change nothing.
    save(4);
    let weights = folder.path().join("step-4").join(WEIGHTS);
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    numbered_artifact(&pictures(), 5, 0.5).save(&folder.path().join("step-5")).unwrap();
    save(6);
    std::fs::remove_file(folder.path().join("step-6").join(WEIGHTS)).unwrap();
    std::fs::remove_dir_all(folder.path().join("step-2")).unwrap();
    assert_eq!([model(6), model(7)], [second.clone(), second.clone()]);
    // Once it is repaired, it answers; what it replaced is still what answers epochs before.
    std::fs::write(&weights, &whole).unwrap();
    let third = model(8);
    assert!(third != second && third != first);
    assert_eq!([model(7), model(8)], [second, third]);
}

#[test]
fn a_gate_keeps_the_model_before() {
    let folder = tempfile::tempdir().unwrap();
    let save = |number: u16, accuracy| {
        let artifact = numbered_artifact(&texts(), number, accuracy);
        artifact.save(&folder.path().join(format!("step-{number}"))).unwrap();
    };
    let gate = Gate { measure: "accuracy".into(), task: None, at_least: Some(0.6), at_most: None };
    let options = InferOptions { gate: Some(gate), ..following(folder.path()) };
    let operator = options.build().unwrap();
    save(1, 0.5);
    let error = answers(operator.as_ref(), 0).unwrap_err();
    let why = "none can answer: step-1: its accuracy of `test` is 0.5, less than 0.6";
    assert!(error.contains("of 1 artifact at") && error.ends_with(why), "{error}");
    save(2, 0.7);
    let second = answers(operator.as_ref(), 0).unwrap();
    save(3, 0.59);
    assert_eq!(answers(operator.as_ref(), 1).unwrap(), second);
    save(4, 0.6);
    assert_ne!(answers(operator.as_ref(), 2).unwrap(), second);
}

#[test]
fn a_follower_waits_for_its_first_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let wait = Some("1h".parse().unwrap());
    let operator =
        InferOptions { wait, ..following(&folder.path().join("later")) }.build().unwrap();
    let to = folder.path().join("later/step-1");
    let trained = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(30));
        numbered_artifact(&texts(), 1, 0.5).save(&to).unwrap();
    });
    assert!(answers(operator.as_ref(), 0).unwrap().starts_with("test@"));
    trained.join().unwrap();
}

#[test]
fn a_worker_process_answers_with_what_the_run_chose() {
    use anabranch_pipelines::executor::isolated::{Isolated, Worker};
    let folder = tempfile::tempdir().unwrap();
    let save = |number: u16| {
        let artifact = numbered_artifact(&texts(), number, 0.5);
        artifact.save(&folder.path().join(format!("step-{number}"))).unwrap();
    };
    save(1);
    let inner = following(folder.path()).build().unwrap();
    let rebuild = |recipe: &anabranch_pipelines::executor::isolated::Recipe| {
        let options: InferOptions = serde_json::from_value(recipe.options.clone()).unwrap();
        options.build().map_err(|e| e.to_string())
    };
    let start = move || Worker::in_thread(rebuild, Context::plain());
    let operator = Isolated::new(Arc::clone(&inner), Arc::new(start)).unwrap();
    let first = answers(&operator, 0).unwrap();
    save(2);
    // A worker of its own would take the newest one for an epoch that it has not seen.
    assert_eq!(answers(&operator, 0).unwrap(), first);
    let second = answers(&operator, 1).unwrap();
    assert_ne!(second, first);
    assert_eq!(answers(&operator, 0).unwrap(), first);
    assert_eq!(answers(inner.as_ref(), 1).unwrap(), second);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever epochs come in whatever order, each has one model, and no model is older than one before it.
    #[test]
    fn an_epoch_has_one_model(
        epochs in prop::collection::vec((0_u64..12, any::<bool>()), 1..20),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        let mut save = || {
            let number = made.len() as u16 + 1;
            let artifact = numbered_artifact(&texts(), number, 0.5);
            artifact.save(&folder.path().join(format!("step-{number}"))).unwrap();
            let operator = InferOptions::of(folder.path().join(format!("step-{number}")).to_str().unwrap());
            let hash = operator.build().unwrap().options()["sha256"].as_str().unwrap().to_owned();
            made.push(format!("test@{}", &hash[..12]));
        };
        save();
        let operator = following(folder.path()).build().unwrap();
        let mut seen = std::collections::BTreeMap::<u64, String>::new();
        for (epoch, publish) in epochs {
            if publish {
                save();
            }
            let model = answers(operator.as_ref(), epoch).unwrap();
            prop_assert_eq!(seen.entry(epoch).or_insert_with(|| model.clone()), &model);
        }
        let order: Vec<_> = seen.values().map(|model| made.iter().position(|it| it == model)).collect();
        prop_assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{:?}", order);
    }
}
