//! Rows of columns as the inputs of a model. What is in the right form already is not copied.

use std::borrow::Cow;
use std::ops::Range;

use anabranch_models::artifact::architecture::{AudioTokens, ImageTokens};
use anabranch_models::engine::Input;
use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Int32Type};

use crate::brightness::brightness;
use crate::codec::Facts;
use crate::latent;
use crate::rewrite::Column;

/// What tokens a model takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) vocabulary: usize,
    /// The fewest that it answers to.
    pub(super) least: usize,
    /// Where all texts are of one length, that: longer ones are cut, and shorter ones filled up with token 0.
    pub(super) length: Option<usize>,
}

/// What there is of a row; a missing modality is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked<'a> {
    pub(super) image: Option<&'a [f32]>,
    pub(super) audio: Option<&'a [f32]>,
    pub(super) tokens: Option<&'a [u32]>,
}

impl<'a> Asked<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.image.is_none() && self.audio.is_none() && self.tokens.is_none()
    }

    pub(super) fn input(&self) -> Input<'a> {
        Input { image: self.image, audio: self.audio, text: self.tokens }
    }
}

/// The values of one modality, and where in them each row's are.
#[derive(Debug)]
struct Values<'a, T: Clone> {
    all: Cow<'a, [T]>,
    rows: Vec<Option<Range<usize>>>,
}

impl<T: Clone> Values<'_, T> {
    fn of(&self, row: usize) -> Option<&[T]> {
        self.all.get(self.rows.get(row)?.clone()?)
    }
}

/// The rows of a batch as a model takes them, and those that it cannot take.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    errors: Vec<Option<String>>,
    image: Option<Values<'a, f32>>,
    audio: Option<Values<'a, f32>>,
    tokens: Option<Values<'a, u32>>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(rows: usize) -> Self {
        Self { errors: vec![None; rows], image: None, audio: None, tokens: None }
    }

    /// What there is of a row.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn get(&self, row: usize) -> Result<Asked<'_>, String> {
        match self.errors.get(row) {
            Some(Some(error)) => Err(error.clone()),
            _ => Ok(Asked {
                image: self.image.as_ref().and_then(|values| values.of(row)),
                audio: self.audio.as_ref().and_then(|values| values.of(row)),
                tokens: self.tokens.as_ref().and_then(|values| values.of(row)),
            }),
        }
    }

    /// Decoded pictures, their latents, or lists of values as the model was trained on them.
    pub(super) fn image(
        &mut self,
        batch: &'a RecordBatch,
        column: &str,
        sizes: &ImageTokens,
    ) -> Result<(), OperatorError> {
        let ImageTokens { height, width, channels, .. } = *sizes;
        if batch.schema().field_with_name(column).is_ok_and(latent::column::holds) {
            let mut all = Vec::with_capacity(batch.num_rows() * height * width * channels);
            let rows =
                self.errors.iter_mut().enumerate().map(
                    |(row, error)| match latent::column::samples(
                        batch,
                        column,
                        row,
                        (width, height, channels),
                    ) {
                        Ok(samples) => {
                            let from = all.len();
                            all.extend(brightness(&samples?));
                            Some(from..all.len())
                        }
                        Err(problem) => {
                            error.get_or_insert(problem);
                            None
                        }
                    },
                );
            let rows = rows.collect();
            self.image = Some(Values { all: Cow::Owned(all), rows });
            return Ok(());
        }
        if media::of(batch, column).is_none() {
            let what = || format!("{width} x {height} pixels of {}", plural(channels, "channel"));
            self.image = Some(self.floats(batch, column, height * width * channels, what)?);
            return Ok(());
        }
        let pictures = Column::of(batch, column, Modality::Image);
        let mut all = Vec::with_capacity(batch.num_rows() * height * width * channels);
        let errors = &mut self.errors;
        let rows = errors.iter_mut().enumerate().map(|(row, error)| {
            let media = match pictures.samples(row) {
                Ok(media) => media?,
                Err(problem) => {
                    error.get_or_insert(problem);
                    return None;
                }
            };
            match media.facts {
                Facts::Image { width: across, height: down, channels: values }
                    if (down as usize, across as usize, usize::from(values))
                        == (height, width, channels) =>
                {
                    let from = all.len();
                    all.extend(brightness(media.samples));
                    Some(from..all.len())
                }
                Facts::Image { width: across, height: down, channels: values } => {
                    let (found, wanted) =
                        (plural(values.into(), "channel"), plural(channels, "channel"));
                    error.get_or_insert(format!(
                        "its picture has {across} x {down} pixels of {found}; the model takes \
                         {width} x {height} of {wanted}"
                    ));
                    None
                }
                Facts::Audio { .. } => {
                    error.get_or_insert("it is no picture".to_owned());
                    None
                }
            }
        });
        let rows = rows.collect();
        self.image = Some(Values { all: Cow::Owned(all), rows });
        Ok(())
    }

    /// Spectrograms.
    pub(super) fn audio(
        &mut self,
        batch: &'a RecordBatch,
        column: &str,
        sizes: &AudioTokens,
    ) -> Result<(), OperatorError> {
        let AudioTokens { bands, frames, .. } = *sizes;
        let what = || format!("{} of {}", plural(frames, "frame"), plural(bands, "band"));
        self.audio = Some(self.floats(batch, column, bands * frames, what)?);
        Ok(())
    }

    /// Lists of so many floats.
    fn floats(
        &mut self,
        batch: &'a RecordBatch,
        column: &str,
        wanted: usize,
        what: impl Fn() -> String,
    ) -> Result<Values<'a, f32>, OperatorError> {
        let lists = Lists::of(batch, column)?;
        let values = lists.values.as_primitive_opt::<Float32Type>();
        let values = values.ok_or_else(|| other(column, "32-bit floats"))?.values();
        let rows = self.errors.iter_mut().enumerate().map(|(row, error)| {
            let range = lists.range(row)?;
            let floats = values.get(range.clone()).unwrap_or_default();
            let problem = if floats.len() != wanted {
                let found = plural(floats.len(), "value");
                Some(format!("its `{column}` has {found}; the model takes {wanted}: {}", what()))
            } else if lists.has_gaps(&range) {
                Some(format!("its `{column}` has missing values"))
            } else {
                let odd = floats.iter().position(|value| !value.is_finite());
                let odd = odd.and_then(|at| Some((at, floats.get(at)?)));
                odd.map(|(at, value)| format!("value {at} of its `{column}` is {value}, no number"))
            };
            match problem {
                Some(problem) => {
                    error.get_or_insert(problem);
                    None
                }
                None => Some(range),
            }
        });
        let rows = rows.collect();
        Ok(Values { all: Cow::Borrowed(values), rows })
    }

    /// Lists of tokens.
    pub(super) fn tokens(
        &mut self,
        batch: &'a RecordBatch,
        column: &str,
        text: Text,
    ) -> Result<(), OperatorError> {
        let lists = Lists::of(batch, column)?;
        let values = lists.values.as_primitive_opt::<Int32Type>();
        let values = values.ok_or_else(|| other(column, "32-bit integers"))?.values();
        let mut all = Vec::with_capacity(lists.held());
        let rows = self.errors.iter_mut().enumerate().map(|(row, error)| {
            let range = lists.range(row)?;
            let from = all.len();
            match read(values.get(range.clone()).unwrap_or_default(), text, &mut all) {
                Ok(()) if lists.has_gaps(&range) => {
                    error.get_or_insert(format!("its `{column}` has missing tokens"));
                }
                Ok(()) => return Some(from..all.len()),
                Err(problem) => {
                    error.get_or_insert(problem);
                }
            }
            all.truncate(from);
            None
        });
        let rows = rows.collect();
        self.tokens = Some(Values { all: Cow::Owned(all), rows });
        Ok(())
    }
}

/// Appends the tokens of a text.
fn read(tokens: &[i32], text: Text, into: &mut Vec<u32>) -> Result<(), String> {
    let from = into.len();
    let Text { vocabulary, least, length } = text;
    let count = tokens.len();
    if count < least {
        return Err(match (count, least) {
            (0, _) => "its text is empty: there is nothing to answer to".to_owned(),
            _ => "its text is one token, and the loss is of those behind the first".to_owned(),
        });
    }
    for (position, token) in tokens.iter().enumerate() {
        let known = u32::try_from(*token).ok().filter(|known| (*known as usize) < vocabulary);
        into.push(known.ok_or_else(|| {
            format!(
                "token {token} at position {position} is unknown: the vocabulary has {vocabulary} \
                 tokens, from 0"
            )
        })?);
    }
    if let Some(length) = length {
        into.resize(from + length, 0);
    }
    Ok(())
}

/// A column of lists of any kind.
struct Lists<'a> {
    lists: &'a ArrayRef,
    values: &'a ArrayRef,
}

impl<'a> Lists<'a> {
    fn of(batch: &'a RecordBatch, column: &str) -> Result<Self, OperatorError> {
        let lists = batch.column_by_name(column);
        let lists = lists.ok_or_else(|| OperatorError::Failed(format!("no column `{column}`")))?;
        let values = match lists.data_type() {
            DataType::List(_) => lists.as_list::<i32>().values(),
            DataType::LargeList(_) => lists.as_list::<i64>().values(),
            DataType::FixedSizeList(..) => lists.as_fixed_size_list().values(),
            _ => return Err(other(column, "lists")),
        };
        Ok(Self { lists, values })
    }

    /// Where the values of a row are, unless it is null.
    fn range(&self, row: usize) -> Option<Range<usize>> {
        if self.lists.is_null(row) {
            return None;
        }
        Some(self.place(row))
    }

    fn place(&self, row: usize) -> Range<usize> {
        let between = |offsets: Option<(usize, usize)>| offsets.map_or(0..0, |(from, to)| from..to);
        match self.lists.data_type() {
            DataType::List(_) => {
                let offsets = self.lists.as_list::<i32>().value_offsets();
                let at = |row: usize| offsets.get(row).and_then(|at| usize::try_from(*at).ok());
                between(at(row).zip(at(row + 1)))
            }
            DataType::LargeList(_) => {
                let offsets = self.lists.as_list::<i64>().value_offsets();
                let at = |row: usize| offsets.get(row).and_then(|at| usize::try_from(*at).ok());
                between(at(row).zip(at(row + 1)))
            }
            _ => {
                let lists = self.lists.as_fixed_size_list();
                let length = usize::try_from(lists.value_length()).unwrap_or_default();
                row * length..(row + 1) * length
            }
        }
    }

    /// Values of all rows.
    fn held(&self) -> usize {
        match self.lists.len() {
            0 => 0,
            rows => self.place(rows - 1).end - self.place(0).start,
        }
    }

    fn has_gaps(&self, range: &Range<usize>) -> bool {
        let nulls = self.values.nulls().filter(|nulls| nulls.null_count() > 0);
        nulls.is_some_and(|nulls| range.clone().any(|at| nulls.is_null(at)))
    }
}

fn other(column: &str, wanted: &str) -> OperatorError {
    OperatorError::Failed(format!("column `{column}` does not hold {wanted}"))
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
