//! The pictures of CIFAR-10 that are here, the small model that learns them, and latent codecs for them.

use std::error::Error;
use std::path::Path;

use anabranch_models::artifact::architecture::{
    Architecture, FeedForward, Head, ImageTokens, Inputs,
};
use anabranch_models::latent::{Decoder, Fit, Media as Samples, Options, Training};
use anabranch_operators::codec::{Facts, Latent, Media};
use anabranch_operators::evaluate::{Labelled, Proxy};

use crate::data;
use crate::network::Network;

/// Pixels of a side.
pub(crate) const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// What a picture is.
pub(crate) const FACTS: Facts =
    Facts::Image { width: SIDE as u32, height: SIDE as u32, channels: 3 };
/// Positions of a side of latents, for blocks of 4 x 4 pixels.
pub(crate) const POSITIONS: usize = 8;
/// Steps of the small model, and of codecs' gradients.
pub(crate) const STEPS: u64 = 1000;
const GRADIENT_STEPS: u64 = 400;
/// Steps of a network that judges.
pub(crate) const JUDGED: u64 = 4000;

/// The pixel-exact records: the first 4,000 training pictures. Every fourth one tests.
pub(crate) fn exact() -> Result<[Vec<Labelled>; 2], Box<dyn Error>> {
    let all = records("exact_train_0000-3999.bin")?;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (at, record) in all.into_iter().enumerate() {
        if at % 4 == 3 { &mut test } else { &mut train }.push(record);
    }
    Ok([train, test])
}

/// 10,000 more, which were decoded from JPEG: for training and speed, never for rates.
pub(crate) fn lossy() -> Result<Vec<Labelled>, Box<dyn Error>> {
    records("jpegq75_data_batch_2.bin")
}

fn records(file: &str) -> Result<Vec<Labelled>, Box<dyn Error>> {
    let bytes = std::fs::read(data().join("cifar10").join(file))?;
    let record = |record: &[u8]| {
        let (label, planes) = record.split_first()?;
        let (red, rest) = planes.split_at_checked(PLANE)?;
        let (green, blue) = rest.split_at_checked(PLANE)?;
        let pixels = red.iter().zip(green).zip(blue);
        let samples = pixels.flat_map(|((red, green), blue)| [*red, *green, *blue]).collect();
        Some(Labelled { samples, class: u32::from(*label) })
    };
    Ok(bytes.chunks_exact(1 + 3 * PLANE).filter_map(record).collect())
}

pub(crate) fn media(record: &Labelled) -> Media<'_> {
    Media { samples: &record.samples, facts: FACTS }
}

/// A latent codec learned from these pictures, with the decoder that is closest to originals, and the bytes of its file.
pub(crate) fn latent(
    records: &[Labelled],
    channels: usize,
    step: f64,
) -> Result<(Latent, usize), Box<dyn Error>> {
    let training = Training { steps: GRADIENT_STEPS, decoder: Decoder::Residual, seed: 1 };
    let mut fit = Fit::new(Options { channels, step: Some(step), levels: Some(2), training });
    let (width, height) = (SIDE as u32, SIDE as u32);
    for Labelled { samples, .. } in records {
        fit.add(&Samples::Picture { width, height, channels: 3, samples })?;
    }
    let file = fit.finish()?.to_bytes()?;
    Ok((Latent::from_bytes(&file)?, file.len()))
}

/// A vision transformer of two blocks, 64 wide, that sees a picture as 16 tokens.
pub(crate) fn model(side: usize, channels: usize) -> Proxy {
    let inputs = ImageTokens { height: side, width: side, channels, patch: side / 4 };
    Proxy {
        architecture: Architecture {
            width: 64,
            heads: 4,
            layers: 2,
            inputs: Inputs::Image(inputs),
            head: Head::Classes(10),
            feed_forward: FeedForward::Mlp { hidden: 256 },
        },
        steps: STEPS,
        batch: 32,
        rate: 2e-3,
        seeds: Vec::new(),
    }
}

/// Trains a network of the same sizes on these pictures, mirrored or not, and saves it into a folder.
pub(crate) fn train_on(
    records: &[Labelled],
    seed: u64,
    steps: u64,
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    let Proxy { architecture, batch, rate, .. } = model(SIDE, 3);
    let network = Network { name: "pictures", architecture, batch, rate, steps, seed };
    network.train(folder, |random| {
        let record = records.get(random.below(records.len())).ok_or("no record to train on")?;
        let pixels = record.samples.chunks_exact(3);
        let mirrored = random.below(2) == 1;
        let row = |row: &[&[u8]]| -> Vec<u8> {
            let pixels: Vec<&[u8]> = match mirrored {
                true => row.iter().rev().copied().collect(),
                false => row.to_vec(),
            };
            pixels.concat()
        };
        let samples: Vec<u8> = pixels.collect::<Vec<_>>().chunks(SIDE).flat_map(row).collect();
        // As the task `classify` makes them.
        let values = samples.iter().map(|sample| f32::from(*sample) / 127.5 - 1.0);
        Ok((values.collect(), vec![record.class]))
    })?;
    Ok(())
}
