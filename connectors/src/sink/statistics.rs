//! What a table's log says of the values of a shard, so that readers can pass it over.
//!
//! Numbers, texts and booleans at the top level have the count of their nulls, and numbers and texts their least
//! and greatest value. What is not certain is left out: a reader that trusts a wrong bound loses rows.

use std::collections::HashSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

/// Characters of a text that a bound has, as other writers have it.
const PREFIX: usize = 32;
/// Behind every text that begins alike.
const LAST: char = char::MAX;

/// Floating-point columns in which not every value is a number. A file's footer does not count them, and for some
/// readers they are greater than all others.
#[derive(Debug, Default)]
pub(super) struct NotNumbers {
    columns: HashSet<String>,
}

impl NotNumbers {
    pub(super) fn look(&mut self, rows: &RecordBatch) {
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let found = match field.data_type() {
                DataType::Float32 => {
                    column.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan)
                }
                DataType::Float64 => {
                    column.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan)
                }
                _ => false,
            };
            if found {
                self.columns.insert(field.name().clone());
            }
        }
    }
}

/// Statistics of a file with these columns: `nullCount`, `minValues` and `maxValues`.
pub(super) fn of(footer: &ParquetMetaData, columns: &Schema, nan: &NotNumbers) -> Value {
    let (mut nulls, mut least, mut greatest) = (Map::new(), Map::new(), Map::new());
    for field in columns.fields().iter().filter(|field| has_statistics(field)) {
        let chunks: Option<Vec<&Statistics>> = footer
            .row_groups()
            .iter()
            .map(|group| {
                let named = |path: &[String]| matches!(path, [name] if name == field.name());
                let chunk = group.columns().iter().find(|c| named(c.column_path().parts()));
                chunk?.statistics()
            })
            .collect();
        let Some(chunks) = chunks else { continue };
        let count: Option<u64> = chunks.iter().map(|chunk| chunk.null_count_opt()).sum();
        nulls.extend(count.map(|count| (field.name().clone(), json!(count))));
        if nan.columns.contains(field.name()) {
            continue;
        }
        let (min, max) = bounds(footer, &chunks);
        least.extend(min.map(|min| (field.name().clone(), min)));
        greatest.extend(max.map(|max| (field.name().clone(), max)));
    }
    json!({ "nullCount": nulls, "minValues": least, "maxValues": greatest })
}

/// Whether a column has any statistics.
pub(crate) fn has_statistics(field: &Field) -> bool {
    *field.data_type() == DataType::Boolean || has_bounds(field)
}

/// Whether a column has a least and a greatest value.
pub(crate) fn has_bounds(field: &Field) -> bool {
    matches!(
        field.data_type(),
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Utf8
    )
}

fn bounds(footer: &ParquetMetaData, chunks: &[&Statistics]) -> (Option<Value>, Option<Value>) {
    let mut bounds: Option<(Bound, Bound)> = None;
    for (group, chunk) in footer.row_groups().iter().zip(chunks) {
        let rows = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
        if chunk.null_count_opt() == Some(rows) {
            // There is no value at all.
            continue;
        }
        let Some((min, max)) = Bound::of(chunk) else { return (None, None) };
        bounds = Some(match bounds {
            None => (min, max),
            Some((least, greatest)) => {
                let least = if min.is_less(&least) { min } else { least };
                let greatest = if greatest.is_less(&max) { max } else { greatest };
                (least, greatest)
            }
        });
    }
    match bounds {
        Some((least, greatest)) => (least.at_least(), greatest.at_most()),
        None => (None, None),
    }
}

/// A bound of the values of a column.
#[derive(Debug, Clone)]
enum Bound {
    Whole(i64),
    Float(f64),
    Text(String),
}

impl Bound {
    fn of(chunk: &Statistics) -> Option<(Self, Self)> {
        let text = |bytes: &[u8]| Some(Self::Text(std::str::from_utf8(bytes).ok()?.to_owned()));
        Some(match chunk {
            Statistics::Int32(values) => {
                let whole = |value: &i32| Self::Whole(i64::from(*value));
                (whole(values.min_opt()?), whole(values.max_opt()?))
            }
            Statistics::Int64(values) => {
                (Self::Whole(*values.min_opt()?), Self::Whole(*values.max_opt()?))
            }
            Statistics::Float(values) => {
                let float = |value: &f32| Self::Float(f64::from(*value));
                (float(values.min_opt()?), float(values.max_opt()?))
            }
            Statistics::Double(values) => {
                (Self::Float(*values.min_opt()?), Self::Float(*values.max_opt()?))
            }
            Statistics::ByteArray(values) => {
                (text(values.min_opt()?.data())?, text(values.max_opt()?.data())?)
            }
            _ => return None,
        })
    }

    fn is_less(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => one < other,
            (Self::Float(one), Self::Float(other)) => one < other,
            (Self::Text(one), Self::Text(other)) => one < other,
            _ => false,
        }
    }

    /// As a lower bound.
    fn at_least(self) -> Option<Value> {
        match self {
            // Of a text, what it begins with is not greater.
            Self::Text(text) => Some(text.chars().take(PREFIX).collect::<String>().into()),
            other => other.exactly(),
        }
    }

    /// As an upper bound.
    fn at_most(self) -> Option<Value> {
        match self {
            Self::Text(text) => {
                let mut prefix: String = text.chars().take(PREFIX).collect();
                match text.chars().nth(PREFIX) {
                    None => {}
                    // Nothing is behind that.
                    Some(LAST) => return None,
                    Some(_) => prefix.push(LAST),
                }
                Some(prefix.into())
            }
            other => other.exactly(),
        }
    }

    /// JSON has no word for infinities.
    fn exactly(self) -> Option<Value> {
        match self {
            Self::Whole(value) => Some(value.into()),
            Self::Float(value) => serde_json::Number::from_f64(value).map(Value::Number),
            Self::Text(text) => Some(text.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int16Array, Int64Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    /// Statistics of a file with these rows, in row groups of two.
    fn of_rows(columns: Vec<(&str, ArrayRef)>) -> Value {
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        let mut nan = NotNumbers::default();
        nan.look(&rows);
        of(&writer.finish().unwrap(), &rows.schema(), &nan)
    }

    #[test]
    fn bounds_are_those_of_all_row_groups() {
        let found = of_rows(vec![
            (
                "small",
                Arc::new(Int16Array::from(vec![Some(3), None, Some(-7), Some(1), None, None])),
            ),
            ("large", Arc::new(Int64Array::from(vec![i64::MAX, 0, i64::MIN, 1, 2, 3]))),
            ("none", Arc::new(Int64Array::from(vec![None; 6]))),
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None, None, None, None, None]))),
            ("text", Arc::new(StringArray::from(vec!["b", "", "ä", "z", "a", "c"]))),
        ]);
        let expected = json!({
            "nullCount": { "small": 3, "large": 0, "none": 6, "yes": 5, "text": 0 },
            "minValues": { "small": -7, "large": i64::MIN, "text": "" },
            "maxValues": { "small": 3, "large": i64::MAX, "text": "ä" },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn floats_that_are_no_numbers_have_no_bounds() {
        let found = of_rows(vec![
            ("plain", Arc::new(Float64Array::from(vec![0.5, -1.25, 3.0]))),
            ("nan", Arc::new(Float64Array::from(vec![1.0, 2.0, f64::NAN]))),
            ("infinite", Arc::new(Float64Array::from(vec![1.0, f64::INFINITY, 2.0]))),
        ]);
        assert_eq!(found["minValues"], json!({ "plain": -1.25, "infinite": 1.0 }));
        assert_eq!(found["maxValues"], json!({ "plain": 3.0 }));
    }

    #[test]
    fn long_texts_lie_between_their_bounds() {
        for end in ["", "\u{10FFFF}x", "ß"] {
            let longest = format!("{}{end}", "é".repeat(200));
            let texts = [format!("{}{end}", "é".repeat(32)), longest, "é".repeat(31)];
            let column: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
            let found = of_rows(vec![("text", column)]);
            let bound = |name: &str| found[name]["text"].as_str().map(str::to_owned);
            let (least, greatest) = (bound("minValues").unwrap(), bound("maxValues").unwrap());
            assert!(texts.iter().all(|text| *text >= least && *text <= greatest), "{end}");
            assert!(least.chars().count() <= 32 && greatest.chars().count() <= 33);
        }
        let unbounded = format!("{}\u{10FFFF}x", "e".repeat(32));
        let found = of_rows(vec![("text", Arc::new(StringArray::from(vec![unbounded])))]);
        assert_eq!(found["maxValues"], json!({}));
    }
}
