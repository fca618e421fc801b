//! A codec as a file: tensors in the format of safetensors, with a card in its metadata.
//!
//! The file is named by the SHA-256 of its bytes; records carry the first four of them. Its tensors:
//!
//! | name | | |
//! | --- | --- | --- |
//! | `analysis.weight` | i16 `[channels, bands]` | the [map](super::matrix) from coefficients to latents in eighths of a step |
//! | `analysis.bias`, `.shift` | i32, u8 `[channels]` | |
//! | `synthesis.weight` | i16 `[bands, channels]` | from latents in sixteenths of a step to coefficients |
//! | `synthesis.bias`, `.shift` | i32, u8 `[bands]` | |
//! | `predictors` | u8 `[channels]` | 0 nothing, 1 before, 2 above, 3 plane |
//! | `frequencies` | u16 `[channels, 6, 256]` | of [differences](super::entropy), by context |
//! | `decoder.enter.weight`, `.bias` | f32 `[taps, width, channels]`, `[width]` | of a [decoder](super::residual) that is not linear, as are the following |
//! | `decoder.N.spatial.weight`, `.bias` | f32 `[taps, width, width]`, `[width]` | block `N` |
//! | `decoder.N.mix.weight`, `.bias` | f32 `[1, width, width]`, `[width]` | |
//! | `decoder.leave.weight`, `.bias` | f32 `[1, bands, width]`, `[bands]` | |
//!
//! Under the key `card` of the metadata stands a [`Card`] as JSON.

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entropy::{CONTEXTS, Distributions, Predictor, SYMBOLS};
use super::format::Name;
use super::residual::{Block, Layer, Residual};
use super::{Kind, LatentError, Matrix};

/// The version of the file that is written and read.
pub const FORMAT: u64 = 1;
const CARD: &str = "card";
/// Coefficients of a block, at most.
pub const MOST_BANDS: usize = 1024;

/// What is said of a codec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The version of the file.
    pub format: u64,
    /// What it codes.
    pub kind: Kind,
    /// Channels of the media that it was made for: 1 or 3 of pictures, 1 or 2 of sounds.
    pub planes: usize,
    /// Levels of the packet: a block has `2^levels` samples, or as many rows and columns.
    pub levels: usize,
    /// Channels of latents.
    pub channels: usize,
    /// What a latent of 1 stands for, in units of a sample and for the most energetic channels a multiple of it.
    pub step: f64,
    /// Records that it was made from.
    pub records: u64,
    /// Steps by which it was trained after it was fitted.
    pub trained: u64,
    /// How records are decoded.
    #[serde(default, skip_serializing_if = "Decoder::is_linear")]
    pub decoder: Decoder,
}

/// How records are decoded. What is stored does not depend on it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Decoder {
    /// By one matrix, in integers.
    #[default]
    Linear,
    /// With the correction of a small convolutional network that learned to be close to the original.
    Residual,
    /// With one that learned to be taken for an original: sharper, and further from it.
    Adversarial,
}

impl Decoder {
    fn is_linear(&self) -> bool {
        *self == Self::Linear
    }
}

/// A codec as it is kept. All of it is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    card: Card,
    analysis: Matrix,
    synthesis: Matrix,
    distributions: Distributions,
    residual: Option<Residual>,
}

impl Artifact {
    /// A codec of these parts.
    ///
    /// # Errors
    /// Sizes that do not fit together.
    pub fn new(
        card: Card,
        analysis: Matrix,
        synthesis: Matrix,
        distributions: Distributions,
        residual: Option<Residual>,
    ) -> Result<Self, LatentError> {
        let wrong = |what: String| Err(LatentError::Artifact { what });
        if card.format != FORMAT {
            return Err(LatentError::Format { found: card.format });
        }
        let bands = card.bands().filter(|bands| (1..=MOST_BANDS).contains(bands));
        let (Some(bands), true) = (bands, card.has_planes()) else {
            let Card { kind, planes, levels, .. } = &card;
            return wrong(format!(
                "{kind:?} of {planes} planes in {levels} levels is not supported"
            ));
        };
        let channels = card.channels;
        if !(1..=bands.min(255)).contains(&channels) {
            return wrong(format!("{channels} channels of {bands} coefficients"));
        }
        let sizes =
            [(analysis.rows(), analysis.columns()), (synthesis.columns(), synthesis.rows())];
        if sizes != [(channels, bands); 2] || distributions.predictors().len() != channels {
            return wrong(format!(
                "its tensors are not of {channels} channels and {bands} coefficients"
            ));
        }
        if !card.step.is_finite() || card.step <= 0.0 {
            return wrong(format!("a step of {}", card.step));
        }
        match &residual {
            Some(residual) => residual.check(card.kind, channels, bands)?,
            None if card.decoder.is_linear() => {}
            None => return wrong(format!("its decoder is {:?}, and not in it", card.decoder)),
        }
        Ok(Self { card, analysis, synthesis, distributions, residual })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file of something else or of another version, tensors that are missing or of another kind or shape, values
    /// that could overflow or do not add up.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LatentError> {
        let foreign = |what: String| LatentError::Artifact { what };
        let told = |e: &dyn std::fmt::Display| foreign(e.to_string());
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| told(&e))?;
        let card = metadata.metadata().as_ref().and_then(|metadata| metadata.get(CARD));
        let card = card.ok_or_else(|| foreign("it has no card".to_owned()))?;
        let versioned: serde_json::Value = serde_json::from_str(card).map_err(|e| told(&e))?;
        match versioned.get("format").and_then(serde_json::Value::as_u64) {
            Some(FORMAT) => {}
            Some(found) => return Err(LatentError::Format { found }),
            None => return Err(foreign("its card has no format".to_owned())),
        }
        let card: Card = serde_json::from_value(versioned).map_err(|e| told(&e))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| told(&e))?;
        let matrix = |name: &str| {
            let part = |part: &str, dtype| data(&tensors, &format!("{name}.{part}"), dtype);
            Matrix::new(
                numbers(part("weight", Dtype::I16)?, i16::from_le_bytes),
                numbers(part("bias", Dtype::I32)?, i32::from_le_bytes),
                part("shift", Dtype::U8)?.to_vec(),
            )
        };
        let predictors = data(&tensors, "predictors", Dtype::U8)?.iter().map(|number| {
            let found = Predictor::ALL.get(usize::from(*number)).copied();
            found.ok_or_else(|| foreign(format!("there is no predictor {number}")))
        });
        let predictors = predictors.collect::<Result<Vec<_>, _>>()?;
        let frequencies = data(&tensors, "frequencies", Dtype::U16)?;
        let distributions =
            Distributions::new(predictors, numbers(frequencies, u16::from_le_bytes))?;
        let residual = match card.decoder {
            Decoder::Linear => None,
            _ => Some(residual(&tensors)?),
        };
        Self::new(card, matrix("analysis")?, matrix("synthesis")?, distributions, residual)
    }

    /// The file. Equal codecs give equal bytes.
    ///
    /// # Errors
    /// None for an artifact that exists.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LatentError> {
        let told = |e: &dyn std::fmt::Display| LatentError::Artifact { what: e.to_string() };
        let Card { channels, .. } = self.card;
        let bands = self.analysis.columns();
        let mut tensors = Vec::new();
        for (name, matrix, shape) in [
            ("analysis", &self.analysis, [channels, bands]),
            ("synthesis", &self.synthesis, [bands, channels]),
        ] {
            let rows = vec![matrix.rows()];
            let weights = bytes(matrix.weights(), i16::to_le_bytes);
            tensors.push(Plain::new(format!("{name}.weight"), Dtype::I16, shape.to_vec(), weights));
            let bias = bytes(matrix.bias(), i32::to_le_bytes);
            tensors.push(Plain::new(format!("{name}.bias"), Dtype::I32, rows.clone(), bias));
            let shift = matrix.shift().to_vec();
            tensors.push(Plain::new(format!("{name}.shift"), Dtype::U8, rows, shift));
        }
        let number = |predictor: &Predictor| {
            Predictor::ALL.iter().position(|one| one == predictor).unwrap_or_default() as u8
        };
        let predictors = self.distributions.predictors().iter().map(number).collect();
        tensors.push(Plain::new("predictors".to_owned(), Dtype::U8, vec![channels], predictors));
        let frequencies = bytes(self.distributions.frequencies(), u16::to_le_bytes);
        let shape = vec![channels, CONTEXTS, SYMBOLS];
        tensors.push(Plain::new("frequencies".to_owned(), Dtype::U16, shape, frequencies));
        let taps = super::residual::taps(self.card.kind).len();
        for (name, layer) in self.residual.iter().flat_map(layers) {
            let outputs = layer.bias.len();
            let taps = if name.ends_with("enter") || name.ends_with("spatial") { taps } else { 1 };
            let weight = bytes(&layer.weight, f32::to_le_bytes);
            let shape = vec![taps, outputs, layer.weight.len() / (taps * outputs).max(1)];
            tensors.push(Plain::new(format!("{name}.weight"), Dtype::F32, shape, weight));
            let bias = bytes(&layer.bias, f32::to_le_bytes);
            tensors.push(Plain::new(format!("{name}.bias"), Dtype::F32, vec![outputs], bias));
        }
        // One key, since more would stand in any order.
        let card = serde_json::to_string(&self.card).map_err(|e| told(&e))?;
        let metadata = HashMap::from([(CARD.to_owned(), card)]);
        let tensors = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| told(&e))
    }

    /// What is said of it.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// From coefficients to latents.
    pub fn analysis(&self) -> &Matrix {
        &self.analysis
    }

    /// From latents to coefficients.
    pub fn synthesis(&self) -> &Matrix {
        &self.synthesis
    }

    /// What is decoded beyond the synthesis.
    pub fn residual(&self) -> Option<&Residual> {
        self.residual.as_ref()
    }

    /// How often each difference occurs.
    pub fn distributions(&self) -> &Distributions {
        &self.distributions
    }
}

impl Card {
    /// Coefficients of a block.
    pub fn bands(&self) -> Option<usize> {
        let sides = if self.kind == Kind::Picture { 2 } else { 1 };
        let block = (1..=10).contains(&self.levels).then(|| 1 << (sides * self.levels));
        block.and_then(|block: usize| block.checked_mul(self.planes))
    }

    fn has_planes(&self) -> bool {
        match self.kind {
            Kind::Picture => matches!(self.planes, 1 | 3),
            Kind::Sound => matches!(self.planes, 1 | 2),
        }
    }
}

/// The layers of a decoder, by name.
fn layers(residual: &Residual) -> impl Iterator<Item = (String, &Layer)> {
    let blocks = residual.blocks.iter().enumerate().flat_map(|(at, block)| {
        [
            (format!("decoder.{at}.spatial"), &block.spatial),
            (format!("decoder.{at}.mix"), &block.mix),
        ]
    });
    let enter = std::iter::once(("decoder.enter".to_owned(), &residual.enter));
    enter.chain(blocks).chain(std::iter::once(("decoder.leave".to_owned(), &residual.leave)))
}

/// The decoder of a file. Its sizes are checked by whoever takes it.
fn residual(tensors: &SafeTensors<'_>) -> Result<Residual, LatentError> {
    let layer = |name: &str| {
        let part = |part: &str| data(tensors, &format!("decoder.{name}.{part}"), Dtype::F32);
        let floats = |bytes| numbers(bytes, f32::from_le_bytes);
        Ok::<_, LatentError>(Layer { weight: floats(part("weight")?), bias: floats(part("bias")?) })
    };
    let count = (0..).take_while(|at| tensors.tensor(&format!("decoder.{at}.mix.bias")).is_ok());
    let blocks = count.map(|at| {
        let (spatial, mix) = (layer(&format!("{at}.spatial"))?, layer(&format!("{at}.mix"))?);
        Ok::<_, LatentError>(Block { spatial, mix })
    });
    let blocks = blocks.collect::<Result<_, _>>()?;
    Ok(Residual { enter: layer("enter")?, blocks, leave: layer("leave")? })
}

/// The SHA-256 of a codec's file, in hexadecimal digits.
#[must_use]
pub fn hash(file: &[u8]) -> String {
    Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What records call the codec of this file.
#[must_use]
pub fn name(file: &[u8]) -> Name {
    let digest = Sha256::digest(file);
    digest.first_chunk().copied().unwrap_or_default()
}

struct Plain {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Plain {
    fn new(name: String, dtype: Dtype, shape: Vec<usize>, data: Vec<u8>) -> Self {
        Self { name, dtype, shape, data }
    }
}

impl View for &Plain {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], to: fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| to(*number)).collect()
}

fn numbers<T, const N: usize>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|chunk| from(*chunk)).collect()
}

fn data<'a>(tensors: &SafeTensors<'a>, name: &str, dtype: Dtype) -> Result<&'a [u8], LatentError> {
    let wrong = |what: String| LatentError::Artifact { what };
    let tensor: TensorView<'a> =
        tensors.tensor(name).map_err(|_| wrong(format!("it lacks the tensor `{name}`")))?;
    match tensor.dtype() == dtype {
        true => Ok(tensor.data()),
        false => Err(wrong(format!("the tensor `{name}` is of {}, not {dtype}", tensor.dtype()))),
    }
}
