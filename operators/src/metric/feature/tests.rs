//! Nothing is no distance, and worse photos are farther off.

use std::path::PathBuf;

use anabranch_models::artifact::architecture::{
    Architecture, AudioTokens, FeedForward, Head, Inputs,
};
use anabranch_models::engine::example::random;

use super::*;
use crate::codec::{Limits, Setting, named};
use crate::round_trip::RoundTrip;
use crate::task::example::{self, stripes};
use crate::task::{open, tones};

fn artifact(folder: &std::path::Path) -> Artifact {
    open(&folder.display().to_string(), None).unwrap().0
}

/// Of two models that were taught to tell stripes apart.
fn distance() -> FeatureDistance {
    let networks = [example::model(), example::other_model()];
    FeatureDistance::new(networks.map(|folder| (artifact(folder), None)).into()).unwrap()
}

fn photos() -> Vec<(Vec<u8>, Facts)> {
    let data = std::env::var_os("ANABRANCH_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let read = |name: &str| {
        let bytes = std::fs::read(data.join("photos").join(name)).ok()?;
        let mut samples = Vec::new();
        let facts = named("png").unwrap().decode(&bytes, &Limits::default(), &mut samples);
        Some((samples, facts.unwrap()))
    };
    ["kodim03.png", "kodim08.png"].into_iter().filter_map(read).collect()
}

#[test]
fn what_is_identical_is_at_no_distance_and_worse_photos_are_farther_off() {
    let distance = distance();
    for (samples, facts) in photos() {
        let original = Media { samples: &samples, facts };
        let seen = distance.seen(&original).unwrap();
        assert_eq!(distance.to(&seen, &original).unwrap(), 0.0);
        let mut room = RoundTrip::default();
        let found = [95, 75, 40, 15, 4].map(|quality| {
            let setting = Setting::of(named("jpeg").unwrap(), Some(quality));
            let facts = room.go(setting, &original).unwrap();
            distance.to(&seen, &room.media(facts)).unwrap()
        });
        let grows = found.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(grows && found[0] > 0.0 && found[4] < 4.0, "{found:?}");
    }
}

#[test]
fn weights_are_fitted_where_pairs_say_so() {
    let distance = distance();
    let records = stripes(40, 31);
    let mut room = RoundTrip::default();
    let mut pairs = Vec::new();
    for (record, quality) in records.iter().zip([60, 30, 10, 3].into_iter().cycle()) {
        let seen = distance.seen(&record.media()).unwrap();
        let setting = Setting::of(named("jpeg").unwrap(), Some(quality));
        let facts = room.go(setting, &record.media()).unwrap();
        pairs.push(distance.changes(&seen, &room.media(facts)).unwrap());
    }
    let [one, deeper] = &distance.fit(&pairs)[..] else { panic!("two networks") };
    assert_eq!((one.layers.as_slice(), one.network.as_str()), ([1.0].as_slice(), "stripes"));
    assert_eq!(deeper.layers.len(), 2);
    assert!((deeper.layers.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{deeper:?}");
    assert!(one.explained.is_some() && deeper.explained.is_some_and(|share| share > 0.2));
    let weighed = distance.weighed(&[one.clone(), deeper.clone()]).unwrap();
    let seen = distance.seen(&records[0].media()).unwrap();
    assert_eq!(weighed.to(&seen, &records[0].media()).unwrap(), 0.0);
    // Too few pairs, and pairs of which nothing moved, leave them alike.
    let few = distance.fit(&pairs[..20]);
    assert!(few[0].explained.is_some() && few[1].explained.is_none());
    assert_eq!(few[1].layers, [0.5, 0.5]);
    let still = vec![distance.changes(&seen, &records[0].media()).unwrap(); 40];
    assert!(distance.fit(&still).iter().all(|of| of.explained.is_none()));
    for wrong in [&few[..1], &[few[1].clone(), few[0].clone()]] {
        assert_eq!(distance.weighed(wrong).err(), Some(FeatureError::Weights));
    }
    let none = Weights { layers: vec![0.0], ..few[0].clone() };
    assert!(distance.weighed(&[none, few[1].clone()]).is_err());
}

#[test]
fn one_network_is_not_taken_for_two() {
    let one = || artifact(example::model());
    let new = |artifacts: Vec<Artifact>| {
        let networks = artifacts.into_iter().map(|artifact| (artifact, None)).collect();
        FeatureDistance::new(networks).err().map(|error| error.to_string()).unwrap()
    };
    assert!(new(vec![one()]).contains("found 1"));
    // A later moment of a training that began with the same seed is the same network.
    let mut later = one().card().clone();
    (later.name, later.training.steps) = ("later".to_owned(), 500);
    let tensors = one().card().architecture.tensors();
    let tensors = tensors.iter().map(|shape| {
        let tensor = one().tensor(&shape.name).unwrap().clone();
        (shape.name.clone(), tensor)
    });
    let later = Artifact::new(later, tensors.collect()).unwrap();
    let told = new(vec![one(), artifact(example::other_model()), later]);
    assert!(told.contains("`stripes` and `later`") && told.contains("another seed"), "{told}");
}

#[test]
fn sounds_are_compared_by_networks_of_their_spectra() {
    let spectrum = tones::options().spectrum;
    let tokens = AudioTokens { bands: 16, frames: 4, frames_per_token: 2 };
    let other = random(&Architecture {
        width: 8,
        heads: 2,
        layers: 2,
        inputs: Inputs::Modalities { image: None, audio: Some(tokens), text: None },
        head: Head::Classes(3),
        feed_forward: FeedForward::Mlp { hidden: 16 },
    })
    .unwrap();
    let networks = || vec![(artifact(tones::model()), spectrum), (other.clone(), spectrum)];
    let distance = FeatureDistance::new(networks()).unwrap();
    assert_eq!(distance.modality(), Modality::Audio);
    let tone = tones::tones(1, 5).remove(0);
    let seen = distance.seen(&tone.media()).unwrap();
    assert_eq!(distance.to(&seen, &tone.media()).unwrap(), 0.0);
    let halved: Vec<u8> = tone
        .samples
        .chunks_exact(2)
        .flat_map(|sample| (i16::from_le_bytes([sample[0], sample[1]]) / 256 * 256).to_le_bytes())
        .collect();
    assert!(distance.to(&seen, &Media { samples: &halved, facts: tone.facts() }).unwrap() > 0.0);
    // Pictures are nothing to them, and networks of pictures nothing beside them.
    let picture = stripes(1, 1).remove(0);
    assert!(distance.seen(&picture.media()).is_err());
    assert!(matches!(
        distance.to(&seen, &picture.media()),
        Err(FeatureError::Metric(MetricError::Unlike { .. }))
    ));
    let mut mixed = networks();
    mixed[1] = (artifact(example::model()), None);
    let told = FeatureDistance::new(mixed).err().unwrap().to_string();
    assert!(told.contains("`stripes`") && told.contains("others are about audio"), "{told}");
}
