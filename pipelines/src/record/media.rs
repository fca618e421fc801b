//! Media columns: a struct of exactly `bytes` and `path`, with the facts beside it.
//!
//! `bytes` null with a `path` of the form `uri#offset+length` is a [`Reference`](super::Reference):
//! nothing was read yet. Decoded media stay in the same struct: `bytes` then holds samples as the
//! column's `NAME_encoding` says (`raw` for 8-bit interleaved pixels, `pcm_s16le` and so on for
//! sound), so that one schema serves every step between source and sink.
//!
//! ```
//! use anabranch_pipelines::record::media;
//!
//! let column = media::column(vec![Some(b"...".as_slice()), None], vec![Some("a.jpg"), None]);
//! assert_eq!(media::bytes(&column, 0), Some(b"...".as_slice()));
//! assert_eq!(media::bytes(&column, 1), None);
//! assert_eq!(media::path(&column, 0), Some("a.jpg"));
//! ```

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use super::Modality;

/// Field metadata key that says whether a media column is encoded or decoded.
pub const STATE_KEY: &str = "anabranch:state";

/// Field metadata key under which a source names the files of dictionaries and codecs that a column of texts or media
/// may need: URLs, one a line.
pub const DICTIONARIES_KEY: &str = "anabranch:dictionaries";

/// Whether a media column's `bytes` are a file format or plain samples, as far as a plan knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A container or codec (JPEG, WAV, ...), named per record in `NAME_encoding`.
    Encoded,
    /// Plain samples: pixels, PCM frames, text bytes, numbers.
    Decoded,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Encoded => "encoded",
            Self::Decoded => "decoded",
        }
    }

    /// The state that a field's metadata declares.
    pub fn of(field: &Field) -> Option<Self> {
        let name = field.metadata().get(STATE_KEY)?;
        [Self::Encoded, Self::Decoded].into_iter().find(|state| state.name() == name)
    }
}

/// The two children of every media struct.
pub fn fields() -> Fields {
    // One for all columns: comparing shared fields is comparing pointers.
    static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
        Fields::from(vec![
            Field::new("bytes", DataType::Binary, true),
            Field::new("path", DataType::Utf8, true),
        ])
    });
    FIELDS.clone()
}

/// A nullable media field of this modality and state.
pub fn field(name: &str, modality: Modality, state: State) -> Field {
    let field = modality.mark(Field::new(name, DataType::Struct(fields()), true));
    let mut metadata = field.metadata().clone();
    metadata.insert(STATE_KEY.to_owned(), state.name().to_owned());
    field.with_metadata(metadata)
}

/// Whether a data type is the media struct.
pub fn is_media(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(fields) if
        fields.len() == 2
            && fields.iter().any(|f| f.name() == "bytes" && f.data_type() == &DataType::Binary)
            && fields.iter().any(|f| f.name() == "path" && f.data_type() == &DataType::Utf8))
}

/// The sibling fact columns of a media column, all nullable and signed (Delta has no unsigned ones).
pub fn fact_fields(name: &str, modality: Modality) -> Vec<Field> {
    let text = |suffix: &str| Field::new(format!("{name}_{suffix}"), DataType::Utf8, true);
    let number = |suffix: &str| Field::new(format!("{name}_{suffix}"), DataType::Int32, true);
    let long = |suffix: &str| Field::new(format!("{name}_{suffix}"), DataType::Int64, true);
    match modality {
        Modality::Image => {
            vec![text("encoding"), number("width"), number("height"), number("channels")]
        }
        Modality::Audio => {
            vec![text("encoding"), number("sample_rate"), number("channels"), long("frames")]
        }
        Modality::Text | Modality::Tensor | Modality::Latent => vec![text("encoding")],
    }
}

/// A media column from its bytes and paths; a record with neither is null (a missing modality).
pub fn column(bytes: Vec<Option<&[u8]>>, paths: Vec<Option<&str>>) -> StructArray {
    assemble(BinaryArray::from(bytes), StringArray::from(paths))
}

/// A media column from finished arrays of equal length.
///
/// # Panics
/// When the lengths differ, which is a mistake in the calling operator.
pub fn assemble(bytes: BinaryArray, paths: StringArray) -> StructArray {
    let valid: NullBuffer =
        (0..bytes.len()).map(|row| bytes.is_valid(row) || paths.is_valid(row)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes), Arc::new(paths)];
    StructArray::new(fields(), columns, (valid.null_count() > 0).then_some(valid))
}

/// The media column called `name`, if the batch has one.
pub fn of<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    let column = batch.column_by_name(name)?;
    is_media(column.data_type()).then(|| column.as_any().downcast_ref())?
}

/// The `bytes` child of a media column.
pub fn bytes_array(column: &StructArray) -> Option<&BinaryArray> {
    column.column_by_name("bytes")?.as_any().downcast_ref()
}

/// The `path` child of a media column.
pub fn path_array(column: &StructArray) -> Option<&StringArray> {
    column.column_by_name("path")?.as_any().downcast_ref()
}

/// The bytes in row `row`; `None` when the record lacks this modality or is a reference.
pub fn bytes(column: &StructArray, row: usize) -> Option<&[u8]> {
    let array = bytes_array(column)?;
    (row < array.len() && column.is_valid(row) && array.is_valid(row)).then(|| array.value(row))
}

/// The path in row `row`.
pub fn path(column: &StructArray, row: usize) -> Option<&str> {
    let array = path_array(column)?;
    (row < array.len() && column.is_valid(row) && array.is_valid(row)).then(|| array.value(row))
}
