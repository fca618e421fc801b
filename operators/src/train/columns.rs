//! From rows to examples: what a model takes of each record, checked.

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::{ID, KEY, Modality, RecordId, media};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Schema};

use super::options::{LabelInput, TrainOptions};
use super::sample::Sample;
use crate::codec::Facts;
use crate::latent;
use crate::rewrite::Column;

/// Whether the columns are there and of their types.
pub(super) fn check(options: &TrainOptions, schema: &Schema) -> Result<(), SchemaError> {
    SchemaError::require(schema, ID)?;
    let unfit = |field: &Field, expected: &str, hint: &str| {
        Err(SchemaError::Unfit {
            column: field.name().clone(),
            found: format!("of type {}", field.data_type()),
            expected: expected.to_owned(),
            hint: hint.to_owned(),
        })
    };
    if let Some(of) = &options.image {
        let decoded = Some(media::State::Decoded);
        if !latent::column::holds(SchemaError::require(schema, &of.column)?) {
            SchemaError::require_media(schema, &of.column, Modality::Image, decoded)?;
        }
    }
    let tokens = options.tokens.as_ref().map(|of| &of.column);
    for column in tokens.into_iter().chain(options.text.as_ref().map(|of| &of.column)) {
        let field = SchemaError::require(schema, column)?;
        if !matches!(field.data_type(), DataType::List(of) if of.data_type() == &DataType::Int32) {
            return unfit(field, "lists of 32-bit integers", "`tokenise` makes them of texts");
        }
    }
    if let Some(of) = &options.audio {
        let field = SchemaError::require(schema, &of.column)?;
        let element = match field.data_type() {
            DataType::List(child) | DataType::FixedSizeList(child, _) => child.data_type(),
            other => other,
        };
        if element != &DataType::Float32 || element == field.data_type() {
            return unfit(field, "lists of 32-bit floats", "");
        }
    }
    if let Some(of) = &options.label {
        let field = SchemaError::require(schema, &of.column)?;
        match of.names.is_empty() {
            true if !field.data_type().is_integer() => {
                return unfit(field, "whole numbers", "give the classes of texts as `label.names`");
            }
            false if field.data_type() != &DataType::Utf8 => {
                return unfit(field, "texts", "give `label.classes` instead of `label.names`");
            }
            _ => {}
        }
    }
    Ok(())
}

/// The columns of a batch that a model takes.
pub(super) struct Columns<'a> {
    options: &'a TrainOptions,
    batch: &'a RecordBatch,
    image: Option<Column<'a>>,
    labels: Option<Labels<'a>>,
}

enum Labels<'a> {
    Numbers(Int64Array, &'a LabelInput),
    Names(&'a ArrayRef, &'a LabelInput),
}

/// A record as it is learned from.
pub(super) enum Example {
    /// Tokens of a text that goes on with the next record.
    Text(Vec<u32>),
    /// A whole example.
    Whole(Sample),
}

impl<'a> Columns<'a> {
    pub(super) fn of(
        options: &'a TrainOptions,
        batch: &'a RecordBatch,
    ) -> Result<Self, OperatorError> {
        // Latents are lists, read row by row.
        let image = options.image.as_ref().filter(|of| media::of(batch, &of.column).is_some());
        let image = image.map(|of| Column::of(batch, &of.column, Modality::Image));
        let labels = match &options.label {
            None => None,
            Some(of) => {
                let column = self::column(batch, &of.column)?;
                Some(match of.names.is_empty() {
                    true => {
                        Labels::Numbers(cast(column, &DataType::Int64)?.as_primitive().clone(), of)
                    }
                    false => Labels::Names(column, of),
                })
            }
        };
        Ok(Self { options, batch, image, labels })
    }

    /// What people know a record by.
    pub(super) fn name(&self, row: usize) -> String {
        let keys = self.batch.column_by_name(KEY).and_then(|keys| keys.as_string_opt::<i32>());
        let key = keys.filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row).to_owned());
        let id = || RecordId::of_row(self.batch, row).map(|id| id.to_string());
        key.filter(|key| !key.is_empty()).or_else(id).unwrap_or_default()
    }

    /// The example in a row; the error is a sentence about its record.
    pub(super) fn example(&self, row: usize) -> Result<Example, String> {
        if let Some(of) = &self.options.tokens {
            let tokens = self.tokens(&of.column, of.vocabulary, row)?;
            let missing =
                || format!("its `{}` is missing, and the model learns of nothing else", of.column);
            return tokens.ok_or_else(missing).map(Example::Text);
        }
        let (image, audio) = (self.image(row)?, self.audio(row)?);
        let tokens = match &self.options.text {
            None => None,
            Some(of) => self.tokens(&of.column, of.vocabulary, row)?.map(|mut tokens| {
                tokens.resize(of.length, 0);
                tokens
            }),
        };
        if image.is_none() && audio.is_none() && tokens.is_none() {
            return Err("all that the model takes of it is missing".to_owned());
        }
        let (record, label) = (self.name(row), self.label(row)?);
        Ok(Example::Whole(Sample { record, image, audio, tokens, label }))
    }

    fn tokens(
        &self,
        name: &str,
        vocabulary: usize,
        row: usize,
    ) -> Result<Option<Vec<u32>>, String> {
        let lists = column(self.batch, name).map_err(|e| e.to_string())?;
        let lists = lists.as_list_opt::<i32>().filter(|lists| lists.is_valid(row));
        let Some(tokens) = lists.map(|lists| lists.value(row)) else { return Ok(None) };
        let tokens = tokens.as_primitive::<Int32Type>();
        if tokens.null_count() > 0 {
            return Err(format!("some tokens of its `{name}` are missing"));
        }
        let known = |(place, token): (usize, &i32)| {
            let known = u32::try_from(*token).ok().filter(|token| (*token as usize) < vocabulary);
            known.ok_or_else(|| {
                format!(
                    "token {token} at position {place} of its `{name}` is unknown to a model with a \
                     vocabulary of {vocabulary}"
                )
            })
        };
        tokens.values().iter().enumerate().map(known).collect::<Result<_, _>>().map(Some)
    }

    fn image(&self, row: usize) -> Result<Option<Vec<u8>>, String> {
        let Some(of) = &self.options.image else { return Ok(None) };
        let Some(column) = &self.image else {
            let sizes = (of.width, of.height, of.channels);
            return latent::column::samples(self.batch, &of.column, row, sizes);
        };
        let Some(picture) = column.samples(row)? else { return Ok(None) };
        let Facts::Image { width, height, channels } = picture.facts else {
            return Err(format!("its `{}` is no picture", of.column));
        };
        let found = (width as usize, height as usize, usize::from(channels));
        if found == (of.width, of.height, of.channels) {
            return Ok(Some(picture.samples.to_vec()));
        }
        Err(format!(
            "its picture is {width}x{height} with {channels} channels, and the model takes {}x{} with {}; put a \
             `resize` before the training",
            of.width, of.height, of.channels
        ))
    }

    fn audio(&self, row: usize) -> Result<Option<Vec<f32>>, String> {
        let Some(of) = &self.options.audio else { return Ok(None) };
        let lists = column(self.batch, &of.column).map_err(|e| e.to_string())?;
        if lists.is_null(row) {
            return Ok(None);
        }
        let values = match lists.as_fixed_size_list_opt() {
            Some(lists) => lists.value(row),
            None => lists.as_list::<i32>().value(row),
        };
        let values = values.as_primitive::<Float32Type>();
        if values.len() != of.frames * of.bands {
            return Err(format!(
                "its `{}` has {} values, and the model takes {} frames of {} bands",
                of.column,
                values.len(),
                of.frames,
                of.bands
            ));
        }
        if values.null_count() > 0 || values.values().iter().any(|value| !value.is_finite()) {
            return Err(format!("some values of its `{}` are no numbers", of.column));
        }
        Ok(Some(values.values().to_vec()))
    }

    fn label(&self, row: usize) -> Result<u32, String> {
        let (column, known) = match &self.labels {
            None => return Ok(0),
            Some(Labels::Numbers(numbers, of)) => {
                let number = numbers.is_valid(row).then(|| numbers.value(row));
                let known = number.map(|number| {
                    let class = u32::try_from(number).ok();
                    let class = class.filter(|class| (*class as usize) < of.classes);
                    class.ok_or_else(|| {
                        format!(
                            "its label {number} is none of the {} classes, 0 and up",
                            of.classes
                        )
                    })
                });
                (&of.column, known)
            }
            Some(Labels::Names(names, of)) => {
                let names = names.as_string_opt::<i32>();
                let name = names.filter(|names| names.is_valid(row)).map(|names| names.value(row));
                let known = name.map(|name| {
                    let class = of.names.iter().position(|known| known == name);
                    class.and_then(|class| u32::try_from(class).ok()).ok_or_else(|| {
                        format!("its label {name:?} is none of {}", of.names.join(", "))
                    })
                });
                (&of.column, known)
            }
        };
        known.unwrap_or_else(|| Err(format!("its `{column}` is missing")))
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, OperatorError> {
    let missing = || OperatorError::Failed(format!("the column `{name}` is gone"));
    batch.column_by_name(name).ok_or_else(missing)
}
