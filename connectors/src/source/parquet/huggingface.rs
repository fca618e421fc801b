//! What Hugging Face `datasets` says of columns in a footer: images, sounds, and the names of classes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

/// Field metadata key of a column of classes: their names, as a JSON list.
pub const NAMES_KEY: &str = "anabranch:names";

/// What becomes of a column of classes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Classes {
    /// Numbers, with the names in the field's metadata.
    #[default]
    Numbers,
    /// The names.
    Names,
}

/// What a footer says of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Feature {
    Media(Modality),
    /// Numbers that stand for these names.
    Classes(Arc<[String]>),
}

/// Features by column.
pub(super) fn features(footer: &ArrowReaderMetadata) -> BTreeMap<String, Feature> {
    let entries = footer.metadata().file_metadata().key_value_metadata();
    let entry = entries
        .and_then(|entries| entries.iter().find(|entry| entry.key == "huggingface"))
        .and_then(|entry| entry.value.as_deref());
    // Some writers leave it in the Arrow schema that they store beside.
    let text = entry.or_else(|| footer.schema().metadata().get("huggingface").map(String::as_str));
    let info: serde_json::Value =
        text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let features = info.pointer("/info/features").and_then(serde_json::Value::as_object);
    let known = |(name, feature): (&String, &serde_json::Value)| {
        let feature = match feature.get("_type")?.as_str()? {
            "Image" => Feature::Media(Modality::Image),
            "Audio" => Feature::Media(Modality::Audio),
            "ClassLabel" => {
                let names = feature.get("names")?.as_array()?;
                let names = names.iter().map(|name| name.as_str().map(str::to_owned));
                Feature::Classes(names.collect::<Option<Vec<String>>>()?.into())
            }
            _ => return None,
        };
        Some((name.clone(), feature))
    };
    features.into_iter().flatten().filter_map(known).collect()
}

/// Whether a type is a struct of `bytes` and `path`, in whichever of Arrow's types for them.
pub(super) fn is_media(data_type: &DataType) -> bool {
    let DataType::Struct(fields) = data_type else { return false };
    let is = |name: &str, fits: fn(&DataType) -> bool| {
        fields.iter().any(|field| field.name() == name && fits(field.data_type()))
    };
    let bytes =
        |t: &DataType| matches!(t, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    // A column without any path may have no type for it.
    let path = |t: &DataType| {
        matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
    };
    fields.len() == 2 && is("bytes", bytes) && is("path", path)
}

/// Such a struct as a media column.
pub(super) fn media_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let Some(structs) = column.as_struct_opt() else {
        return Err(ArrowError::SchemaError("a media column is no struct".to_owned()));
    };
    let fields = media::fields();
    let children = fields.iter().map(|field| {
        let child = structs.column_by_name(field.name()).ok_or_else(|| {
            ArrowError::SchemaError(format!("a media column lacks `{}`", field.name()))
        })?;
        cast(child, field.data_type())
    });
    let children = children.collect::<Result<Vec<_>, _>>()?;
    let media = StructArray::try_new(fields.clone(), children, structs.nulls().cloned())?;
    Ok(Arc::new(media))
}

/// Why a value stands for no class, if so. Without a label it is null, or -1 as `datasets` writes it.
pub(super) fn fault(names: &[String], value: i64) -> Option<String> {
    let known = value == -1 || usize::try_from(value).is_ok_and(|at| at < names.len());
    (!known).then(|| format!("{value} is none of its {} classes", names.len()))
}

/// The numbers of classes, with null for none.
pub(super) fn numbers(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let numbers = cast(column, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    Ok(numbers.iter().map(|number| number.filter(|number| *number != -1)).collect())
}

/// The names that numbers stand for.
pub(super) fn names(names: &[String], numbers: &Int64Array) -> StringArray {
    let name = |number: Option<i64>| names.get(usize::try_from(number?).ok()?).map(String::as_str);
    numbers.iter().map(name).collect()
}
