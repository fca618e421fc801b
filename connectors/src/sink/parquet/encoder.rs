//! Rows to Parquet: what tables and plain Parquet have in common.

use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{compact, media};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::sink::columns;
use crate::sink::piece::Piece;
use crate::sink::shard::Encode;
use crate::sink::statistics::{self, NotNumbers};
use crate::table::checksums::Checksums;

/// Rows are handed to the Parquet writer in slices of this many, or fewer large ones, however they were
/// batched: pages and row groups then begin at the same rows, and shards have the same bytes.
const SLICE: usize = 64;
/// Bytes of a slice at most, the row that reaches them included whole.
const SLICE_BYTES: usize = 1 << 20;

/// The zstd level of columns that are not media, unless a job says another.
pub(in crate::sink) const fn level() -> i32 {
    3
}

/// The size of a row group, unless a job says another.
pub(in crate::sink) const fn row_group() -> ByteSize {
    ByteSize(8 << 20)
}

/// The smallest page that may be asked for.
const LEAST_PAGE: u64 = 1 << 10;

/// How files are laid out.
#[derive(Debug, Clone, Copy)]
pub(in crate::sink) struct Format {
    zstd: ZstdLevel,
    row_group: usize,
    /// The size at which a page is closed, if it is not left to the writer.
    page: Option<usize>,
}

impl Format {
    /// The error is a sentence that names the option.
    pub(in crate::sink) fn new(
        zstd: i32,
        row_group: ByteSize,
        page: Option<ByteSize>,
    ) -> Result<Self, String> {
        if row_group.0 < 64 << 10 {
            return Err("`row_group` is at least \"64KiB\"".to_owned());
        }
        if page.is_some_and(|page| page.0 < LEAST_PAGE) {
            return Err("`page` is at least \"1KiB\"".to_owned());
        }
        let level = ZstdLevel::try_new(zstd).map_err(|e| format!("`zstd = {zstd}`: {e}"))?;
        let page = page.map(ByteSize::as_usize);
        Ok(Self { zstd: level, row_group: row_group.as_usize(), page })
    }

    /// Bytes that one encoder holds.
    pub(in crate::sink) fn reserve(&self) -> usize {
        // What waits for its slice, the slice, and the row group: being built, and encoded.
        2 * (self.row_group + self.slice()) + 2 * self.slice()
    }

    /// Bytes of a slice: small beside a row group, which is closed between two of them.
    fn slice(&self) -> usize {
        SLICE_BYTES.min(self.row_group / 8)
    }

    /// What turns rows into a file of these columns, as [`columns`] stores them.
    pub(in crate::sink) fn encoder(&self, stored: SchemaRef) -> Result<Encoder, String> {
        let options = ArrowWriterOptions::new()
            .with_properties(self.properties(&stored))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&stored), options);
        Ok(Encoder {
            writer: writer.map_err(|e| e.to_string())?,
            stored,
            waiting: Vec::new(),
            piece: Piece::new(SLICE, self.slice()),
            row_group: self.row_group,
            not_numbers: NotNumbers::default(),
            checksums: Checksums::default(),
            given: 0,
        })
    }

    fn properties(&self, schema: &SchemaRef) -> WriterProperties {
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("anabranch ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(self.zstd))
            .set_max_row_group_row_count(None)
            .set_key_value_metadata(
                columns::huggingface(schema)
                    .map(|value| vec![KeyValue::new("huggingface".to_owned(), value)]),
            );
        if let Some(page) = self.page {
            // The writer looks at the size of a page between two batches of values, which are as many as it is handed
            // unless they are told to be fewer.
            properties = properties.set_data_page_size_limit(page).set_write_batch_size(1);
        }
        for field in schema.fields().iter().filter(|field| media::is_media(field.data_type())) {
            let bytes = ColumnPath::new(vec![field.name().clone(), "bytes".to_owned()]);
            properties = properties
                .set_column_dictionary_enabled(bytes.clone(), false)
                .set_column_statistics_enabled(bytes.clone(), EnabledStatistics::None);
            // What a codec compressed, zstd cannot; plain samples it can.
            if media::State::of(field) != Some(media::State::Decoded) {
                properties = properties.set_column_compression(bytes, Compression::UNCOMPRESSED);
            }
        }
        properties.build()
    }
}

/// Rows to Parquet.
pub(in crate::sink) struct Encoder {
    writer: ArrowWriter<Vec<u8>>,
    stored: SchemaRef,
    /// Rows of the slice that is not full yet.
    waiting: Vec<RecordBatch>,
    piece: Piece,
    row_group: usize,
    not_numbers: NotNumbers,
    checksums: Checksums,
    /// Bytes that were handed out.
    given: u64,
}

impl Encode for Encoder {
    fn encode(&mut self, batch: &RecordBatch, from: usize) -> Result<(usize, Vec<u8>), String> {
        let mut at = from;
        while at < batch.num_rows() {
            let end = self.piece.fill(batch, at);
            let rows = columns::convert(&batch.slice(at, end - at), &self.stored);
            let rows = rows.map_err(|e| e.to_string())?;
            at = end;
            if !self.piece.is_full() {
                // A few rows that wait must not keep all of their batch.
                self.waiting.push(compact(&rows).map_err(|e| e.to_string())?);
                break;
            }
            self.waiting.push(rows);
            if self.slice()? {
                break;
            }
        }
        Ok((at, self.take()))
    }

    fn finish(mut self) -> Result<(Vec<u8>, serde_json::Value), String> {
        self.slice()?;
        self.close_row_group()?;
        self.writer.append_key_value_metadata(self.checksums.entry());
        let footer = self.writer.finish().map_err(|e| e.to_string())?;
        let statistics = statistics::of(&footer, &self.stored, &self.not_numbers);
        Ok((std::mem::take(self.writer.inner_mut()), statistics))
    }
}

impl Encoder {
    /// Writes what waits as one slice, and the row group if that filled it. Says whether it did.
    fn slice(&mut self) -> Result<bool, String> {
        self.piece.clear();
        let waiting = std::mem::take(&mut self.waiting);
        let slice = match waiting.as_slice() {
            [] => return Ok(false),
            [one] => one.clone(),
            several => concat_batches(&self.stored, several).map_err(|e| e.to_string())?,
        };
        drop(waiting);
        self.not_numbers.look(&slice);
        self.writer.write(&slice).map_err(|e| e.to_string())?;
        let size = self.writer.in_progress_size();
        if size < self.row_group {
            return Ok(false);
        }
        // Else the buffer would grow by doubling, and be as large again.
        self.writer.inner_mut().reserve(size);
        self.close_row_group()?;
        Ok(true)
    }

    /// Writes the row group, if it has rows, and takes down its checksums.
    fn close_row_group(&mut self) -> Result<(), String> {
        self.writer.flush().map_err(|e| e.to_string())?;
        self.writer.sync().map_err(|e| e.to_string())?;
        for group in self.writer.flushed_row_groups().iter().skip(self.checksums.groups()) {
            self.checksums.push(group, self.writer.inner(), self.given)?;
        }
        Ok(())
    }

    /// What was written since the last call.
    fn take(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(self.writer.inner_mut());
        self.given += bytes.len() as u64;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use anabranch_pipelines::record::Modality;
    use arrow::array::ArrayRef;
    use bytes::buf::Reader;
    use bytes::{Buf, Bytes};
    use parquet::arrow::arrow_reader::{
        ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
    };
    use parquet::file::metadata::PageIndexPolicy;
    use parquet::file::reader::{ChunkReader, Length};

    /// An encoder with small row groups, and rows of these sizes.
    fn sized(sizes: &[usize]) -> (Encoder, RecordBatch) {
        let bytes: Vec<Vec<u8>> = sizes.iter().map(|size| vec![7; *size]).collect();
        let bytes = bytes.iter().map(|bytes| Some(bytes.as_slice())).collect();
        let column: ArrayRef = Arc::new(media::column(bytes, vec![Some("path"); sizes.len()]));
        let field = media::field("image", Modality::Image, media::State::Encoded);
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![field]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        let format = Format::new(level(), ByteSize(1 << 20), None).unwrap();
        (format.encoder(columns::stored(&schema).unwrap()).unwrap(), rows)
    }

    #[test]
    fn rows_of_any_size_do_not_pile_up_in_a_writer() {
        // Each alone is more than a row group: sixty of them once waited for the slice to be full.
        let large = vec![2 << 20; 5];
        let small = (0..600).map(|n| if n % 50 == 0 { 90 << 10 } else { 3000 }).collect();
        for sizes in [large, small] {
            let (mut encoder, rows) = sized(&sizes);
            let (slice, row_group) = (128 << 10, 1 << 20);
            let mut given = 0;
            for at in 0..rows.num_rows() {
                let (end, bytes) = encoder.encode(&rows.slice(at, 1), 0).unwrap();
                assert_eq!(end, 1);
                given += bytes.len();
                let waiting: usize =
                    encoder.waiting.iter().map(|r| r.get_array_memory_size()).sum();
                // Arrays of one row are padded.
                assert!(waiting < slice + SLICE * 1024, "{waiting} bytes wait at row {at}");
                assert!(encoder.writer.in_progress_size() < row_group + slice);
                assert!(bytes.len() < 3 * row_group);
            }
            assert!(given + encoder.finish().unwrap().0.len() >= sizes.iter().sum());
        }
    }

    #[test]
    fn large_rows_in_other_batches_are_the_same_shard() {
        let sizes: Vec<usize> = (0..300).map(|n| (n * 7919) % 40_000).collect();
        let shard = |size: usize| {
            let (mut encoder, rows) = sized(&sizes);
            let mut shard = Vec::new();
            for from in (0..rows.num_rows()).step_by(size) {
                let rows = rows.slice(from, size.min(rows.num_rows() - from));
                let mut at = 0;
                while at < rows.num_rows() {
                    let (end, bytes) = encoder.encode(&rows, at).unwrap();
                    assert!(end > at);
                    (at, shard) = (end, [shard, bytes].concat());
                }
            }
            [shard, encoder.finish().unwrap().0].concat()
        };
        let whole = shard(300);
        assert!(whole.len() > 4 << 20);
        assert!([1, 7, 64].into_iter().all(|size| shard(size) == whole));
    }

    /// A file that counts what is asked of it.
    struct Counted {
        file: Bytes,
        asked: AtomicU64,
    }

    impl Length for &Counted {
        fn len(&self) -> u64 {
            self.file.len() as u64
        }
    }

    impl ChunkReader for &'static Counted {
        type T = Reader<Bytes>;

        fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
            let rest = self.file.len() - start as usize;
            self.get_bytes(start, rest).map(Buf::reader)
        }

        fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
            self.asked.fetch_add(length as u64, Ordering::Relaxed);
            Ok(self.file.slice(start as usize..start as usize + length))
        }
    }

    #[test]
    fn with_small_pages_reading_a_record_touches_little_more_than_the_record() {
        let sizes: Vec<usize> = (0..40).map(|at| 40_000 + 500 * at).collect();
        let asked = |page: Option<ByteSize>| {
            let (_, rows) = sized(&sizes);
            let format = Format::new(level(), ByteSize(8 << 20), page).unwrap();
            let mut encoder = format.encoder(columns::stored(&rows.schema()).unwrap()).unwrap();
            let mut file = Vec::new();
            let mut at = 0;
            while at < rows.num_rows() {
                let (end, bytes) = encoder.encode(&rows, at).unwrap();
                (at, file) = (end, [file, bytes].concat());
            }
            file.extend(encoder.finish().unwrap().0);
            let counted: &'static Counted =
                Box::leak(Box::new(Counted { file: file.into(), asked: AtomicU64::new(0) }));
            let options =
                ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
            let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(counted, options);
            let reader = reader.unwrap();
            let one = RowSelection::from_consecutive_ranges(std::iter::once(25..26), sizes.len());
            let mut rows = reader.with_row_selection(one).build().unwrap();
            let row = rows.next().unwrap().unwrap();
            let column = media::of(&row, "image").unwrap();
            assert_eq!(media::bytes_array(column).unwrap().value(0).len(), sizes[25]);
            counted.asked.load(Ordering::Relaxed)
        };
        // All of it: footer, page index, the record.
        let touched = asked(Some(ByteSize(4 << 10)));
        assert!(touched < sizes[25] as u64 + (8 << 10), "{touched} of {}", sizes[25]);
        assert!(asked(None) > 4 * touched);
        assert!(Format::new(level(), ByteSize(8 << 20), Some(ByteSize(100))).is_err());
    }
}
