//! Reads and rewrites a media column and its facts, record by record.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anabranch_pipelines::operator::{OperatorError, Outcome};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{
    Array, ArrayRef, BinaryArray, Int32Array, Int32Builder, Int64Builder, RecordBatch, StringArray,
    StringBuilder, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;

use crate::codec::{Facts, Media, Pcm, RAW};

/// Bytes that are reserved ahead at most.
pub(crate) const RESERVE: usize = 64 << 20;

/// Letters of the name of an encoding, mostly.
const ENCODING: usize = 8;

/// A media column of a batch, with the facts beside it.
pub(crate) struct Column<'a> {
    name: &'a str,
    media: Option<&'a StructArray>,
    encodings: Option<&'a StringArray>,
    numbers: [(&'static str, Option<&'a Int32Array>); 3],
}

impl<'a> Column<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, name: &'a str, modality: Modality) -> Self {
        let fact = |fact: &str| batch.column_by_name(&format!("{name}_{fact}"));
        let facts = match modality {
            Modality::Image => ["width", "height", "channels"],
            _ => ["sample_rate", "channels", ""],
        };
        Self {
            name,
            media: media::of(batch, name),
            encodings: fact("encoding").and_then(|names| names.as_any().downcast_ref()),
            numbers: facts
                .map(|name| (name, fact(name).and_then(|numbers| numbers.as_any().downcast_ref()))),
        }
    }

    /// The bytes in row `row`; `None` when they are missing or not read yet.
    pub(crate) fn bytes(&self, row: usize) -> Option<&'a [u8]> {
        media::bytes(self.media?, row)
    }

    pub(crate) fn encoding(&self, row: usize) -> Option<&'a str> {
        let names = self.encodings?;
        (row < names.len() && names.is_valid(row)).then(|| names.value(row))
    }

    fn number(&self, at: usize, row: usize) -> Result<u32, String> {
        let (fact, numbers) = self.numbers.get(at).copied().unwrap_or_default();
        let number = numbers.filter(|numbers| numbers.is_valid(row)).map(|n| n.value(row));
        number
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| format!("the column `{}_{fact}` does not say its {fact}", self.name))
    }

    /// Bytes of the samples of a picture in row `row`, as far as its source knows its size.
    pub(crate) fn pixels(&self, row: usize) -> Option<f64> {
        let [width, height, channels] = [0, 1, 2].map(|at| self.number(at, row).ok());
        Some(f64::from(width?) * f64::from(height?) * f64::from(channels.unwrap_or(3)))
    }

    /// The samples in row `row`, for a column that was decoded or is stored as samples.
    pub(crate) fn samples(&self, row: usize) -> Result<Option<Media<'a>>, String> {
        let Some(samples) = self.bytes(row) else { return Ok(None) };
        let encoding = self.encoding(row).unwrap_or("unknown");
        let many = |_| "it has too many channels".to_owned();
        let facts = if encoding == RAW {
            Facts::Image {
                width: self.number(0, row)?,
                height: self.number(1, row)?,
                channels: u8::try_from(self.number(2, row)?).map_err(many)?,
            }
        } else {
            let format = Pcm::named(encoding)
                .ok_or_else(|| format!("its encoding `{encoding}` is not one of plain samples"))?;
            let channels = u16::try_from(self.number(1, row)?).map_err(many)?;
            let frame = (u64::from(channels) * format.bytes() as u64).max(1);
            let frames = samples.len() as u64 / frame;
            Facts::Audio { format, rate: self.number(0, row)?, channels, frames }
        };
        match facts.bytes() == samples.len() as u64 {
            true => Ok(Some(Media { samples, facts })),
            false => Err(format!("its {} bytes are not the samples of {facts:?}", samples.len())),
        }
    }
}

/// What a record's media became, besides its bytes.
pub(crate) struct Rewritten {
    pub(crate) encoding: &'static str,
    /// Facts of pictures and sounds.
    pub(crate) facts: Option<Facts>,
}

/// How many bytes records became lately, so that room for a batch of them is made at once.
#[derive(Debug, Default)]
pub(crate) struct Expected(AtomicUsize);

impl Expected {
    fn room(&self, rows: usize) -> usize {
        // The last record must not grow the buffer because codecs ask for more than they use.
        self.0.load(Relaxed).saturating_mul(rows + rows / 8 + 1).min(RESERVE)
    }

    fn learn(&self, bytes: usize, rows: usize) {
        if let Some(each) = bytes.checked_div(rows) {
            self.0.store(each, Relaxed);
        }
    }
}

/// Replaces the column and its facts. `rewrite` appends the bytes of a row and says what they are, or that the
/// record has none; records for which it fails are refused.
pub(crate) fn column(
    batch: &RecordBatch,
    column: &str,
    modality: Modality,
    schema: &SchemaRef,
    expected: &Expected,
    mut rewrite: impl FnMut(usize, &mut Vec<u8>) -> Result<Option<Rewritten>, String>,
) -> Result<Outcome, OperatorError> {
    let rows = batch.num_rows();
    let mut bytes: Vec<u8> = Vec::with_capacity(expected.room(rows));
    let mut ends: Vec<i32> = Vec::with_capacity(rows + 1);
    ends.push(0);
    let mut valid: Vec<bool> = Vec::with_capacity(rows);
    // Builders begin with room for a thousand rows, and slices have a few.
    let mut encodings = StringBuilder::with_capacity(rows, rows * ENCODING);
    let mut numbers: [Int32Builder; 3] = [(); 3].map(|()| Int32Builder::with_capacity(rows));
    let mut frames = Int64Builder::with_capacity(rows);
    let mut outcome = Outcome::keeping(batch, |row| {
        let start = bytes.len();
        let rewritten = rewrite(row, &mut bytes).and_then(|rewritten| {
            let end = i32::try_from(bytes.len());
            end.map(|end| (rewritten, end)).map_err(|_| {
                "the records of its batch take more than 2 GiB together; cut smaller parts"
                    .to_owned()
            })
        });
        let (rewritten, end) = rewritten.inspect_err(|_| bytes.truncate(start))?;
        ends.push(end);
        valid.push(rewritten.is_some());
        encodings.append_option(rewritten.as_ref().map(|rewritten| rewritten.encoding));
        let (values, count) = match rewritten.and_then(|rewritten| rewritten.facts) {
            Some(Facts::Image { width, height, channels }) => (
                [i32::try_from(width).ok(), i32::try_from(height).ok(), Some(channels.into())],
                None,
            ),
            Some(Facts::Audio { rate, channels, frames, .. }) => (
                [i32::try_from(rate).ok(), Some(channels.into()), None],
                i64::try_from(frames).ok(),
            ),
            None => ([None; 3], None),
        };
        numbers.iter_mut().zip(values).for_each(|(builder, value)| builder.append_option(value));
        frames.append_option(count);
        Ok(())
    })?;
    expected.learn(bytes.len(), ends.len() - 1);
    let kept = media::of(&outcome.records, column);
    let paths = kept.and_then(media::path_array).cloned();
    let paths = paths.unwrap_or_else(|| StringArray::new_null(outcome.records.num_rows()));
    let bytes = BinaryArray::try_new(
        OffsetBuffer::new(ScalarBuffer::from(ends)),
        Buffer::from_vec(bytes),
        Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0),
    )?;
    let [first, second, third] =
        numbers.each_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef);
    let mut replaced: HashMap<String, ArrayRef> = HashMap::from([
        (column.to_owned(), Arc::new(media::assemble(bytes, paths)) as ArrayRef),
        (format!("{column}_encoding"), Arc::new(encodings.finish())),
    ]);
    let facts: Vec<(&str, ArrayRef)> = match modality {
        Modality::Image => vec![("width", first), ("height", second), ("channels", third)],
        Modality::Audio => {
            vec![
                ("sample_rate", first),
                ("channels", second),
                ("frames", Arc::new(frames.finish())),
            ]
        }
        Modality::Text | Modality::Tensor | Modality::Latent => Vec::new(),
    };
    replaced.extend(facts.into_iter().map(|(fact, values)| (format!("{column}_{fact}"), values)));
    outcome.records = replace(&outcome.records, schema, &replaced)?;
    Ok(outcome)
}

/// The columns of `schema`: replaced ones, or else those of the batch.
pub(crate) fn replace(
    batch: &RecordBatch,
    schema: &SchemaRef,
    replaced: &HashMap<String, ArrayRef>,
) -> Result<RecordBatch, OperatorError> {
    let columns = schema.fields().iter().map(|field| {
        let name = field.name();
        let new = replaced.get(name).or_else(|| batch.column_by_name(name));
        let lost = || OperatorError::Failed(format!("no column `{name}` in {}", batch.schema()));
        new.cloned().ok_or_else(lost)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The schema with the column in this state and all its facts, adding those that are missing.
pub(crate) fn schema(
    input: &SchemaRef,
    column: &str,
    modality: Modality,
    state: media::State,
) -> SchemaRef {
    let changed = Arc::new(media::field(column, modality, state));
    let mut fields: Vec<Arc<arrow::datatypes::Field>> = input
        .fields()
        .iter()
        .map(|field| if field.name() == column { &changed } else { field })
        .map(Arc::clone)
        .collect();
    for fact in media::fact_fields(column, modality) {
        match fields.iter_mut().find(|field| field.name() == fact.name()) {
            Some(there) => *there = Arc::new(fact),
            None => fields.push(Arc::new(fact)),
        }
    }
    Arc::new(arrow::datatypes::Schema::new(fields))
}
