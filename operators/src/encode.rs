//! `kind = "encode"`: decoded media, texts and lists of numbers to a codec's bytes.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::{SchemaError, nearest};
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{self, Codec, RAW};
use crate::derived::Derived;
use crate::rewrite::{self, Column, Expected, Rewritten};
use crate::{tensor, text};

/// Options of `kind = "encode"`: samples or values are stored with a codec.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncodeOptions {
    /// The column: decoded media, a text, or lists of numbers.
    pub column: String,
    /// Pictures: `"jpeg"`, `"png"`, `"webp"` or `"raw"`. Sounds: `"wav"`, `"flac"` or `"raw"`. Texts: `"zstd"`.
    /// Lists of numbers: `"pco"`.
    pub codec: String,
    /// 1 to 100, for codecs that have one; WebP is lossless at 100.
    pub quality: Option<u8>,
    /// 1 to 22, for `"zstd"`; 9 unless said otherwise.
    pub level: Option<i32>,
    /// The largest dictionary that `"zstd"` may train on the first texts; `"64KiB"` unless said otherwise, none
    /// when `"0B"`.
    #[schemars(with = "Option<String>")]
    pub dictionary: Option<ByteSize>,
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
        let quality = self.quality;
        let without_quality = |codec: &str| match quality {
            Some(_) => Err(OptionsError(format!("`{codec}` has no `quality`: it is lossless"))),
            None => Ok(()),
        };
        match self.codec.as_str() {
            text::ZSTD => {
                without_quality(text::ZSTD)?;
                return text::compress(self);
            }
            tensor::PCO => {
                without_quality(tensor::PCO)?;
                return Ok(tensor::compress(self));
            }
            RAW => {
                without_quality(RAW)?;
                return Ok(Arc::new(Store { options: self, schema: Derived::default() }));
            }
            _ => {}
        }
        let Some(codec) = codec::named(&self.codec) else {
            let others = [RAW, text::ZSTD, tensor::PCO];
            let names = codec::ALL.iter().map(|codec| codec.name()).chain(others);
            let hint = nearest(&self.codec, names.clone())
                .map(|name| format!(" (did you mean \"{name}\"?)"));
            return Err(OptionsError(format!(
                "there is no codec {:?}{}; there are {}",
                self.codec,
                hint.unwrap_or_default(),
                names.collect::<Vec<_>>().join(", ")
            )));
        };
        if codec.default_quality().is_none() {
            without_quality(&self.codec)?;
        }
        match quality {
            Some(0 | 101..) => Err(OptionsError("`quality` is 1 to 100".to_owned())),
            _ => Ok(Arc::new(Encode {
                codec,
                options: self,
                schema: Derived::default(),
                bytes: Expected::default(),
            })),
        }
    }
}

struct Encode {
    codec: &'static dyn Codec,
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
        let (column, modality) = (&self.options.column, self.codec.modality());
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
        let (column, modality) = (&self.options.column, self.codec.modality());
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let media = Column::of(&batch, column, modality);
        rewrite::column(&batch, column, modality, &schema, &self.bytes, |row, bytes| {
            let Some(media) = media.samples(row)? else { return Ok(None) };
            let quality = self.options.quality;
            self.codec.encode(&media, quality, bytes).map_err(|e| e.to_string())?;
            Ok(Some(Rewritten { encoding: self.codec.name(), facts: Some(media.facts) }))
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
