//! Columns as a table stores them: what every foreign reader opens.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::record::{ID, KEY, Modality, media};
use anabranch_pipelines::sink::SinkError;
use anabranch_pipelines::store::Location;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::table::ORIGINAL_TYPE;

/// The table's schema for rows of this schema.
pub(super) fn stored(schema: &Schema) -> Result<SchemaRef, SchemaError> {
    named(schema.fields(), "")?;
    plain(schema)
}

/// The same with names of any kind, for Parquet that is no table.
pub(super) fn plain(schema: &Schema) -> Result<SchemaRef, SchemaError> {
    let fields: Result<Vec<Field>, SchemaError> = schema
        .fields()
        .iter()
        .map(|field| {
            let data_type = stored_type(field.data_type()).ok_or_else(|| SchemaError::Unfit {
                column: field.name().clone(),
                found: format!("of type {}", field.data_type()),
                expected: "a type that tables hold".to_owned(),
                hint: "convert it, or leave it out with a `select`".to_owned(),
            })?;
            // Every column may be null: a missing modality is data, and NOT NULL needs a newer protocol.
            let mut metadata = field.metadata().clone();
            // What this program reads again has its own type again, if that can be written down.
            let original = field.data_type().to_string();
            if &data_type != field.data_type()
                && original.parse::<DataType>().is_ok_and(|parsed| &parsed == field.data_type())
            {
                metadata.insert(ORIGINAL_TYPE.to_owned(), original);
            }
            Ok(Field::new(field.name(), data_type, true).with_metadata(metadata))
        })
        .collect();
    Ok(Arc::new(Schema::new(fields?)))
}

/// Characters that no name of a Delta column has, as Parquet's schema language gives them a meaning.
const FORBIDDEN: [char; 10] = [' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// Whether these fields, of the table or of the struct at this path, have names that a Delta table takes.
fn named(fields: &Fields, above: &str) -> Result<(), SchemaError> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for field in fields {
        let (name, column) = (field.name(), format!("{above}{}", field.name()));
        let error = |fault: String, hint: String| {
            Err(SchemaError::Name { column: column.clone(), fault, hint })
        };
        let rename = |new: &str| match above {
            "" => format!("rename it with a `select`: `rename = {{ {name:?} = {new:?} }}`"),
            _ => "leave the column that it is in out with a `select`".to_owned(),
        };
        if name.is_empty() {
            return error(
                "is a name of no letters, which tables do not take".to_owned(),
                rename("a"),
            );
        }
        if let Some(found) = name.chars().find(|c| FORBIDDEN.contains(c)) {
            let fault = format!("has a {} in its name, which tables do not take", spelled(found));
            let own = |field: &&FieldRef| field.name() != ID && field.name() != KEY;
            let alone = above.is_empty() && fields.iter().filter(own).count() == 1;
            let delimiters = [(";", "`;`"), ("\t", "a tab")];
            let delimiter = delimiters.into_iter().find(|(it, _)| alone && name.contains(it));
            let hint = match delimiter {
                Some((it, called)) => format!(
                    "if it is all there is of a csv, is the delimiter {called}? say `delimiter = {it:?}`"
                ),
                None => rename(&name.trim().replace(FORBIDDEN, "_")),
            };
            return error(fault, hint);
        }
        if let Some(other) = seen.insert(name.to_lowercase(), name) {
            let fault = format!(
                "is called like {other:?} but for its case, and readers of tables see no case"
            );
            return error(fault, rename(&format!("{name}_2")));
        }
        below(field.data_type(), &format!("{column}."))?;
    }
    Ok(())
}

/// [`named`] of the structs in a type.
fn below(data_type: &DataType, path: &str) -> Result<(), SchemaError> {
    match data_type {
        DataType::Struct(fields) => named(fields, path),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            below(item.data_type(), path)
        }
        DataType::Dictionary(_, values) => below(values, path),
        _ => Ok(()),
    }
}

fn spelled(found: char) -> String {
    match found {
        ' ' => "space".to_owned(),
        '\t' => "tab".to_owned(),
        '\n' => "line end".to_owned(),
        other => format!("`{other}`"),
    }
}

/// Delta's nearest type from which every value can be had again.
///
/// Delta knows instants in microseconds: other readers see a time without a zone as one in UTC, and nanoseconds,
/// which are finer, as whole numbers since 1970. This program reads all of them as they were.
fn stored_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(_, _) => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => DataType::Int64,
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Dictionary(_, values) => stored_type(values)?,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new("element", stored_type(item.data_type())?, true)))
        }
        DataType::Struct(fields) => {
            let stored: Option<Vec<FieldRef>> = fields
                .iter()
                .map(|field| {
                    Some(Arc::new(Field::new(field.name(), stored_type(field.data_type())?, true)))
                })
                .collect();
            DataType::Struct(stored?.into())
        }
        _ => return None,
    })
}

/// Names and types, for a destination to compare with what it has.
pub(super) fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect()
}

/// Whether rows of these columns may stand beside those that are at the destination, if any are.
pub(super) fn same(at: &Location, there: &[String], new: &[String]) -> Result<(), SinkError> {
    if there.is_empty() {
        return Ok(());
    }
    let (gone, added) = (
        there.iter().filter(|column| !new.contains(column)),
        new.iter().filter(|column| !there.contains(column)),
    );
    match gone.chain(added).map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(()),
        columns => Err(SinkError::Destination {
            location: at.url.clone(),
            message: format!(
                "what is there has other columns ({}); write to another path, make them equal with a `select`, \
                 or replace it with `--if-exists overwrite`",
                columns.join(", ")
            ),
        }),
    }
}

/// Rows as the table stores them.
pub(super) fn convert(batch: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(stored.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            // A value that does not fit, a time in seconds that is too far away, is an error and no null.
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, field.data_type(), &strict)
        }
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(stored), columns)
}

/// The footer entry by which Hugging Face `datasets` shows images and sound without being told.
pub(super) fn huggingface(schema: &Schema) -> Option<String> {
    let features: serde_json::Map<String, serde_json::Value> = schema
        .fields()
        .iter()
        .filter(|field| {
            media::is_media(field.data_type())
                && media::State::of(field) == Some(media::State::Encoded)
        })
        .filter_map(|field| {
            let kind = match Modality::of(field)? {
                Modality::Image => "Image",
                Modality::Audio => "Audio",
                _ => return None,
            };
            Some((field.name().clone(), serde_json::json!({ "_type": kind })))
        })
        .collect();
    // Features must name every column, or none is believed; the others follow from their types.
    if features.is_empty() {
        return None;
    }
    let mut all = serde_json::Map::new();
    for field in schema.fields() {
        let feature = match features.get(field.name()) {
            Some(feature) => feature.clone(),
            None => plain_feature(field.data_type())?,
        };
        all.insert(field.name().clone(), feature);
    }
    Some(serde_json::json!({ "info": { "features": all } }).to_string())
}

fn plain_feature(data_type: &DataType) -> Option<serde_json::Value> {
    let value = |dtype: &str| serde_json::json!({ "dtype": dtype, "_type": "Value" });
    Some(match data_type {
        DataType::Boolean => value("bool"),
        DataType::Int8 => value("int8"),
        DataType::Int16 => value("int16"),
        DataType::Int32 => value("int32"),
        DataType::Int64 => value("int64"),
        DataType::Float32 => value("float32"),
        DataType::Float64 => value("float64"),
        DataType::Utf8 => value("string"),
        DataType::Binary => value("binary"),
        DataType::Date32 => value("date32"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
            value(&format!("timestamp[us, tz={zone}]"))
        }
        DataType::Decimal128(precision, scale) => {
            value(&format!("decimal128({precision}, {scale})"))
        }
        DataType::List(item) => {
            serde_json::json!({ "feature": plain_feature(item.data_type())?, "_type": "List" })
        }
        DataType::Struct(fields) => {
            let children: Option<serde_json::Map<String, serde_json::Value>> = fields
                .iter()
                .map(|field| Some((field.name().clone(), plain_feature(field.data_type())?)))
                .collect();
            serde_json::Value::Object(children?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, TimestampNanosecondArray, TimestampSecondArray};

    fn refused(fields: Vec<Field>) -> String {
        stored(&Schema::new(fields)).unwrap_err().to_string()
    }

    fn text(name: &str) -> Field {
        Field::new(name, DataType::Utf8, true)
    }

    #[test]
    fn names_that_delta_refuses_are_refused_before_the_run() {
        for character in FORBIDDEN {
            let error = refused(vec![text(KEY), text("a"), text(&format!("first{character}name"))]);
            assert!(error.contains("= \"first_name\" }"), "{error}");
        }
        assert_eq!(
            refused(vec![text("a"), text("first name")]),
            "column \"first name\" has a space in its name, which tables do not take; \
             rename it with a `select`: `rename = { \"first name\" = \"first_name\" }`"
        );
        let error = refused(vec![text(KEY), text("name;age")]);
        assert!(error.ends_with("is the delimiter `;`? say `delimiter = \";\"`"), "{error}");
        let error = refused(vec![text(KEY), text("name\tage")]);
        assert!(error.ends_with("is the delimiter a tab? say `delimiter = \"\\t\"`"), "{error}");
        let error = refused(vec![text("a"), text("A")]);
        assert!(error.starts_with("column \"A\" is called like \"a\" but for its case"), "{error}");
        let within = Field::new_struct("element", vec![text("x"), text("x y")], true);
        let error = refused(vec![Field::new_list("rows", within, true)]);
        assert!(error.contains("\"rows.x y\" has a space"), "{error}");
        assert!(error.contains("leave the column that it is in out"), "{error}");
        assert!(stored(&Schema::new(vec![text("first_name"), text("größe.m-2")])).is_ok());
    }

    fn stored_column(column: ArrayRef) -> Result<ArrayRef, ArrowError> {
        let batch = RecordBatch::try_from_iter([("at", column)]).unwrap();
        let stored = stored(&batch.schema()).unwrap();
        convert(&batch, &stored).map(|batch| Arc::clone(batch.column(0)))
    }

    #[test]
    fn times_are_stored_whole_or_not_at_all() {
        let exact = TimestampNanosecondArray::from(vec![Some(1_700_000_000_123_456_789), None]);
        let numbers = Int64Array::from(vec![Some(1_700_000_000_123_456_789), None]);
        assert_eq!(stored_column(Arc::new(exact)).unwrap().as_ref(), &numbers as &dyn Array);
        // In microseconds it is no 64-bit number: it once became null.
        let far = TimestampSecondArray::from(vec![i64::MAX / 1000]);
        let error = stored_column(Arc::new(far)).unwrap_err().to_string();
        assert!(error.to_lowercase().contains("overflow"), "{error}");
    }
}
