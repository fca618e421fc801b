//! `kind = "encode"`: decoded media to a codec's bytes.

use std::sync::Arc;

use anabranch_pipelines::graph::{SchemaError, nearest};
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::media;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{self, Codec};
use crate::rewrite::{self, Facts, Rewritten};

/// Options of `kind = "encode"`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncodeOptions {
    /// The media column, decoded.
    pub column: String,
    /// `"jpeg"`, `"png"`, `"webp"`, `"wav"` or `"flac"`.
    pub codec: String,
    /// 1 to 100, for codecs that have one; WebP is lossless at 100.
    pub quality: Option<u8>,
}

impl EncodeOptions {
    /// The operator.
    ///
    /// # Errors
    /// When there is no such codec, or no such quality.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let Some(codec) = codec::named(&self.codec) else {
            let names = codec::ALL.iter().map(|codec| codec.name());
            let hint = nearest(&self.codec, names.clone())
                .map(|name| format!(" (did you mean \"{name}\"?)"));
            return Err(OptionsError(format!(
                "there is no codec {:?}{}; there are {}",
                self.codec,
                hint.unwrap_or_default(),
                names.collect::<Vec<_>>().join(", ")
            )));
        };
        match (self.quality, codec.default_quality()) {
            (Some(0 | 101..), _) => Err(OptionsError("`quality` is 1 to 100".to_owned())),
            (Some(_), None) => {
                Err(OptionsError(format!("`{}` has no `quality`: it is lossless", self.codec)))
            }
            _ => Ok(Arc::new(Encode { codec, options: self })),
        }
    }
}

struct Encode {
    codec: &'static dyn Codec,
    options: EncodeOptions,
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
        let schema = rewrite::schema(&batch.schema(), column, modality, media::State::Encoded);
        rewrite::column(&batch, column, modality, &schema, |row| {
            let Some(media) = rewrite::decoded(&batch, column, modality, row)? else {
                return Ok(Rewritten::Missing);
            };
            let bytes =
                self.codec.encode(&media, self.options.quality).map_err(|e| e.to_string())?;
            Ok(Rewritten::Media { bytes, encoding: self.codec.name(), facts: Facts::of(&media) })
        })
    }
}
