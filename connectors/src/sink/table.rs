//! A table: Parquet shards under a Delta log. `kind = "table"`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::log::{Commit, DEAD_LETTERS};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Shard, Sink, SinkError};
use anabranch_pipelines::store::{Location, explain};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use super::columns;
use super::parquet::encoder::{self, Format};
use super::shard::{self, DATA, ShardWriter};
use crate::table::{Added, DeltaError, DeltaLog};

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
    #[serde(default = "encoder::level")]
    pub zstd: i32,
    /// Size at which a row group is closed. Default `"8MiB"`. An open file holds it twice while it is encoded.
    #[serde(default = "encoder::row_group")]
    #[schemars(with = "String")]
    pub row_group: ByteSize,
    /// Size at which a page of a column is closed: what a reader that goes by the page index reads for one record.
    /// About 1 MiB, and at least 64 records, unless said otherwise; with it, pages end behind any record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub page: Option<ByteSize>,
}

impl TableOptions {
    /// A table at `path` with defaults.
    pub fn at(path: impl Into<String>) -> Self {
        let (zstd, row_group) = (encoder::level(), encoder::row_group());
        Self { path: path.into(), zstd, row_group, page: None }
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
        let format = Format::new(self.zstd, self.row_group, self.page).map_err(error)?;
        let (log, schema) = (Arc::default(), Mutex::default());
        Ok(Table { location, log, schema, format, options: self })
    }
}

struct Table {
    location: Location,
    /// Opened at first use, and kept: it remembers what the log holds.
    log: Arc<OnceLock<DeltaLog>>,
    /// The stored schema of the run that was started, for a table that is created by its first commit.
    schema: Mutex<Option<SchemaRef>>,
    format: Format,
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
}

#[async_trait]
impl Sink for Table {
    fn kind(&self) -> &'static str {
        "table"
    }

    fn options(&self) -> serde_json::Value {
        let TableOptions { path: _, zstd, row_group, page } = &self.options;
        let mut options = serde_json::json!({ "zstd": zstd, "row_group": row_group });
        // Runs of before there was such an option go on.
        if let (Some(page), Some(options)) = (page, options.as_object_mut()) {
            options.insert("page".to_owned(), serde_json::json!(page));
        }
        options
    }

    fn location(&self) -> String {
        self.location.url.clone()
    }

    fn check(&self, input: &SchemaRef) -> Result<(), SchemaError> {
        columns::stored(input).map(|_| ())
    }

    fn reserve(&self) -> usize {
        self.format.reserve() + shard::UPLOADING
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
        let path = shard::path(DATA, part, "parquet");
        let location = self.location.join(&path);
        let error = |message: String| SinkError::Encode { location: location.url.clone(), message };
        let stored = columns::stored(schema).map_err(|e| error(e.to_string()))?;
        let encoder = self.format.encoder(stored).map_err(error)?;
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
        shard::remove_unfinished(&self.location, DATA, run).await
    }

    async fn clean(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        shard::remove_unnamed(&self.location, DATA, run, committed).await
    }
}

/// The name under which a run's commits stand in the Delta log.
fn transaction(run: &RunStart) -> String {
    format!("anabranch/{}/{}", run.run, run.sink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
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
