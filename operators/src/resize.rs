//! `kind = "resize"`: decoded pictures to another size.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions as Method, Resizer};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{Facts, Media, RAW};
use crate::derived::Derived;
use crate::rewrite::{self, Column, Expected, Rewritten};

/// Options of `kind = "resize"`: decoded pictures get another size.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeOptions {
    /// The image column, decoded.
    pub column: String,
    /// Pixels per row of the result.
    pub width: u32,
    /// Rows of the result.
    pub height: u32,
    /// `"nearest"`, `"bilinear"` (antialiased, as Pillow's), `"bicubic"` or `"lanczos"`.
    #[serde(default = "bilinear")]
    pub filter: String,
}

fn bilinear() -> String {
    "bilinear".to_owned()
}

impl ResizeOptions {
    /// The operator.
    ///
    /// # Errors
    /// When the size or the filter is out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let algorithm = match self.filter.as_str() {
            "nearest" => ResizeAlg::Nearest,
            "bilinear" => ResizeAlg::Convolution(FilterType::Bilinear),
            "bicubic" => ResizeAlg::Convolution(FilterType::CatmullRom),
            "lanczos" => ResizeAlg::Convolution(FilterType::Lanczos3),
            other => {
                let message =
                    format!("`filter = {other:?}`: it is nearest, bilinear, bicubic or lanczos");
                return Err(OptionsError(message));
            }
        };
        if self.width == 0 || self.height == 0 || self.width > 65_535 || self.height > 65_535 {
            return Err(OptionsError("`width` and `height` are 1 to 65535".to_owned()));
        }
        Ok(Arc::new(Resize {
            algorithm,
            options: self,
            schema: Derived::default(),
            samples: Expected::default(),
            resizers: Mutex::default(),
        }))
    }
}

struct Resize {
    algorithm: ResizeAlg,
    options: ResizeOptions,
    schema: Derived<SchemaRef>,
    samples: Expected,
    /// Those of earlier invocations, with their buffers.
    resizers: Mutex<Vec<Resizer>>,
}

impl Resize {
    fn resize(
        &self,
        resizer: &mut Resizer,
        media: &Media<'_>,
        samples: &mut Vec<u8>,
    ) -> Result<Facts, String> {
        let Facts::Image { width, height, channels } = media.facts else {
            return Err("it is no picture".to_owned());
        };
        let kind = match channels {
            1 => PixelType::U8,
            3 => PixelType::U8x3,
            4 => PixelType::U8x4,
            _ => return Err(format!("a picture of {channels} channels cannot be resized")),
        };
        let error = |e: &dyn std::fmt::Display| e.to_string();
        let facts =
            Facts::Image { width: self.options.width, height: self.options.height, channels };
        let start = samples.len();
        samples.resize(start + usize::try_from(facts.bytes()).map_err(|e| error(&e))?, 0);
        let pixels = samples.get_mut(start..).unwrap_or_default();
        let source = ImageRef::new(width, height, media.samples, kind).map_err(|e| error(&e))?;
        let (width, height) = (self.options.width, self.options.height);
        let mut target =
            Image::from_slice_u8(width, height, pixels, kind).map_err(|e| error(&e))?;
        let method = Method::new().resize_alg(self.algorithm);
        resizer.resize(&source, &mut target, &method).map_err(|e| error(&e))?;
        Ok(facts)
    }
}

impl Operator for Resize {
    fn kind(&self) -> &'static str {
        "resize"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("resize reads one input".into()));
        };
        SchemaError::require_media(
            input,
            &self.options.column,
            Modality::Image,
            Some(media::State::Decoded),
        )?;
        Ok(rewrite::schema(input, &self.options.column, Modality::Image, media::State::Decoded))
    }

    fn growth(&self) -> Growth {
        // Other columns pass as they are, so the input counts as well.
        let pixels = u64::from(self.options.width) * u64::from(self.options.height);
        Growth { factor: 1.0, per_record: usize::try_from(pixels * 4).unwrap_or(usize::MAX) }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let column = &self.options.column;
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let resizers = || self.resizers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut resizer = resizers().pop().unwrap_or_default();
        let pictures = Column::of(&batch, column, Modality::Image);
        let outcome = rewrite::column(
            &batch,
            column,
            Modality::Image,
            &schema,
            &self.samples,
            |row, samples| {
                let Some(media) = pictures.samples(row)? else { return Ok(None) };
                let facts = self.resize(&mut resizer, &media, samples)?;
                Ok(Some(Rewritten { encoding: RAW, facts: Some(facts) }))
            },
        );
        resizers().push(resizer);
        outcome
    }
}
