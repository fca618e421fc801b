//! Media columns as arrays of numbers: what a training loop wants of a table.
//!
//! Pictures become `uint8` samples, height by width by channels; sounds become `float32` samples in -1 to 1,
//! frame by frame. A column whose pictures all have one shape is an `arrow.fixed_shape_tensor`; else it is a
//! column of lists, and the columns of facts beside it (`NAME_height`, `NAME_frames`, ...) say the shape of each
//! row. Compressed texts and tensors become what they were.
//!
//! ```
//! use std::sync::Arc;
//! use anabranch_operators::Arrays;
//! use anabranch_pipelines::operator::Context;
//! use anabranch_pipelines::record::{media, Modality};
//! use arrow::array::{AsArray, RecordBatch};
//! use arrow::datatypes::{Schema, UInt8Type};
//!
//! let png = anabranch_operators::codec::named("png").unwrap();
//! let facts = anabranch_operators::codec::Facts::Image { width: 2, height: 1, channels: 3 };
//! let mut bytes = Vec::new();
//! let samples = &[1, 2, 3, 4, 5, 6];
//! png.encode(&anabranch_operators::codec::Media { samples, facts }, None, &mut bytes)?;
//!
//! let field = media::field("image", Modality::Image, media::State::Encoded);
//! let column = media::column(vec![Some(&bytes)], vec![None]);
//! let schema = Arc::new(Schema::new(vec![field]));
//! let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(column)])?;
//!
//! let arrays = Arrays::new(&schema, "keep", |_| None)?;
//! let decoded = arrays.decode(batch, &Context::plain())?.records;
//! let pixels = decoded.column_by_name("image").unwrap().as_list::<i32>().value(0);
//! assert_eq!(pixels.as_primitive::<UInt8Type>().values(), samples);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Operator, OperatorError, Outcome, Refused,
};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{
    Array, ArrayRef, BinaryArray, FixedSizeListArray, Float32Builder, ListArray, RecordBatch,
    RecordBatchOptions, UInt8Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::codec::{Facts, Limits, Media, Pcm};
use crate::rewrite::Column;
use crate::{DecodeOptions, OptionsError};

/// Metadata of Arrow's extension types.
const EXTENSION: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// Makes arrays of the media columns of batches of one schema.
pub struct Arrays {
    /// One for each column that is encoded.
    decode: Vec<Arc<dyn Operator>>,
    /// What becomes of each column of what they give; the others are left out.
    columns: Vec<(String, Becomes)>,
    schema: SchemaRef,
}

/// What becomes of a column.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    /// Itself.
    Same,
    /// Lists of pixels.
    Pixels,
    /// A tensor of this shape.
    Tensor([u32; 3]),
    /// Lists of samples.
    Sound,
}

impl Arrays {
    /// Arrays from batches of this schema. Colours of pictures are `"rgb"`, `"gray"`, or `"keep"` as stored;
    /// `constant` is the number that is known to stand in every row of a column.
    ///
    /// # Errors
    /// When the mode is another, or a column cannot be decoded.
    pub fn new(
        input: &SchemaRef,
        mode: &str,
        constant: impl Fn(&str) -> Option<i64>,
    ) -> Result<Self, OptionsError> {
        let wrong = |e: SchemaError| OptionsError(e.to_string());
        let (mut decode, mut schema) = (Vec::new(), Arc::clone(input));
        for field in input.fields() {
            let modality = Modality::of(field).filter(|modality| *modality != Modality::Latent);
            if modality.is_some()
                && media::is_media(field.data_type())
                && media::State::of(field) == Some(media::State::Encoded)
            {
                let options = DecodeOptions {
                    column: field.name().clone(),
                    mode: mode.to_owned(),
                    limits: Limits::default(),
                    growth: 1.0,
                    dictionaries: Vec::new(),
                    codecs: Vec::new(),
                    form: crate::decode::samples(),
                    channels: None,
                };
                let operator = options.build()?;
                schema = operator.output(&[schema]).map_err(wrong)?;
                decode.push(operator);
            }
        }
        let (mut columns, mut fields): (Vec<_>, Vec<FieldRef>) = (Vec::new(), Vec::new());
        let (mut hidden, mut shaped) = (Vec::new(), Vec::new());
        for field in schema.fields() {
            let becomes = becomes(field, mode, &constant);
            let name = field.name();
            match becomes {
                Becomes::Same => {}
                Becomes::Tensor(_) => shaped.push(name.clone()),
                _ => hidden.push(format!("{name}_encoding")),
            }
            fields.push(becomes.field(field));
            columns.push((name.clone(), becomes));
        }
        // The encoding of samples says nothing; the facts of a tensor stand in its type.
        for name in shaped {
            hidden.push(format!("{name}_encoding"));
            let facts = ["width", "height", "channels"].map(|fact| format!("{name}_{fact}"));
            hidden.extend(facts.into_iter().filter(|fact| input.index_of(fact).is_err()));
        }
        columns.retain(|(name, _)| !hidden.contains(name));
        fields.retain(|field| !hidden.contains(field.name()));
        Ok(Self { decode, columns, schema: Arc::new(Schema::new(fields)) })
    }

    /// The schema of what comes out.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes a batch. Rows that cannot be decoded are refused, and are missing from the records.
    ///
    /// # Errors
    /// When a store fails, or the batch has another schema.
    pub fn decode(&self, batch: RecordBatch, context: &Context) -> Result<Outcome, OperatorError> {
        // The row of the batch that each row was.
        let mut rows: Vec<usize> = (0..batch.num_rows()).collect();
        let (mut batch, mut refused) = (batch, Vec::new());
        for operator in &self.decode {
            let outcome = operator.invoke(batch, &Allocation::PLAIN, context)?;
            batch = outcome.records;
            refuse(&mut rows, outcome.refused, &mut refused);
        }
        let unlike = Outcome::keeping(&batch, |row| self.shapes(&batch, row))?;
        batch = unlike.records;
        refuse(&mut rows, unlike.refused, &mut refused);
        let columns = self.columns.iter().map(|(name, becomes)| becomes.column(&batch, name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let records =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        refused.sort_by_key(|refused| refused.row);
        Ok(Outcome { records, refused })
    }

    /// Whether the pictures of a row have the shapes that their columns have.
    fn shapes(&self, batch: &RecordBatch, row: usize) -> Result<(), String> {
        for (name, becomes) in &self.columns {
            let Becomes::Tensor([height, width, channels]) = becomes else { continue };
            let bytes = media::of(batch, name).and_then(|media| media::bytes(media, row));
            let found = bytes.map_or(0, <[u8]>::len) as u64;
            let column = Column::of(batch, name, Modality::Image);
            let facts = column.samples(row)?.map(|media| media.facts);
            let expected = Facts::Image {
                width: *width,
                height: *height,
                channels: u8::try_from(*channels).unwrap_or(0),
            };
            if facts.is_some_and(|facts| facts != expected) || (facts.is_none() && found > 0) {
                return Err(format!(
                    "`{name}` is {facts:?}, and the table's log says that all are {expected:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Takes refused rows out of `rows`.
fn refuse(rows: &mut Vec<usize>, new: Vec<Refused>, refused: &mut Vec<Refused>) {
    if new.is_empty() {
        return;
    }
    let gone: HashMap<usize, String> = new.into_iter().map(|r| (r.row, r.error)).collect();
    let mut at = 0;
    rows.retain(|row| {
        let error = gone.get(&at);
        refused.extend(error.map(|error| Refused { row: *row, error: error.clone() }));
        at += 1;
        error.is_none()
    });
}

fn becomes(field: &Field, mode: &str, constant: impl Fn(&str) -> Option<i64>) -> Becomes {
    let decoded = media::is_media(field.data_type())
        && media::State::of(field) == Some(media::State::Decoded);
    match Modality::of(field).filter(|_| decoded) {
        Some(Modality::Audio) => Becomes::Sound,
        Some(Modality::Image) => {
            let side = |fact: &str| {
                let number = constant(&format!("{}_{fact}", field.name()))?;
                u32::try_from(number).ok().filter(|number| *number > 0)
            };
            let channels = match mode {
                "rgb" => Some(3),
                "gray" => Some(1),
                _ => side("channels"),
            };
            match (side("height"), side("width"), channels) {
                (Some(height), Some(width), Some(channels))
                    if i32::try_from(
                        u64::from(height) * u64::from(width) * u64::from(channels),
                    )
                    .is_ok() =>
                {
                    Becomes::Tensor([height, width, channels])
                }
                _ => Becomes::Pixels,
            }
        }
        _ => Becomes::Same,
    }
}

fn items(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("item", data_type, true))
}

impl Becomes {
    fn field(self, field: &FieldRef) -> FieldRef {
        let (data_type, shape) = match self {
            Self::Same => return Arc::clone(field),
            Self::Pixels => (DataType::List(items(DataType::UInt8)), None),
            Self::Sound => (DataType::List(items(DataType::Float32)), None),
            Self::Tensor(shape) => {
                let [height, width, channels] = shape;
                let size = height.saturating_mul(width).saturating_mul(channels);
                let size = i32::try_from(size).unwrap_or(i32::MAX);
                (DataType::FixedSizeList(items(DataType::UInt8), size), Some(shape))
            }
        };
        let mut metadata = field.metadata().clone();
        if let Some(shape) = shape {
            metadata.insert(EXTENSION.to_owned(), "arrow.fixed_shape_tensor".to_owned());
            let shape = serde_json::json!({
                "shape": shape,
                "dim_names": ["height", "width", "channels"],
            });
            metadata.insert(EXTENSION_METADATA.to_owned(), shape.to_string());
        }
        Arc::new(Field::new(field.name(), data_type, true).with_metadata(metadata))
    }

    fn column(self, batch: &RecordBatch, name: &str) -> Result<ArrayRef, OperatorError> {
        let lost = || OperatorError::Failed(format!("no column `{name}` in {}", batch.schema()));
        if let Self::Same = self {
            return batch.column_by_name(name).cloned().ok_or_else(lost);
        }
        let column = media::of(batch, name).ok_or_else(lost)?;
        if let Self::Sound = self {
            return Ok(sound(batch, name)?);
        }
        let bytes = media::bytes_array(column).ok_or_else(lost)?;
        // A record may be null while its bytes are merely empty.
        let nulls = NullBuffer::union(column.nulls(), bytes.nulls());
        Ok(match self {
            Self::Tensor(shape) => Arc::new(tensor(bytes, nulls, shape)?),
            _ => Arc::new(ListArray::try_new(
                items(DataType::UInt8),
                bytes.offsets().clone(),
                Arc::new(UInt8Array::new(bytes.values().clone().into(), None)),
                nulls,
            )?),
        })
    }
}

/// Pictures of one shape, one behind the other: the decoded bytes themselves, unless some are missing.
fn tensor(
    bytes: &BinaryArray,
    nulls: Option<NullBuffer>,
    [height, width, channels]: [u32; 3],
) -> Result<FixedSizeListArray, ArrowError> {
    let size = height as usize * width as usize * channels as usize;
    let (first, last) = (bytes.value_offsets().first(), bytes.value_offsets().last());
    let (first, last) = (first.copied().unwrap_or(0) as usize, last.copied().unwrap_or(0) as usize);
    let values = if last - first == size * bytes.len() {
        bytes.values().slice_with_length(first, last - first)
    } else {
        let mut values = Vec::with_capacity(size * bytes.len());
        for row in 0..bytes.len() {
            match bytes.is_valid(row).then(|| bytes.value(row)).filter(|row| row.len() == size) {
                Some(row) => values.extend_from_slice(row),
                None => values.resize(values.len() + size, 0),
            }
        }
        values.into()
    };
    let size = i32::try_from(size).map_err(|_| ArrowError::OffsetOverflowError(size))?;
    let values = Arc::new(UInt8Array::new(values.into(), None));
    FixedSizeListArray::try_new(items(DataType::UInt8), size, values, nulls)
}

/// Sounds as floats.
fn sound(batch: &RecordBatch, name: &str) -> Result<ArrayRef, ArrowError> {
    let column = Column::of(batch, name, Modality::Audio);
    let mut samples = Float32Builder::new();
    let mut ends: Vec<i32> = vec![0];
    let mut valid = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let media = column.samples(row).map_err(ArrowError::ComputeError)?;
        valid.push(media.is_some());
        if let Some(Media { samples: bytes, facts: Facts::Audio { format, .. } }) = media {
            floats(format, bytes, &mut samples);
        }
        let end = samples.values_slice().len();
        ends.push(i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end))?);
    }
    let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
    let values = Arc::new(samples.finish());
    Ok(Arc::new(ListArray::try_new(items(DataType::Float32), offsets, values, nulls)?))
}

fn floats(format: Pcm, bytes: &[u8], samples: &mut Float32Builder) {
    let scale = match format {
        Pcm::S16 => 1.0 / 32_768.0,
        Pcm::S24 => 1.0 / 8_388_608.0,
        Pcm::S32 => 1.0 / 2_147_483_648.0,
        Pcm::F32 => {
            let floats = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            floats.for_each(|float| samples.append_value(float));
            return;
        }
    };
    for sample in format.integers(bytes).into_iter().flatten() {
        samples.append_value((f64::from(sample) * scale) as f32);
    }
}
