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
use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::Media;
use crate::derived::Derived;
use crate::rewrite::Column;
use crate::transform::Sound;

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

const fn window() -> usize {
    256
}

const fn hop() -> usize {
    128
}

/// What the logarithm of silence is taken of.
const FLOOR: f32 = 1e-10;

impl SpectrumOptions {
    /// The operator.
    ///
    /// # Errors
    /// When an option is out of its range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let wrong = [
            (!(1..=1_000_000).contains(&self.rate), "`rate` is from 1 to 1,000,000"),
            (!(1..=65_536).contains(&self.frames), "`frames` is from 1 to 65,536"),
            (!(16..=65_536).contains(&self.window), "`window` is from 16 to 65,536 samples"),
            (!(1..=self.window).contains(&self.hop), "`hop` is from 1 to `window`"),
            (
                !(1..=self.window / 4).contains(&self.bands),
                "`bands` is from 1 to a quarter of `window`: narrower ones would be empty",
            ),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, message)) => Err(OptionsError((*message).to_owned())),
            None => Ok(Arc::new(Spectrum::new(self))),
        }
    }
}

struct Spectrum {
    transform: Arc<dyn RealToComplex<f32>>,
    hann: Vec<f32>,
    /// Of each band the first bin, and the weights from there on.
    filters: Vec<(usize, Vec<f32>)>,
    schema: Derived<SchemaRef>,
    options: SpectrumOptions,
}

impl Spectrum {
    fn new(options: SpectrumOptions) -> Self {
        let size = options.window;
        let angle = std::f32::consts::TAU / size as f32;
        let hann = (0..size).map(|at| 0.5 - 0.5 * (angle * at as f32).cos()).collect();
        Self {
            transform: RealFftPlanner::new().plan_fft_forward(size),
            hann,
            filters: filters(options.rate, size, options.bands),
            schema: Derived::default(),
            options,
        }
    }

    fn item() -> FieldRef {
        Arc::new(Field::new("element", DataType::Float32, false))
    }

    /// Appends the spectrum of a sound.
    fn append(&self, media: &Media<'_>, values: &mut Vec<f32>) -> Result<(), String> {
        let sound = Sound::of(media)?;
        let SpectrumOptions { rate, frames, window, hop, .. } = self.options;
        if sound.rate != rate {
            return Err(format!(
                "it has {} samples per second, not {rate}; put a `resample` before the spectrum",
                sound.rate
            ));
        }
        let floats = sound.format.floats(media.samples);
        let channels = usize::from(sound.channels);
        let share = f32::from(sound.channels).recip();
        let mono: Vec<f32> =
            floats.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * share).collect();
        let (mut input, mut bins) = (vec![0.0; window], self.transform.make_output_vec());
        // A full tone has this much power in its bin, of a window whose mean is a half.
        let full = (window as f32 / 4.0).powi(2);
        for frame in 0..frames {
            let some = mono.get(frame * hop..).unwrap_or_default().iter();
            let some = some.copied().chain(std::iter::repeat(0.0)).zip(&self.hann);
            input.iter_mut().zip(some).for_each(|(to, (sample, weight))| *to = sample * weight);
            self.transform.process(&mut input, &mut bins).map_err(|e| e.to_string())?;
            values.extend(self.filters.iter().map(|(first, weights)| {
                let bins = bins.get(*first..).unwrap_or_default().iter().zip(weights);
                let power: f32 = bins.map(|(bin, weight)| bin.norm_sqr() * weight).sum();
                1.0 + (power / full + FLOOR).log10() / 5.0
            }));
        }
        Ok(())
    }
}

/// Triangles that overlap by half, equally wide in mel, from 0 to half the rate.
fn filters(rate: u32, window: usize, bands: usize) -> Vec<(usize, Vec<f32>)> {
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let hertz = |mel: f64| 700.0 * (10_f64.powf(mel / 2595.0) - 1.0);
    let top = mel(f64::from(rate) / 2.0);
    let width = f64::from(rate) / window as f64;
    // Places in bins, which need not be whole.
    let corner = |at: usize| hertz(top * at as f64 / (bands + 1) as f64) / width;
    let band = |band: usize| {
        let (low, middle, high) = (corner(band), corner(band + 1), corner(band + 2));
        let weight = |bin: usize| {
            let bin = bin as f64;
            let up = (bin - low) / (middle - low);
            up.min((high - bin) / (high - middle)).max(0.0) as f32
        };
        let (first, last) = (low.ceil() as usize, (high.floor() as usize).min(window / 2));
        let weights: Vec<f32> = (first..=last).map(weight).collect();
        if weights.iter().any(|weight| *weight > 0.0) {
            return (first, weights);
        }
        // Narrower than a bin: what is nearest.
        ((middle.round() as usize).min(window / 2), vec![1.0])
    };
    (0..bands).map(band).collect()
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
                Some(sound) => self.append(&sound, &mut values).map(|()| true),
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
    use crate::codec::{Facts, Pcm};

    fn options(more: &str) -> SpectrumOptions {
        serde_json::from_str(&format!(r#"{{ "rate": 8000, "frames": 4, "bands": 20{more} }}"#))
            .unwrap()
    }

    fn of(options: SpectrumOptions, samples: &[f32], channels: u16) -> Result<Vec<f32>, String> {
        let samples: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let frames = (samples.len() / 4 / usize::from(channels)) as u64;
        let facts = Facts::Audio { format: Pcm::F32, rate: 8000, channels, frames };
        let mut values = Vec::new();
        let media = Media { samples: &samples, facts };
        Spectrum::new(options).append(&media, &mut values).map(|()| values)
    }

    fn tone(hertz: f32, samples: usize) -> Vec<f32> {
        let angle = std::f32::consts::TAU * hertz / 8000.0;
        (0..samples).map(|at| (angle * at as f32).sin()).collect()
    }

    fn loudest(frame: &[f32]) -> usize {
        (0..frame.len()).max_by(|a, b| frame[*a].total_cmp(&frame[*b])).unwrap()
    }

    #[test]
    fn a_tone_is_loudest_in_its_band_and_silence_is_minus_one() {
        let mel = |hertz: f32| 2595.0 * (1.0 + hertz / 700.0).log10();
        let mut last = 0;
        for hertz in [300.0, 900.0, 1800.0, 3300.0] {
            let values = of(options(""), &tone(hertz, 400), 1).unwrap();
            let band = loudest(&values[..20]);
            let expected = (mel(hertz) / mel(4000.0) * 21.0).round() as usize;
            assert!(band.abs_diff(expected - 1) <= 1, "{hertz} Hz in band {band}");
            assert!(band > last && (values[band] - 1.0).abs() < 0.1, "{}", values[band]);
            // 400 samples end in the fourth frame's window.
            assert_eq!(values.len(), 80);
            last = band;
        }
        assert_eq!(of(options(""), &[], 1).unwrap(), [-1.0; 80]);
    }

    #[test]
    fn channels_are_averaged_and_another_rate_is_refused() {
        let one = tone(500.0, 700);
        let both: Vec<f32> = one.iter().flat_map(|sample| [*sample, *sample]).collect();
        assert_eq!(of(options(""), &one, 1), of(options(""), &both, 2));
        let other: SpectrumOptions =
            serde_json::from_str(r#"{ "rate": 16000, "frames": 4 }"#).unwrap();
        assert!(of(other, &one, 1).unwrap_err().contains("not 16000"));
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
