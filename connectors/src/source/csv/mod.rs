//! Rows of delimited text: `kind = "csv"`, for CSV and TSV, packed (gzip, zstd) or not.
//!
//! Offsets are byte positions of rows. A row of another length, or with a value that is not of its column's
//! type, is refused with its line; a file whose header names other columns is refused as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::csv::StringRecord;
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{ID, KEY};
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::glob::Objects;
use super::object::{Failure, Object, Unpacked};
use super::scan::{Format, Located, Open, Scanned, Scanner, key};
use super::values::{ValueType, free_name};

mod header;
mod scanner;
#[cfg(test)]
mod tests;

pub use header::first_rows;
pub(super) use header::{Dialect, read_all};
use header::{Sample, sample};
use scanner::Rows;

/// Options of `kind = "csv"`: every row of every file that matches is a record.
///
/// Columns keep their names, but `id` becomes `id_`, because every record has an id of its own.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvOptions {
    /// A file, a folder or a glob, as a path or URL: `"labels/*.tsv"`. `.gz` and `.zst` are unpacked.
    pub path: String,
    /// What separates values, one character. Default: a tab in `.tsv` files, else a comma.
    pub delimiter: Option<String>,
    /// Whether `"` quotes values that hold delimiters or line ends. Default true.
    #[serde(default = "yes")]
    pub quotes: bool,
    /// Names of the columns, for files without a header line.
    pub columns: Option<Vec<String>>,
    /// Types by column: `"int64"`, `"float64"`, `"bool"` or `"string"`. Default: what the first rows look like.
    #[serde(default)]
    pub types: BTreeMap<String, ValueType>,
    /// The column whose values are the records' keys. Default: a column called `key`, or else `FILE@OFFSET`.
    pub key: Option<String>,
    /// Size of a row at most; a larger one means that a quote was never closed. Default `"16MiB"`.
    #[serde(default = "max_row")]
    #[schemars(with = "String")]
    pub max_row: ByteSize,
    /// Size to which a packed file may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

const fn yes() -> bool {
    true
}

const fn max_row() -> ByteSize {
    ByteSize(16 << 20)
}

impl CsvOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path or the delimiter is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let delimiter = match self.delimiter.as_deref().map(str::as_bytes) {
            None => None,
            Some([one]) if one.is_ascii() => Some(*one),
            Some(_) => {
                let message = "`delimiter` is one ASCII character, like \",\" or \"\\t\"";
                return Err(SourceError::Options(message.to_owned()));
            }
        };
        let dialect = Dialect { delimiter, quotes: self.quotes, columns: self.columns.clone() };
        Ok(Arc::new(Scanned::new(Objects::parse(&self.path)?, Csv { dialect, options: self })))
    }
}

struct Csv {
    dialect: Dialect,
    options: CsvOptions,
}

/// What the rows hold.
struct Columns {
    /// Names as the files have them, with types, in order of the first file.
    values: Vec<(String, ValueType)>,
    /// Which of them is the key.
    key: Option<usize>,
    schema: SchemaRef,
}

impl Format for Csv {
    type Row = Row;
    type Columns = Columns;

    fn kind(&self) -> &'static str {
        "csv"
    }

    fn options(&self) -> serde_json::Value {
        let CsvOptions { delimiter, quotes, columns, types, key, max_row, .. } = &self.options;
        serde_json::json!({
            "delimiter": delimiter, "quotes": quotes, "columns": columns, "types": types, "key": key,
            "max_row": max_row, "max_unpacked": self.options.max_unpacked,
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: false, stable_offsets: false, grows: true }
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: self.options.max_unpacked.map(|size| size.0) }
    }

    fn columns(&self, splits: &[Split], open: &Open<'_>) -> Result<Columns, SourceError> {
        let Sample { names, rows } = first_sample(&self.dialect, splits, open)?;
        let options = &self.options;
        if let Some(unknown) = options.types.keys().chain(&options.key).find(|n| !names.contains(n))
        {
            return Err(SourceError::Options(format!(
                "there is no column `{unknown}`; the columns are {}",
                names.join(", ")
            )));
        }
        let kind = |(at, name): (usize, &String)| {
            let inferred = || ValueType::infer(rows.iter().filter_map(|row| row.get(at)));
            (name.clone(), options.types.get(name).copied().unwrap_or_else(inferred))
        };
        let values: Vec<(String, ValueType)> = names.iter().enumerate().map(kind).collect();
        let named = options.key.as_deref().unwrap_or(KEY);
        let key = names.iter().position(|name| name == named);
        let mut fields = vec![Field::new(KEY, DataType::Utf8, false)];
        for (name, kind) in values.iter().filter(|(name, _)| name != KEY) {
            let taken = |name: &str| name == ID || fields.iter().any(|field| field.name() == name);
            fields.push(Field::new(free_name(name, taken), kind.data_type(), true));
        }
        Ok(Columns { values, key, schema: Arc::new(Schema::new(fields)) })
    }

    fn schema(&self, columns: &Columns) -> SchemaRef {
        Arc::clone(&columns.schema)
    }

    fn scanner(
        &self,
        columns: &Columns,
        object: Object,
    ) -> Result<Box<dyn Scanner<Row = Row>>, Failure> {
        let rows = Rows::open(object, &self.dialect, &columns.values, self.options.max_row.0)?;
        Ok(Box::new(rows))
    }

    fn batch(
        &self,
        columns: &Columns,
        rows: Vec<Located<Row>>,
    ) -> Result<SourceBatch, SourceError> {
        let keys = rows.iter().map(|Located { split, range, row }| {
            let named = columns.key.and_then(|at| row.get(at)).filter(|key| !key.is_empty());
            named.map_or_else(|| key(split, range.start), str::to_owned)
        });
        let keys: StringArray = keys.map(Some).collect();
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(keys)];
        for (at, (name, kind)) in columns.values.iter().enumerate() {
            if name != KEY {
                arrays
                    .push(kind.column(rows.iter().map(|row| row.row.get(at).unwrap_or_default())));
            }
        }
        let records = RecordBatch::try_new(Arc::clone(&columns.schema), arrays)
            .map_err(|e| SourceError::Options(e.to_string()))?;
        Ok(SourceBatch { records, refused: Vec::new() })
    }
}

/// The values of a row, in the order of [`Columns::values`].
struct Row {
    values: StringRecord,
    /// For each column its place in the row, where the file has another order than the first one.
    order: Option<Arc<[usize]>>,
}

impl Row {
    fn get(&self, column: usize) -> Option<&str> {
        match &self.order {
            None => self.values.get(column),
            Some(order) => self.values.get(*order.get(column)?),
        }
    }
}

/// Header and first rows of the first file that has any.
fn first_sample(
    dialect: &Dialect,
    splits: &[Split],
    open: &Open<'_>,
) -> Result<Sample, SourceError> {
    let mut why = "there is none".to_owned();
    for split in splits {
        let sampled = open(split).and_then(|object| sample(dialect, object));
        match sampled {
            Ok(Some(sample)) => return Ok(sample),
            Ok(None) => why = "it is empty".to_owned(),
            Err(Failure::Damaged(error)) => why = error,
            Err(Failure::Store(error)) => return Err(error),
        }
    }
    if let Some(names) = &dialect.columns {
        return Ok(Sample { names: names.clone(), rows: Vec::new() });
    }
    Err(SourceError::Format {
        location: splits.first().map_or_else(String::new, |split| split.name.clone()),
        message: format!("no file tells the columns: {why}; name them with `columns = [...]`"),
    })
}
