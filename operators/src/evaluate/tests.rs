//! Figures that must be honest, and rows that must be whole.

use std::sync::Arc;

use anabranch_pipelines::operator::{
    Allocation, Class, Context, FetchError, Fetcher, Operator, OperatorError,
};
use anabranch_pipelines::record::{Modality, Reference, media};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema};

use super::*;
use crate::codec::{Facts, Media, Pcm, encoders, named};
use crate::conformance::codec::Example;
use crate::task::example::{self, stripes};
use crate::task::{TaskOptions, squares};

/// Decoded pictures with labels.
fn pictures(records: &[(Vec<u8>, Facts)], labels: &[u32]) -> RecordBatch {
    let column = media::column(
        records.iter().map(|(samples, _)| Some(samples.as_slice())).collect(),
        vec![None; records.len()],
    );
    let number = |of: fn(&Facts) -> i32| -> ArrayRef {
        Arc::new(records.iter().map(|(_, facts)| Some(of(facts))).collect::<Int32Array>())
    };
    let mut fields = vec![media::field("image", Modality::Image, media::State::Decoded)];
    fields.extend(media::fact_fields("image", Modality::Image));
    fields.push(Field::new("label", DataType::Int32, true));
    let side = |which: usize| match which {
        0 => |facts: &Facts| if let Facts::Image { width, .. } = facts { *width as i32 } else { 0 },
        1 => {
            |facts: &Facts| if let Facts::Image { height, .. } = facts { *height as i32 } else { 0 }
        }
        _ => |facts: &Facts| {
            if let Facts::Image { channels, .. } = facts { i32::from(*channels) } else { 0 }
        },
    };
    let labels: Int32Array = labels.iter().map(|label| Some(*label as i32)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(column),
        Arc::new(StringArray::from(vec!["raw"; records.len()])),
        number(side(0)),
        number(side(1)),
        number(side(2)),
        Arc::new(labels),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn evaluated(options: serde_json::Value, batch: &RecordBatch) -> RecordBatch {
    let options: EvaluateOptions = serde_json::from_value(options).unwrap();
    let operator = options.build().unwrap();
    let outcome = operator.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.refused, []);
    assert_eq!(outcome.records.schema(), operator.output(&[batch.schema()]).unwrap());
    assert!(bytes_fit(&operator, batch, &outcome.records));
    outcome.records
}

fn bytes_fit(operator: &Arc<dyn Operator>, input: &RecordBatch, output: &RecordBatch) -> bool {
    use anabranch_pipelines::record::bytes_of;
    bytes_of(output) <= operator.growth().bound(bytes_of(input), input.num_rows())
}

#[test]
fn honest_figures_bits_per_pixel_are_the_bytes_on_disk_for_every_codec() {
    let example = Example::picture(37, 23, 3);
    let batch = pictures(&[(example.samples.clone(), example.facts)], &[0]);
    let rows = evaluated(serde_json::json!({ "column": "image", "metrics": ["psnr"] }), &batch);
    let points = rows.column_by_name(POINTS).unwrap().as_list::<i32>().value(0);
    let points = points.as_struct();
    let bytes = points.column_by_name("bytes").unwrap().as_primitive::<Int64Type>();
    let codecs = points.column_by_name("codec").unwrap().as_string::<i32>();
    let steps = points.column_by_name("step").unwrap().as_primitive::<Int32Type>();
    let folder = std::env::temp_dir().join(format!("anabranch-evaluate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut seen = Vec::new();
    for point in 0..points.len() {
        let codec = named(codecs.value(point)).unwrap();
        let step = steps.is_valid(point).then(|| steps.value(point) as u16);
        let mut encoded = Vec::new();
        codec
            .encode(&Media { samples: &example.samples, facts: example.facts }, step, &mut encoded)
            .unwrap();
        let file = folder.join("record");
        std::fs::write(&file, encoded).unwrap();
        let on_disk = std::fs::metadata(&file).unwrap().len() as f64;
        let pixels = 37.0 * 23.0;
        let bits_per_pixel = bytes.value(point) as f64 * 8.0 / pixels;
        assert!((bits_per_pixel * pixels / 8.0 - on_disk).abs() < 1e-6, "{}", codec.name());
        seen.push(codec.name());
    }
    let pictures = encoders().filter(|codec| codec.modality() == Modality::Image);
    pictures.for_each(|codec| assert!(seen.contains(&codec.name()), "{}", codec.name()));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn honest_figures_what_loses_nothing_shows_exactly_no_loss_and_what_loses_much_shows_it() {
    let records = stripes(200, 21);
    let media: Vec<_> =
        records.iter().map(|record| (record.samples.clone(), example::FACTS)).collect();
    let labels: Vec<u32> = records.iter().map(|record| record.class).collect();
    let model = example::model().display().to_string();
    let options = serde_json::json!({
        "column": "image", "codecs": ["png", "webp", "jpeg"], "metrics": ["psnr", "ssim"],
        "task": { "kind": "classify", "model": model, "label": "label" },
    });
    let rows = evaluated(options, &pictures(&media, &labels));
    assert!(rows.column_by_name("image").is_none() && rows.column_by_name("label").is_some());
    let mut summary = Summary::default();
    // Rows that come in parts come to the same.
    [rows.slice(0, 80), rows.slice(80, 120)].iter().for_each(|rows| summary.add(rows).unwrap());
    assert_eq!(summary.records(), 200);
    let tried = |name: &str| summary.settings().iter().find(|tried| tried.name() == name).unwrap();
    for lossless in ["png", "webp 100"] {
        let tried = tried(lossless);
        let loss = tried.loss().unwrap();
        assert_eq!((loss.mean, tried.losses.records()), (0.0, 200));
        assert_eq!(tried.metrics["psnr"].mean(), f64::INFINITY);
        assert!((tried.metrics["ssim"].mean() - 1.0).abs() < 1e-12);
    }
    let (good, bad) = (tried("jpeg 95"), tried("jpeg 5"));
    assert!(good.bytes.mean() > bad.bytes.mean());
    assert!(good.metrics["psnr"].mean() > bad.metrics["psnr"].mean() + 3.0);
    assert!(bad.loss().unwrap().low > 0.05, "{:?}", bad.loss());
    assert!(good.encode_seconds.mean() > 0.0 && good.decode_seconds.count() == 200);
    let page = summary.html("Stripes & <codecs>");
    assert!(page.contains("<title>Stripes &amp; &lt;codecs&gt;</title>"));
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("Q_infer") && page.contains("against jpeg"));
    let correlated = summary.settings().iter().map(|t| (t.metrics["psnr"].mean(), t.score.mean()));
    assert!(correlation(&correlated.collect::<Vec<_>>()).unwrap().r > 0.5);
    if let Ok(path) = std::env::var("ANABRANCH_EVALUATION") {
        std::fs::write(path, page).unwrap();
    }
}

#[test]
fn honest_figures_shuffled_labels_do_not_improve() {
    let records = stripes(300, 22);
    let media: Vec<_> =
        records.iter().map(|record| (record.samples.clone(), example::FACTS)).collect();
    // Each label is that of another record.
    let labels: Vec<u32> = (0..300).map(|at| records[(at + 1) % 300].class).collect();
    let model = example::model().display().to_string();
    let options = serde_json::json!({
        "column": "image", "codecs": ["png", "jpeg"], "metrics": [],
        "task": { "kind": "classify", "model": model, "label": "label" },
    });
    let mut summary = Summary::default();
    summary.add(&evaluated(options, &pictures(&media, &labels))).unwrap();
    for tried in summary.settings() {
        assert!(
            (tried.score.mean() - 1.0 / 3.0).abs() < 0.12,
            "{} {}",
            tried.name(),
            tried.score.mean()
        );
        let loss = tried.loss().unwrap();
        assert!(loss.low < 0.01 && loss.high > -0.01, "{}: {loss:?}", tried.name());
    }
}

#[test]
fn rows_without_times_depend_on_the_records_alone() {
    let records: Vec<_> = [(1, 1, 1), (1, 1, 3), (9, 30, 3), (16, 16, 4)]
        .map(|(width, height, channels)| {
            let Example { samples, facts } = Example::picture(width, height, channels);
            (samples, facts)
        })
        .into();
    let black = (vec![0; 20 * 20 * 3], Facts::Image { width: 20, height: 20, channels: 3 });
    let records: Vec<_> = records.into_iter().chain([black]).collect();
    let batch = pictures(&records, &[0; 5]);
    let options = || serde_json::json!({ "column": "image", "times": false });
    let whole = evaluated(options(), &batch);
    for row in 0..5 {
        let alone = evaluated(options(), &batch.slice(row, 1));
        assert_eq!(
            alone.column_by_name(POINTS).unwrap().to_data(),
            whole.slice(row, 1).column_by_name(POINTS).unwrap().to_data().slice(0, 1)
        );
    }
    let options: EvaluateOptions = serde_json::from_value(options()).unwrap();
    assert_eq!(options.build().unwrap().class(), Class::Pure);
    // A pixel has no SSIMULACRA2, and that is a null.
    let points = whole.column_by_name(POINTS).unwrap().as_list::<i32>().value(0);
    let ssimulacra2 = points.as_struct().column_by_name("ssimulacra2").unwrap();
    assert_eq!(ssimulacra2.null_count(), ssimulacra2.len());
    let psnr = points.as_struct().column_by_name("psnr").unwrap().as_primitive::<Float64Type>();
    assert_eq!(psnr.null_count(), 0);
}

#[test]
fn networks_tell_how_far_off_records_are() {
    let records = stripes(24, 23);
    let media: Vec<_> =
        records.iter().map(|record| (record.samples.clone(), example::FACTS)).collect();
    let labels: Vec<u32> = records.iter().map(|record| record.class).collect();
    let batch = pictures(&media, &labels);
    let [one, other] = [example::model(), example::other_model()].map(|m| m.display().to_string());
    let options = |times: bool| -> EvaluateOptions {
        serde_json::from_value(serde_json::json!({
            "column": "image", "codecs": ["png", "jpeg"], "metrics": ["psnr"], "times": times,
            "models": [{ "model": one }, { "model": other }],
            "task": { "kind": "classify", "model": one, "label": "label" },
        }))
        .unwrap()
    };
    let operator = options(false).build().unwrap();
    assert_eq!(operator.class(), Class::Journaled);
    assert_eq!(options(true).build().unwrap().class(), Class::Live);
    assert_eq!(operator.options()["models"][1]["sha256"].as_str().map(str::len), Some(64));
    assert!(operator.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).is_err());
    let journaled = operator.journaled().unwrap();
    let decision = journaled.decide(std::slice::from_ref(&batch)).unwrap();
    assert_eq!(decision, journaled.decide(&[batch.slice(0, 24)]).unwrap());
    let weighting: Weighting = serde_json::from_slice(&decision).unwrap();
    assert_eq!(weighting.pairs, 24 * 4);
    assert!(weighting.told.contains("stripes by how its logits change"), "{}", weighting.told);
    let decided = journaled.decided(&decision).unwrap();
    assert!(decided.journaled().is_none() && journaled.decided(b"{}").is_err());
    let outcome = decided.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(outcome.records.schema(), operator.output(&[batch.schema()]).unwrap());
    assert!(bytes_fit(&operator, &batch, &outcome.records));
    let mut summary = Summary::default();
    summary.add(&outcome.records).unwrap();
    let tried = |name: &str| summary.settings().iter().find(|tried| tried.name() == name).unwrap();
    let far = |name: &str| tried(name).metrics["feature_distance"];
    assert_eq!((far("png").mean(), far("png").count()), (0.0, 24));
    assert!(far("jpeg 5").mean() > 2.0 * far("jpeg 90").mean(), "{:?}", far("jpeg 5"));
    let pairs =
        summary.settings().iter().map(|t| (t.metrics["feature_distance"].mean(), t.score.mean()));
    assert!(correlation(&pairs.collect::<Vec<_>>()).unwrap().r < -0.5);
    let page = summary.html("Stripes");
    assert!(page.contains("<h2>feature distance over bytes</h2>"));
    assert!(page.contains("<tr><td>feature distance</td><td>-0."));
    // A record alone is as far off as among others.
    let alone = decided.invoke(batch.slice(7, 1), &Allocation::PLAIN, &Context::plain()).unwrap();
    assert_eq!(alone.records, outcome.records.slice(7, 1));
    // With few records layers count alike, and the decision says so.
    let few = journaled.decide(&[batch.slice(0, 2)]).unwrap();
    let few: Weighting = serde_json::from_slice(&few).unwrap();
    assert!(few.told.contains("alike, since too few pairs"), "{}", few.told);
}

#[test]
fn sounds_are_evaluated_too() {
    let example = Example::sound(Pcm::S16, 1, 4000);
    let column = media::column(vec![Some(example.samples.as_slice()), None], vec![None; 2]);
    let mut fields = vec![media::field("audio", Modality::Audio, media::State::Decoded)];
    fields.extend(media::fact_fields("audio", Modality::Audio));
    let twice = |number: i32| Arc::new(Int32Array::from(vec![number; 2])) as ArrayRef;
    let columns: Vec<ArrayRef> = fields[1..]
        .iter()
        .map(|field| match field.name().as_str() {
            "audio_encoding" => Arc::new(StringArray::from(vec!["pcm_s16le"; 2])) as ArrayRef,
            "audio_sample_rate" => twice(8000),
            "audio_channels" => twice(1),
            _ => Arc::new(arrow::array::Int64Array::from(vec![4000; 2])),
        })
        .collect();
    let mut all: Vec<ArrayRef> = vec![Arc::new(column)];
    all.extend(columns);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), all).unwrap();
    let rows =
        evaluated(serde_json::json!({ "column": "audio", "codecs": ["wav", "opus"] }), &batch);
    assert!(rows.column_by_name(POINTS).unwrap().is_null(1));
    let mut summary = Summary::default();
    summary.add(&rows).unwrap();
    assert_eq!(summary.records(), 1);
    let tried = |name: &str| summary.settings().iter().find(|tried| tried.name() == name).unwrap();
    assert_eq!(tried("wav").metrics["si_sdr"].mean(), f64::INFINITY);
    assert!(tried("opus 96").metrics["si_sdr"].mean() > tried("opus 6").metrics["si_sdr"].mean());
    assert!(tried("opus 6").bytes.mean() * 2.0 < tried("wav").bytes.mean());
    assert!(summary.html("A tone").contains("SI-SDR"));
}

#[test]
fn options_that_evaluate_nothing_are_told() {
    let told = |json: serde_json::Value| {
        let options: EvaluateOptions = serde_json::from_value(json).unwrap();
        options.build().err().map(|error| error.0).unwrap()
    };
    assert!(
        told(serde_json::json!({ "column": "a", "metrics": ["pnsr"] }))
            .contains("did you mean \"psnr\"?")
    );
    assert!(
        told(serde_json::json!({ "column": "a", "codecs": ["mp3"] }))
            .contains("only one that decodes")
    );
    assert!(
        told(serde_json::json!({ "column": "a", "metrics": ["feature_distance"] }))
            .contains("needs networks")
    );
    let one = example::model().display().to_string();
    let models = |models: &[&str]| {
        let models: Vec<_> = models.iter().map(|m| serde_json::json!({ "model": m })).collect();
        serde_json::json!({ "column": "a", "models": models })
    };
    assert!(told(models(&[&one])).contains("two networks or more; found 1"));
    assert!(told(models(&[&one, &one])).contains("one network looked at twice"));
    assert!(told(models(&[&one, "/nowhere"])).contains("a network of `models`: "));
    let task = serde_json::json!({ "kind": "classify", "model": "/nowhere" });
    assert!(told(serde_json::json!({ "column": "a", "task": task })).contains("/nowhere"));
}

#[test]
fn a_task_that_is_right_by_degrees_is_paired_like_any_other() {
    let records = squares::squares(60, 41);
    let all: Vec<_> = records.iter().map(|r| (r.samples.clone(), squares::FACTS)).collect();
    let masks: Vec<_> = records.iter().map(|r| (r.mask.clone(), squares::FACTS)).collect();
    let (images, masks) = (pictures(&all, &[0; 60]), pictures(&masks, &[0; 60]));
    let renamed = masks.schema();
    let renamed = renamed.fields().iter().zip(masks.columns()).filter_map(|(field, column)| {
        let name = field.name().strip_prefix("image")?;
        let field = Field::clone(field).with_name(format!("mask{name}"));
        Some((Arc::new(field), Arc::clone(column)))
    });
    let (mut fields, mut columns) = (images.schema().fields().to_vec(), images.columns().to_vec());
    for (field, column) in renamed {
        fields.push(field);
        columns.push(column);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let task = serde_json::to_value(squares::options()).unwrap();
    let options = serde_json::json!({
        "column": "image", "codecs": ["png", "jpeg"], "metrics": ["psnr"], "task": task,
    });
    let rows = evaluated(options.clone(), &batch);
    assert!(rows.schema().fields().iter().all(|field| !field.name().starts_with("mask")));
    assert!(rows.column_by_name("label").is_some());
    let mut summary = Summary::default();
    summary.add(&rows).unwrap();
    let tried = |name: &str| summary.settings().iter().find(|tried| tried.name() == name).unwrap();
    assert_eq!(tried("png").loss().unwrap().mean, 0.0);
    let scores: Vec<f64> = summary.settings().iter().map(|tried| tried.score.mean()).collect();
    assert!(
        scores[0] > 0.85 && scores.iter().all(|score| (0.0..=1.0).contains(score)),
        "{scores:?}"
    );
    let lost = tried("jpeg 5").loss().unwrap();
    assert!(lost.low > 0.0 && lost.low < lost.mean && lost.mean < lost.high, "{lost:?}");
    let paired = scores[0] - tried("jpeg 5").score.mean();
    assert!((lost.mean - paired).abs() < 1e-9, "{paired}");
    // Without the column there is nothing to be right about.
    let operator = serde_json::from_value::<EvaluateOptions>(options).unwrap().build().unwrap();
    assert!(operator.output(&[images.schema()]).is_err());
}

#[test]
fn a_latent_codec_is_evaluated_beside_others() {
    let records = stripes(40, 61);
    let all: Vec<_> = records.iter().map(|r| (r.samples.clone(), example::FACTS)).collect();
    let mut fit = anabranch_models::latent::Fit::new(anabranch_models::latent::Options {
        channels: 20,
        step: Some(8.0),
        levels: Some(2),
        ..Default::default()
    });
    for record in &records {
        crate::codec::with_samples(&record.media(), |samples| fit.add(samples)).unwrap();
    }
    let file = std::env::temp_dir().join(format!("anabranch-evaluated-{}", std::process::id()));
    std::fs::write(&file, fit.finish().unwrap().to_bytes().unwrap()).unwrap();
    let options = serde_json::json!({
        "column": "image", "codecs": ["png"], "metrics": ["psnr"], "latent": { "artifact": file },
    });
    let rows = evaluated(options.clone(), &pictures(&all, &[0; 40]));
    let mut summary = Summary::default();
    summary.add(&rows).unwrap();
    let latents: Vec<_> = summary.settings().iter().filter(|of| of.codec == "latent").collect();
    assert!(latents.len() >= 8 && latents[0].step == Some(20), "{latents:?}");
    // Fewer channels are fewer bytes, and farther off.
    for pair in latents.windows(2) {
        assert!(pair[0].bytes.mean() > pair[1].bytes.mean());
        assert!(pair[0].metrics["psnr"].mean() >= pair[1].metrics["psnr"].mean());
    }
    let operator = serde_json::from_value::<EvaluateOptions>(options).unwrap().build().unwrap();
    assert!(operator.options()["latent"]["sha256"].is_string());
}

fn texts(texts: &[Option<&str>]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let labels: ArrayRef = Arc::new(Int32Array::from(vec![1; texts.len()]));
    RecordBatch::try_from_iter_with_nullable([("text", texts, true), ("label", labels, true)])
        .unwrap()
}

#[test]
fn honest_figures_texts_take_what_their_codecs_store_and_lose_nothing() {
    let long = "It was the best of times, it was the worst of times. ".repeat(30);
    let all = [Some(long.as_str()), None, Some("a"), Some("Gr\u{fc}\u{df}e")];
    let task = serde_json::json!({ "kind": "tokens", "model": example::gpt(256) });
    let options = serde_json::json!({ "column": "text", "task": task.clone() });
    let rows = evaluated(options, &texts(&all));
    assert!(rows.column_by_name("text").is_none() && rows.column_by_name("label").is_some());
    let points = rows.column_by_name(POINTS).unwrap().as_list::<i32>();
    assert!(points.is_null(1) && rows.column_by_name(SCORE).unwrap().is_null(1));
    let scores = rows.column_by_name(SCORE).unwrap().as_primitive::<Float64Type>();
    let judge = serde_json::from_value::<TaskOptions>(task).unwrap().build().unwrap();
    assert_eq!(judge.texts(&[&long])[0].as_ref().unwrap().score, scores.value(0));
    for (row, text) in all.iter().enumerate().filter_map(|(row, text)| Some((row, (*text)?))) {
        let points = points.value(row);
        let points = points.as_struct();
        let bytes = points.column_by_name("bytes").unwrap().as_primitive::<Int64Type>();
        let codecs = points.column_by_name("codec").unwrap().as_string::<i32>();
        let steps = points.column_by_name("step").unwrap().as_primitive::<Int32Type>();
        assert_eq!(points.len(), 18);
        for point in 0..points.len() {
            let stored = match codecs.value(point) {
                "zstd" => zstd::bulk::compress(text.as_bytes(), steps.value(point)).unwrap().len(),
                _ => {
                    let mut stream = Vec::new();
                    let level = bzip2::Compression::new(steps.value(point) as u32);
                    let mut reader = bzip2::read::BzEncoder::new(text.as_bytes(), level);
                    std::io::Read::read_to_end(&mut reader, &mut stream).unwrap();
                    stream.len()
                }
            };
            assert_eq!(bytes.value(point), stored as i64, "{}", codecs.value(point));
        }
    }
    let mut summary = Summary::default();
    summary.add(&rows).unwrap();
    assert_eq!((summary.records(), summary.codecs()), (3, vec!["zstd", "bzip2"]));
    for tried in summary.settings() {
        assert_eq!((tried.loss().unwrap().mean, tried.failed), (0.0, 0));
        assert!(tried.encode_seconds.mean() > 0.0);
    }
    let page = summary.html("Texts");
    assert!(page.contains("no setting loses anything") && !page.contains("<svg"), "{page}");
}

/// Nothing is fetched.
struct Nowhere;

impl Fetcher for Nowhere {
    fn fetch(&self, references: &[Reference], _: u64) -> Vec<Result<bytes::Bytes, FetchError>> {
        references.iter().map(|_| Ok(bytes::Bytes::new())).collect()
    }
}

#[test]
fn a_dictionary_is_decided_once_and_makes_short_texts_smaller() {
    let caption = |at: usize| {
        let colour = ["red", "green", "blue", "white", "violet"][at % 5];
        let thing = ["bicycle", "harbour", "meadow", "tram", "orchard", "kitchen"][at * 13 % 6];
        format!("A photograph of a {colour} {thing} taken in the afternoon, number {at}.")
    };
    let all: Vec<String> = (0..2_000).map(caption).collect();
    let batch = texts(&all.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>());
    let json = serde_json::json!({
        "column": "text", "codecs": ["zstd"], "dictionary": "64KiB", "times": false,
    });
    let options: EvaluateOptions = serde_json::from_value(json).unwrap();
    let operator = options.build().unwrap();
    assert_eq!(operator.class(), Class::Journaled);
    assert!(operator.invoke(batch.clone(), &Allocation::PLAIN, &Context::plain()).is_err());
    let journaled = operator.journaled().unwrap();
    assert!(journaled.sample().records >= 2_000);
    let decision = journaled.decide(std::slice::from_ref(&batch)).unwrap();
    let decided = journaled.decided(&decision).unwrap();
    assert_eq!(decided.class(), Class::Pure);
    let new = texts(&[Some("A photograph of a green orchard taken in the afternoon, number x.")]);
    let run = |operator: &Arc<dyn Operator>| {
        let rows = operator.invoke(new.clone(), &Allocation::PLAIN, &Context::plain()).unwrap();
        let mut summary = Summary::default();
        summary.add(&rows.records).unwrap();
        summary
    };
    let summary = run(&decided);
    let tried = |name: &str| summary.settings().iter().find(|tried| tried.name() == name).unwrap();
    let (with, without) = (tried("zstd_dictionary 9"), tried("zstd 9"));
    assert!(with.bytes.mean() * 2.0 < without.bytes.mean(), "{with:?} {without:?}");
    // Too little to learn from is no dictionary.
    let none = run(&journaled.decided(&[]).unwrap());
    assert_eq!(none.codecs(), ["zstd"]);
    assert!(journaled.decided(b"no dictionary").is_err());
    let cancelled = Context::new(Arc::new(Nowhere), Arc::new(true.into()));
    let stopped = decided.invoke(new, &Allocation::PLAIN, &cancelled);
    assert!(matches!(stopped, Err(OperatorError::Cancelled)), "{stopped:?}");
}

#[test]
fn what_texts_cannot_be_asked_is_told() {
    let output = |json: serde_json::Value, batch: &RecordBatch| {
        let options: EvaluateOptions = serde_json::from_value(json).unwrap();
        options.build().unwrap().output(&[batch.schema()]).err().map(|error| error.to_string())
    };
    let (words, stripe) = (texts(&[Some("a")]), stripes(1, 1).remove(0));
    let picture = pictures(&[(stripe.samples, example::FACTS)], &[0]);
    let json = serde_json::json!({ "column": "text", "codecs": ["jpeg"] });
    assert!(output(json, &words).unwrap().contains("for no text"));
    let json = serde_json::json!({ "column": "image", "codecs": ["zstd"] });
    assert!(output(json, &picture).unwrap().contains("\"zstd\", which is for texts"));
    let told = |json: serde_json::Value| {
        let options: EvaluateOptions = serde_json::from_value(json).unwrap();
        options.build().err().map(|error| error.0).unwrap()
    };
    let typo = told(serde_json::json!({ "column": "text", "codecs": ["zstd", "bzip"] }));
    assert!(typo.contains("\"bzip\"") && typo.contains("\"bzip2\""), "{typo}");
    let json = serde_json::json!({ "column": "text", "codecs": ["bzip2"], "dictionary": "1KiB" });
    assert!(told(json).contains("does not name \"zstd\""));
    let json = serde_json::json!({ "column": "image", "dictionary": "64KiB" });
    assert!(output(json, &picture).unwrap().contains("`dictionary` is for texts"));
    let task = serde_json::json!({ "kind": "classify", "model": example::model() });
    let json = serde_json::json!({ "column": "text", "task": task });
    assert!(output(json, &words).unwrap().contains("about image"));
    assert_eq!(output(serde_json::json!({ "column": "text" }), &words), None);
    let json = serde_json::json!({ "column": "text", "metrics": ["psnr"] });
    assert!(output(json, &words).unwrap().contains("comes back as it was"));
    let numbers = output(serde_json::json!({ "column": "label" }), &words).unwrap();
    assert!(numbers.contains("of type Int32") && numbers.contains("or text"), "{numbers}");
    assert!(told(serde_json::json!({ "column": "text", "codecs": [] })).contains("names none"));
    // What the task cannot take is a dead letter.
    let task = serde_json::json!({ "kind": "tokens", "model": example::gpt(256) });
    let options: EvaluateOptions =
        serde_json::from_value(serde_json::json!({ "column": "text", "task": task })).unwrap();
    let batch = texts(&[Some(""), Some("ab")]);
    let outcome = options.build().unwrap().invoke(batch, &Allocation::PLAIN, &Context::plain());
    let outcome = outcome.unwrap();
    assert_eq!((outcome.records.num_rows(), outcome.refused.len()), (1, 1));
    assert!(outcome.refused[0].error.contains("empty"), "{}", outcome.refused[0].error);
}
