//! `kind = "tokenise"`: texts as lists of token ids, in a column beside them.
//!
//! * `model = "byte"`: a token per byte of UTF-8, 0 to 255. Nothing is learned, everything has tokens.
//! * `model = "char"`: a token per character. The vocabulary is that of the first records, the most frequent
//!   first; a character that they do not have becomes `<unk>`.
//! * `model = "bpe"`: byte pair encoding, as in GPT-2 and what came after it. Its vocabulary is that of a
//!   `tokenizer.json` of Hugging Face (`file`), or is learned from the first records.
//!
//! What is learned is a decision of the run: taken once, from records of the first part, and the same for all
//! workers and restarts. It stands as a `tokenizer.json` in the run log of the run that wrote the table,
//! `_anabranch/runs/RUN/decisions/OPERATOR`, and others can use it:
//! `tokenizers.Tokenizer.from_file(..)`, or `file` of another job. More text to learn from is a larger first
//! part (`job.part`).
//!
//! Of a `tokenizer.json`, what is not supported (WordPiece, Unigram, some normalizers) is refused by name, so
//! that tokens are those of its authors' program or none.
//!
//! ```
//! use std::sync::Arc;
//! use anabranch_operators::{TokenModel, TokeniseOptions};
//! use anabranch_pipelines::operator::{Allocation, Context};
//! use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
//!
//! let tokenise = TokeniseOptions::of("text", TokenModel::Byte).build()?;
//! let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("hé"), None]));
//! let batch = RecordBatch::try_from_iter([("text", texts)])?;
//! let outcome = tokenise.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
//! let tokens = outcome.records.column_by_name("tokens").unwrap().as_list::<i32>();
//! assert_eq!(tokens.value(0).as_ref(), &Int32Array::from(vec![104, 0xc3, 0xa9]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Journaled, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::Reference;
use anabranch_pipelines::source::BatchSize;
use anabranch_pipelines::store::Location;
use arrow::array::{Array, Int32Array, ListArray, RecordBatch};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::derived::Derived;
use crate::{OptionsError, utf8};

mod bpe;
mod json;
mod normal;
mod pieces;
mod text_tokens;
mod tokenizer;
mod train;

pub use text_tokens::TextTokens;
use tokenizer::{Known, Tokenizer};

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenModel {
    /// A byte of UTF-8.
    Byte,
    /// A character.
    Char,
    /// What byte pair encoding merged.
    Bpe,
}

/// How a vocabulary is learned.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Tokens in the vocabulary, special ones included.
    pub vocabulary: usize,
    /// Special tokens, which come first and are tokens wherever a text has them.
    pub special: Vec<String>,
}

impl Default for Training {
    fn default() -> Self {
        Self { vocabulary: 8192, special: vec!["<|endoftext|>".to_owned()] }
    }
}

/// Options of `kind = "tokenise"`: texts become lists of token numbers.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokeniseOptions {
    /// The text column.
    #[serde(default = "text")]
    pub column: String,
    /// The column of tokens, a list of 32-bit integers, that is added.
    #[serde(default = "tokens")]
    pub into: String,
    /// `"byte"`, `"char"` or `"bpe"`.
    pub model: TokenModel,
    /// `"bpe"`: a `tokenizer.json`, as a path or URL. Without it the vocabulary is learned.
    #[serde(default)]
    pub file: Option<String>,
    /// The SHA-256 of the file. That of a local one is taken when the job starts; one behind a URL needs it, so
    /// that the plan says which tokens come out.
    #[serde(default)]
    pub sha256: Option<String>,
    /// `"char"` and `"bpe"` without a file: how the vocabulary is learned.
    #[serde(default)]
    pub train: Option<Training>,
    /// Whether the tokens that the file puts around every text (its `post_processor`) are added.
    #[serde(default = "yes")]
    pub special_tokens: bool,
}

fn text() -> String {
    "text".to_owned()
}

fn tokens() -> String {
    "tokens".to_owned()
}

const fn yes() -> bool {
    true
}

/// Tokens of a vocabulary, at most.
const LARGEST: usize = 1 << 24;
/// Bytes that a vocabulary is learned from, at most.
const SAMPLE: usize = 16 << 20;
/// Bytes of a tokenizer's file, at most.
const LARGEST_FILE: u64 = 1 << 30;
/// Tokens of a record beyond those that its bytes allow for.
const ROOM: usize = 2 * json::AROUND;

impl TokeniseOptions {
    /// The defaults, for a column and a model.
    pub fn of(column: &str, model: TokenModel) -> Self {
        Self {
            column: column.to_owned(),
            into: tokens(),
            model,
            file: None,
            sha256: None,
            train: None,
            special_tokens: true,
        }
    }

    /// The operator.
    ///
    /// # Errors
    /// When options do not go together, or the file cannot be read or is not supported.
    pub fn build(mut self) -> Result<Arc<dyn Operator>, OptionsError> {
        self.check().map_err(OptionsError)?;
        if self.model == TokenModel::Byte {
            return Ok(Arc::new(Tokenise::new(self, Vocabulary::Bytes)));
        }
        let Some(file) = &self.file else {
            let training = self.train.clone().unwrap_or_default();
            return Ok(Arc::new(Train { training, options: self }));
        };
        if is_url(file) {
            return Ok(Arc::new(Tokenise::new(self, Vocabulary::Remote(OnceLock::new()))));
        }
        let wrong = |error: &dyn std::fmt::Display| OptionsError(format!("`{file}`: {error}"));
        let bytes = std::fs::read(file).map_err(|e| wrong(&e))?;
        let hash = same(&bytes, self.sha256.as_deref()).map_err(|e| wrong(&e))?;
        let tokenizer = json::read(&bytes).map_err(|e| wrong(&e))?;
        self.sha256 = Some(hash);
        Ok(Arc::new(Tokenise::new(self, Vocabulary::Known(Arc::new(tokenizer)))))
    }

    fn check(&self) -> Result<(), String> {
        let (file, train) = (self.file.is_some(), self.train.is_some());
        if self.model == TokenModel::Byte && (file || train) {
            return Err("bytes need no vocabulary: leave `file` and `train` out".to_owned());
        }
        if self.model == TokenModel::Char && file {
            return Err("`file` goes with `model = \"bpe\"`; characters are learned".to_owned());
        }
        if file && train {
            return Err("give `file` or `train`, not both".to_owned());
        }
        if self.sha256.is_some() && !file {
            return Err("`sha256` is that of the `file`, and there is none".to_owned());
        }
        // It is read when the first batch comes, by each process: without a hash nobody would notice that it
        // changed in between.
        if let (Some(url), None) = (self.file.as_ref().filter(|file| is_url(file)), &self.sha256) {
            return Err(format!(
                "`file = {url:?}` is read while the job runs: say which content is meant, with \
                 `sha256 = \"..\"` (`sha256sum` tells it), or name a local copy"
            ));
        }
        let training = self.train.clone().unwrap_or_default();
        let least = match self.model {
            TokenModel::Bpe => training.special.len() + 256,
            _ => training.special.len() + 2,
        };
        if !(least..=LARGEST).contains(&training.vocabulary) {
            let size = training.vocabulary;
            return Err(format!("`vocabulary = {size}`: here it is {least} to {LARGEST}"));
        }
        let mut special: Vec<&String> = training.special.iter().collect();
        special.sort();
        let twice = special.windows(2).find(|pair| pair.first() == pair.last());
        if let Some([token, ..]) = twice {
            return Err(format!("`special` names `{token}` twice"));
        }
        // The vocabulary has it as a character too, under another id.
        if let Some(token) = special.iter().find(|token| token.chars().count() == 1) {
            return Err(format!(
                "`special` names `{token}`: a character is a token already; make it longer, as in `<|{token}|>`"
            ));
        }
        match special.iter().any(|token| token.is_empty() || *token == train::UNKNOWN) {
            true => Err(format!("`special` tokens are neither empty nor `{}`", train::UNKNOWN)),
            false => Ok(()),
        }
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("tokenise reads one input".into()));
        };
        utf8::require(input, &self.column, "`tokenise` is for texts")?;
        if input.field_with_name(&self.into).is_ok() {
            let into = &self.into;
            let message = format!("there is a column `{into}` already; name another in `into`");
            return Err(SchemaError::Mismatch(message));
        }
        let list = DataType::List(Arc::new(element()));
        let mut fields: Vec<Arc<Field>> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(&self.into, list, true)));
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Tokens of a text, at most, for each of its bytes. A tokenizer may change a text before it cuts it.
    fn per_byte(&self) -> usize {
        if self.file.is_some() { 2 } else { 1 }
    }

    fn growth(&self) -> Growth {
        let factor = 1 + self.per_byte() * size_of::<i32>();
        Growth { factor: factor as f64, per_record: (1 + ROOM) * size_of::<i32>() }
    }
}

fn is_url(file: &str) -> bool {
    file.contains("://")
}

/// What stands in the lists, named as tables name it.
fn element() -> Field {
    Field::new("element", DataType::Int32, true)
}

/// The SHA-256 of these bytes, if it is the expected one.
fn same(bytes: &[u8], expected: Option<&str>) -> Result<String, String> {
    let digest = Sha256::digest(bytes);
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    match expected.filter(|expected| !expected.eq_ignore_ascii_case(&hash)) {
        Some(expected) => Err(format!("its SHA-256 is {hash}, not {expected}")),
        None => Ok(hash),
    }
}

enum Vocabulary {
    Bytes,
    Known(Arc<Tokenizer>),
    /// In a store; read when the first batch comes.
    Remote(OnceLock<Arc<Tokenizer>>),
}

struct Tokenise {
    options: TokeniseOptions,
    vocabulary: Vocabulary,
    schema: Derived<SchemaRef>,
    /// Pieces that earlier invocations encoded.
    known: Mutex<Vec<Known>>,
}

impl Tokenise {
    fn new(options: TokeniseOptions, vocabulary: Vocabulary) -> Self {
        let (schema, known) = (Derived::default(), Mutex::default());
        Self { options, vocabulary, schema, known }
    }

    /// The tokenizer, if there is more to it than bytes.
    fn tokenizer(&self, context: &Context) -> Result<Option<Arc<Tokenizer>>, OperatorError> {
        let read = match &self.vocabulary {
            Vocabulary::Bytes => return Ok(None),
            Vocabulary::Known(tokenizer) => return Ok(Some(Arc::clone(tokenizer))),
            Vocabulary::Remote(read) => read,
        };
        if let Some(tokenizer) = read.get() {
            return Ok(Some(Arc::clone(tokenizer)));
        }
        let file = self.options.file.as_deref().unwrap_or_default();
        let wrong =
            |error: &dyn std::fmt::Display| OperatorError::Failed(format!("`{file}`: {error}"));
        let uri = Location::parse(file).map_err(|e| wrong(&e))?.url;
        let fetched = context.fetch(&[Reference { uri, range: None }], LARGEST_FILE).pop();
        let fetched = fetched.ok_or_else(|| wrong(&"it was not read"))?;
        let bytes = fetched.map_err(|e| wrong(&e))?;
        same(&bytes, self.options.sha256.as_deref()).map_err(|e| wrong(&e))?;
        let tokenizer = Arc::new(json::read(&bytes).map_err(|e| wrong(&e))?);
        Ok(Some(Arc::clone(read.get_or_init(|| tokenizer))))
    }
}

impl Operator for Tokenise {
    fn kind(&self) -> &'static str {
        "tokenise"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        self.options.output(inputs)
    }

    fn growth(&self) -> Growth {
        self.options.growth()
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let texts = utf8::of(&batch, &self.options.column)?;
        let tokenizer = self.tokenizer(context)?;
        let pool = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = pool().pop().unwrap_or_default();
        let (mut all, mut ends, mut valid) = (Vec::<i32>::new(), vec![0_i32], Vec::new());
        let mut ids: Vec<u32> = Vec::new();
        let mut outcome = Outcome::keeping(&batch, |row| {
            ids.clear();
            if texts.is_valid(row) {
                let text = texts.value(row);
                match &tokenizer {
                    Some(tokenizer) => {
                        let around = self.options.special_tokens;
                        tokenizer.encode(text, around, &mut known, &mut ids)?;
                    }
                    None => ids.extend(text.bytes().map(u32::from)),
                }
                let (count, bytes) = (ids.len(), text.len());
                if count > bytes * self.options.per_byte() + ROOM {
                    return Err(format!("its {bytes} bytes become {count} tokens"));
                }
            }
            let end = i32::try_from(all.len() + ids.len());
            let many = |_| "its batch becomes more than 2^31 tokens; cut smaller parts".to_owned();
            ends.push(end.map_err(many)?);
            // Ids are checked to fit when the vocabulary is read.
            all.extend(ids.iter().map(|id| id.cast_signed()));
            valid.push(texts.is_valid(row));
            Ok(())
        })?;
        pool().push(known);
        let lists = ListArray::try_new(
            Arc::new(element()),
            OffsetBuffer::new(ScalarBuffer::from(ends)),
            Arc::new(Int32Array::from(all)),
            Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0),
        )?;
        let mut columns = outcome.records.columns().to_vec();
        columns.push(Arc::new(lists));
        outcome.records = RecordBatch::try_new(schema, columns)?;
        Ok(outcome)
    }
}

/// Learns the vocabulary from the first texts, once for the run.
struct Train {
    options: TokeniseOptions,
    training: Training,
}

impl Operator for Train {
    fn kind(&self) -> &'static str {
        "tokenise"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        self.options.output(inputs)
    }

    fn growth(&self) -> Growth {
        self.options.growth()
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Err(OperatorError::Failed("its vocabulary was not decided on yet".to_owned()))
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        Some(self)
    }
}

impl Journaled for Train {
    fn sample(&self) -> BatchSize {
        BatchSize { records: usize::MAX, bytes: SAMPLE }
    }

    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        let columns = sample.iter().map(|batch| utf8::of(batch, &self.options.column));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let texts = columns.into_iter().flatten().flatten();
        let Training { vocabulary, special } = &self.training;
        match self.options.model {
            TokenModel::Char => Ok(train::characters(texts, *vocabulary, special)),
            _ => train::bytes(texts, *vocabulary, special).map_err(OperatorError::Failed),
        }
    }

    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError> {
        let wrong = |e| OperatorError::Failed(format!("its decision is no vocabulary: {e}"));
        let tokenizer = Arc::new(json::read(decision).map_err(wrong)?);
        Ok(Arc::new(Tokenise::new(self.options.clone(), Vocabulary::Known(tokenizer))))
    }
}

#[cfg(test)]
mod tests;
