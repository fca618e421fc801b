//! Lines of JSON: `kind = "jsonl"`, for `.jsonl` and `.ndjson`, packed (gzip, zstd) or not.
//!
//! Offsets are byte positions of lines. Nested objects become structs and arrays become lists. A line that
//! is no JSON object, or that has a value of another type or a name that the first lines do not have, is
//! refused with its bytes; blank lines are passed.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{ID, KEY};
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split, Unreadable};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use serde::{Deserialize, Serialize};

use super::glob::Objects;
use super::object::{Failure, Object, Unpacked};
use super::scan::{Format, KEPT, Located, Open, Scanned, Scanner, key};
use super::values::free_name;

mod check;
mod scanner;
mod shape;
#[cfg(test)]
mod tests;

use scanner::Lines;
use shape::Shape;

/// Lines that are looked at for the columns, and their bytes.
const SAMPLED: (usize, usize) = (1000, 4 << 20);

/// Options of `kind = "jsonl"`: every line of every file that matches is a record.
///
/// Columns keep their names, but `id` becomes `id_`, because every record has an id of its own.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlOptions {
    /// A file, a folder or a glob, as a path or URL: `"captions/*.jsonl"`. `.gz` and `.zst` are unpacked.
    pub path: String,
    /// Types by column: `"int64"`, `"float64"`, `"bool"`, `"string"`, or `"ignore"` to leave it out; a value
    /// inside objects is named with dots (`"box.width"`), the items of a list like the list. Default: what
    /// the first thousand lines hold.
    #[serde(default)]
    pub types: BTreeMap<String, JsonlType>,
    /// What becomes of names that are neither in the first lines nor in `types`: `"refuse"` (the default)
    /// makes the line a dead letter, `"ignore"` leaves them out.
    #[serde(default)]
    pub unknown: Unknown,
    /// The column whose values are the records' keys. Default: a column called `key`, or else `FILE@OFFSET`.
    pub key: Option<String>,
    /// Size of a line at most; a larger one is a dead letter. Default `"16MiB"`.
    #[serde(default = "max_line")]
    #[schemars(with = "String")]
    pub max_line: ByteSize,
    /// Size to which a packed file may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

/// A declared type of `kind = "jsonl"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JsonlType {
    /// Whole numbers.
    Int64,
    /// Numbers.
    Float64,
    /// `true` or `false`.
    Bool,
    /// Text; numbers and truth values are taken as they are written.
    String,
    /// Whatever it is, it becomes no column.
    Ignore,
}

/// What becomes of a name that nobody knew of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// The line becomes a dead letter.
    #[default]
    Refuse,
    /// It is left out.
    Ignore,
}

const fn max_line() -> ByteSize {
    ByteSize(16 << 20)
}

impl JsonlOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let objects = Objects::parse(&self.path)?;
        Ok(Arc::new(Scanned::new(objects, Jsonl { options: self })))
    }
}

struct Jsonl {
    options: JsonlOptions,
}

/// What the lines hold.
struct Columns {
    /// Of a whole line.
    shape: Arc<Shape>,
    /// Names and types as the files have them.
    read: SchemaRef,
    /// Which of them is the key.
    key: Option<usize>,
    schema: SchemaRef,
}

impl Format for Jsonl {
    type Row = Vec<u8>;
    type Columns = Columns;

    fn kind(&self) -> &'static str {
        "jsonl"
    }

    fn options(&self) -> serde_json::Value {
        let JsonlOptions { types, unknown, key, max_line, max_unpacked, .. } = &self.options;
        serde_json::json!({
            "types": types, "unknown": unknown, "key": key, "max_line": max_line,
            "max_unpacked": max_unpacked,
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: false, stable_offsets: false, grows: true }
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: self.options.max_unpacked.map(|size| size.0) }
    }

    fn columns(&self, splits: &[Split], open: &Open<'_>) -> Result<Columns, SourceError> {
        let JsonlOptions { types, key: named, .. } = &self.options;
        let mut shape = self.sample(splits, open)?;
        for (path, kind) in types {
            shape
                .declare(path, *kind)
                .map_err(|e| SourceError::Options(format!("`types`: {e}")))?;
        }
        let fields = shape.fields().map_err(|path| SourceError::Format {
            location: self.options.path.clone(),
            message: format!(
                "`{path}` holds values of several types; say `types = {{ \"{path}\" = \"string\" }}` for \
                 numbers and text as they are written, or \"ignore\" to leave it out"
            ),
        })?;
        let key = fields.iter().position(|field| field.name() == named.as_deref().unwrap_or(KEY));
        let names = || fields.iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        match (named, key.and_then(|at| fields.get(at))) {
            (Some(named), None) => {
                return Err(SourceError::Options(format!(
                    "there is no column `{named}`; the columns are {}",
                    names()
                )));
            }
            (_, Some(field)) if field.data_type().is_nested() => {
                return Err(SourceError::Options(format!(
                    "the column `{}` holds lists or objects, which are no keys; name another one with \
                     `key`",
                    field.name()
                )));
            }
            _ => {}
        }
        let mut all = vec![Arc::new(Field::new(KEY, DataType::Utf8, false))];
        for field in fields.iter().filter(|field| field.name() != KEY) {
            let taken = |name: &str| name == ID || all.iter().any(|field| field.name() == name);
            all.push(Arc::new(field.as_ref().clone().with_name(free_name(field.name(), taken))));
        }
        let (read, schema) = (Arc::new(Schema::new(fields)), Arc::new(Schema::new(all)));
        Ok(Columns { shape: Arc::new(shape), read, key, schema })
    }

    fn schema(&self, columns: &Columns) -> SchemaRef {
        Arc::clone(&columns.schema)
    }

    fn scanner(
        &self,
        columns: &Columns,
        object: Object,
    ) -> Result<Box<dyn Scanner<Row = Vec<u8>>>, Failure> {
        let JsonlOptions { max_line, unknown, .. } = &self.options;
        Ok(Box::new(Lines::new(object, Arc::clone(&columns.shape), *unknown, max_line.0)))
    }

    fn batch(
        &self,
        columns: &Columns,
        mut lines: Vec<Located<Vec<u8>>>,
    ) -> Result<SourceBatch, SourceError> {
        let mut refused = Vec::new();
        let arrays = match decode(&columns.read, &lines) {
            Ok(arrays) => arrays,
            Err(_) => {
                // The scanner checked every line; what Arrow nevertheless refuses is found one by one.
                lines = refuse(&columns.read, lines, &mut refused);
                let decoded = decode(&columns.read, &lines);
                decoded.map_err(|e| SourceError::Options(e.to_string()))?
            }
        };
        let named = columns.key.and_then(|at| arrays.get(at));
        let named = named.map(|column| cast(column, &DataType::Utf8)).transpose();
        let named = named.map_err(|e| SourceError::Options(e.to_string()))?;
        let keys = lines.iter().enumerate().map(|(row, line)| {
            let named = named.as_ref().map(|named| named.as_string::<i32>());
            match named.filter(|named| named.is_valid(row)).map(|named| named.value(row)) {
                None | Some("") => Some(key(&line.split, line.range.start)),
                Some(named) => Some(named.to_owned()),
            }
        });
        let mut all: Vec<ArrayRef> = vec![Arc::new(keys.collect::<StringArray>())];
        let others = columns.read.fields().iter().zip(arrays);
        all.extend(others.filter(|(field, _)| field.name() != KEY).map(|(_, array)| array));
        let records = RecordBatch::try_new(Arc::clone(&columns.schema), all)
            .map_err(|e| SourceError::Options(e.to_string()))?;
        Ok(SourceBatch { records, refused })
    }
}

impl Jsonl {
    /// What the first lines of the first files hold.
    fn sample(&self, splits: &[Split], open: &Open<'_>) -> Result<Shape, SourceError> {
        let (mut lines, mut bytes, mut objects) = (0, 0, 0);
        let mut shape = Shape::Object(Vec::new());
        let mut why = "there is none".to_owned();
        for split in splits {
            let anything = Arc::new(Shape::Ignored);
            let mut scanner = match open(split) {
                Ok(object) => {
                    Lines::new(object, anything, Unknown::Ignore, self.options.max_line.0)
                }
                Err(Failure::Damaged(error)) => {
                    why = error;
                    continue;
                }
                Err(Failure::Store(error)) => return Err(error),
            };
            while lines < SAMPLED.0 && bytes < SAMPLED.1 {
                match scanner.next(false) {
                    Ok(Some(found)) => {
                        lines += 1;
                        bytes += usize::try_from(found.bytes).unwrap_or(usize::MAX);
                        // What is no JSON is refused when it is read.
                        let Some(Ok(line)) = found.row else { continue };
                        if let Ok(object @ Shape::Object(_)) = Shape::of(&line) {
                            shape.merge(object);
                            objects += 1;
                        }
                    }
                    Ok(None) => break,
                    Err(Failure::Damaged(error)) => {
                        why = error;
                        break;
                    }
                    Err(Failure::Store(error)) => return Err(error),
                }
            }
        }
        if objects == 0 && lines > 0 {
            why = "no line is a JSON object; a file that is one JSON array becomes lines with \
                   `jq -c '.[]'`"
                .to_owned();
        }
        if objects == 0 && self.options.types.is_empty() {
            return Err(SourceError::Format {
                location: splits.first().map_or_else(String::new, |split| split.name.clone()),
                message: format!("no line tells the columns: {why}; name them with `types`"),
            });
        }
        Ok(shape)
    }
}

/// The columns of these lines, in the order of the schema.
fn decode(schema: &SchemaRef, lines: &[Located<Vec<u8>>]) -> Result<Vec<ArrayRef>, ArrowError> {
    if lines.is_empty() || schema.fields().is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)).columns().to_vec());
    }
    let mut decoder = ReaderBuilder::new(Arc::clone(schema))
        .with_batch_size(lines.len())
        .with_coerce_primitive(true)
        .build_decoder()?;
    for line in lines {
        decoder.decode(&line.row)?;
        decoder.decode(b"\n")?;
    }
    match decoder.flush()? {
        Some(batch) if batch.num_rows() == lines.len() => Ok(batch.columns().to_vec()),
        _ => Err(ArrowError::JsonError("lines and rows differ in number".to_owned())),
    }
}

fn refuse(
    schema: &SchemaRef,
    lines: Vec<Located<Vec<u8>>>,
    refused: &mut Vec<Unreadable>,
) -> Vec<Located<Vec<u8>>> {
    let mut kept = Vec::with_capacity(lines.len());
    for line in lines {
        match decode(schema, std::slice::from_ref(&line)) {
            Ok(_) => kept.push(line),
            Err(error) => refused.push(Unreadable {
                key: key(&line.split, line.range.start),
                split: line.split.name.clone(),
                range: line.range,
                error: error.to_string(),
                bytes: (line.row.len() <= KEPT).then_some(line.row),
            }),
        }
    }
    kept
}

/// Fields that may all be null.
fn nullable(fields: Vec<(String, DataType)>) -> Fields {
    fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect()
}
