//! `kind = "encode"`: decoded media, texts and lists of numbers to a codec's bytes.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{self, LATENT, RAW, Setting};
use crate::derived::Derived;
use crate::rewrite::{self, Column, Expected, Rewritten};
use crate::{LatentLearning, latent, tensor, text};

/// Options of `kind = "encode"`: samples or values are stored with a codec.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncodeOptions {
    /// The column: decoded media, a text, or lists of numbers.
    pub column: String,
    /// Pictures: `"jpeg"`, `"png"`, `"webp"`, `"qoi"` or `"raw"`. Sounds: `"wav"`, `"flac"`, `"opus"` or
    /// `"raw"`. Either: `"latent"`, which is learned. Texts: `"zstd"`. Lists of numbers: `"pco"`.
    pub codec: String,
    /// 1 to 100, for `"jpeg"` and `"webp"`; 75 unless said otherwise. WebP is lossless at 100.
    pub quality: Option<u16>,
    /// 6 to 510 kilobits per second, for `"opus"`; its own choice for the rate and channels unless said
    /// otherwise.
    pub bitrate: Option<u16>,
    /// 1 to 22, for `"zstd"`; 9 unless said otherwise.
    pub level: Option<i32>,
    /// The largest dictionary that `"zstd"` may train on the first texts; `"64KiB"` unless said otherwise, none
    /// when `"0B"`.
    #[schemars(with = "Option<String>")]
    pub dictionary: Option<ByteSize>,
    /// The file of a codec, as a path or URL, for `"latent"`. Without it the codec is learned from the first records.
    pub artifact: Option<String>,
    /// The SHA-256 of the artifact. That of a local one is taken when the job starts; one behind a URL needs it.
    pub sha256: Option<String>,
    /// Channels of latents that are stored, the most energetic first, for `"latent"`; all of the codec's unless said
    /// otherwise.
    pub channels: Option<u16>,
    /// How the codec is learned, for `"latent"` without an artifact.
    pub learn: Option<LatentLearning>,
}

impl EncodeOptions {
    /// The operator.
    ///
    /// # Errors
    /// When there is no such codec, or an option is not one of this codec's.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        if self.codec != text::ZSTD && (self.level.is_some() || self.dictionary.is_some()) {
            let message = "`level` and `dictionary` are options of the codec \"zstd\"";
            return Err(OptionsError(message.to_owned()));
        }
        let lossless = |codec: &str| match (self.quality, self.bitrate) {
            (Some(_), _) => Err(codec::no_such(codec, "quality", None)),
            (_, Some(_)) => Err(codec::no_such(codec, "bitrate", None)),
            _ => Ok(()),
        };
        let latent = self.artifact.is_some() || self.sha256.is_some() || self.channels.is_some();
        if self.codec != LATENT && (latent || self.learn.is_some()) {
            let message =
                "`artifact`, `sha256`, `channels` and `learn` are options of the codec \"latent\"";
            return Err(OptionsError(message.to_owned()));
        }
        match self.codec.as_str() {
            LATENT => {
                lossless(LATENT)?;
                latent::encode(self)
            }
            text::ZSTD => {
                lossless(text::ZSTD)?;
                text::compress(self)
            }
            tensor::PCO => {
                lossless(tensor::PCO)?;
                Ok(tensor::compress(self))
            }
            RAW => {
                lossless(RAW)?;
                Ok(Arc::new(Store { options: self, schema: Derived::default() }))
            }
            name => {
                let others = [RAW, LATENT, text::ZSTD, tensor::PCO];
                let setting = Setting::new(name, self.quality, self.bitrate, &others)?;
                Ok(Arc::new(Encode {
                    setting,
                    options: self,
                    schema: Derived::default(),
                    bytes: Expected::default(),
                }))
            }
        }
    }
}

struct Encode {
    setting: Setting,
    options: EncodeOptions,
    schema: Derived<SchemaRef>,
    bytes: Expected,
}

impl Operator for Encode {
    fn kind(&self) -> &'static str {
        "encode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("encode reads one input".into()));
        };
        let (column, modality) = (&self.options.column, self.setting.codec.modality());
        SchemaError::require_media(input, column, modality, Some(media::State::Decoded))?;
        Ok(rewrite::schema(input, column, modality, media::State::Encoded))
    }

    fn growth(&self) -> Growth {
        // Noise does not compress; what a codec adds to it is small.
        Growth { factor: 1.25, per_record: 4096 }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let (column, modality) = (&self.options.column, self.setting.codec.modality());
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let media = Column::of(&batch, column, modality);
        rewrite::column(&batch, column, modality, &schema, &self.bytes, |row, bytes| {
            let Some(media) = media.samples(row)? else { return Ok(None) };
            self.setting.encode(&media, bytes).map_err(|e| e.to_string())?;
            Ok(Some(Rewritten { encoding: self.setting.codec.name(), facts: Some(media.facts) }))
        })
    }
}

/// `codec = "raw"`: keeps the samples as the stored form.
struct Store {
    options: EncodeOptions,
    schema: Derived<SchemaRef>,
}

impl Operator for Store {
    fn kind(&self) -> &'static str {
        "encode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("encode reads one input".into()));
        };
        let column = &self.options.column;
        let field = SchemaError::require(input, column)?;
        let modality = Modality::of(field).filter(|modality| *modality == Modality::Audio);
        let modality = modality.unwrap_or(Modality::Image);
        SchemaError::require_media(input, column, modality, Some(media::State::Decoded))?;
        Ok(rewrite::schema(input, column, modality, media::State::Encoded))
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        Ok(Outcome::all(rewrite::replace(&batch, &schema, &HashMap::new())?))
    }
}
