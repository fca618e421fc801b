//! How far apart two pictures or sounds are for networks that were trained on such: deep feature distance.
//!
//! Each block of a network is a layer. Of every token the numbers that it holds after the block are brought to
//! length 1, and a layer's distance is the mean over tokens of the squared difference, 0 to 4: how the layer's view of
//! the record turned. A network's distance is the weighted mean of those of its layers, the distance that of at least
//! two networks, so that no codec pleases one by its quirks. It is in the manner of Zhang, Isola, Efros, Shechtman,
//! Wang (CVPR 2018, section 3), whose networks and weights, learned from what people see, are not used: it is no LPIPS
//! and its numbers are not comparable.
//!
//! Weights of layers are uniform, or [fitted](FeatureDistance::fit): non-negative, such that the weighted sum best
//! predicts by how much logits change.
//!
//! ```
//! use anabranch_models::artifact::architecture::{Architecture, FeedForward, Head, ImageTokens, Inputs};
//! use anabranch_models::engine::example;
//! use anabranch_operators::codec::{Facts, Media};
//! use anabranch_operators::metric::FeatureDistance;
//!
//! let image = ImageTokens { height: 8, width: 8, channels: 1, patch: 4 };
//! let network = |width| example::random(&Architecture {
//!     width,
//!     heads: 2,
//!     layers: 2,
//!     inputs: Inputs::Image(image),
//!     head: Head::Classes(3),
//!     feed_forward: FeedForward::Mlp { hidden: 16 },
//! });
//! let distance = FeatureDistance::new(vec![(network(16)?, None), (network(8)?, None)])?;
//! // A picture that is larger than what the networks take is looked at in pieces.
//! let facts = Facts::Image { width: 20, height: 9, channels: 1 };
//! let [flat, noisy] = [[100; 180], std::array::from_fn(|at| (at * 89 % 251) as u8)];
//! let seen = distance.seen(&Media { samples: &flat, facts })?;
//! assert_eq!(distance.to(&seen, &Media { samples: &flat, facts })?, 0.0);
//! assert!(distance.to(&seen, &Media { samples: &noisy, facts })? > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_models::artifact::Artifact;
use anabranch_models::engine::{Encoder, Features};
use anabranch_pipelines::record::Modality;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::fit::{explained, non_negative};
use super::pieces::pieces;
use super::{MetricError, alike};
use crate::codec::{Facts, Media};
use crate::task::takes::Takes;
use crate::task::{Spectra, moved};

/// Pairs that weights are fitted to, of each layer, at least.
const LEAST_PAIRS: usize = 16;

/// Why there is no distance.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FeatureError {
    /// One network, or none.
    #[error("a distance is taken by two networks or more; found {0}")]
    Few(usize),
    /// Two that are the same, or began as the same.
    #[error(
        "the networks `{one}` and `{other}` are of the same sizes and the same seed ({seed}), which is one network \
         looked at twice; train one of them with another seed or other sizes"
    )]
    Same {
        /// The name of one.
        one: String,
        /// The name of the other.
        other: String,
        /// Their seed.
        seed: u64,
    },
    /// A network that cannot be used.
    #[error("the network `{name}`: {message}")]
    Network {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Weights that are none.
    #[error("there is to be a weight for each layer of each network, not below 0 and not all 0")]
    Weights,
    /// Media that cannot be compared.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// Media that a network does not take.
    #[error("{0}")]
    Media(String),
}

/// Networks, and how much each of their layers counts.
#[derive(Clone)]
pub struct FeatureDistance {
    networks: Arc<[Network]>,
    /// Of each network, of each of its layers; they sum to 1.
    weights: Vec<Vec<f64>>,
}

struct Network {
    name: String,
    model: Encoder,
    takes: Takes,
}

/// What the networks see in an original, to be compared with any number of others.
#[derive(Debug, Clone)]
pub struct Seen {
    facts: Facts,
    /// Of each network, of each piece.
    features: Vec<Vec<Features>>,
}

/// How a network's view of a record changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The distance of each layer, 0 to 4.
    pub layers: Vec<f64>,
    /// The mean squared difference of logits, of which the mean is taken away.
    pub logits: f64,
}

/// How the layers of a network are weighed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// The name of the network.
    pub network: String,
    /// Of each layer; they sum to 1.
    pub layers: Vec<f64>,
    /// The share of the variation of changes of logits that is explained by the layers, where weights were fitted.
    /// `None` of uniform ones.
    pub explained: Option<f64>,
}

impl FeatureDistance {
    /// Of these networks, layers weighed alike. Those that take sounds need to be told how they become spectra.
    ///
    /// # Errors
    /// When there are fewer than two; when two have the same sizes and began with the same seed: they are one network,
    /// or two moments of one training; when one takes neither pictures nor sounds, or another of both than the first.
    pub fn new(networks: Vec<(Artifact, Option<Spectra>)>) -> Result<Self, FeatureError> {
        if networks.len() < 2 {
            return Err(FeatureError::Few(networks.len()));
        }
        let cards: Vec<_> = networks.iter().map(|(artifact, _)| artifact.card()).collect();
        for (at, one) in cards.iter().enumerate() {
            let began = (&one.architecture, one.training.seed);
            let mut later = cards.iter().skip(at + 1);
            if let Some(other) = later.find(|of| (&of.architecture, of.training.seed) == began) {
                let (one, seed) = (one.name.clone(), one.training.seed);
                return Err(FeatureError::Same { one, other: other.name.clone(), seed });
            }
        }
        let networks = networks.iter().map(|(artifact, spectra)| Network::new(artifact, *spectra));
        let networks: Vec<Network> = networks.collect::<Result<_, _>>()?;
        let modality = networks.first().map(|network| network.takes.modality());
        let other = |network: &&Network| Some(network.takes.modality()) != modality;
        if let (Some(of), Some(other)) = (modality, networks.iter().find(other)) {
            let message =
                format!("it is about {}, and others are about {of}", other.takes.modality());
            return Err(FeatureError::Network { name: other.name.clone(), message });
        }
        let weights = networks.iter().map(|network| uniform(network.layers())).collect();
        Ok(Self { networks: networks.into(), weights })
    }

    /// What is compared.
    pub fn modality(&self) -> Modality {
        self.networks.first().map_or(Modality::Image, |network| network.takes.modality())
    }

    /// What the networks see in an original.
    ///
    /// # Errors
    /// When it is smaller than a network takes, or of another rate.
    pub fn seen(&self, original: &Media<'_>) -> Result<Seen, FeatureError> {
        let features = self.networks.iter().map(|network| network.features(original));
        Ok(Seen { facts: original.facts, features: features.collect::<Result<_, _>>()? })
    }

    /// How each network's view of the record changed.
    ///
    /// # Errors
    /// When the two are of different sizes or kinds, or what came back is nothing that the networks take.
    pub fn changes(&self, seen: &Seen, decoded: &Media<'_>) -> Result<Vec<Change>, FeatureError> {
        if seen.facts != decoded.facts {
            let (original, decoded) = (seen.facts, decoded.facts);
            return Err(MetricError::Unlike { original, decoded }.into());
        }
        let pairs = self.networks.iter().zip(&seen.features);
        pairs.map(|(network, seen)| Ok(change(seen, &network.features(decoded)?))).collect()
    }

    /// The distance, 0 to 4.
    ///
    /// # Errors
    /// As of [`changes`](Self::changes).
    pub fn to(&self, seen: &Seen, decoded: &Media<'_>) -> Result<f64, FeatureError> {
        let changes = self.changes(seen, decoded)?;
        let distances = changes.iter().zip(&self.weights).map(|(change, weights)| {
            change.layers.iter().zip(weights).map(|(layer, weight)| layer * weight).sum::<f64>()
        });
        Ok(distances.sum::<f64>() / self.networks.len() as f64)
    }

    /// Weights that fit how logits change: of each network the non-negative ones with which the sum of its layers'
    /// distances is nearest to the mean squared change of its logits, over all pairs in the least squares, brought to
    /// a sum of 1. With fewer than 16 pairs for each layer, or where nothing changed, they stay uniform.
    ///
    /// Each of the `pairs` is what [`changes`](Self::changes) gave for an original and something near it.
    pub fn fit(&self, pairs: &[Vec<Change>]) -> Vec<Weights> {
        let networks = self.networks.iter().enumerate();
        let fitted = networks.map(|(at, network)| {
            let of: Vec<&Change> = pairs.iter().filter_map(|changes| changes.get(at)).collect();
            let (layers, explained) = fitted(network.layers(), &of);
            Weights { network: network.name.clone(), layers, explained }
        });
        fitted.collect()
    }

    /// The same distance with other weights, in the order of the networks.
    ///
    /// # Errors
    /// When there is not one for each layer of each network.
    pub fn weighed(&self, weights: &[Weights]) -> Result<Self, FeatureError> {
        let fits = |(weights, network): (&Weights, &Network)| {
            let all = weights.layers.iter().all(|weight| weight.is_finite() && *weight >= 0.0);
            all && weights.layers.len() == network.layers() && weights.network == network.name
        };
        let all = weights.len() == self.networks.len();
        if !all || !weights.iter().zip(self.networks.iter()).all(fits) {
            return Err(FeatureError::Weights);
        }
        let weights = weights.iter().map(|weights| to_one(&weights.layers));
        let weights = weights.collect::<Option<_>>().ok_or(FeatureError::Weights)?;
        Ok(Self { networks: Arc::clone(&self.networks), weights })
    }
}

impl Network {
    fn new(artifact: &Artifact, spectra: Option<Spectra>) -> Result<Self, FeatureError> {
        let name = artifact.card().name.clone();
        let wrong = |message| FeatureError::Network { name: name.clone(), message };
        let takes = Takes::of(artifact.architecture(), spectra).map_err(wrong)?;
        let model = Encoder::load(artifact).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { name, model, takes })
    }

    fn layers(&self) -> usize {
        self.model.architecture().layers
    }

    /// Of each piece.
    fn features(&self, media: &Media<'_>) -> Result<Vec<Features>, FeatureError> {
        alike(media, media)?;
        let of = |media: &Media<'_>| {
            let values = self.takes.values(media).map_err(FeatureError::Media)?;
            let features = self.model.features(self.takes.input(&values));
            features.map_err(|e| FeatureError::Media(e.to_string()))
        };
        match &self.takes {
            Takes::Sounds(_) => Ok(vec![of(media)?]),
            Takes::Pictures(size) => pieces(media, size.width, size.height)?
                .iter()
                .map(|piece| of(&piece.media()))
                .collect(),
        }
    }
}

/// The mean over pieces.
fn change(original: &[Features], decoded: &[Features]) -> Change {
    let pieces = original.len().max(1) as f64;
    let layers = original.first().map_or(0, |features| features.blocks.len());
    let mut change = Change { layers: vec![0.0; layers], logits: 0.0 };
    for (one, other) in original.iter().zip(decoded) {
        let blocks = one.blocks.iter().zip(&other.blocks);
        for (sum, (one_block, other_block)) in change.layers.iter_mut().zip(blocks) {
            *sum += turned(one_block, other_block, one.width) / pieces;
        }
        change.logits += moved(&one.logits, &other.logits).powi(2) / pieces;
    }
    change
}

/// The mean over tokens of the squared difference of unit vectors.
fn turned(one: &[f32], other: &[f32], width: usize) -> f64 {
    // What has no length points nowhere, and stays where it is.
    let unit = |token: &[f32]| {
        let length = token.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        length.max(f64::MIN_POSITIVE).recip()
    };
    let (mut sum, mut tokens) = (0.0, 0_u32);
    for (one, other) in one.chunks_exact(width.max(1)).zip(other.chunks_exact(width.max(1))) {
        let (a, b) = (unit(one), unit(other));
        let values = one.iter().zip(other);
        sum += values
            .map(|(one, other)| (f64::from(*one) * a - f64::from(*other) * b).powi(2))
            .sum::<f64>();
        tokens += 1;
    }
    sum / f64::from(tokens.max(1))
}

fn fitted(layers: usize, changes: &[&Change]) -> (Vec<f64>, Option<f64>) {
    let rows: Vec<(&[f64], f64)> =
        changes.iter().map(|change| (change.layers.as_slice(), change.logits)).collect();
    if rows.len() < LEAST_PAIRS * layers {
        return (uniform(layers), None);
    }
    let weights = non_negative(layers, &rows);
    match to_one(&weights) {
        Some(shares) => (shares, Some(explained(&weights, &rows))),
        None => (uniform(layers), None),
    }
}

fn uniform(layers: usize) -> Vec<f64> {
    vec![1.0 / layers.max(1) as f64; layers]
}

/// Brought to a sum of 1, unless all are 0.
fn to_one(weights: &[f64]) -> Option<Vec<f64>> {
    let sum: f64 = weights.iter().sum();
    (sum.is_finite() && sum > 0.0).then(|| weights.iter().map(|weight| weight / sum).collect())
}

#[cfg(test)]
mod tests;
