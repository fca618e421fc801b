//! The Delta log of a table, through `delta_kernel`. The only module that names it.
//!
//! The log is derived from the run log: a commit carries the transaction id `anabranch/RUN/SINK` with the
//! commit's number as version, so repeating it changes nothing, whoever else writes beside us.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::store::{Location, explain};
use arrow::array::{
    ArrayRef, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::{TryFromArrow, TryFromKernel};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::schema::StructType;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation, create_table::create_table};
use delta_kernel::{Engine, Snapshot, SnapshotRef};
use delta_kernel_default_engine::DefaultEngineBuilder;
use thiserror::Error;
use url::Url;

/// Commits between two checkpoints.
const CHECKPOINT: u64 = 100;
/// What the log says who wrote it.
const WRITER: &str = concat!("anabranch/", env!("CARGO_PKG_VERSION"));

/// A Delta log that could not be read or written.
#[derive(Debug, Error)]
#[error("Delta log of {url}: {message}")]
pub(crate) struct DeltaError {
    url: String,
    message: String,
}

/// A file to make visible.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    /// Path relative to the table.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

/// The log of one table. Calls block.
pub(crate) struct DeltaLog {
    url: Url,
    engine: Arc<dyn Engine>,
}

impl DeltaLog {
    pub(crate) fn new(location: &Location) -> Result<Self, DeltaError> {
        let error = |message: String| DeltaError { url: location.url.clone(), message };
        if let Some(folder) = location.local_path() {
            std::fs::create_dir_all(&folder)
                .map_err(|e| error(format!("cannot create the folder: {}", explain(&e))))?;
        }
        let url = Url::parse(&format!("{}/", location.url)).map_err(|e| error(e.to_string()))?;
        let engine = DefaultEngineBuilder::new(Arc::clone(&location.store)).build();
        Ok(Self { url, engine: Arc::new(engine) })
    }

    /// The table's schema, or `None` when there is no table.
    pub(crate) fn schema(&self) -> Result<Option<Schema>, DeltaError> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let schema = Schema::try_from_arrow_kernel(&snapshot).map_err(|e| self.error(e))?;
        Ok(Some(schema))
    }

    /// Creates the table, unless it is there.
    pub(crate) fn create(&self, schema: &Schema) -> Result<(), DeltaError> {
        let schema = StructType::try_from_arrow(schema).map_err(|e| self.error(e))?;
        let created = create_table(self.url.as_str(), Arc::new(schema), WRITER, false)
            .build(self.engine.as_ref(), Box::new(FileSystemCommitter::new()))
            .and_then(|transaction| transaction.commit(self.engine.as_ref()));
        match created {
            Ok(_) => Ok(()),
            // Another start created it between our look and our write.
            Err(_) if self.snapshot()?.is_some() => Ok(()),
            Err(e) => Err(self.error(explain(&e))),
        }
    }

    /// Makes files visible under a transaction, unless the log has it already.
    ///
    /// With `replace`, everything that was visible before goes, in the same version.
    pub(crate) fn commit(
        &self,
        transaction: &str,
        version: u64,
        files: &[Added],
        replace: bool,
    ) -> Result<(), DeltaError> {
        let version = i64::try_from(version).map_err(|e| self.error(e))?;
        loop {
            let snapshot = self.snapshot()?.ok_or_else(|| self.error("the table is gone"))?;
            let engine = self.engine.as_ref();
            let seen =
                snapshot.get_app_id_version(transaction, engine).map_err(|e| self.error(e))?;
            if seen.is_some_and(|seen| seen >= version) {
                return Ok(());
            }
            let mut update = Arc::clone(&snapshot)
                .update_table(UpdateTableOperation::StreamingUpdate, WRITER, true)
                .with_transaction_id(transaction, version)
                .build(engine, Box::new(FileSystemCommitter::new()))
                .map_err(|e| self.error(e))?;
            if replace {
                let scan =
                    Arc::clone(&snapshot).scan_builder().build().map_err(|e| self.error(e))?;
                for old in scan.scan_metadata(engine).map_err(|e| self.error(e))? {
                    update.remove_files(old.map_err(|e| self.error(e))?.scan_files);
                }
            }
            if !files.is_empty() {
                let batch = added(files).map_err(|e| self.error(e))?;
                update.add_files(Box::new(ArrowEngineData::new(batch)));
            }
            match update.commit(engine).map_err(|e| self.error(explain(&e)))? {
                CommitResult::Committed(committed) => {
                    if committed.commit_version() % CHECKPOINT == CHECKPOINT - 1
                        && let Some(snapshot) = self.snapshot()?
                        && let Err(e) = snapshot.checkpoint(engine, None)
                    {
                        // A checkpoint only makes opening faster.
                        tracing::warn!("no checkpoint of {}: {e}", self.url);
                    }
                    return Ok(());
                }
                CommitResult::Conflicted(_) | CommitResult::Retryable(_) => {}
            }
        }
    }

    fn snapshot(&self) -> Result<Option<SnapshotRef>, DeltaError> {
        match Snapshot::builder_for(self.url.as_str()).build(self.engine.as_ref()) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(e) => {
                let text = e.to_string();
                let none = [
                    "No files in log segment",
                    "not found",
                    "NotFound",
                    "No such file",
                    "No table",
                ];
                if none.iter().any(|part| text.contains(part)) {
                    Ok(None)
                } else {
                    Err(self.error(text))
                }
            }
        }
    }

    fn error(&self, message: impl ToString) -> DeltaError {
        let message = message.to_string();
        // Kernel errors may carry a backtrace behind the first line.
        let first = message.lines().next().unwrap_or_default().to_owned();
        DeltaError { url: self.url.to_string(), message: first }
    }
}

/// The schema of a snapshot, as Arrow.
trait FromSnapshot: Sized {
    fn try_from_arrow_kernel(snapshot: &Snapshot) -> Result<Self, arrow::error::ArrowError>;
}

impl FromSnapshot for Schema {
    fn try_from_arrow_kernel(snapshot: &Snapshot) -> Result<Self, arrow::error::ArrowError> {
        Schema::try_from_kernel(snapshot.schema().as_ref())
    }
}

fn added(files: &[Added]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut partitions = MapBuilder::new(
        Some(arrow::array::MapFieldNames {
            entry: "key_value".to_owned(),
            key: "key".to_owned(),
            value: "value".to_owned(),
        }),
        StringBuilder::new(),
        StringBuilder::new(),
    );
    for _ in files {
        partitions.append(true)?;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_millis() as i64);
    let rows: ArrayRef =
        Arc::new(files.iter().map(|file| Some(file.rows as i64)).collect::<Int64Array>());
    let stats = Fields::from(vec![Field::new("numRecords", DataType::Int64, true)]);
    let columns: HashMap<&str, ArrayRef> = HashMap::from([
        (
            "path",
            Arc::new(files.iter().map(|f| Some(f.path.as_str())).collect::<StringArray>())
                as ArrayRef,
        ),
        ("partitionValues", Arc::new(partitions.finish())),
        ("size", Arc::new(files.iter().map(|f| Some(f.bytes as i64)).collect::<Int64Array>())),
        ("modificationTime", Arc::new(Int64Array::from(vec![now; files.len()]))),
        ("stats", Arc::new(StructArray::new(stats, vec![rows], None))),
    ]);
    let names = ["path", "partitionValues", "size", "modificationTime", "stats"];
    RecordBatch::try_from_iter(
        names.iter().filter_map(|name| Some((*name, Arc::clone(columns.get(name)?)))),
    )
}
