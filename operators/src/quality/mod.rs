//! `kind = "quality"`: leaves records out that are nearly empty, whatever their language.
//!
//! Texts are judged by their length and by the share of letters and of repetition, as in the rules of
//! [Gopher](https://arxiv.org/abs/2112.11446) and [C4](https://arxiv.org/abs/1910.10683) that need no word
//! list; decoded pictures by how much their samples differ, decoded sounds by how loud they are. Without
//! options only what holds nothing at all goes. `measures = true` writes the figures beside the column, so
//! that thresholds can be chosen by looking, and applied by `filter`.
//!
//! A record whose value is missing stays: a missing modality is data. What goes was left out on purpose; it
//! is no dead letter.
//!
//! ```
//! use std::sync::Arc;
//! use anabranch_operators::QualityOptions;
//! use anabranch_pipelines::operator::{Allocation, Context};
//! use arrow::array::{ArrayRef, RecordBatch, StringArray};
//!
//! let options = QualityOptions { min_alphanumeric: Some(0.6), ..QualityOptions::of("text") };
//! let texts = StringArray::from(vec![" \n", "== -- ==", "A sentence.", "一个句子。"]);
//! let batch = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)])?;
//! let outcome = options.build()?.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
//! assert_eq!(outcome.records.num_rows(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome, Refused,
};
use anabranch_pipelines::record::{Modality, media::State};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Float64Builder, Int64Builder, RecordBatch,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::derived::Derived;
use crate::rewrite::{self, Column};
use crate::{OptionsError, utf8};

mod media;
mod text;

use text::Measures;

/// Options of `kind = "quality"`: texts, pictures and sounds that say nearly nothing are left out.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityOptions {
    /// A column of texts, of decoded pictures or of decoded sounds.
    pub column: String,
    /// Texts: the fewest characters, whitespace aside; 1 unless given.
    #[serde(default)]
    pub min_characters: Option<u64>,
    /// Texts: the most characters, whitespace aside.
    #[serde(default)]
    pub max_characters: Option<u64>,
    /// Texts: the least share of letters and digits, e.g. 0.6.
    #[serde(default)]
    pub min_alphanumeric: Option<f64>,
    /// Texts: the largest share of characters in lines that stood there before; Gopher takes 0.2.
    #[serde(default)]
    pub max_repeated_lines: Option<f64>,
    /// Texts: the largest share of characters in runs of five words that stood there before; Gopher takes 0.15.
    #[serde(default)]
    pub max_repeated_words: Option<f64>,
    /// Texts: the least mean length of words. A character of a script without spaces is a word.
    #[serde(default)]
    pub min_word_length: Option<f64>,
    /// Texts: the largest mean length of words; Gopher takes 10.
    #[serde(default)]
    pub max_word_length: Option<f64>,
    /// Pictures: the least standard deviation of samples (0 to 255) within a channel; 1 unless given.
    #[serde(default)]
    pub min_deviation: Option<f64>,
    /// Sounds: the least root mean square in decibels of full scale; -60 unless given.
    #[serde(default)]
    pub min_decibels: Option<f64>,
    /// Adds what was measured as columns: `text_characters`, `image_deviation`, `audio_decibels`, ...
    #[serde(default)]
    pub measures: bool,
}

impl QualityOptions {
    /// The defaults, for a column.
    pub fn of(column: &str) -> Self {
        Self {
            column: column.to_owned(),
            min_characters: None,
            max_characters: None,
            min_alphanumeric: None,
            max_repeated_lines: None,
            max_repeated_words: None,
            min_word_length: None,
            max_word_length: None,
            min_deviation: None,
            min_decibels: None,
            measures: false,
        }
    }

    /// The operator.
    ///
    /// # Errors
    /// When a threshold is none.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        for (name, share) in [
            ("min_alphanumeric", self.min_alphanumeric),
            ("max_repeated_lines", self.max_repeated_lines),
            ("max_repeated_words", self.max_repeated_words),
        ] {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                return Err(OptionsError(format!("`{name} = {share}`: a share is 0 to 1")));
            }
        }
        for (name, bound) in [
            ("min_word_length", self.min_word_length),
            ("max_word_length", self.max_word_length),
            ("min_deviation", self.min_deviation),
            ("min_decibels", self.min_decibels),
        ] {
            if let Some(bound) = bound.filter(|bound| !bound.is_finite()) {
                return Err(OptionsError(format!("`{name} = {bound}`: it is a number")));
            }
        }
        Ok(Arc::new(Quality { options: self, plan: Derived::default() }))
    }

    /// The first option that was given and is for another modality.
    fn foreign(&self, modality: Modality) -> Option<(&'static str, &'static str)> {
        let texts = [
            ("min_characters", self.min_characters.is_some()),
            ("max_characters", self.max_characters.is_some()),
            ("min_alphanumeric", self.min_alphanumeric.is_some()),
            ("max_repeated_lines", self.max_repeated_lines.is_some()),
            ("max_repeated_words", self.max_repeated_words.is_some()),
            ("min_word_length", self.min_word_length.is_some()),
            ("max_word_length", self.max_word_length.is_some()),
        ];
        let texts = texts.map(|option| (option, Modality::Text, "texts"));
        let media = [
            (("min_deviation", self.min_deviation.is_some()), Modality::Image, "pictures"),
            (("min_decibels", self.min_decibels.is_some()), Modality::Audio, "sounds"),
        ];
        let mut all = texts.into_iter().chain(media);
        all.find(|((_, given), of, _)| *given && *of != modality)
            .map(|((name, _), _, of)| (name, of))
    }

    fn keeps_text(&self, measures: &Measures) -> bool {
        let least = |bound: Option<f64>, value: f64| bound.is_none_or(|bound| value >= bound);
        let most = |bound: Option<f64>, value: f64| bound.is_none_or(|bound| value <= bound);
        measures.characters >= self.min_characters.unwrap_or(1)
            && self.max_characters.is_none_or(|most| measures.characters <= most)
            && least(self.min_alphanumeric, measures.alphanumeric)
            && most(self.max_repeated_lines, measures.repeated_lines)
            && most(self.max_repeated_words, measures.repeated_words)
            && least(self.min_word_length, measures.word_length)
            && most(self.max_word_length, measures.word_length)
    }
}

struct Quality {
    options: QualityOptions,
    plan: Derived<(Modality, SchemaRef)>,
}

/// What was found out about the rows of a batch.
#[derive(Default)]
struct Found {
    keep: Vec<bool>,
    refused: Vec<Refused>,
    columns: Vec<ArrayRef>,
}

impl Quality {
    fn plan(&self, input: &SchemaRef) -> Result<(Modality, SchemaRef), SchemaError> {
        let column = &self.options.column;
        let field = SchemaError::require(input, column)?;
        let modality = match Modality::of(field) {
            Some(modality @ (Modality::Image | Modality::Audio)) => {
                SchemaError::require_media(input, column, modality, Some(State::Decoded))?;
                modality
            }
            _ => {
                let why = "`quality` measures texts, decoded pictures and decoded sounds";
                utf8::require(input, column, why)?;
                Modality::Text
            }
        };
        if let Some((option, of)) = self.options.foreign(modality) {
            let message = format!("`{option}` is for {of}, and `{column}` holds none");
            return Err(SchemaError::Mismatch(message));
        }
        if !self.options.measures {
            return Ok((modality, Arc::clone(input)));
        }
        let mut fields: Vec<Arc<Field>> = input.fields().iter().cloned().collect();
        for (measure, data_type) in measured(modality) {
            let name = format!("{column}_{measure}");
            if fields.iter().any(|field| *field.name() == name) {
                return Err(SchemaError::Mismatch(format!("there is a column `{name}` already")));
            }
            fields.push(Arc::new(Field::new(name, data_type.clone(), true)));
        }
        Ok((modality, Arc::new(Schema::new(fields))))
    }

    fn texts(&self, batch: &RecordBatch) -> Result<Found, OperatorError> {
        let mut found = Found::default();
        let mut characters = Int64Builder::new();
        let mut shares: [Float64Builder; 4] = Default::default();
        for text in utf8::of(batch, &self.options.column)? {
            let measures = text.map(Measures::of);
            found.keep.push(measures.as_ref().is_none_or(|m| self.options.keeps_text(m)));
            characters.append_option(measures.and_then(|m| i64::try_from(m.characters).ok()));
            let values = [
                measures.map(|m| m.alphanumeric),
                measures.map(|m| m.repeated_lines),
                measures.map(|m| m.repeated_words),
                measures.map(|m| m.word_length),
            ];
            shares.iter_mut().zip(values).for_each(|(share, value)| share.append_option(value));
        }
        found.columns.push(Arc::new(characters.finish()));
        found.columns.extend(shares.map(|mut share| Arc::new(share.finish()) as ArrayRef));
        Ok(found)
    }

    fn media(&self, batch: &RecordBatch, modality: Modality) -> Found {
        let column = Column::of(batch, &self.options.column, modality);
        let (measure, least): (fn(&_) -> _, _) = match modality {
            Modality::Image => (media::deviation, self.options.min_deviation.unwrap_or(1.0)),
            _ => (media::decibels, self.options.min_decibels.unwrap_or(-60.0)),
        };
        let mut found = Found::default();
        let measured = (0..batch.num_rows()).map(|row| {
            let measured =
                column.samples(row).and_then(|media| media.as_ref().map(measure).transpose());
            let measured = measured.unwrap_or_else(|error| {
                found.refused.push(Refused { row, error });
                Some(f64::NAN)
            });
            found.keep.push(measured.is_none_or(|measured| measured >= least));
            measured
        });
        let measured: Float64Array = measured.collect();
        found.columns.push(Arc::new(measured));
        found
    }
}

/// What is measured, and of which type that is.
fn measured(modality: Modality) -> &'static [(&'static str, DataType)] {
    match modality {
        Modality::Image => &[("deviation", DataType::Float64)],
        Modality::Audio => &[("decibels", DataType::Float64)],
        _ => &[
            ("characters", DataType::Int64),
            ("alphanumeric", DataType::Float64),
            ("repeated_lines", DataType::Float64),
            ("repeated_words", DataType::Float64),
            ("word_length", DataType::Float64),
        ],
    }
}

impl Operator for Quality {
    fn kind(&self) -> &'static str {
        "quality"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("quality reads one input".into()));
        };
        Ok(self.plan(input)?.1)
    }

    fn growth(&self) -> Growth {
        match self.options.measures {
            true => Growth { factor: 1.0, per_record: 64 },
            false => Growth::NONE,
        }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let (modality, schema) = self.plan.of(&input, || self.plan(&input))?;
        let found = match modality {
            Modality::Image | Modality::Audio => self.media(&batch, modality),
            _ => self.texts(&batch)?,
        };
        let names = measured(modality).iter().map(|(name, _)| name);
        let names = names.map(|name| format!("{}_{name}", self.options.column));
        let columns: HashMap<String, ArrayRef> = names.zip(found.columns).collect();
        let all = rewrite::replace(&batch, &schema, &columns)?;
        let records = filter_record_batch(&all, &BooleanArray::from(found.keep))?;
        Ok(Outcome { records, refused: found.refused })
    }
}

#[cfg(test)]
mod tests;
