//! A table: Parquet shards under a Delta log. `kind = "table"`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::log::{Commit, DEAD_LETTERS};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{compact, media};
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Shard, Sink, SinkError};
use anabranch_pipelines::store::{Location, explain};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::ObjectStore;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use super::columns;
use super::piece::Piece;
use super::shard::{self, Encode, ShardWriter};
use super::statistics::{self, NotNumbers};
use crate::table::{Added, DeltaError, DeltaLog};

/// Rows are handed to the Parquet writer in slices of this many, or fewer large ones, however they were
/// batched: pages and row groups then begin at the same rows, and shards have the same bytes.
const SLICE: usize = 64;
/// Bytes of a slice at most, the row that reaches them included whole.
const SLICE_BYTES: usize = 1 << 20;

/// Options of `kind = "table"`: Parquet files that Delta Lake readers open as one table.
///
/// Delta has fewer types. Unsigned numbers become wider signed ones; times are instants in microseconds (one
/// without a zone counts as UTC), and nanoseconds are whole numbers. The source `table` reads all of them as
/// they were.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {
    /// Folder of the table, as a path or URL.
    pub path: String,
    /// zstd level of the columns that are not media, 1 to 19.
    #[serde(default = "level")]
    pub zstd: i32,
    /// Size at which a row group is closed. Default `"8MiB"`. An open file holds it twice while it is encoded.
    #[serde(default = "row_group")]
    #[schemars(with = "String")]
    pub row_group: ByteSize,
}

const fn level() -> i32 {
    3
}

const fn row_group() -> ByteSize {
    ByteSize(8 << 20)
}

impl TableOptions {
    /// A table at `path` with defaults.
    pub fn at(path: impl Into<String>) -> Self {
        Self { path: path.into(), zstd: level(), row_group: row_group() }
    }

    /// The sink.
    ///
    /// # Errors
    /// When the path is no location or an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Sink>, SinkError> {
        Ok(Arc::new(self.table()?))
    }

    fn table(self) -> Result<Table, SinkError> {
        let error =
            |message: String| SinkError::Destination { location: self.path.clone(), message };
        let location = Location::parse(&self.path).map_err(|e| error(e.to_string()))?;
        if self.row_group.0 < 64 << 10 {
            return Err(error("`row_group` is at least \"64KiB\"".to_owned()));
        }
        let zstd = ZstdLevel::try_new(self.zstd)
            .map_err(|e| error(format!("`zstd = {}`: {e}", self.zstd)))?;
        let (log, schema) = (Arc::default(), Mutex::default());
        Ok(Table { location, log, schema, zstd, options: self })
    }
}

struct Table {
    location: Location,
    /// Opened at first use, and kept: it remembers what the log holds.
    log: Arc<OnceLock<DeltaLog>>,
    /// The stored schema of the run that was started, for a table that is created by its first commit.
    schema: Mutex<Option<SchemaRef>>,
    zstd: ZstdLevel,
    options: TableOptions,
}

impl Table {
    fn error(&self, message: impl ToString) -> SinkError {
        SinkError::Store { location: self.location.url.clone(), message: message.to_string() }
    }

    /// Runs blocking calls on the Delta log beside the I/O threads.
    async fn delta<R: Send + 'static>(
        &self,
        work: impl FnOnce(&DeltaLog) -> Result<R, DeltaError> + Send + 'static,
    ) -> Result<R, SinkError> {
        let (location, log) = (self.location.clone(), Arc::clone(&self.log));
        let work = move || match log.get() {
            Some(log) => work(log),
            None => {
                let opened = DeltaLog::new(&location)?;
                work(log.get_or_init(|| opened))
            }
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|e| self.error(e))?.map_err(|e| self.error(e))
    }

    /// Bytes of a slice: small beside a row group, which is closed between two of them.
    fn slice(&self) -> usize {
        SLICE_BYTES.min(self.options.row_group.as_usize() / 8)
    }

    fn encoder(&self, schema: &SchemaRef) -> Result<Encoder, String> {
        let stored = columns::stored(schema).map_err(|e| e.to_string())?;
        let options = ArrowWriterOptions::new()
            .with_properties(self.properties(&stored))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&stored), options);
        Ok(Encoder {
            writer: writer.map_err(|e| e.to_string())?,
            stored,
            waiting: Vec::new(),
            piece: Piece::new(SLICE, self.slice()),
            row_group: self.options.row_group.as_usize(),
            not_numbers: NotNumbers::default(),
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

#[async_trait]
impl Sink for Table {
    fn kind(&self) -> &'static str {
        "table"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({ "zstd": self.options.zstd, "row_group": self.options.row_group })
    }

    fn location(&self) -> String {
        self.location.url.clone()
    }

    fn check(&self, input: &SchemaRef) -> Result<(), SchemaError> {
        columns::stored(input).map(|_| ())
    }

    fn reserve(&self) -> usize {
        // What waits for its slice, the slice, and the row group: being built, and encoded.
        let row_group = self.options.row_group.as_usize() + self.slice();
        2 * row_group + 2 * self.slice() + shard::UPLOADING
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        let log = self.location.join("_delta_log");
        let mut entries = log.store.list(Some(&log.path));
        Ok(entries.try_next().await.map_err(|e| self.error(explain(&e)))?.is_some())
    }

    async fn start(&self, run: &RunStart, schema: &SchemaRef) -> Result<(), SinkError> {
        let stored = columns::stored(schema).map_err(|e| self.error(e))?;
        if run.sink != DEAD_LETTERS && self.location.url.contains('%') {
            tracing::warn!(
                "the path of `{}` has characters that URLs encode; some readers of Delta tables, Polars among \
                 them, do not find files there",
                self.options.path
            );
        }
        let there = self.delta(DeltaLog::schema).await?;
        *self.schema.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&stored));
        // The first commit creates the table with its first rows: one write less before they are seen.
        let Some(there) = there else { return Ok(()) };
        // The first commit of an overwrite replaces columns as well.
        let transaction = transaction(run);
        if run.overwrite && self.delta(move |log| log.committed(&transaction)).await?.is_none() {
            return Ok(());
        }
        columns::same(&self.location, &columns::names(&there), &columns::names(&stored))
    }

    fn writer(
        &self,
        part: &PartName,
        schema: &SchemaRef,
        compute: &Compute,
    ) -> Result<Box<dyn PartWriter>, SinkError> {
        let path = shard::path(part, "parquet");
        let location = self.location.join(&path);
        let error = |message: String| SinkError::Encode { location: location.url.clone(), message };
        let encoder = self.encoder(schema).map_err(error)?;
        Ok(Box::new(ShardWriter::new(&self.location, path, part, compute, encoder)))
    }

    async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        let shards = commit.shards.get(&run.sink).map_or(&[] as &[Shard], Vec::as_slice);
        let files: Vec<Added> = shards
            .iter()
            .map(|shard| Added {
                path: shard.path.clone(),
                bytes: shard.bytes,
                rows: shard.rows,
                statistics: shard.statistics.clone(),
            })
            .collect();
        let (number, replace) = (commit.number, run.overwrite && commit.number == 0);
        // Without rows there is nothing to show, but a complete run leaves a table, if only an empty one;
        // dead letters do so only when there are some.
        let leaves_table = commit.last && run.sink != DEAD_LETTERS;
        if files.is_empty() && !replace && !leaves_table {
            return Ok(());
        }
        let schema = self.schema.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let transaction = transaction(run);
        self.delta(move |log| log.commit(&transaction, number, schema.as_deref(), &files, replace))
            .await
    }

    async fn recover(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        for commit in committed {
            self.commit(run, commit).await?;
        }
        shard::remove_unfinished(&self.location, run).await
    }

    async fn clean(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        shard::remove_unnamed(&self.location, run, committed).await
    }
}

/// The name under which a run's commits stand in the Delta log.
fn transaction(run: &RunStart) -> String {
    format!("anabranch/{}/{}", run.run, run.sink)
}

/// Rows to Parquet.
struct Encoder {
    writer: ArrowWriter<Vec<u8>>,
    stored: SchemaRef,
    /// Rows of the slice that is not full yet.
    waiting: Vec<RecordBatch>,
    piece: Piece,
    row_group: usize,
    not_numbers: NotNumbers,
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
        Ok((at, std::mem::take(self.writer.inner_mut())))
    }

    fn finish(mut self) -> Result<(Vec<u8>, serde_json::Value), String> {
        self.slice()?;
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
        self.writer.flush().map_err(|e| e.to_string())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use anabranch_pipelines::record::Modality;
    use arrow::array::ArrayRef;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    /// The keys in all files that the Delta log shows.
    async fn keys(location: Location) -> Result<Vec<String>, String> {
        let look = move || -> Result<Vec<String>, String> {
            let log = DeltaLog::new(&location).map_err(|e| e.to_string())?;
            let Some((_, _, files)) = log.files(None).map_err(|e| e.to_string())? else {
                return Ok(Vec::new());
            };
            let mut keys = Vec::new();
            for file in files {
                let path = location.join(&file.path).local_path().unwrap();
                let open = std::fs::File::open(path).map_err(|e| e.to_string())?;
                for batch in
                    ParquetRecordBatchReaderBuilder::try_new(open).unwrap().build().unwrap()
                {
                    let batch = batch.unwrap();
                    let column = batch.column_by_name("key").unwrap();
                    let column =
                        column.as_any().downcast_ref::<arrow::array::StringArray>().unwrap();
                    keys.extend(column.iter().map(|key| key.unwrap().to_owned()));
                }
            }
            Ok(keys)
        };
        tokio::task::spawn_blocking(look).await.unwrap()
    }

    /// An encoder with small row groups, and rows of these sizes.
    fn sized(sizes: &[usize]) -> (Encoder, RecordBatch) {
        let bytes: Vec<Vec<u8>> = sizes.iter().map(|size| vec![7; *size]).collect();
        let bytes = bytes.iter().map(|bytes| Some(bytes.as_slice())).collect();
        let column: ArrayRef = Arc::new(media::column(bytes, vec![Some("path"); sizes.len()]));
        let field = media::field("image", Modality::Image, media::State::Encoded);
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![field]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        let mut options = TableOptions::at("memory://sized/table");
        options.row_group = ByteSize(1 << 20);
        (options.table().unwrap().encoder(&schema).unwrap(), rows)
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_table_is_a_sink() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table").to_str().unwrap().to_owned();
        let open = || TableOptions::at(path.clone()).build().unwrap();
        let location = Location::parse(&path).unwrap();
        conformance::sink::check(open, async || keys(location.clone()).await).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn two_writers_of_one_table_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(folder.path().to_str().unwrap()).unwrap();
        let writers = (0..3).map(|writer| {
            let location = location.clone();
            tokio::task::spawn_blocking(move || {
                let log = DeltaLog::new(&location).unwrap();
                let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
                    "a",
                    arrow::datatypes::DataType::Int64,
                    true,
                )]);
                for version in 0..5 {
                    let path = format!("data/{writer}-{version}.parquet");
                    let added =
                        [Added { path, bytes: 1, rows: 1, statistics: serde_json::Value::Null }];
                    for _ in 0..2 {
                        log.commit(&format!("run{writer}"), version, Some(&schema), &added, false)
                            .unwrap();
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let files = tokio::task::spawn_blocking(move || {
            DeltaLog::new(&location).unwrap().files(None).unwrap().unwrap().2
        });
        assert_eq!(files.await.unwrap().len(), 15);
    }
}
