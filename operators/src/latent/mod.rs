//! `kind = "encode", codec = "latent"`: the learned latent codec.
//!
//! Its file is given (`artifact`), or learned from the first records: then it is a decision of the run, taken once, the
//! same for all workers and restarts, and stands in the run log of the run that wrote the table,
//! `_anabranch/runs/RUN/decisions/OPERATOR`. Records carry the first bytes of its SHA-256, and `decode` finds it
//! there by itself, or is given it (`codecs`). Any program reads it: it is in the format of safetensors.

pub(crate) mod artifacts;
pub(crate) mod column;
mod file;
mod learn;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use anabranch_models::latent::Decoder;
use anabranch_models::latent::artifact::hash;
use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

pub(crate) use self::artifacts::Artifacts;
pub use self::file::LatentFile;
use crate::codec::{Codec, LATENT, Latent};
use crate::derived::Derived;
use crate::rewrite::{self, Column, Expected, Rewritten};
use crate::{EncodeOptions, OptionsError};

/// How a latent codec is learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LatentLearning {
    /// Channels of latents; a quarter of what a block holds unless said otherwise, which is 48 of 192 for blocks of 8 x 8
    /// pixels of three colours.
    pub channels: Option<u8>,
    /// What a latent of 1 stands for, in units of a sample: the smaller, the more faithful and the larger records are. 16
    /// for pictures and a third of the mean loudness of sounds unless said otherwise.
    pub step: Option<f64>,
    /// A block has 2^levels samples of a sound, or as many rows and columns of a picture. 3 for pictures, 2 for those of
    /// fewer than 64 pixels a side, 7 for sounds, unless said otherwise.
    pub levels: Option<u8>,
    /// Steps of training by gradient after principal components were found: 0 keeps these.
    pub gradient_steps: u32,
    /// How records are decoded. `"linear"`: by a matrix. `"residual"`: with a small convolutional network that takes
    /// `gradient_steps` more and learns to be close to the original; it corrects as much as it was worth on the records
    /// that it learned from. `"adversarial"`: with one that learns to look like an original, and is further from it. What
    /// is stored is the same with all three.
    pub decoder: Decoder,
    /// What random numbers of the training start from; 1 unless said otherwise.
    pub seed: Option<u64>,
}

/// The operator for these options.
pub(crate) fn encode(mut options: EncodeOptions) -> Result<Arc<dyn Operator>, OptionsError> {
    check(&options).map_err(OptionsError)?;
    let Some(file) = &options.artifact else {
        let learning = options.learn.unwrap_or_default();
        return Ok(Arc::new(learn::Learn::new(options, learning)));
    };
    if is_url(file) {
        return Ok(Arc::new(Encode::new(options, Source::Remote(OnceLock::new()))));
    }
    let wrong = |error: &dyn std::fmt::Display| OptionsError(format!("`{file}`: {error}"));
    let bytes = std::fs::read(file).map_err(|e| wrong(&e))?;
    let found = same(&bytes, options.sha256.as_deref()).map_err(|e| wrong(&e))?;
    let codec = Latent::from_bytes(&bytes).map_err(|e| wrong(&e))?;
    options.sha256 = Some(found);
    Ok(Arc::new(Encode::new(options, Source::Known(Arc::new(codec)))))
}

fn check(options: &EncodeOptions) -> Result<(), String> {
    if options.artifact.is_some() && options.learn.is_some() {
        return Err("give `artifact` or `learn`, not both".to_owned());
    }
    if options.sha256.is_some() && options.artifact.is_none() {
        return Err("`sha256` is that of the `artifact`, and there is none".to_owned());
    }
    let learning = options.learn.unwrap_or_default();
    if learning.decoder != Decoder::Linear && learning.gradient_steps == 0 {
        return Err(
            "a `decoder` other than \"linear\" is trained: give `gradient_steps`, e.g. 500"
                .to_owned(),
        );
    }
    if options.channels == Some(0) {
        return Err("`channels = 0`: it is at least 1".to_owned());
    }
    // It is read when the first batch comes, by each process: without a hash nobody would notice that it changed in
    // between.
    if let (Some(url), None) =
        (options.artifact.as_ref().filter(|file| is_url(file)), &options.sha256)
    {
        return Err(format!(
            "`artifact = {url:?}` is read while the job runs: say which content is meant, with \
             `sha256 = \"..\"` (`sha256sum` tells it), or name a local copy"
        ));
    }
    Ok(())
}

fn is_url(file: &str) -> bool {
    file.contains("://")
}

/// The SHA-256 of these bytes, if it is the expected one.
fn same(bytes: &[u8], expected: Option<&str>) -> Result<String, String> {
    let found = hash(bytes);
    match expected.filter(|expected| !expected.eq_ignore_ascii_case(&found)) {
        Some(expected) => Err(format!("its SHA-256 is {found}, not {expected}")),
        None => Ok(found),
    }
}

/// Where the codec comes from.
enum Source {
    Known(Arc<Latent>),
    /// In a store; read when the first batch comes.
    Remote(OnceLock<Arc<Latent>>),
    /// The first part had no record to learn from.
    Nothing,
}

/// Encodes media with a codec that is there.
struct Encode {
    options: EncodeOptions,
    source: Source,
    schema: Derived<(SchemaRef, Modality)>,
    bytes: Expected,
}

impl Encode {
    fn new(options: EncodeOptions, source: Source) -> Self {
        Self { options, source, schema: Derived::default(), bytes: Expected::default() }
    }

    fn codec(&self, context: &Context) -> Result<Option<Arc<Latent>>, OperatorError> {
        let read = match &self.source {
            Source::Nothing => return Ok(None),
            Source::Known(codec) => return Ok(Some(Arc::clone(codec))),
            Source::Remote(read) => read,
        };
        if let Some(codec) = read.get() {
            return Ok(Some(Arc::clone(codec)));
        }
        let file = self.options.artifact.as_deref().unwrap_or_default();
        let wrong =
            |error: &dyn std::fmt::Display| OperatorError::Failed(format!("`{file}`: {error}"));
        let bytes = artifacts::fetch(file, context)?;
        same(&bytes, self.options.sha256.as_deref()).map_err(|e| wrong(&e))?;
        let codec = Arc::new(Latent::from_bytes(&bytes).map_err(|e| wrong(&e))?);
        Ok(Some(Arc::clone(read.get_or_init(|| codec))))
    }
}

/// The schema and modality that come out of a column of decoded pictures or sounds.
fn output(column: &str, inputs: &[SchemaRef]) -> Result<(SchemaRef, Modality), SchemaError> {
    let [input] = inputs else {
        return Err(SchemaError::Mismatch("encode reads one input".into()));
    };
    let field = SchemaError::require(input, column)?;
    let modality = Modality::of(field).filter(|modality| *modality == Modality::Audio);
    let modality = modality.unwrap_or(Modality::Image);
    SchemaError::require_media(input, column, modality, Some(media::State::Decoded))?;
    Ok((rewrite::schema(input, column, modality, media::State::Encoded), modality))
}

/// What records may take: noise, with all channels at a small step, is more than its samples.
pub(crate) const GROWTH: Growth = Growth { factor: 2.0, per_record: 4096 };

impl Operator for Encode {
    fn kind(&self) -> &'static str {
        "encode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let (schema, modality) = output(&self.options.column, inputs)?;
        match &self.source {
            Source::Known(codec) if codec.modality() != modality => {
                Err(SchemaError::Mismatch(format!(
                    "the latent codec is one of {}, and column `{}` holds {modality}",
                    codec.modality(),
                    self.options.column
                )))
            }
            _ => Ok(schema),
        }
    }

    fn growth(&self) -> Growth {
        GROWTH
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let name = &self.options.column;
        let input = batch.schema();
        let (schema, modality) = self.schema.of(&input, || output(name, &[Arc::clone(&input)]))?;
        let codec = self.codec(context)?;
        let media = Column::of(&batch, name, modality);
        rewrite::column(&batch, name, modality, &schema, &self.bytes, |row, bytes| {
            let Some(media) = media.samples(row)? else { return Ok(None) };
            let codec = codec.as_ref().ok_or(
                "no latent codec was learned, since the first part held nothing to learn from; make it \
                 larger (`job.part`), or give an `artifact`",
            )?;
            codec.encode(&media, self.options.channels, bytes).map_err(|e| e.to_string())?;
            Ok(Some(Rewritten { encoding: LATENT, facts: Some(media.facts) }))
        })
    }
}
