//! The binary layout of CIFAR: `kind = "cifar"`.
//!
//! A record is one label byte (CIFAR-100 has two) and 3,072 bytes of pixels, plane by plane, which are
//! interleaved here: the image column is decoded already. Offsets are numbers of records.

use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::fixed::{Fixed, Layout, Numbered};
use super::glob::Objects;
use super::object::{Failure, Object, Unpacked};
use super::pixels::{self, Shape};
use super::scan::{Format, Located, Open, Scanned, Scanner};

const SHAPE: Shape = Shape { width: 32, height: 32, channels: 3 };
const PLANE: usize = 32 * 32;

/// Options of `kind = "cifar"`: every image of every file that matches is a record.
///
/// Columns: `key` (`FILE/NUMBER`), the image with its facts, `label` (behind `coarse_label` with
/// `label_bytes = 2`), and `index`, the number in the file.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CifarOptions {
    /// A file or a glob, as a path or URL: `"cifar10/data_batch_*.bin"`.
    pub path: String,
    /// Label bytes before each image: 1 (CIFAR-10) or 2 (CIFAR-100: coarse, then fine). Default 1.
    #[serde(default = "one")]
    pub label_bytes: u8,
    /// Name of the image column. Default `image`.
    #[serde(default = "image")]
    pub column: String,
    /// Size to which a packed file may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

const fn one() -> u8 {
    1
}

fn image() -> String {
    "image".to_owned()
}

impl CifarOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path is not understood or the number of label bytes is neither 1 nor 2.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let names: &[&str] = match self.label_bytes {
            1 => &["label"],
            2 => &["coarse_label", "label"],
            other => {
                let message = format!("`label_bytes = {other}`: it is 1 or 2");
                return Err(SourceError::Options(message));
            }
        };
        let mut fields = pixels::fields(&self.column);
        fields.extend(names.iter().map(|name| Field::new(*name, DataType::Int64, true)));
        fields.push(Field::new("index", DataType::Int64, true));
        let cifar =
            Cifar { schema: Arc::new(Schema::new(fields)), labels: names.len(), options: self };
        Ok(Arc::new(Scanned::new(Objects::parse(&cifar.options.path)?, cifar)))
    }
}

struct Cifar {
    schema: SchemaRef,
    labels: usize,
    options: CifarOptions,
}

impl Format for Cifar {
    type Row = Numbered;
    type Columns = ();

    fn kind(&self) -> &'static str {
        "cifar"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({
            "label_bytes": self.options.label_bytes, "column": self.options.column,
            "max_unpacked": self.options.max_unpacked,
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: false, stable_offsets: true, grows: true }
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: self.options.max_unpacked.map(|size| size.0) }
    }

    fn columns(&self, _: &[Split], _: &Open<'_>) -> Result<(), SourceError> {
        Ok(())
    }

    fn schema(&self, (): &()) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn scanner(
        &self,
        (): &(),
        object: Object,
    ) -> Result<Box<dyn Scanner<Row = Numbered>>, Failure> {
        let record = (self.labels + 3 * PLANE) as u64;
        let layout = Layout { header: 0, record, count: None };
        Ok(Box::new(Fixed::new(object, layout, None)))
    }

    fn batch(&self, (): &(), rows: Vec<Located<Numbered>>) -> Result<SourceBatch, SourceError> {
        let keys = rows.iter().map(|row| format!("{}/{:08}", row.split.name, row.row.index));
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(keys))];
        let images: Vec<Vec<u8>> = rows
            .iter()
            .map(|row| interleave(row.row.bytes.get(self.labels..).unwrap_or_default()))
            .collect();
        arrays.extend(pixels::columns(images.iter().map(Vec::as_slice).collect(), SHAPE));
        for label in 0..self.labels {
            let labels = rows.iter().map(|row| row.row.bytes.get(label).copied().map(i64::from));
            arrays.push(Arc::new(labels.collect::<Int64Array>()));
        }
        let index = rows.iter().map(|row| row.row.index as i64);
        arrays.push(Arc::new(Int64Array::from_iter_values(index)));
        let records = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|e| SourceError::Options(e.to_string()))?;
        Ok(SourceBatch { records, refused: Vec::new() })
    }
}

/// `RR..GG..BB..` as `RGBRGB..`.
fn interleave(planes: &[u8]) -> Vec<u8> {
    let (red, rest) = planes.split_at(PLANE.min(planes.len()));
    let (green, blue) = rest.split_at(PLANE.min(rest.len()));
    red.iter().zip(green).zip(blue).flat_map(|((r, g), b)| [*r, *g, *b]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::{conforming, data, folder, path, read_all};
    use anabranch_pipelines::record::media;
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    fn cifar(path: String, label_bytes: u8) -> Arc<dyn Source> {
        let options = serde_json::json!({ "path": path, "label_bytes": label_bytes });
        serde_json::from_value::<CifarOptions>(options).unwrap().build().unwrap()
    }

    #[test]
    fn planes_are_interleaved_and_a_cut_record_is_a_letter() {
        let record =
            |label: u8| [vec![label], vec![1; PLANE], vec![2; PLANE], vec![3; PLANE]].concat();
        let bytes = [record(4), record(9), vec![1; 100]].concat();
        let folder = folder(&[("a.bin", &bytes)]);
        let seen = conforming(&cifar(path(&folder, "*.bin"), 1));
        assert_eq!((seen.rows, seen.refused.len()), (2, 1));
        assert_eq!(seen.refused[0].error, "record 2 has 100 of 3073 bytes");
        let image = media::of(&seen.records, "image").unwrap();
        assert_eq!(media::bytes(image, 1).unwrap()[..6], [1, 2, 3, 1, 2, 3]);
        let label = seen.records.column_by_name("label").unwrap();
        assert_eq!(label.as_primitive::<Int64Type>().values().to_vec(), [4, 9]);
    }

    #[test]
    fn real_images_are_read() {
        let Some(path) = data("cifar10/exact_train_0000-3999.bin") else { return };
        let batches = read_all(&cifar(path, 1));
        assert_eq!(batches.iter().map(|batch| batch.records.num_rows()).sum::<usize>(), 4000);
        let label = batches[0].records.column_by_name("label").unwrap();
        assert!(label.as_primitive::<Int64Type>().values().iter().all(|label| *label < 10));
    }
}
