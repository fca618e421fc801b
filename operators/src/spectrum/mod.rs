//! `kind = "spectrum"`: sounds as log-mel spectra of one size, a column of floats beside them.
//!
//! What models of speech take: frames of a Hann window, each one the power in so many bands, which are as wide as
//! ears tell them apart (O'Shaughnessy's mel, 2595 log10(1 + f / 700)). A value is `1 + log10(power + 1e-10) / 5`:
//! -1 is silence, and a full tone is near 1. Longer sounds are cut, shorter ones filled up with silence; channels
//! are averaged. All sounds have one rate: `resample` sees to it.
//!
//! ```
//! use anabranch_operators::SpectrumOptions;
//!
//! let options = r#"{ "rate": 8000, "frames": 64, "bands": 32 }"#;
//! let spectrum = serde_json::from_str::<SpectrumOptions>(options)?.build()?;
//! assert_eq!(spectrum.kind(), "spectrum");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome, Refused,
};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchOptions,
};
use arrow::buffer::NullBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::derived::Derived;
use crate::rewrite::Column;

mod mel;
mod short_time;

pub(crate) use mel::{Bands, Mel, hop, window};
pub(crate) use short_time::ShortTime;

/// Options of `kind = "spectrum"`: decoded sounds get a column of log-mel spectra, lists of `frames` times `bands`
/// floats, frame by frame.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpectrumOptions {
    /// The column of decoded sounds. Default `audio`.
    #[serde(default = "audio")]
    pub column: String,
    /// The column that is added. Default `spectrum`.
    #[serde(default = "spectrum")]
    pub into: String,
    /// Samples per second that all sounds have.
    pub rate: u32,
    /// Frames of each spectrum.
    pub frames: usize,
    /// Values of a frame. Default 40.
    #[serde(default = "bands")]
    pub bands: usize,
    /// Samples of a window. Default 256.
    #[serde(default = "window")]
    pub window: usize,
    /// Samples from one window to the next. Default 128.
    #[serde(default = "hop")]
    pub hop: usize,
}

fn audio() -> String {
    "audio".to_owned()
}

fn spectrum() -> String {
    "spectrum".to_owned()
}

const fn bands() -> usize {
    40
}

impl SpectrumOptions {
    /// The operator.
    ///
    /// # Errors
    /// When an option is out of its range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let mel = self.bands().filters().map_err(OptionsError)?;
        Ok(Arc::new(Spectrum { mel, schema: Derived::default(), options: self }))
    }

    fn bands(&self) -> Bands {
        let Self { rate, frames, bands, window, hop, .. } = *self;
        Bands { rate, frames, bands, window, hop }
    }
}

struct Spectrum {
    mel: Mel,
    schema: Derived<SchemaRef>,
    options: SpectrumOptions,
}

impl Spectrum {
    fn item() -> FieldRef {
        Arc::new(Field::new("element", DataType::Float32, false))
    }
}

impl Operator for Spectrum {
    fn kind(&self) -> &'static str {
        "spectrum"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("spectrum reads one input".into()));
        };
        let SpectrumOptions { column, into, frames, bands, .. } = &self.options;
        let decoded = Some(media::State::Decoded);
        SchemaError::require_media(input, column, Modality::Audio, decoded)?;
        if input.index_of(into).is_ok() {
            return Err(SchemaError::Name {
                column: into.clone(),
                fault: "is there already".to_owned(),
                hint: "call the new one otherwise with `into`".to_owned(),
            });
        }
        let size = i32::try_from(frames * bands).unwrap_or(i32::MAX);
        let list = DataType::FixedSizeList(Self::item(), size);
        let new = Modality::Tensor.mark(Field::new(into, list, true));
        let fields = input.fields().iter().cloned().chain([Arc::new(new)]);
        let fields: Vec<FieldRef> = fields.collect();
        Ok(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
    }

    fn growth(&self) -> Growth {
        let values = self.options.frames.saturating_mul(self.options.bands);
        Growth { factor: 1.0, per_record: values.saturating_mul(4).saturating_add(16) }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let column = Column::of(&batch, &self.options.column, Modality::Audio);
        let size = self.options.frames * self.options.bands;
        let (mut values, mut valid, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut keep = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let before = values.len();
            let made = column.samples(row).and_then(|sound| match sound {
                Some(sound) => self.mel.append(&sound, &mut values).map(|()| true),
                None => Ok(false),
            });
            keep.push(made.is_ok());
            match made {
                Ok(there) => {
                    values.resize(before + size, 0.0);
                    valid.push(there);
                }
                Err(error) => {
                    values.truncate(before);
                    refused.push(Refused { row, error });
                }
            }
        }
        let kept = match refused.is_empty() {
            true => batch,
            false => filter_record_batch(&batch, &BooleanArray::from(keep))?,
        };
        let lists = FixedSizeListArray::try_new(
            Self::item(),
            i32::try_from(size).unwrap_or(i32::MAX),
            Arc::new(Float32Array::from(values)),
            Some(NullBuffer::from(valid)).filter(|valid| valid.null_count() > 0),
        )?;
        let columns = kept.columns().iter().cloned().chain([Arc::new(lists) as ArrayRef]).collect();
        let rows = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        Ok(Outcome { records: RecordBatch::try_new_with_options(schema, columns, &rows)?, refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(more: &str) -> SpectrumOptions {
        serde_json::from_str(&format!(r#"{{ "rate": 8000, "frames": 4, "bands": 20{more} }}"#))
            .unwrap()
    }

    #[test]
    fn options_out_of_range_say_so() {
        for (more, says) in [
            (r#", "window": 8"#, "`window`"),
            (r#", "hop": 0"#, "`hop`"),
            (r#", "window": 64, "hop": 32"#, "`bands`"),
        ] {
            assert!(options(more).build().err().expect("an error").0.contains(says));
        }
    }
}
