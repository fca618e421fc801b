//! `decode` with `as = "latents"`: latents as lists of 8-bit integers, which models train on without decoding.
//!
//! A list is `[channels, rows, columns]`. The facts beside it become those of the latents: `NAME_channels`,
//! `NAME_height` and `NAME_width` of pictures, `NAME_channels`, `NAME_frames` and (per second, rounded down)
//! `NAME_sample_rate` of sounds.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_models::latent::{self, Name};
use anabranch_pipelines::operator::{OperatorError, Outcome};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{
    Array, ArrayRef, AsArray, Int8Array, Int32Builder, Int64Builder, ListArray, RecordBatch,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type, Schema, SchemaRef};

use super::artifacts;
use crate::brightness::latent_samples;
use crate::codec::{Facts, Latent, Limits};
use crate::decode::{Fetched, stored};
use crate::rewrite::{self, Column};

/// The schema with the column as lists, without the column that named its encoding.
pub(crate) fn schema(input: &SchemaRef, column: &str, modality: Modality) -> SchemaRef {
    let whole = rewrite::schema(input, column, modality, media::State::Decoded);
    let encoding = format!("{column}_encoding");
    let child = Arc::new(Field::new("element", DataType::Int8, true));
    let list = Modality::Latent.mark(Field::new(column, DataType::List(child), true));
    let fields = whole.fields().iter().filter(|field| field.name() != &encoding);
    let fields = fields.map(|field| match field.name() == column {
        true => Arc::new(list.clone()),
        false => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The latents of a column.
pub(crate) fn decode(
    batch: &RecordBatch,
    (name, modality, schema): (&str, Modality, &SchemaRef),
    fetched: &Fetched,
    codecs: &HashMap<Name, Latent>,
    channels: Option<usize>,
    limits: &Limits,
) -> Result<Outcome, OperatorError> {
    let column = Column::of(batch, name, modality);
    let (mut all, mut ends, mut valid) = (Vec::<i8>::new(), vec![0_i32], Vec::new());
    let [mut first, mut second, mut third] = [(); 3].map(|()| Int32Builder::new());
    let mut frames = Int64Builder::new();
    let mut outcome = Outcome::keeping(batch, |row| {
        let bytes = stored(&column, fetched, row)?;
        let read = match bytes {
            None => None,
            Some(bytes) if latent::recognises(bytes) => {
                let codec = artifacts::of(bytes, codecs)?;
                let read = codec.latents(bytes, channels, limits);
                Some((read.map_err(|e| e.to_string())?, codec))
            }
            Some(_) => {
                return Err(
                    "it is no record of latents; `as = \"latents\"` is for those".to_owned()
                );
            }
        };
        let values = read.as_ref().map_or(&[][..], |((_, latents), _)| latents.values.as_slice());
        let end = i32::try_from(all.len() + values.len());
        let many =
            |_| "the records of its batch hold too many latents; cut smaller parts".to_owned();
        ends.push(end.map_err(many)?);
        all.extend_from_slice(values);
        valid.push(read.is_some());
        let whole = |number: usize| i32::try_from(number).ok();
        let numbers = match &read {
            Some(((Facts::Image { .. }, latents), _)) => {
                [whole(latents.across), whole(latents.rows), whole(latents.channels)]
            }
            Some(((Facts::Audio { rate, .. }, latents), codec)) => {
                let rate = i32::try_from(rate >> codec.levels()).ok();
                [rate, whole(latents.channels), None]
            }
            None => [None; 3],
        };
        let [a, b, c] = numbers;
        first.append_option(a);
        second.append_option(b);
        third.append_option(c);
        frames.append_option(read.and_then(|((_, latents), _)| i64::try_from(latents.rows).ok()));
        Ok(())
    })?;
    let lists = ListArray::try_new(
        Arc::new(Field::new("element", DataType::Int8, true)),
        OffsetBuffer::new(ScalarBuffer::from(ends)),
        Arc::new(Int8Array::from(all)),
        Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0),
    )?;
    let facts: Vec<(&str, ArrayRef)> = match modality {
        Modality::Image => vec![
            ("width", Arc::new(first.finish())),
            ("height", Arc::new(second.finish())),
            ("channels", Arc::new(third.finish())),
        ],
        _ => vec![
            ("sample_rate", Arc::new(first.finish())),
            ("channels", Arc::new(second.finish())),
            ("frames", Arc::new(frames.finish())),
        ],
    };
    let mut replaced = HashMap::from([(name.to_owned(), Arc::new(lists) as ArrayRef)]);
    replaced.extend(facts.into_iter().map(|(fact, values)| (format!("{name}_{fact}"), values)));
    outcome.records = rewrite::replace(&outcome.records, schema, &replaced)?;
    Ok(outcome)
}

/// Whether a column holds latents as lists.
pub(crate) fn holds(field: &Field) -> bool {
    let list = matches!(field.data_type(), DataType::List(of) if of.data_type() == &DataType::Int8);
    list && Modality::of(field) == Some(Modality::Latent)
}

/// The latents in a row of a column that [`holds`] them, as [samples](latent_samples) of a model that takes so many
/// columns, rows and channels.
///
/// # Errors
/// A sentence about latents of another size.
pub(crate) fn samples(
    batch: &RecordBatch,
    name: &str,
    row: usize,
    (width, height, channels): (usize, usize, usize),
) -> Result<Option<Vec<u8>>, String> {
    let lists = batch.column_by_name(name).and_then(|column| column.as_list_opt::<i32>());
    let Some(lists) = lists.filter(|lists| lists.is_valid(row)) else { return Ok(None) };
    let fact = |fact: &str, wanted: usize| {
        let column = batch.column_by_name(&format!("{name}_{fact}"));
        let found = column.and_then(|column| column.as_primitive_opt::<Int32Type>());
        let found = found.filter(|column| column.is_valid(row)).map(|column| column.value(row));
        found.map_or(Ok(wanted), usize::try_from).unwrap_or_default()
    };
    let found = (fact("width", width), fact("height", height), fact("channels", channels));
    let list = lists.value(row);
    let values = list.as_primitive_opt::<Int8Type>().ok_or("its latents are no 8-bit integers")?;
    if found != (width, height, channels) || values.len() != width * height * channels {
        return Err(format!(
            "its latents are {}x{} with {} channels ({} values), and the model takes {width}x{height} with {channels}",
            found.0,
            found.1,
            found.2,
            values.len()
        ));
    }
    if values.null_count() > 0 {
        return Err("some of its latents are missing".to_owned());
    }
    Ok(Some(latent_samples(values.values(), channels)))
}
