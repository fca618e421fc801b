//! Rewrites a media column and its facts, record by record.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::operator::{OperatorError, Outcome};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::Int32Array;
use arrow::array::{
    Array, ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, RecordBatch, StringArray,
    StringBuilder, StructArray,
};
use arrow::datatypes::SchemaRef;

use crate::codec::{Media, Pcm};

/// What a record's media became.
pub(crate) enum Rewritten {
    /// The record lacks this modality.
    Missing,
    /// Other bytes, with their facts.
    Media { bytes: Vec<u8>, encoding: &'static str, facts: Facts },
}

/// What is known of media without decoding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Facts {
    Image { width: u32, height: u32, channels: u8 },
    Audio { rate: u32, channels: u16, frames: u64 },
}

impl Facts {
    pub(crate) fn of(media: &Media) -> Self {
        match media {
            Media::Image { width, height, channels, .. } => {
                Self::Image { width: *width, height: *height, channels: *channels }
            }
            Media::Audio { samples, format, rate, channels } => {
                let frame = format.bytes() * usize::from(*channels).max(1);
                Self::Audio {
                    rate: *rate,
                    channels: *channels,
                    frames: (samples.len() / frame) as u64,
                }
            }
        }
    }
}

/// The decoded media in row `row`, from its bytes and its fact columns.
pub(crate) fn decoded(
    batch: &RecordBatch,
    column: &str,
    modality: Modality,
    row: usize,
) -> Result<Option<Media>, String> {
    let Some(bytes) = media::of(batch, column).and_then(|media| media::bytes(media, row)) else {
        return Ok(None);
    };
    let number = |fact: &str| {
        let name = format!("{column}_{fact}");
        let numbers = batch.column_by_name(&name)?.as_any().downcast_ref::<Int32Array>()?;
        numbers.is_valid(row).then(|| numbers.value(row))
    };
    let needed = |fact: &str| {
        let number = number(fact).and_then(|n| u32::try_from(n).ok());
        number.ok_or_else(|| format!("the column `{column}_{fact}` does not say its {fact}"))
    };
    let encoding = batch
        .column_by_name(&format!("{column}_encoding"))
        .and_then(|names| names.as_any().downcast_ref::<StringArray>())
        .filter(|names| names.is_valid(row))
        .map(|names| names.value(row));
    match modality {
        Modality::Image => {
            let (width, height, channels) =
                (needed("width")?, needed("height")?, needed("channels")?);
            let size = u64::from(width) * u64::from(height) * u64::from(channels);
            if encoding != Some("raw") || size != bytes.len() as u64 {
                return Err(format!(
                    "its {} bytes of encoding `{}` are no {width} x {height} pixels of {channels} samples",
                    bytes.len(),
                    encoding.unwrap_or("unknown")
                ));
            }
            let channels =
                u8::try_from(channels).map_err(|_| format!("{channels} channels are too many"))?;
            Ok(Some(Media::Image { pixels: bytes.to_vec(), width, height, channels }))
        }
        _ => {
            let format = encoding.and_then(Pcm::named);
            let format = format.ok_or_else(|| {
                format!("`{}` is no decoded sound", encoding.unwrap_or("unknown"))
            })?;
            let channels =
                u16::try_from(needed("channels")?).map_err(|_| "too many channels".to_owned())?;
            Ok(Some(Media::Audio {
                samples: bytes.to_vec(),
                format,
                rate: needed("sample_rate")?,
                channels,
            }))
        }
    }
}

/// Replaces the column and its facts; records for which `rewrite` fails are refused.
pub(crate) fn column(
    batch: &RecordBatch,
    column: &str,
    modality: Modality,
    schema: &SchemaRef,
    mut rewrite: impl FnMut(usize) -> Result<Rewritten, String>,
) -> Result<Outcome, OperatorError> {
    let mut bytes = BinaryBuilder::new();
    let mut encodings = StringBuilder::new();
    let mut numbers: [Int32Builder; 3] = Default::default();
    let mut frames = Int64Builder::new();
    let mut outcome = Outcome::keeping(batch, |row| {
        let (body, encoding, facts) = match rewrite(row)? {
            Rewritten::Missing => (None, None, None),
            Rewritten::Media { bytes, encoding, facts } => {
                (Some(bytes), Some(encoding), Some(facts))
            }
        };
        bytes.append_option(body);
        encodings.append_option(encoding);
        let (values, count) = match facts {
            Some(Facts::Image { width, height, channels }) => (
                [i32::try_from(width).ok(), i32::try_from(height).ok(), Some(channels.into())],
                None,
            ),
            Some(Facts::Audio { rate, channels, frames }) => (
                [i32::try_from(rate).ok(), Some(channels.into()), None],
                i64::try_from(frames).ok(),
            ),
            None => ([None; 3], None),
        };
        numbers.iter_mut().zip(values).for_each(|(builder, value)| builder.append_option(value));
        frames.append_option(count);
        Ok(())
    })?;
    let kept = media::of(&outcome.records, column);
    let paths = kept.and_then(media::path_array).cloned();
    let paths = paths.unwrap_or_else(|| StringArray::new_null(outcome.records.num_rows()));
    let [first, second, third] =
        numbers.each_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
    let media: StructArray = media::assemble(bytes.finish(), paths);
    let mut replaced: HashMap<String, ArrayRef> = HashMap::from([
        (column.to_owned(), Arc::new(media) as ArrayRef),
        (format!("{column}_encoding"), Arc::new(encodings.finish())),
    ]);
    let facts: [(&str, ArrayRef); 3] = match modality {
        Modality::Image => [("width", first), ("height", second), ("channels", third)],
        _ => [("sample_rate", first), ("channels", second), ("frames", Arc::new(frames.finish()))],
    };
    replaced.extend(facts.map(|(fact, values)| (format!("{column}_{fact}"), values)));
    let old = outcome.records.schema();
    let columns = schema.fields().iter().map(|field| {
        let name = field.name();
        let new = replaced.get(name).or_else(|| outcome.records.column_by_name(name));
        new.cloned().ok_or_else(|| OperatorError::Failed(format!("no column `{name}` in {old}")))
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    outcome.records = RecordBatch::try_new(Arc::clone(schema), columns)?;
    Ok(outcome)
}

/// The schema with the column in this state and all its facts, adding those that are missing.
pub(crate) fn schema(
    input: &SchemaRef,
    column: &str,
    modality: Modality,
    state: media::State,
) -> SchemaRef {
    let mut fields: Vec<Arc<arrow::datatypes::Field>> = input
        .fields()
        .iter()
        .map(|field| match field.name() == column {
            true => Arc::new(media::field(column, modality, state)),
            false => Arc::clone(field),
        })
        .collect();
    for fact in media::fact_fields(column, modality) {
        match fields.iter_mut().find(|field| field.name() == fact.name()) {
            Some(there) => *there = Arc::new(fact),
            None => fields.push(Arc::new(fact)),
        }
    }
    Arc::new(arrow::datatypes::Schema::new(fields))
}
