//! Arrays in the IDX format of MNIST: `kind = "idx"`, gzipped or not.
//!
//! Three dimensions are grey images, four are images with channels, one is labels. Pixels stand there
//! plainly, so the image column is decoded already (`image_encoding` is `raw`). Offsets are numbers of
//! records. A gzipped file is unpacked from its start, once per worker.

use std::io::BufRead;
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::KEY;
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split};
use anabranch_pipelines::store::Location;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fixed::{Fixed, Layout, Numbered};
use super::glob::Objects;
use super::labels::hex;
use super::object::{Failure, Object, Unpacked};
use super::pixels::{self, Shape};
use super::scan::{Format, Located, Open, Scanned, Scanner};

mod header;
#[cfg(test)]
mod tests;

use header::Header;

/// Options of `kind = "idx"`: every item of every file that matches is a record.
///
/// Columns: `key` (the number with leading zeros, behind the file's name where there are several), the
/// image with its facts or `label`, and `index`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdxOptions {
    /// A file or a glob, as a path or URL: `"mnist/train-images-idx3-ubyte.gz"`.
    pub path: String,
    /// A file of labels for the images of the one at `path`, which become the column `label`.
    pub labels: Option<String>,
    /// Name of the image column. Default `image`.
    #[serde(default = "image")]
    pub column: String,
    /// Size to which a packed file may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

fn image() -> String {
    "image".to_owned()
}

impl IdxOptions {
    /// The source.
    ///
    /// # Errors
    /// When a path is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let objects = Objects::parse(&self.path)?;
        let labels = self.labels.as_deref().map(Objects::parse).transpose()?;
        Ok(Arc::new(Scanned::new(objects, Idx { labels, options: self })))
    }
}

struct Idx {
    labels: Option<Objects>,
    options: IdxOptions,
}

/// What the items are.
struct Columns {
    /// Of images; `None` for labels.
    shape: Option<Shape>,
    /// Whether keys begin with the file's name.
    several: bool,
    labels: Option<Labels>,
    schema: SchemaRef,
}

/// The file of labels.
struct Labels {
    location: Location,
    split: Split,
    layout: Layout,
    digest: String,
}

impl Format for Idx {
    type Row = Numbered;
    type Columns = Columns;

    fn kind(&self) -> &'static str {
        "idx"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({
            "labels": self.options.labels.is_some(), "column": self.options.column,
            "max_unpacked": self.options.max_unpacked,
        })
    }

    fn beside<'a>(&self, columns: &'a Columns) -> Option<&'a str> {
        columns.labels.as_ref().map(|labels| labels.digest.as_str())
    }

    fn abilities(&self) -> Abilities {
        // Both files must allow to open a record alone.
        let random_access = !self.labels.as_ref().is_some_and(Objects::may_be_packed);
        Abilities {
            random_access,
            references: false,
            stable_offsets: true,
            grows: self.labels.is_none(),
        }
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: self.options.max_unpacked.map(|size| size.0) }
    }

    fn columns(&self, splits: &[Split], open: &Open<'_>) -> Result<Columns, SourceError> {
        let mut why = None;
        let mut header = None;
        for split in splits {
            match open(split).and_then(|mut object| Header::read(&mut object)) {
                Ok(found) => {
                    header = Some((split, found));
                    break;
                }
                Err(Failure::Damaged(error)) => {
                    why.get_or_insert((split.name.clone(), error));
                }
                Err(Failure::Store(error)) => return Err(error),
            }
        }
        let Some((split, header)) = header else {
            let (location, message) = why.unwrap_or_default();
            return Err(SourceError::Format { location, message });
        };
        let labels = match &self.labels {
            None => None,
            Some(_) if splits.len() > 1 || header.shape.is_none() => {
                let message = "`labels` belong to one file of images; `path` names something else";
                return Err(SourceError::Options(message.to_owned()));
            }
            Some(labels) => Some(self.find_labels(labels, split, header.layout.count)?),
        };
        let mut fields = match header.shape {
            Some(_) => pixels::fields(&self.options.column),
            None => vec![Field::new(KEY, DataType::Utf8, false)],
        };
        if labels.is_some() || header.shape.is_none() {
            fields.push(Field::new("label", DataType::Int64, true));
        }
        fields.push(Field::new("index", DataType::Int64, true));
        let schema = Arc::new(Schema::new(fields));
        Ok(Columns { shape: header.shape, several: splits.len() > 1, labels, schema })
    }

    fn schema(&self, columns: &Columns) -> SchemaRef {
        Arc::clone(&columns.schema)
    }

    fn scanner(
        &self,
        columns: &Columns,
        mut object: Object,
    ) -> Result<Box<dyn Scanner<Row = Numbered>>, Failure> {
        let header = Header::read(&mut object)?;
        if header.shape != columns.shape {
            return Err(Failure::Damaged(format!(
                "its items are {}, those of the first file {}",
                header::describe(header.shape),
                header::describe(columns.shape)
            )));
        }
        let labels = match &columns.labels {
            None => None,
            Some(Labels { location, split, layout, .. }) => {
                Some((Object::open(location.clone(), split, self.unpacked())?, *layout))
            }
        };
        Ok(Box::new(Fixed::new(object, header.layout, labels)))
    }

    fn batch(
        &self,
        columns: &Columns,
        rows: Vec<Located<Numbered>>,
    ) -> Result<SourceBatch, SourceError> {
        let keys = rows.iter().map(|Located { split, row, .. }| match columns.several {
            true => format!("{}/{:08}", split.name, row.index),
            false => format!("{:08}", row.index),
        });
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(keys))];
        if let Some(shape) = columns.shape {
            let pixels = rows.iter().map(|row| row.row.bytes.as_slice()).collect();
            arrays.extend(pixels::columns(pixels, shape));
        }
        let labels = rows.iter().map(|row| match columns.shape {
            Some(_) => row.row.label,
            None => row.row.bytes.first().copied(),
        });
        if columns.schema.field_with_name("label").is_ok() {
            arrays.push(Arc::new(labels.map(|label| label.map(i64::from)).collect::<Int64Array>()));
        }
        let index = rows.iter().map(|row| row.row.index as i64);
        arrays.push(Arc::new(Int64Array::from_iter_values(index)));
        let records = RecordBatch::try_new(Arc::clone(&columns.schema), arrays)
            .map_err(|e| SourceError::Options(e.to_string()))?;
        Ok(SourceBatch { records, refused: Vec::new() })
    }
}

impl Idx {
    /// The labels, which must be as many as the images.
    fn find_labels(
        &self,
        labels: &Objects,
        images: &Split,
        count: Option<u64>,
    ) -> Result<Labels, SourceError> {
        let listed = tokio::runtime::Handle::current().block_on(labels.list())?;
        let error = |message: String| SourceError::Format {
            location: self.options.labels.clone().unwrap_or_default(),
            message,
        };
        let [split] = listed.as_slice() else {
            return Err(error("labels are one file".to_owned()));
        };
        let location = labels.location(split);
        let opened = Object::open(location.clone(), split, self.unpacked());
        let read = opened.and_then(|mut object| {
            let header = Header::read(&mut object)?;
            Ok((header, digest(&mut object).map_err(|e| object.failure(e))?))
        });
        let (header, digest) = read.map_err(|failure| match failure {
            Failure::Store(failed) => failed,
            Failure::Damaged(message) => error(message),
        })?;
        if header.shape.is_some() || header.layout.count != count {
            return Err(error(format!(
                "it holds {} {}, and `{}` {} images",
                header.layout.count.unwrap_or_default(),
                header::describe(header.shape),
                images.name,
                count.unwrap_or_default()
            )));
        }
        Ok(Labels { location, split: split.clone(), layout: header.layout, digest })
    }
}

/// Of a whole object.
fn digest(object: &mut Object) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    object.seek(0)?;
    loop {
        let bytes = object.fill_buf()?;
        hash.update(bytes);
        match bytes.len() {
            0 => return Ok(hex(hash)),
            count => object.consume(count),
        }
    }
}
