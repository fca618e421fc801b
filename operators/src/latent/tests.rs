//! The codec as operators: learned, given, found, missing.

use anabranch_pipelines::operator::{Class, FetchError, Fetcher};
use anabranch_pipelines::record::Reference;
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray, StructArray};
use arrow::datatypes::{Field, Int8Type, Int32Type, Int64Type, Schema};
use bytes::Bytes;

use super::*;
use crate::DecodeOptions;
use crate::codec::{Facts, Pcm};

/// Decoded pictures of soft stripes, one of another colour format and one missing.
fn pictures() -> RecordBatch {
    let picture = |at: usize, channels: usize| -> Vec<u8> {
        let sample = |i: usize| {
            let (x, y) = (i / channels % 40, i / channels / 40);
            let wave = (x as f32 * 0.07 * (at % 5 + 1) as f32 + y as f32 * 0.05).sin();
            (wave * 80.0 + 120.0 + (i % channels * 10) as f32) as u8
        };
        (0..40 * 32 * channels).map(sample).collect()
    };
    let mut samples: Vec<Option<Vec<u8>>> = (0..10).map(|at| Some(picture(at, 3))).collect();
    samples[7] = Some(picture(7, 4));
    samples[8] = None;
    let channels = samples.iter().map(|samples| samples.as_ref().map(|s| (s.len() / 1280) as i32));
    let channels: Int32Array = channels.collect();
    let number = |number| Arc::new(Int32Array::from(vec![number; 10])) as ArrayRef;
    let bytes = samples.iter().map(Option::as_deref).collect();
    let media: StructArray = media::column(bytes, vec![None; 10]);
    let mut fields = vec![media::field("image", Modality::Image, media::State::Decoded)];
    fields.extend(media::fact_fields("image", Modality::Image));
    let encodings = StringArray::from(vec!["raw"; 10]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(media), Arc::new(encodings), number(40), number(32), Arc::new(channels)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn sounds() -> RecordBatch {
    let mut samples = Vec::new();
    for at in 0..3000 {
        Pcm::S16.push(((at as f32 * 0.1).sin() * 9000.0) as i32, &mut samples);
    }
    let media = media::column(vec![Some(&samples); 2], vec![None; 2]);
    let mut fields = vec![media::field("audio", Modality::Audio, media::State::Decoded)];
    fields.extend(media::fact_fields("audio", Modality::Audio));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(media),
        Arc::new(StringArray::from(vec!["pcm_s16le"; 2])),
        Arc::new(Int32Array::from(vec![8000; 2])),
        Arc::new(Int32Array::from(vec![1; 2])),
        Arc::new(arrow::array::Int64Array::from(vec![3000; 2])),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn operator(column: &str, more: &str) -> Result<Arc<dyn Operator>, OptionsError> {
    let options = format!(r#"{{"column": "{column}", "codec": "latent"{more}}}"#);
    serde_json::from_str::<EncodeOptions>(&options).unwrap().build()
}

/// Learns from a batch and encodes it: the codec's file and the outcome.
fn learned(batch: &RecordBatch, column: &str, more: &str) -> (Vec<u8>, Outcome) {
    let learn = operator(column, more).unwrap();
    assert_eq!(learn.class(), Class::Journaled);
    let journaled = learn.journaled().unwrap();
    let decision = journaled.decide(std::slice::from_ref(batch)).unwrap();
    let encode = journaled.decided(&decision).unwrap();
    assert_eq!(encode.class(), Class::Pure);
    let outcome = encode.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).unwrap();
    (decision, outcome)
}

/// A store that holds one file, whatever it is asked for.
struct Shelf(Vec<u8>);

impl Fetcher for Shelf {
    fn fetch(&self, references: &[Reference], _: u64) -> Vec<Result<Bytes, FetchError>> {
        references.iter().map(|_| Ok(Bytes::from(self.0.clone()))).collect()
    }
}

fn decode(batch: RecordBatch, column: &str, more: &str, shelf: &[u8]) -> Outcome {
    let options = format!(r#"{{"column": "{column}"{more}}}"#);
    let decode = serde_json::from_str::<DecodeOptions>(&options).unwrap().build().unwrap();
    let context = Context::new(Arc::new(Shelf(shelf.to_vec())), Arc::default());
    let outcome = decode.invoke(batch.clone(), &Allocation::PLAIN, &context).unwrap();
    let promised = decode.output(&[batch.schema()]).unwrap();
    assert_eq!(outcome.records.schema(), promised);
    outcome
}

const FILES: &str = r#", "codecs": ["memory://a/codec"]"#;
const LEARN: &str = r#", "learn": {"channels": 24, "step": 4.0, "levels": 2}"#;

fn samples(batch: &RecordBatch, row: usize) -> Vec<u8> {
    let column = Column::of(batch, "image", Modality::Image);
    column.samples(row).unwrap().unwrap().samples.to_vec()
}

fn likeness(one: &[u8], other: &[u8]) -> f64 {
    let error: f64 =
        one.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0_f64.powi(2) / (error / one.len() as f64).max(1e-9)).log10()
}

#[test]
fn pictures_are_learned_encoded_found_and_decoded() {
    let batch = pictures();
    let (file, outcome) = learned(&batch, "image", LEARN);
    // Four channels are refused, a missing picture stays missing.
    assert_eq!(outcome.refused.len(), 1);
    assert!(outcome.refused[0].row == 7 && outcome.refused[0].error.contains("4 channels"));
    let records = outcome.records;
    assert_eq!(
        records.column_by_name("image_encoding").unwrap().as_string::<i32>().value(0),
        LATENT
    );
    let same = learned(&batch, "image", LEARN);
    assert_eq!((&same.0, &same.1.records), (&file, &records));
    let back = decode(records.clone(), "image", FILES, &file);
    assert_eq!(back.refused, []);
    assert!(back.records.column(0).is_null(7));
    for (row, original) in [(0, 0), (6, 6), (8, 9)] {
        let likeness = likeness(&samples(&batch, original), &samples(&back.records, row));
        assert!(likeness > 35.0, "{row}: {likeness}");
    }
    // Without the option, the column may name it, among decisions of other operators.
    let mut fields: Vec<Field> =
        records.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut metadata = fields[0].metadata().clone();
    metadata.insert(media::DICTIONARIES_KEY.to_owned(), "memory://a/d".to_owned());
    fields[0] = fields[0].clone().with_metadata(metadata);
    let named =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), records.columns().to_vec()).unwrap();
    assert_eq!(decode(named.clone(), "image", "", &file).records.columns(), back.records.columns());
    for shelf in [&b"another operator's decision"[..], b""] {
        let lost = decode(named.clone(), "image", "", shelf);
        assert_eq!(lost.refused.len(), 8);
        let error = &lost.refused[0].error;
        assert!(
            error.contains(&hash(&file)[..8]) && error.contains("decisions/OPERATOR"),
            "{error}"
        );
    }
    // Fewer channels are fewer bytes to read, and less alike.
    let rough = decode(records, "image", &format!(r#"{FILES}, "channels": 3"#), &file);
    let rough = likeness(&samples(&batch, 0), &samples(&rough.records, 0));
    let whole = likeness(&samples(&batch, 0), &samples(&back.records, 0));
    assert!(10.0 < rough && rough + 1.0 < whole, "{rough} of {whole}");
}

#[test]
fn latents_are_lists_with_their_own_facts() {
    let (file, outcome) = learned(&pictures(), "image", LEARN);
    let more = format!(r#"{FILES}, "as": "latents", "channels": 5"#);
    let back = decode(outcome.records.clone(), "image", &more, &file);
    assert_eq!(back.refused, []);
    let lists = back.records.column_by_name("image").unwrap().as_list::<i32>();
    let field = back.records.schema();
    let field = field.field_with_name("image").unwrap().clone();
    assert_eq!(Modality::of(&field), Some(Modality::Latent));
    let fact = |fact: &str| {
        let column = back.records.column_by_name(&format!("image_{fact}")).unwrap();
        column.as_primitive::<Int32Type>().value(0)
    };
    assert_eq!([fact("channels"), fact("height"), fact("width")], [5, 8, 10]);
    assert_eq!(lists.value(0).len(), 5 * 8 * 10);
    assert!(lists.is_null(7));
    let latents = lists.value(0);
    assert!(latents.as_primitive::<Int8Type>().values().iter().any(|latent| *latent != 0));
    // What is no record of latents is none.
    let png = decode(stored_as(&pictures()), "image", &more, &file);
    assert!(png.refused[0].error.contains("no record of latents"));
}

/// Pictures as they stand, called encoded.
fn stored_as(batch: &RecordBatch) -> RecordBatch {
    let schema = rewrite::schema(&batch.schema(), "image", Modality::Image, media::State::Encoded);
    RecordBatch::try_new(schema, batch.columns().to_vec()).unwrap()
}

#[test]
fn sounds_are_learned_and_decoded() {
    let batch = sounds();
    let more = r#", "learn": {"channels": 20, "levels": 5}"#;
    let (file, outcome) = learned(&batch, "audio", more);
    assert_eq!(outcome.refused, []);
    let back = decode(outcome.records.clone(), "audio", FILES, &file);
    let column = Column::of(&back.records, "audio", Modality::Audio);
    let media = column.samples(1).unwrap().unwrap();
    let facts = Facts::Audio { format: Pcm::S16, rate: 8000, channels: 1, frames: 3000 };
    assert_eq!(media.facts, facts);
    let more = format!(r#"{FILES}, "as": "latents""#);
    let back = decode(outcome.records, "audio", &more, &file);
    let frames = back.records.column_by_name("audio_frames").unwrap();
    assert_eq!(frames.as_primitive::<Int64Type>().value(0), 94);
    let rate = back.records.column_by_name("audio_sample_rate").unwrap();
    assert_eq!(rate.as_primitive::<Int32Type>().value(0), 250);
    let lists = back.records.column_by_name("audio").unwrap().as_list::<i32>();
    assert_eq!(lists.value(0).len(), 94 * 20);
}

#[test]
fn a_codec_that_was_learned_once_is_given_to_other_jobs() {
    let batch = pictures();
    let (file, first) = learned(&batch, "image", LEARN);
    let folder = std::env::temp_dir().join(format!("anabranch-latent-{}", std::process::id()));
    std::fs::write(&folder, &file).unwrap();
    let path = folder.to_str().unwrap();
    let given = operator("image", &format!(r#", "artifact": "{path}""#)).unwrap();
    assert_eq!(given.class(), Class::Pure);
    let outcome = given.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.records, first.records);
    // The plan says which content is meant.
    assert!(given.options().to_string().contains(&hash(&file)));
    assert!(given.output(&[sounds().schema()]).is_err());
    let few = operator("image", &format!(r#", "artifact": "{path}", "channels": 2"#)).unwrap();
    let few = few.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap().records;
    let bytes = |batch: &RecordBatch| {
        media::bytes_array(media::of(batch, "image").unwrap()).unwrap().value_data().len()
    };
    let (few, all) = (bytes(&few), bytes(&first.records));
    assert!(few * 5 < all * 4, "{few} of {all}");
    let wrong = operator("image", &format!(r#", "artifact": "{path}", "sha256": "00""#));
    assert!(wrong.err().unwrap().0.contains(&hash(&file)));
    std::fs::write(&folder, "no codec").unwrap();
    let wrong = operator("image", &format!(r#", "artifact": "{path}""#));
    assert!(wrong.err().unwrap().0.contains("no latent codec"));
    std::fs::remove_file(&folder).unwrap();
    assert!(operator("image", &format!(r#", "artifact": "{path}""#)).is_err());
}

#[test]
fn options_that_do_not_go_together_are_told() {
    let told = |more: &str| operator("image", more).err().map(|error| error.0).unwrap();
    assert!(told(r#", "artifact": "a", "learn": {}"#).contains("not both"));
    assert!(told(r#", "artifact": "s3://a/b""#).contains("sha256sum"));
    assert!(told(r#", "sha256": "00""#).contains("there is none"));
    assert!(told(r#", "channels": 0"#).contains("at least 1"));
    assert!(told(r#", "quality": 5"#).contains("quality"));
    let jpeg = serde_json::from_str::<EncodeOptions>(
        r#"{"column": "image", "codec": "jpeg", "channels": 3}"#,
    );
    assert!(jpeg.unwrap().build().err().unwrap().0.contains("\"latent\""));
    let decode = serde_json::from_str::<DecodeOptions>(r#"{"column": "image", "as": "pixels"}"#);
    assert!(decode.unwrap().build().err().unwrap().0.contains("\"latents\""));
}

#[test]
fn nothing_to_learn_from_refuses_what_comes_later() {
    let learn = operator("image", "").unwrap();
    let decision = learn.journaled().unwrap().decide(&[]).unwrap();
    assert!(decision.is_empty());
    let encode = learn.journaled().unwrap().decided(&decision).unwrap();
    let outcome = encode.invoke(pictures(), &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!((outcome.refused.len(), outcome.records.num_rows()), (9, 1));
    assert!(outcome.refused[0].error.contains("job.part"));
    assert!(learn.journaled().unwrap().decided(b"no codec").is_err());
    let four = pictures().slice(7, 1);
    assert!(learn.journaled().unwrap().decide(&[four]).is_err());
}

#[test]
fn plain_samples_that_begin_like_latents_are_plain_samples() {
    let pixel = [0xab, 0x4c, 0x21];
    assert!(anabranch_models::latent::recognises(&[&pixel[..], &[0; 40]].concat()));
    let samples = [&pixel[..], &[7; 42]].concat();
    let mut fields = vec![media::field("image", Modality::Image, media::State::Encoded)];
    fields.extend(media::fact_fields("image", Modality::Image));
    let number = |number| Arc::new(Int32Array::from(vec![number])) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(media::column(vec![Some(&samples)], vec![None])),
        Arc::new(StringArray::from(vec!["raw"])),
        number(15),
        number(1),
        number(3),
    ];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let outcome = decode(batch, "image", "", &[]);
    assert_eq!(outcome.refused, []);
    let found = media::bytes(media::of(&outcome.records, "image").unwrap(), 0).unwrap();
    assert_eq!(found, samples);
}
