//! Columns of texts.

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::media;
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

/// The column, if it holds texts. `why` says what they are for: "`zstd` compresses texts".
pub(crate) fn require<'a>(
    schema: &'a Schema,
    column: &str,
    why: &str,
) -> Result<&'a Field, SchemaError> {
    let field = SchemaError::require(schema, column)?;
    if field.data_type() == &DataType::Utf8 {
        return Ok(field);
    }
    let (found, hint) = match media::is_media(field.data_type()) {
        true => ("media or compressed".to_owned(), format!("{why}; `decode` gives texts back")),
        false => (format!("of type {}", field.data_type()), why.to_owned()),
    };
    Err(SchemaError::Unfit { column: column.to_owned(), found, expected: "text".to_owned(), hint })
}

/// The texts of the column.
pub(crate) fn of<'a>(
    batch: &'a RecordBatch,
    column: &str,
) -> Result<&'a StringArray, OperatorError> {
    let texts = batch.column_by_name(column).and_then(|texts| texts.as_any().downcast_ref());
    texts.ok_or_else(|| OperatorError::Failed(format!("column `{column}` holds no text")))
}
