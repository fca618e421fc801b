//! A latent codec that is tried beside others.

use std::path::{Path, PathBuf};

use super::*;
use crate::DecodeOptions;
use crate::codec::Latent;
use crate::conformance::graph;
use anabranch_models::latent::artifact::hash;
use anabranch_models::latent::{Fit, Options};
use anabranch_pipelines::operator::{FetchError, Fetcher};
use anabranch_pipelines::record::Reference;
use bytes::Bytes;

/// The file of a codec that was learned from stripes.
fn learned(name: &str, channels: u8) -> PathBuf {
    let options = Options {
        channels: channels.into(),
        step: Some(12.0),
        levels: Some(2),
        ..Options::default()
    };
    let mut fit = Fit::new(options);
    for record in stripes(100, 71) {
        crate::codec::with_samples(&record.media(), |samples| fit.add(samples)).unwrap();
    }
    let folder = std::env::temp_dir().join(format!("anabranch-latents-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(name);
    std::fs::write(&file, fit.finish().unwrap().to_bytes().unwrap()).unwrap();
    file
}

/// A store that holds one file, whatever it is asked for.
struct Shelf(Vec<u8>);

impl Fetcher for Shelf {
    fn fetch(&self, references: &[Reference], _: u64) -> Vec<Result<Bytes, FetchError>> {
        references.iter().map(|_| Ok(Bytes::from(self.0.clone()))).collect()
    }
}

fn with_latent(file: &Path, more: &str) -> String {
    let file = file.display();
    format!(r#", "codecs": ["png", "latent"], "latent": {{ "artifact": "{file}"{more} }}"#)
}

#[test]
fn a_latent_codec_is_chosen_where_it_is_small_and_loses_little() {
    let file = learned("chosen", 24);
    let extra = with_latent(&file, "");
    let auto = Auto::new(options(&extra)).unwrap();
    let found = hash(&std::fs::read(&file).unwrap());
    assert_eq!(auto.options().latent.as_ref().unwrap().sha256.as_deref(), Some(found.as_str()));

    let json = serde_json::json!({
        "column": "image", "codec": serde_json::to_value(options(&extra)).unwrap(),
    });
    let operator = serde_json::from_value::<EncodeOptions>(json).unwrap().build().unwrap();
    let records = stripes(2_000, 11);
    let batch = entering(&batch(&records, None));
    let (acting, decision) = decided(&operator, &batch);
    assert_eq!((decision.codec.as_str(), &decision.latent), ("latent", &auto.options().latent));
    assert!(decision.step.is_some_and(|channels| channels < 24), "{}", decision.told);
    assert!(decision.told.contains("latent, channels"), "{}", decision.told);
    let sizes = decision.sizes.unwrap();
    assert!(sizes.chosen * 2.0 < sizes.lossless, "{sizes:?}");

    // What is stored is what was tested, and the file reads it.
    let setting = decision.setting(auto.latent).unwrap();
    assert!(losses(&auto, setting, &stripes(1_000, 12)).mean() < 0.01);
    let reader = Latent::from_bytes(&std::fs::read(&file).unwrap()).unwrap();
    let (mut room, rows) = (RoundTrip::default(), invoke(&acting, &batch));
    for (record, (bytes, codec)) in records.iter().zip(stored(&rows)).step_by(97) {
        assert_eq!(codec, "latent");
        room.go(setting, &record.media()).unwrap();
        let mut samples = Vec::new();
        let facts = reader.decode(&bytes, &Limits::default(), &mut samples).unwrap();
        assert_eq!((facts, bytes, samples), (FACTS, room.bytes.clone(), room.samples.clone()));
    }
    // The decision holds it for who reads the table.
    let json = r#"{ "column": "image", "codecs": ["memory://table/decision"] }"#;
    let decode = serde_json::from_str::<DecodeOptions>(json).unwrap().build().unwrap();
    let shelf = Arc::new(Shelf(serde_json::to_vec(&decision).unwrap()));
    let context = Context::new(shelf, Arc::default());
    let back = decode.invoke(rows.slice(0, 9), &Allocation::PLAIN, &context).unwrap();
    assert_eq!((back.records.num_rows(), back.refused), (9, vec![]));
    // A decision of a job that had the file means nothing to one that has another, or none.
    let without = Auto::new(options(r#", "codecs": ["png", "webp"]"#)).unwrap();
    assert!(without.acting(&decision).is_err_and(|told| told.contains("this job names none")));
    let other = Auto::new(options(&with_latent(&learned("other", 20), ""))).unwrap();
    assert!(other.acting(&decision).is_err_and(|told| told.contains(&found)));
}

#[test]
fn records_are_protected_by_more_channels_on_any_number_of_workers() {
    let extra = with_latent(&learned("graph", 24), "")
        + r#", "max_loss": "40%", "protect": "34%", "shadow": "20%""#;
    let json = serde_json::json!({
        "column": "image", "codec": serde_json::to_value(options(&extra)).unwrap(),
    });
    let operator = serde_json::from_value::<EncodeOptions>(json).unwrap().build().unwrap();
    let batch = entering(&batch(&stripes(160, 46), None));
    let schema = operator.output(&[batch.schema()]).unwrap();
    // A run decides by its first part.
    let (acting, decision) = decided(&operator, &batch.slice(0, 32));
    let protected = decision.protected.clone().unwrap();
    assert_eq!((decision.codec.as_str(), protected.codec.as_str()), ("latent", "latent"));
    assert!(protected.step > decision.step, "{decision:?}");
    let expected = invoke(&acting, &batch);
    for (workers, size) in [(1, 64), (4, 7)] {
        let delivered = graph::run(&operator, &batch, &schema, (workers, size)).unwrap();
        assert_eq!((delivered.refused, &delivered.records), (vec![], &expected));
    }
}

#[test]
fn files_become_latents_where_that_is_smaller() {
    let extra = with_latent(&learned("files", 24), "") + r#", "max_loss": "5%""#;
    let json = serde_json::json!({
        "column": "image", "codec": serde_json::to_value(options(&extra)).unwrap(),
    });
    let operator = serde_json::from_value::<TranscodeOptions>(json).unwrap().build().unwrap();
    let files = entering(&batch(&stripes(700, 43), Some(("png", None))));
    let (acting, decision) = decided(&operator, &files);
    assert_eq!(decision.codec, "latent", "{}", decision.told);
    for ((before, _), (after, codec)) in stored(&files).iter().zip(stored(&invoke(&acting, &files)))
    {
        assert!(after.len() < before.len() && codec == "latent");
    }
}

#[test]
fn latent_codecs_that_cannot_be_tried_are_told() {
    let file = learned("told", 24);
    let told = |extra: &str| Auto::new(options(extra)).err().map(|error| error.0).unwrap();
    let unnamed = told(r#", "codecs": ["png", "latent"]"#);
    assert!(unnamed.contains("latent = { artifact"), "{unnamed}");
    let other = told(&with_latent(&file, r#", "sha256": "00ff""#));
    assert!(other.contains("not 00ff"), "{other}");
    let gone = told(&with_latent(Path::new("/nowhere/latent"), ""));
    assert!(gone.contains("/nowhere/latent"), "{gone}");
    let remote = told(&with_latent(Path::new("s3://bucket/latent"), ""));
    assert!(remote.contains("local copy"), "{remote}");
    let none = std::env::temp_dir().join(format!("anabranch-no-latent-{}", std::process::id()));
    std::fs::write(&none, b"no codec").unwrap();
    let damaged = told(&with_latent(&none, ""));
    assert!(damaged.contains("anabranch-no-latent"), "{damaged}");
    let model = tones::model().display();
    let sounds = format!(
        r#"{{ "auto": "classify", "model": "{model}", "label": "label", "spectrum": {{ "rate": 8000 }},
             "latent": {{ "artifact": "{}" }} }}"#,
        file.display()
    );
    let sounds = Auto::new(serde_json::from_str(&sounds).unwrap()).err().unwrap().0;
    assert!(sounds.contains("is one of image"), "{sounds}");
    let beside = serde_json::json!({
        "column": "image", "artifact": file, "codec": serde_json::to_value(options("")).unwrap(),
    });
    let beside = serde_json::from_value::<EncodeOptions>(beside).unwrap().build().err().unwrap().0;
    assert!(beside.contains("latent = { artifact"), "{beside}");
}
