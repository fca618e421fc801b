//! Q_train: what a model loses that is trained on decoded records and tested on originals. Q_latent: what it loses that
//! is trained and tested on latents.
//!
//! The unit is a training, not a record: the same small model is trained twice from each seed, on originals and on
//! what came back of them, with the same initial weights and the same order of records, and both are tested on
//! originals. The loss of a seed is the difference of the two accuracies; the interval is Student's over seeds.
//!
//! ```
//! use anabranch_models::artifact::architecture::{
//!     Architecture, FeedForward, Head, ImageTokens, Inputs,
//! };
//! use anabranch_operators::evaluate::{Labelled, Proxy, q_train};
//!
//! // Black is 0, white is 1; a codec gives both back as they were.
//! let picture = |grey: u8, class| Labelled { samples: vec![grey; 16], class };
//! let originals: Vec<Labelled> = (0..64).map(|i| picture(255 * (i % 2) as u8, i % 2)).collect();
//! let decoded = originals.clone();
//! let proxy = Proxy {
//!     architecture: Architecture {
//!         width: 8,
//!         heads: 1,
//!         layers: 1,
//!         inputs: Inputs::Image(ImageTokens { height: 4, width: 4, channels: 1, patch: 4 }),
//!         head: Head::Classes(2),
//!         feed_forward: FeedForward::None,
//!     },
//!     steps: 30,
//!     batch: 16,
//!     rate: 1e-2,
//!     seeds: vec![1, 2, 3],
//! };
//! let loss = q_train(&proxy, &originals, &decoded, &originals)?;
//! assert_eq!((loss.mean, loss.interval), (0.0, [0.0, 0.0]));
//! # Ok::<(), anabranch_operators::evaluate::ProxyError>(())
//! ```

use anabranch_models::artifact::architecture::{Architecture, ArchitectureError};
use anabranch_models::random::Random;
use anabranch_models::train::{Batch, Options, TrainError, Trainer, evaluate};
use anabranch_models::transformer::{Input, InputError, Start, Transformer};
use thiserror::Error;

use crate::brightness::brightness;

/// Records that are tested at once.
const TESTED: usize = 100;

/// Two-sided 95 % quantiles of Student's distribution, of 1 degree of freedom and more.
const STUDENT: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
/// Beyond those, that of 11 degrees of freedom: never too narrow.
const STUDENT_BEYOND: f64 = 2.201;

/// A picture of the model's size and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// 8-bit samples, by row, column, channel.
    pub samples: Vec<u8>,
    /// The right class.
    pub class: u32,
}

/// The small model that stands for a large one, and how it is trained.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its sizes: pictures in, classes out.
    pub architecture: Architecture,
    /// Steps of a training.
    pub steps: u64,
    /// Records of a step.
    pub batch: usize,
    /// The largest learning rate.
    pub rate: f32,
    /// A training on originals and one on decoded records for each; two at least.
    pub seeds: Vec<u64>,
}

/// A loss over paired trainings.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedLoss {
    /// Accuracies of the model that was trained on originals, and of the other one, for each seed.
    pub seeds: Vec<[f64; 2]>,
    /// The mean difference, above 0 when the other one loses something.
    pub mean: f64,
    /// Its 95 % interval over seeds.
    pub interval: [f64; 2],
}

impl SeedLoss {
    /// The loss of these pairs of accuracies.
    ///
    /// # Errors
    /// Fewer than two.
    pub fn of(seeds: Vec<[f64; 2]>) -> Result<Self, ProxyError> {
        if seeds.len() < 2 {
            return Err(ProxyError::Seeds { found: seeds.len() });
        }
        let count = seeds.len() as f64;
        let losses: Vec<f64> = seeds.iter().map(|[original, other]| original - other).collect();
        let mean = losses.iter().sum::<f64>() / count;
        let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let quantile = STUDENT.get(seeds.len() - 2).copied().unwrap_or(STUDENT_BEYOND);
        let half = quantile * (variance / count).sqrt();
        Ok(Self { seeds, mean, interval: [mean - half, mean + half] })
    }
}

/// Why there is no such loss.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// One seed tells nothing of how much seeds differ.
    #[error("{found} seeds give no interval; give two at least")]
    Seeds {
        /// Seeds that were given.
        found: usize,
    },
    /// Decoded records that are not those of the originals, one for one.
    #[error(
        "there are {original} originals and {decoded} decoded records; leave out of both what a codec refuses"
    )]
    Unpaired {
        /// Originals.
        original: usize,
        /// Decoded records.
        decoded: usize,
    },
    /// No record to train on, or none to test on.
    #[error("there is no record to {0}")]
    Empty(&'static str),
    /// Sizes that do not fit each other.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// A training that failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Records that the model cannot take.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// Trains on originals and on decoded records, and tests both on originals that neither was trained on.
///
/// # Errors
/// When there are too few seeds or no records, or the model cannot take them.
pub fn q_train(
    proxy: &Proxy,
    original: &[Labelled],
    decoded: &[Labelled],
    test: &[Labelled],
) -> Result<SeedLoss, ProxyError> {
    if proxy.seeds.len() < 2 {
        return Err(ProxyError::Seeds { found: proxy.seeds.len() });
    }
    if original.len() != decoded.len() {
        return Err(ProxyError::Unpaired { original: original.len(), decoded: decoded.len() });
    }
    let mut seeds = Vec::new();
    for seed in &proxy.seeds {
        seeds.push([
            trained_accuracy(proxy, *seed, original, test)?,
            trained_accuracy(proxy, *seed, decoded, test)?,
        ]);
    }
    SeedLoss::of(seeds)
}

/// What a model loses that is trained and tested on latents, against the same one on pixels: **Q_latent**. Both proxies
/// have the same seeds; `inputs` of the second fit [latents as samples](super::latent_samples), e.g. a patch for every
/// position where the first has one for every block of pixels, so that both see as many tokens.
///
/// # Errors
/// As [`q_train`].
pub fn q_latent(
    [pixels, latents]: [&Proxy; 2],
    [original, train]: [&[Labelled]; 2],
    [original_test, test]: [&[Labelled]; 2],
) -> Result<SeedLoss, ProxyError> {
    for (one, other) in [(original, train), (original_test, test)] {
        if one.len() != other.len() {
            return Err(ProxyError::Unpaired { original: one.len(), decoded: other.len() });
        }
    }
    let seeds = pixels.seeds.iter().map(|seed| {
        let on_pixels = trained_accuracy(pixels, *seed, original, original_test)?;
        Ok([on_pixels, trained_accuracy(latents, *seed, train, test)?])
    });
    SeedLoss::of(seeds.collect::<Result<_, ProxyError>>()?)
}

/// The accuracy on the test of a model that was trained on these records from this seed: one of the trainings that
/// [`SeedLoss::of`] pairs.
///
/// # Errors
/// When there are no records, or the model cannot take them.
pub fn trained_accuracy(
    proxy: &Proxy,
    seed: u64,
    records: &[Labelled],
    test: &[Labelled],
) -> Result<f64, ProxyError> {
    accuracy(&trained(proxy, seed, records)?, test)
}

/// The model that learned these records from this seed.
///
/// # Errors
/// When there are no records, or the model cannot take them.
pub fn trained(proxy: &Proxy, seed: u64, records: &[Labelled]) -> Result<Transformer, ProxyError> {
    if records.is_empty() {
        return Err(ProxyError::Empty("train on"));
    }
    let model = Transformer::to_train(&proxy.architecture, &Start::default(), seed)?;
    let options = Options {
        rate: proxy.rate,
        steps: proxy.steps,
        warm_up: proxy.steps / 20,
        seed,
        ..Options::default()
    };
    let mut trainer = Trainer::new(model, options);
    // The same records in the same order, whichever they are.
    let order = &mut Random::new(!seed);
    for _ in 0..proxy.steps {
        let drawn = (0..proxy.batch).filter_map(|_| records.get(order.below(records.len())));
        trainer.step(&batch(drawn))?;
    }
    Ok(trainer.trained())
}

/// Of how many of these records a model tells the class.
///
/// # Errors
/// When there are none, or the model cannot take them.
pub fn accuracy(model: &Transformer, test: &[Labelled]) -> Result<f64, ProxyError> {
    if test.is_empty() {
        return Err(ProxyError::Empty("test on"));
    }
    let batches: Vec<Batch> = test.chunks(TESTED).map(|chunk| batch(chunk.iter())).collect();
    Ok(evaluate(model, &batches)?.accuracy)
}

fn batch<'a>(records: impl Iterator<Item = &'a Labelled>) -> Batch {
    let (mut values, mut targets) = (Vec::new(), Vec::new());
    for record in records {
        values.extend(brightness(&record.samples));
        targets.push(record.class);
    }
    Batch { input: Input::Images(values), targets }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::example::{architecture, stripes};

    fn proxy() -> Proxy {
        Proxy { architecture: architecture(), steps: 40, batch: 32, rate: 8e-3, seeds: vec![1, 2] }
    }

    fn labelled(count: usize, seed: u64) -> Vec<Labelled> {
        let records = stripes(count, seed).into_iter();
        records.map(|record| Labelled { samples: record.samples, class: record.class }).collect()
    }

    #[test]
    fn what_comes_back_unchanged_loses_exactly_nothing_and_a_mean_colour_all() {
        let (originals, test) = (labelled(400, 31), labelled(200, 32));
        let same = q_train(&proxy(), &originals, &originals, &test).unwrap();
        assert_eq!((same.mean, same.interval), (0.0, [0.0; 2]));
        assert!(same.seeds.iter().all(|[accuracy, _]| *accuracy > 0.8), "{:?}", same.seeds);
        let mean = |record: &Labelled| {
            let sum: u64 = record.samples.iter().map(|sample| u64::from(*sample)).sum();
            let samples = vec![(sum / record.samples.len() as u64) as u8; record.samples.len()];
            Labelled { samples, class: record.class }
        };
        let grey: Vec<Labelled> = originals.iter().map(mean).collect();
        let lost = q_train(&proxy(), &originals, &grey, &test).unwrap();
        assert!(lost.mean > 0.3 && lost.interval[0] < lost.mean, "{lost:?}");
    }

    #[test]
    fn a_model_learns_from_latents_what_it_learns_from_pixels_and_nothing_from_other_ones() {
        use anabranch_models::artifact::architecture::{Architecture, ImageTokens, Inputs};
        use anabranch_models::latent::{Codec, Fit, Media, Options, Scratch};

        use crate::evaluate::latent_samples;

        let (originals, test) = (labelled(400, 35), labelled(200, 36));
        let pixels = proxy();
        let Inputs::Image(sizes) = pixels.architecture.inputs else { panic!("it sees pictures") };
        let ImageTokens { height, width, channels, .. } = sizes;
        let media = |record: &'_ Labelled| -> Vec<u8> { record.samples.clone() };
        let picture = |samples: &'_ [u8]| -> (u32, u32, u16) {
            assert_eq!(samples.len(), height * width * channels);
            (width as u32, height as u32, channels as u16)
        };
        let (levels, kept) = (1, 2 * channels);
        let mut fit = Fit::new(Options {
            channels: kept,
            step: Some(8.0),
            levels: Some(levels),
            ..Options::default()
        });
        for record in &originals {
            let samples = media(record);
            let (width, height, channels) = picture(&samples);
            fit.add(&Media::Picture { width, height, channels, samples: &samples }).unwrap();
        }
        let codec = Codec::from_bytes(&fit.finish().unwrap().to_bytes().unwrap()).unwrap();
        let of = |records: &[Labelled]| -> Vec<Labelled> {
            let one = |record: &Labelled| {
                let (width, height, channels) = picture(&record.samples);
                let media = Media::Picture { width, height, channels, samples: &record.samples };
                let latents = codec.analyse(&media, None, &mut Scratch::default()).unwrap();
                let samples = latent_samples(&latents.values, latents.channels);
                Labelled { samples, class: record.class }
            };
            records.iter().map(one).collect()
        };
        let side = 1 << levels;
        let inputs = Inputs::Image(ImageTokens {
            height: height / side,
            width: width / side,
            channels: kept,
            patch: (sizes.patch / side).max(1),
        });
        let architecture = Architecture { inputs, ..pixels.architecture.clone() };
        let latents = Proxy { architecture, ..pixels.clone() };
        let (train, tested) = (of(&originals), of(&test));
        let found = q_latent([&pixels, &latents], [&originals, &train], [&test, &tested]).unwrap();
        assert!(found.mean < 0.1, "{found:?}");
        // Latents of other pictures tell nothing of these.
        let turned: Vec<Labelled> = train
            .iter()
            .zip(train.iter().cycle().skip(7))
            .map(|(one, other)| Labelled { samples: other.samples.clone(), class: one.class })
            .collect();
        let lost = q_latent([&pixels, &latents], [&originals, &turned], [&test, &tested]).unwrap();
        assert!(lost.mean > 0.2, "{lost:?}");
        let unpaired = q_latent([&pixels, &latents], [&originals, &train[1..]], [&test, &tested]);
        assert!(matches!(unpaired, Err(ProxyError::Unpaired { .. })));
    }

    #[test]
    fn what_gives_no_loss_is_told() {
        let records = labelled(4, 33);
        let one = Proxy { seeds: vec![1], ..proxy() };
        assert!(matches!(
            q_train(&one, &records, &records, &records),
            Err(ProxyError::Seeds { found: 1 })
        ));
        let unpaired = q_train(&proxy(), &records, &records[..3], &records);
        assert!(matches!(unpaired, Err(ProxyError::Unpaired { .. })));
        assert!(matches!(
            q_train(&proxy(), &[], &[], &records),
            Err(ProxyError::Empty("train on"))
        ));
        assert!(matches!(q_train(&proxy(), &records, &records, &[]), Err(ProxyError::Empty(_))));
        let small = vec![Labelled { samples: vec![0; 3], class: 0 }; 4];
        assert!(q_train(&proxy(), &small, &small, &small).is_err());
    }
}
