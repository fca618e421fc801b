use super::*;
use crate::{DecodeOptions, EncodeOptions};
use anabranch_pipelines::record::media as column;
use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};

fn texts(texts: Vec<Option<&str>>) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(texts));
    RecordBatch::try_from_iter_with_nullable([("text", texts, true)]).unwrap()
}

fn apply(options: &QualityOptions, batch: RecordBatch) -> Outcome {
    let operator = options.clone().build().unwrap();
    let promised = operator.output(&[batch.schema()]).unwrap();
    let outcome = operator.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.records.schema(), promised);
    outcome
}

#[test]
fn thresholds_apply_to_the_texts_they_are_about() {
    let all = [
        Some("A sentence that says something."),
        Some("   "),
        None,
        Some("||| --- ||| --- |||"),
        Some("buy now\nbuy now\nbuy now\nbuy now"),
        Some("a b c d e f a b c d e f"),
        Some("MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA"),
    ];
    let kept = |options: QualityOptions| {
        let outcome = apply(&options, texts(all.to_vec()));
        assert_eq!(outcome.refused, []);
        let kept = outcome.records.column(0).as_string::<i32>().clone();
        let place = |text: Option<&str>| all.iter().position(|there| *there == text).unwrap();
        kept.iter().map(place).collect::<Vec<_>>()
    };
    let text = || QualityOptions::of("text");
    assert_eq!(kept(text()), [0, 2, 3, 4, 5, 6]);
    assert_eq!(kept(QualityOptions { min_characters: Some(20), ..text() }), [0, 2, 4, 6]);
    assert_eq!(kept(QualityOptions { min_characters: Some(0), ..text() }), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(kept(QualityOptions { max_characters: Some(15), ..text() }), [2, 3, 5]);
    assert_eq!(kept(QualityOptions { min_alphanumeric: Some(0.6), ..text() }), [0, 2, 4, 5, 6]);
    assert_eq!(kept(QualityOptions { max_repeated_lines: Some(0.3), ..text() }), [0, 2, 3, 5, 6]);
    assert_eq!(kept(QualityOptions { max_repeated_words: Some(0.15), ..text() }), [0, 2, 3, 6]);
    assert_eq!(kept(QualityOptions { max_word_length: Some(10.0), ..text() }), [0, 2, 3, 4, 5]);
    assert_eq!(kept(QualityOptions { min_word_length: Some(2.0), ..text() }), [0, 2, 3, 4, 6]);
}

#[test]
fn measures_stand_beside_what_was_kept() {
    let options = QualityOptions { measures: true, ..QualityOptions::of("text") };
    let records = apply(&options, texts(vec![Some("a-b"), Some(""), None])).records;
    let characters = records.column_by_name("text_characters").unwrap();
    let characters = characters.as_primitive::<Int64Type>();
    assert_eq!(characters.iter().collect::<Vec<_>>(), [Some(3), None]);
    let share = records.column_by_name("text_alphanumeric").unwrap();
    assert_eq!(share.as_primitive::<Float64Type>().value(0), 2.0 / 3.0);
}

/// Decoded media from `raw` samples in files of this codec.
fn decoded(modality: Modality, files: Vec<Option<Vec<u8>>>) -> RecordBatch {
    let bytes = files.iter().map(Option::as_deref).collect();
    let media = column::column(bytes, vec![None; files.len()]);
    let field = column::field("media", modality, State::Encoded);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(media)]).unwrap();
    let decode: DecodeOptions = serde_json::from_str(r#"{"column": "media"}"#).unwrap();
    let outcome =
        decode.build().unwrap().invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.refused, []);
    outcome.records
}

fn file(codec: &str, samples: &[u8], facts: crate::codec::Facts) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let media = crate::codec::Media { samples, facts };
    crate::codec::named(codec).unwrap().encode(&media, None, &mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn blank_pictures_go() {
    use crate::codec::Facts;
    let facts = Facts::Image { width: 8, height: 8, channels: 3 };
    let noise: Vec<u8> = (0..192u32).map(|at| (at * 89 % 251) as u8).collect();
    let pictures = decoded(
        Modality::Image,
        vec![file("png", &[255; 192], facts), file("png", &noise, facts), None],
    );
    let options = QualityOptions { measures: true, ..QualityOptions::of("media") };
    let records = apply(&options, pictures.clone()).records;
    assert_eq!(records.num_rows(), 2);
    let deviation = records.column_by_name("media_deviation").unwrap();
    assert!(deviation.as_primitive::<Float64Type>().value(0) > 50.0 && deviation.is_null(1));
    let strict = QualityOptions { min_deviation: Some(100.0), ..QualityOptions::of("media") };
    assert_eq!(apply(&strict, pictures).records.num_rows(), 1);
}

#[test]
fn silent_sounds_go() {
    use crate::codec::{Facts, Pcm};
    let facts = Facts::Audio { format: Pcm::S16, rate: 8000, channels: 1, frames: 100 };
    let hum: Vec<u8> = (0..100).flat_map(|at: i16| (at % 2 * 200).to_le_bytes()).collect();
    let sounds =
        decoded(Modality::Audio, vec![file("wav", &[0; 200], facts), file("wav", &hum, facts)]);
    let options = QualityOptions::of("media");
    assert_eq!(apply(&options, sounds.clone()).records.num_rows(), 1);
    let strict = QualityOptions { min_decibels: Some(-40.0), ..options };
    assert_eq!(apply(&strict, sounds).records.num_rows(), 0);
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let share = QualityOptions { min_alphanumeric: Some(60.0), ..QualityOptions::of("text") };
    let error = share.build().map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "`min_alphanumeric = 60`: a share is 0 to 1");
    let refused = |options: QualityOptions, batch: &RecordBatch| {
        options.build().unwrap().output(&[batch.schema()]).unwrap_err().to_string()
    };
    let text = texts(vec![]);
    let deaf = QualityOptions { min_decibels: Some(-30.0), ..QualityOptions::of("text") };
    assert!(refused(deaf, &text).contains("`min_decibels` is for sounds"));
    assert!(refused(QualityOptions::of("txt"), &text).contains("did you mean `text`?"));
    let media = column::field("media", Modality::Image, State::Encoded);
    let schema = Arc::new(Schema::new(vec![media]));
    let encoded = RecordBatch::new_empty(schema);
    let error = refused(QualityOptions::of("media"), &encoded);
    assert!(error.contains("decode"), "{error}");
    let compress = r#"{"column": "text", "codec": "zstd"}"#;
    let compress: EncodeOptions = serde_json::from_str(compress).unwrap();
    let schema = compress.build().unwrap().output(&[text.schema()]).unwrap();
    let error = refused(QualityOptions::of("text"), &RecordBatch::new_empty(schema));
    assert!(error.contains("`decode` gives texts back"), "{error}");
}
