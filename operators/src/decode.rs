//! `kind = "decode"`: any encoding of a media column to plain samples, texts or numbers.
//!
//! Pictures (JPEG, PNG, WebP, QOI) and sounds (WAV, FLAC, Opus, MP3, Vorbis, AAC) are recognised by their first
//! bytes, since a file's name may lie; a file that was cut off is refused, not kept as far as it goes; what was encoded by
//! `raw`, `zstd` or `pco` is known by its column, and records of latents name the codec that they need. A record that is still a reference is fetched, all those
//! of a batch at once. Growth is what the run takes credit for: a part of pictures that grow more than
//! declared still decodes, slice by slice, but `growth` should then be raised.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_models::latent::recognises;
use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Features, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Modality, Reference, media, weight_of};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{self, Codec, Facts, Limits, Pcm, RAW};
use crate::derived::Derived;
use crate::latent::{self, Artifacts};
use crate::rewrite::{self, Column, Expected, Rewritten};
use crate::tensor;
use crate::text::{self, Dictionaries};

/// Options of `kind = "decode"`: pictures, sounds, compressed texts and tensors become samples or values.
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
    /// Dictionaries of texts that `encode` compressed with one: `_anabranch/runs/RUN/decisions/OPERATOR`
    /// beside the table, of every run that wrote to it. The source `table` names them by itself.
    #[serde(default)]
    pub dictionaries: Vec<String>,
    /// Files of latent codecs: `_anabranch/runs/RUN/decisions/OPERATOR` beside the table, of every run that learned one,
    /// or what `encode` was given. The source `table` names the former by itself.
    #[serde(default)]
    pub codecs: Vec<String>,
    /// What records of latents become: `"samples"`, or `"latents"`, lists of 8-bit integers that models train on.
    #[serde(default = "samples", rename = "as")]
    pub form: String,
    /// Channels of latents that are read, the most energetic first; all unless said otherwise.
    #[serde(default)]
    pub channels: Option<u16>,
}

pub(crate) fn samples() -> String {
    "samples".to_owned()
}

pub(crate) fn keep() -> String {
    "keep".to_owned()
}

pub(crate) const fn growth() -> f64 {
    24.0
}

impl DecodeOptions {
    /// The operator.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        check(&self.mode, self.growth)?;
        if !["samples", "latents"].contains(&self.form.as_str()) {
            let message = format!("`as = {:?}`: it is \"samples\" or \"latents\"", self.form);
            return Err(OptionsError(message));
        }
        if self.channels == Some(0) {
            return Err(OptionsError("`channels = 0`: it is at least 1".to_owned()));
        }
        Ok(Arc::new(Decode {
            options: self,
            dictionaries: Dictionaries::default(),
            latent_codecs: Artifacts::default(),
            schema: Derived::default(),
            samples: Expected::default(),
        }))
    }
}

/// Refuses a mode that there is not, and a growth that shrinks.
pub(crate) fn check(mode: &str, growth: f64) -> Result<(), OptionsError> {
    if !["rgb", "gray", "keep"].contains(&mode) {
        let message = format!("`mode = {mode:?}`: it is \"rgb\", \"gray\" or \"keep\"");
        return Err(OptionsError(message));
    }
    if growth.is_nan() || growth < 1.0 {
        return Err(OptionsError(format!("`growth = {growth}`: it is at least 1")));
    }
    Ok(())
}

struct Decode {
    options: DecodeOptions,
    dictionaries: Dictionaries,
    latent_codecs: Artifacts,
    schema: Derived<(SchemaRef, Modality)>,
    samples: Expected,
}

impl Decode {
    fn as_latents(&self) -> bool {
        self.options.form == "latents"
    }
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
        match modality {
            Modality::Text => Ok(text::decoded_schema(input, column)),
            Modality::Tensor => tensor::decoded_schema(input, column),
            Modality::Latent => Err(SchemaError::Mismatch(format!(
                "column `{column}` holds latents, which are not decoded"
            ))),
            _ if self.as_latents() => Ok(latent::column::schema(input, column, modality)),
            Modality::Image | Modality::Audio => {
                Ok(rewrite::schema(input, column, modality, media::State::Decoded))
            }
        }
    }

    fn growth(&self) -> Growth {
        Growth { factor: self.options.growth, per_record: 64 }
    }

    fn features(&self, batch: &RecordBatch) -> Features {
        // The bytes that come out: known for pictures whose headers a source has read, else as declared.
        let (records, bytes) = (batch.num_rows(), weight_of(batch));
        let declared = bytes as f64 * self.options.growth / records.max(1) as f64;
        let work = match modality(&batch.schema(), &self.options.column) {
            Ok(Modality::Image) => {
                let column = Column::of(batch, &self.options.column, Modality::Image);
                (0..records).map(|row| column.pixels(row).unwrap_or(declared)).sum()
            }
            _ => declared * records as f64,
        };
        Features { records, bytes, work }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let (name, limits) = (&self.options.column, &self.options.limits);
        let input = batch.schema();
        let derive = || Ok((self.output(&[Arc::clone(&input)])?, modality(&input, name)?));
        let (schema, modality) = self.schema.of::<SchemaError>(&input, derive)?;
        match modality {
            Modality::Text => {
                let files = &self.options.dictionaries;
                let field = input.field_with_name(name).ok();
                let dictionaries = self.dictionaries.get(files, field, context)?;
                return text::decode(&batch, name, &schema, dictionaries, limits);
            }
            Modality::Tensor => return tensor::decode(&batch, name, &schema, limits),
            _ => {}
        }
        let fetched = fetch(&batch, name, limits, context)?;
        let column = Column::of(&batch, name, modality);
        let latents = |row| {
            let bytes = stored(&column, &fetched, row);
            bytes.is_ok_and(|bytes| bytes.is_some_and(|bytes| is_latent(&column, row, bytes)))
        };
        let none = HashMap::new();
        let codecs = if (0..batch.num_rows()).any(latents) {
            let field = input.field_with_name(name).ok();
            self.latent_codecs.get(&self.options.codecs, field, context)?
        } else {
            &none
        };
        let channels = self.options.channels.map(usize::from);
        if self.as_latents() {
            let column = (name.as_str(), modality, &schema);
            return latent::column::decode(&batch, column, &fetched, codecs, channels, limits);
        }
        rewrite::column(&batch, name, modality, &schema, &self.samples, |row, samples| {
            let Some(bytes) = stored(&column, &fetched, row)? else { return Ok(None) };
            let start = samples.len();
            if is_latent(&column, row, bytes) {
                let codec = latent::artifacts::of(bytes, codecs)?;
                let facts = codec.decode_part(bytes, channels, limits, samples);
                let facts = facts.map_err(|e| e.to_string())?;
                let facts = recolour(facts, start, &self.options.mode, samples);
                return Ok(Some(Rewritten { encoding: facts.encoding(), facts: Some(facts) }));
            }
            let (facts, _) = one(&column, bytes, row, (modality, limits), samples)?;
            let facts = recolour(facts, start, &self.options.mode, samples);
            Ok(Some(Rewritten { encoding: facts.encoding(), facts: Some(facts) }))
        })
    }
}

/// Whether a record is one of latents. Plain samples may begin like one.
fn is_latent(column: &Column<'_>, row: usize, bytes: &[u8]) -> bool {
    recognises(bytes) && !is_plain(column, row)
}

/// Whether a record is stored as its samples.
fn is_plain(column: &Column<'_>, row: usize) -> bool {
    column.encoding(row).is_some_and(|e| e == RAW || Pcm::named(e).is_some())
}

/// Bytes of records that were references, or why there are none; `None` for those that were none.
pub(crate) type Fetched = Vec<Option<Result<Bytes, String>>>;

/// The bytes of the record in row `row`, fetched or not; `None` when it has none.
pub(crate) fn stored<'a>(
    column: &Column<'a>,
    fetched: &'a Fetched,
    row: usize,
) -> Result<Option<&'a [u8]>, String> {
    match (column.bytes(row), fetched.get(row).and_then(Option::as_ref)) {
        (Some(bytes), _) => Ok(Some(bytes)),
        (None, Some(Ok(bytes))) => Ok(Some(bytes.as_ref())),
        (None, Some(Err(error))) => Err(error.clone()),
        (None, None) => Ok(None),
    }
}

/// Decodes the bytes of the record in row `row`, appends its samples, and says what they are and which codec
/// the bytes are of, unless they were plain samples.
pub(crate) fn one(
    column: &Column<'_>,
    bytes: &[u8],
    row: usize,
    (modality, limits): (Modality, &Limits),
    samples: &mut Vec<u8>,
) -> Result<(Facts, Option<&'static dyn Codec>), String> {
    let plain = is_plain(column, row);
    if plain && let Some(stored) = column.samples(row)? {
        samples.extend_from_slice(stored.samples);
        return Ok((stored.facts, None));
    }
    let codec = codec::sniff(bytes).filter(|codec| codec.modality() == modality);
    let codec = codec.ok_or_else(|| {
        format!("its {} bytes begin like no {modality} that can be decoded", bytes.len())
    })?;
    let facts = codec.decode(bytes, limits, samples).map_err(|e| e.to_string())?;
    Ok((facts, Some(codec)))
}

pub(crate) fn modality(schema: &SchemaRef, column: &str) -> Result<Modality, SchemaError> {
    let field = SchemaError::require(schema, column)?;
    Ok(Modality::of(field).unwrap_or(Modality::Image))
}

/// Reads the records that are references, all at once.
///
/// # Errors
/// When the store fails, which is no fault of the record.
pub(crate) fn fetch(
    batch: &RecordBatch,
    column: &str,
    limits: &Limits,
    context: &Context,
) -> Result<Fetched, OperatorError> {
    let Some(media) = media::of(batch, column) else { return Ok(Vec::new()) };
    let mut records: Fetched = vec![None; batch.num_rows()];
    let mut wanted = Vec::new();
    for (row, record) in records.iter_mut().enumerate() {
        let reference = match media::bytes(media, row) {
            Some(_) => None,
            None => media::path(media, row).and_then(|path| path.parse::<Reference>().ok()),
        };
        let Some(reference) = reference else { continue };
        match reference.range.as_ref().map_or(0, |range| range.end - range.start) {
            bytes if bytes > limits.bytes.0 => {
                let (bytes, limit) = (ByteSize(bytes), limits.bytes);
                *record = Some(Err(format!("it has {bytes}, and `limits.bytes` is {limit}")));
            }
            _ => wanted.push((row, reference)),
        }
    }
    if wanted.is_empty() {
        return Ok(records);
    }
    let (rows, wanted): (Vec<usize>, Vec<Reference>) = wanted.into_iter().unzip();
    for (row, fetched) in rows.into_iter().zip(context.fetch(&wanted, limits.bytes.0)) {
        let fetched = match fetched {
            Err(error) if error.passing => return Err(OperatorError::Failed(error.to_string())),
            fetched => fetched.map_err(|error| error.to_string()),
        };
        if let Some(record) = records.get_mut(row) {
            *record = Some(fetched);
        }
    }
    Ok(records)
}

/// Changes the colours of the picture whose samples begin at `start`, in place.
pub(crate) fn recolour(facts: Facts, start: usize, mode: &str, samples: &mut Vec<u8>) -> Facts {
    let Facts::Image { width, height, channels } = facts else { return facts };
    let wanted = match (mode, channels) {
        ("rgb", 1 | 4) => 3,
        ("gray", 3 | 4) => 1,
        _ => return facts,
    };
    let pixels = samples.split_off(start);
    match (channels, wanted) {
        (1, _) => samples.extend(pixels.iter().flat_map(|grey| [*grey; 3])),
        (3, _) => {
            samples.extend(pixels.as_chunks::<3>().0.iter().map(|[r, g, b]| luma(*r, *g, *b)))
        }
        (_, 3) => {
            samples.extend(pixels.as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]));
        }
        _ => {
            let grey = |[r, g, b, _]: &[u8; 4]| luma(*r, *g, *b);
            samples.extend(pixels.as_chunks::<4>().0.iter().map(grey));
        }
    }
    Facts::Image { width, height, channels: wanted }
}

/// ITU-R 601-2 luma in 16-bit fixed point, rounded.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16)
        as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array};
    use arrow::datatypes::Schema;

    #[test]
    fn work_is_known_from_headers_and_else_declared() {
        let column = media::column(vec![Some(&[0; 100]), Some(&[0; 100])], vec![None, None]);
        let mut fields = vec![media::field("image", Modality::Image, media::State::Encoded)];
        fields.extend(media::fact_fields("image", Modality::Image));
        let known = |number| Arc::new(Int32Array::from(vec![Some(number), None])) as ArrayRef;
        let nothing = arrow::array::new_null_array(fields[1].data_type(), 2);
        let columns = vec![Arc::new(column), nothing, known(640), known(480), known(4)];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let options = r#"{ "column": "image", "growth": 10 }"#;
        let decode = serde_json::from_str::<DecodeOptions>(options).unwrap().build().unwrap();
        let Features { records, bytes, work } = decode.features(&batch);
        assert_eq!((records, bytes), (2, weight_of(&batch)));
        assert_eq!(work, 640.0 * 480.0 * 4.0 + 10.0 * bytes as f64 / 2.0);
    }
}
