//! `kind = "decode"`: any encoding of a media column to plain samples.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::{Modality, Reference, media};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{self, Limits, Media};
use crate::rewrite::{self, Facts, Rewritten};

/// Options of `kind = "decode"`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecodeOptions {
    /// The media column.
    pub column: String,
    /// Colours of pictures: `"rgb"`, `"gray"`, or `"keep"` as stored.
    #[serde(default = "keep")]
    pub mode: String,
    /// What decoding one record may take at most.
    #[serde(default)]
    pub limits: Limits,
    /// Decoded bytes per stored byte that are planned for; pictures of less detail grow more.
    #[serde(default = "growth")]
    pub growth: f64,
}

fn keep() -> String {
    "keep".to_owned()
}

const fn growth() -> f64 {
    24.0
}

impl DecodeOptions {
    /// The operator.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        if !["rgb", "gray", "keep"].contains(&self.mode.as_str()) {
            let message = format!("`mode = {:?}`: it is \"rgb\", \"gray\" or \"keep\"", self.mode);
            return Err(OptionsError(message));
        }
        if self.growth.is_nan() || self.growth < 1.0 {
            return Err(OptionsError(format!("`growth = {}`: it is at least 1", self.growth)));
        }
        Ok(Arc::new(Decode { options: self }))
    }
}

struct Decode {
    options: DecodeOptions,
}

impl Operator for Decode {
    fn kind(&self) -> &'static str {
        "decode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("decode reads one input".into()));
        };
        let column = &self.options.column;
        let modality = modality(input, column)?;
        SchemaError::require_media(input, column, modality, Some(media::State::Encoded))?;
        Ok(rewrite::schema(input, column, modality, media::State::Decoded))
    }

    fn growth(&self) -> Growth {
        Growth { factor: self.options.growth, per_record: 64 }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let column = &self.options.column;
        let modality = modality(&batch.schema(), column)?;
        let schema = rewrite::schema(&batch.schema(), column, modality, media::State::Decoded);
        let fetched = fetch(&batch, column, context);
        let media = media::of(&batch, column);
        rewrite::column(&batch, column, modality, &schema, |row| {
            let stored = media.and_then(|media| media::bytes(media, row));
            let fetched = fetched.get(row).and_then(Option::as_ref);
            let bytes = match (stored, fetched) {
                (Some(bytes), _) => bytes,
                (None, Some(Ok(bytes))) => bytes.as_ref(),
                (None, Some(Err(error))) => return Err(error.clone()),
                (None, None) => return Ok(Rewritten::Missing),
            };
            let codec = codec::sniff(bytes).filter(|codec| codec.modality() == modality);
            let codec = codec.ok_or_else(|| {
                format!("its {} bytes begin like no {modality} that can be decoded", bytes.len())
            })?;
            let decoded = codec.decode(bytes, &self.options.limits).map_err(|e| e.to_string())?;
            let decoded = recolour(decoded, &self.options.mode);
            let facts = Facts::of(&decoded);
            Ok(match decoded {
                Media::Image { pixels, .. } => {
                    Rewritten::Media { bytes: pixels, encoding: "raw", facts }
                }
                Media::Audio { samples, format, .. } => {
                    Rewritten::Media { bytes: samples, encoding: format.name(), facts }
                }
            })
        })
    }
}

fn modality(schema: &SchemaRef, column: &str) -> Result<Modality, SchemaError> {
    let field = SchemaError::require(schema, column)?;
    Ok(Modality::of(field).filter(|m| *m == Modality::Audio).unwrap_or(Modality::Image))
}

/// Reads the records that are references, all at once.
fn fetch(
    batch: &RecordBatch,
    column: &str,
    context: &Context,
) -> Vec<Option<Result<Bytes, String>>> {
    let Some(media) = media::of(batch, column) else { return Vec::new() };
    let references: Vec<Option<Reference>> = (0..batch.num_rows())
        .map(|row| match media::bytes(media, row) {
            Some(_) => None,
            None => media::path(media, row)?.parse().ok(),
        })
        .collect();
    let wanted: Vec<Reference> = references.iter().flatten().cloned().collect();
    let mut fetched =
        if wanted.is_empty() { Vec::new() } else { context.fetch(&wanted) }.into_iter();
    let one = |reference: Option<Reference>| {
        reference.and_then(|_| fetched.next()).map(|bytes| bytes.map_err(|e| e.to_string()))
    };
    references.into_iter().map(one).collect()
}

fn recolour(media: Media, mode: &str) -> Media {
    let Media::Image { pixels, width, height, channels } = media else { return media };
    let (pixels, channels) = match (mode, channels) {
        ("rgb", 1) => (pixels.iter().flat_map(|grey| [*grey; 3]).collect(), 3),
        ("rgb", 4) => {
            (pixels.as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect(), 3)
        }
        ("gray", 3) => {
            (pixels.as_chunks::<3>().0.iter().map(|[r, g, b]| luma(*r, *g, *b)).collect(), 1)
        }
        ("gray", 4) => {
            (pixels.as_chunks::<4>().0.iter().map(|[r, g, b, _]| luma(*r, *g, *b)).collect(), 1)
        }
        _ => (pixels, channels),
    };
    Media::Image { pixels, width, height, channels }
}

/// ITU-R 601-2 luma in 16-bit fixed point, rounded.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16)
        as u8
}
