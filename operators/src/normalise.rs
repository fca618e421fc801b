//! `kind = "normalise"`: brings texts into one form, so that what reads the same is the same bytes.
//!
//! In this order: line ends, control characters, the Unicode form, lower case, whitespace. Normalising twice
//! is normalising once.
//!
//! ```
//! use std::sync::Arc;
//! use anabranch_operators::{NormaliseOptions, Whitespace};
//! use anabranch_pipelines::operator::{Allocation, Context};
//! use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
//!
//! let options = NormaliseOptions { whitespace: Whitespace::Lines, ..NormaliseOptions::of("text") };
//! let texts = StringArray::from(vec!["Cafe\u{301}  au\tlait \r\n\r\n\r\nsvp\0"]);
//! let batch = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)])?;
//! let outcome = options.build()?.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
//! assert_eq!(outcome.records.column(0).as_string::<i32>().value(0), "Café au lait\n\nsvp");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::SchemaRef;
use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use serde::{Deserialize, Serialize};

use crate::{OptionsError, rewrite, utf8};

/// A Unicode normal form.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Characters and their marks are composed: what looks the same is the same.
    #[default]
    Nfc,
    /// Also, variants become the plain character: `ﬁ` is `fi`, `①` is `1`, wide letters are narrow.
    Nfkc,
    /// As it is.
    None,
}

/// What becomes of whitespace.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Whitespace {
    /// It stays; in programs and tables it means something.
    #[default]
    Keep,
    /// Within a line it becomes one space; at both ends of a line it goes; of empty lines in a row one stays.
    Lines,
    /// All of it, line ends too, becomes one space.
    Collapse,
}

/// Options of `kind = "normalise"`: texts get one Unicode form, tidy whitespace and no control characters.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormaliseOptions {
    /// The text column.
    #[serde(default = "text")]
    pub column: String,
    /// The Unicode form: `"nfc"`, `"nfkc"` or `"none"`.
    #[serde(default)]
    pub unicode: Form,
    /// `"keep"`, `"lines"` (tidy, line by line) or `"collapse"` (the text becomes one line).
    #[serde(default)]
    pub whitespace: Whitespace,
    /// Line ends of all systems and of Unicode become `\n`.
    #[serde(default = "yes")]
    pub line_ends: bool,
    /// Control characters, but for tabs and line ends, and byte order marks are removed.
    #[serde(default = "yes")]
    pub control: bool,
    /// Letters become lower case, in every script that has one.
    #[serde(default)]
    pub lower_case: bool,
}

fn text() -> String {
    "text".to_owned()
}

const fn yes() -> bool {
    true
}

impl NormaliseOptions {
    /// The defaults, for a column.
    pub fn of(column: &str) -> Self {
        Self {
            column: column.to_owned(),
            unicode: Form::default(),
            whitespace: Whitespace::default(),
            line_ends: true,
            control: true,
            lower_case: false,
        }
    }

    /// The operator.
    ///
    /// # Errors
    /// None at present: every combination is one.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let composed = match (self.unicode, self.lower_case) {
            (Form::Nfc, _) => Some(ComposingNormalizer::new_nfc()),
            (Form::Nfkc, _) => Some(ComposingNormalizer::new_nfkc()),
            (Form::None, _) => None,
        };
        Ok(Arc::new(Normalise { options: self, composed }))
    }
}

/// A text may become this many times as long, and [`ROOM`] longer; almost none does, some single characters do.
const GROWTH: usize = 2;
const ROOM: usize = 64;

struct Normalise {
    options: NormaliseOptions,
    composed: Option<ComposingNormalizerBorrowed<'static>>,
}

impl Normalise {
    fn normalised<'a>(&self, text: &'a str) -> Cow<'a, str> {
        // The common case first: nothing to do costs no copy.
        let mut text = Cow::Borrowed(text);
        if self.options.line_ends && text.contains(is_line_end) {
            text = Cow::Owned(with_line_ends(&text));
        }
        if self.options.control && text.contains(is_unwanted) {
            text = Cow::Owned(text.replace(is_unwanted, ""));
        }
        text = self.composed(text);
        if self.options.lower_case && text.chars().any(|c| !c.is_lowercase()) {
            // Lower case may decompose, and its compositions may have one of their own.
            text = self.composed(Cow::Owned(text.to_lowercase()));
        }
        match self.options.whitespace {
            Whitespace::Keep => text,
            Whitespace::Lines => Cow::Owned(tidy(&text)),
            Whitespace::Collapse => Cow::Owned(words(&text)),
        }
    }

    fn composed<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        match (&self.composed, text) {
            (None, text) => text,
            (Some(form), Cow::Borrowed(text)) => form.normalize(text),
            (Some(form), Cow::Owned(text)) => Cow::Owned(form.normalize(&text).into_owned()),
        }
    }
}

/// Line ends other than `\n`: of old systems, and U+0085, U+2028 and U+2029.
fn is_line_end(c: char) -> bool {
    matches!(c, '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn with_line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace(is_line_end, "\n")
}

fn is_unwanted(c: char) -> bool {
    (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || c == '\u{feff}'
}

/// The words, with one space between any two.
fn words(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut breaks = 0;
    for line in text.split('\n') {
        let line = words(line);
        if !line.is_empty() {
            tidied.extend(std::iter::repeat_n('\n', breaks));
            tidied.push_str(&line);
            breaks = 0;
        }
        // Before the first line there is nothing to break from.
        breaks = if tidied.is_empty() { 0 } else { (breaks + 1).min(2) };
    }
    tidied
}

impl Operator for Normalise {
    fn kind(&self) -> &'static str {
        "normalise"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("normalise reads one input".into()));
        };
        utf8::require(input, &self.options.column, "`normalise` is for texts")?;
        Ok(Arc::clone(input))
    }

    fn growth(&self) -> Growth {
        Growth { factor: GROWTH as f64, per_record: ROOM }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let texts = utf8::of(&batch, &self.options.column)?;
        let mut normalised = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
        let mut outcome = Outcome::keeping(&batch, |row| {
            if texts.is_null(row) {
                normalised.append_null();
                return Ok(());
            }
            let text = texts.value(row);
            let after = self.normalised(text);
            if after.len() > text.len() * GROWTH + ROOM {
                let (before, after) = (text.len(), after.len());
                return Err(format!(
                    "it would grow from {before} to {after} bytes, more than any ordinary text does"
                ));
            }
            normalised.append_value(after);
            Ok(())
        })?;
        let column: ArrayRef = Arc::new(normalised.finish());
        let replaced = HashMap::from([(self.options.column.clone(), column)]);
        outcome.records = rewrite::replace(&outcome.records, &outcome.records.schema(), &replaced)?;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    fn apply(options: NormaliseOptions, texts: Vec<Option<&str>>) -> Outcome {
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let field = Field::new("text", DataType::Utf8, true);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![texts]).unwrap();
        let operator = options.build().unwrap();
        assert_eq!(operator.output(&[batch.schema()]).unwrap(), batch.schema());
        operator.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap()
    }

    fn one(options: &NormaliseOptions, text: &str) -> String {
        let outcome = apply(options.clone(), vec![Some(text)]);
        assert_eq!(outcome.refused, []);
        outcome.records.column(0).as_string::<i32>().value(0).to_owned()
    }

    #[test]
    fn each_option_does_what_it_says() {
        let plain = NormaliseOptions::of("text");
        let off = NormaliseOptions {
            unicode: Form::None,
            control: false,
            line_ends: false,
            ..plain.clone()
        };
        let odd = "\u{feff}e\u{301}\r\nﬁ\u{7}\u{2028}ＡΣ\tx  ";
        assert_eq!(one(&off, odd), odd);
        assert_eq!(one(&plain, odd), "é\nﬁ\nＡΣ\tx  ");
        let nfkc = NormaliseOptions { unicode: Form::Nfkc, ..plain.clone() };
        assert_eq!(one(&nfkc, odd), "é\nfi\nAΣ\tx  ");
        let lower = NormaliseOptions { lower_case: true, ..plain.clone() };
        assert_eq!(one(&lower, odd), "é\nﬁ\nａς\tx  ");
        let collapse = NormaliseOptions { whitespace: Whitespace::Collapse, ..plain.clone() };
        assert_eq!(one(&collapse, " a\u{a0}\t b\n\nc "), "a b c");
        let lines = NormaliseOptions { whitespace: Whitespace::Lines, ..plain };
        assert_eq!(one(&lines, "\n\n  a  b \n\n \n\nc\nd\n\n"), "a b\n\nc\nd");
    }

    #[test]
    fn controls_between_a_letter_and_its_mark_do_not_part_them() {
        assert_eq!(one(&NormaliseOptions::of("text"), "e\0\u{301}"), "é");
    }

    #[test]
    fn missing_texts_stay_missing_and_monsters_are_refused() {
        let monster = "\u{fdfa}".repeat(1000);
        let nfkc = NormaliseOptions { unicode: Form::Nfkc, ..NormaliseOptions::of("text") };
        let outcome = apply(nfkc, vec![None, Some(&monster), Some("\u{fdfa}"), Some("")]);
        let texts = outcome.records.column(0).as_string::<i32>();
        assert!(texts.is_null(0) && texts.len() == 3);
        assert_eq!(texts.value(1), "صلى الله عليه وسلم");
        let [refused] = &outcome.refused[..] else { panic!("{:?}", outcome.refused) };
        assert_eq!(refused.row, 1);
        assert!(refused.error.contains("from 3000 to 33000 bytes"), "{}", refused.error);
    }

    #[test]
    fn columns_that_hold_no_text_are_refused() {
        let operator = NormaliseOptions::of("label").build().unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("label", DataType::Int32, true)]));
        let error = operator.output(&[schema]).unwrap_err().to_string();
        assert!(error.contains("of type Int32, not text"), "{error}");
    }

    proptest! {
        #[test]
        fn twice_is_once(
            text in "\\PC{0,16}[\u{0}-\u{3ff}\u{1e00}-\u{2030}\u{fb00}-\u{ffff}]{0,16}",
            unicode in prop_oneof![Just(Form::Nfc), Just(Form::Nfkc)],
            whitespace in prop_oneof![
                Just(Whitespace::Keep), Just(Whitespace::Lines), Just(Whitespace::Collapse)
            ],
            lower_case in any::<bool>(),
        ) {
            let options =
                NormaliseOptions { unicode, whitespace, lower_case, ..NormaliseOptions::of("text") };
            let operator = Normalise {
                composed: Some(match unicode {
                    Form::Nfkc => ComposingNormalizer::new_nfkc(),
                    _ => ComposingNormalizer::new_nfc(),
                }),
                options,
            };
            let once = operator.normalised(&text).into_owned();
            prop_assert_eq!(&*operator.normalised(&once), &once);
        }
    }
}
