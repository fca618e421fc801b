//! The same job as a loop that somebody would write by hand: rayon over chunks of files, one Parquet file
//! for each 4,096 records. No ids, no run log, no exactly-once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_operators::codec::{self, Facts, Limits, Media};
use anabranch_pipelines::record::{KEY, Modality, media};
use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;

const BATCH: usize = 64;
const SHARD: usize = 4096;
const SIDE: u32 = 128;

/// Runs it into new files.
pub(crate) fn run(folder: &Path) {
    let out = tempfile::tempdir_in(folder).unwrap();
    let mut paths: Vec<PathBuf> =
        folder.join("pictures").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let schema = schema();
    for (shard, paths) in paths.chunks(SHARD).enumerate() {
        let file = File::create(out.path().join(format!("{shard}.parquet"))).unwrap();
        let options =
            ArrowWriterOptions::new().with_properties(properties()).with_skip_arrow_metadata(true);
        let mut writer =
            ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options).unwrap();
        // A few batches at a time, as memory is bounded here too.
        for paths in paths.chunks(BATCH * 16) {
            let batches: Vec<RecordBatch> =
                paths.par_chunks(BATCH).map(|paths| batch(paths, &schema)).collect();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
        }
        writer.into_inner().unwrap().sync_all().unwrap();
    }
}

fn schema() -> SchemaRef {
    let mut fields = vec![
        Field::new(KEY, DataType::Utf8, false),
        media::field("image", Modality::Image, media::State::Encoded),
    ];
    fields.extend(media::fact_fields("image", Modality::Image));
    Arc::new(Schema::new(fields))
}

fn properties() -> WriterProperties {
    let bytes = ColumnPath::new(vec!["image".to_owned(), "bytes".to_owned()]);
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap()))
        .set_column_dictionary_enabled(bytes.clone(), false)
        .set_column_statistics_enabled(bytes.clone(), EnabledStatistics::None)
        .set_column_compression(bytes, Compression::UNCOMPRESSED)
        .build()
}

fn batch(paths: &[PathBuf], schema: &SchemaRef) -> RecordBatch {
    let names: Vec<&str> =
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let encoded: Vec<Vec<u8>> =
        paths.iter().map(|path| reencode(&std::fs::read(path).unwrap())).collect();
    let bytes = encoded.iter().map(|bytes| Some(bytes.as_slice())).collect();
    let all = |value: i32| -> ArrayRef { Arc::new(Int32Array::from(vec![value; paths.len()])) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(names.clone())),
        Arc::new(media::column(bytes, names.into_iter().map(Some).collect())),
        Arc::new(StringArray::from(vec!["jpeg"; paths.len()])),
        all(SIDE as i32),
        all(SIDE as i32),
        all(3),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

fn reencode(bytes: &[u8]) -> Vec<u8> {
    let jpeg = codec::named("jpeg").unwrap();
    let mut pixels = Vec::new();
    let facts = jpeg.decode(bytes, &Limits::default(), &mut pixels).unwrap();
    let Facts::Image { width, height, .. } = facts else {
        unreachable!("a JPEG file is a picture")
    };
    let source = ImageRef::new(width, height, &pixels, PixelType::U8x3).unwrap();
    let mut target = Image::new(SIDE, SIDE, PixelType::U8x3);
    let bilinear = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut target, &bilinear).unwrap();
    let facts = Facts::Image { width: SIDE, height: SIDE, channels: 3 };
    let mut small = Vec::new();
    jpeg.encode(&Media { samples: target.buffer(), facts }, Some(75), &mut small).unwrap();
    small
}
