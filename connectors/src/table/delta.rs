//! The Delta log of a table, through `delta_kernel`. The only module, with those below it, that names it.
//!
//! The log is derived from the run log: a commit carries the transaction id `anabranch/RUN/SINK` with the
//! commit's number as version, so repeating it changes nothing, whoever else writes beside us.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anabranch_pipelines::store::{Location, explain};
use arrow::array::{
    ArrayRef, AsArray, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use delta_kernel::committer::{Committer, FileSystemCommitter};
use delta_kernel::engine::arrow_conversion::{TryFromArrow, TryFromKernel};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::scan::state::ScanFile;
use delta_kernel::schema::StructType;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation, create_table::create_table};
use delta_kernel::{Engine, EngineData, KernelError, Snapshot, SnapshotRef};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use object_store::prefix::PrefixStore;
use serde_json::Value;
use thiserror::Error;
use url::Url;

use crate::sink::statistics;

mod replaced;

use replaced::WithColumns;

/// Commits between two checkpoints.
const CHECKPOINT: u64 = 100;
/// What the log says who wrote it.
const WRITER: &str = concat!("anabranch/", env!("CARGO_PKG_VERSION"));

/// The version written, and its snapshot if it came with it.
type Done = (u64, Option<SnapshotRef>);

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
    /// [Statistics](crate::sink::statistics) of its columns, or null.
    pub(crate) statistics: Value,
}

/// A file that readers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visible {
    /// Path relative to the table.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Whether some of its rows were deleted, which this program does not read.
    pub(crate) deletions: bool,
    /// Values of partition columns, which stand in no file.
    pub(crate) partitioned: bool,
    /// Rows, if the log knows.
    pub(crate) rows: Option<u64>,
    /// [Statistics](crate::sink::statistics) of its columns, as JSON, if the log has any.
    pub(crate) statistics: Option<String>,
}

/// The threads of all Delta logs. Several, because writing a checkpoint reads while it writes, and each
/// waits on these threads: the library's own executor has one, and would wait for itself for ever.
static EXECUTOR: LazyLock<Result<Arc<TokioMultiThreadExecutor>, String>> = LazyLock::new(|| {
    let executor = TokioMultiThreadExecutor::new_owned_runtime(Some(2), None);
    executor.map(Arc::new).map_err(|e| format!("cannot start the threads of its log: {e}"))
});

/// The log of one table. Calls block.
///
/// The newest snapshot and the versions of transactions stay in memory, so that a commit writes one object
/// and reads nothing. That is safe because the commit is put-if-absent behind that snapshot: when somebody
/// else was faster, it conflicts, and everything is looked up again.
pub(crate) struct DeltaLog {
    /// The table's, for messages.
    url: String,
    /// The root of the engine's store, which is the table's folder.
    root: Url,
    folder: Option<PathBuf>,
    engine: Arc<dyn Engine>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    snapshot: Option<SnapshotRef>,
    transactions: HashMap<String, i64>,
}

impl DeltaLog {
    pub(crate) fn new(location: &Location) -> Result<Self, DeltaError> {
        let error = |message: String| DeltaError { url: location.url.clone(), message };
        // The engine lists paths as URLs without encoding what URLs encode: a folder called `50%20` it finds
        // as `50 `. It is given a store that begins at the table, and never sees the folder's name.
        let mut root = Url::parse(&location.url).map_err(|e| error(e.to_string()))?;
        root.set_path("/");
        let store = PrefixStore::new(Arc::clone(&location.store), location.path.clone());
        let executor = match EXECUTOR.as_ref() {
            Ok(executor) => Arc::clone(executor),
            Err(e) => return Err(error(e.clone())),
        };
        let engine =
            DefaultEngineBuilder::new(Arc::new(store)).with_task_executor(executor).build();
        let (folder, engine) = (location.local_path(), Arc::new(engine));
        let url = location.url.clone();
        Ok(Self { url, root, folder, engine, known: Mutex::default() })
    }

    /// The table's newest schema, or `None` when there is no table.
    pub(crate) fn schema(&self) -> Result<Option<Schema>, DeltaError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut known)?;
        known.snapshot.as_ref().map(|snapshot| self.schema_of(snapshot)).transpose()
    }

    /// The newest version of a transaction that the log has, if any.
    pub(crate) fn committed(&self, transaction: &str) -> Result<Option<i64>, DeltaError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut known)?;
        let Some(snapshot) = &known.snapshot else { return Ok(None) };
        let seen = snapshot.get_app_id_version(transaction, self.engine.as_ref());
        seen.map_err(|e| self.failed(&e))
    }

    /// Schema, version and files of the table at a version, or the newest.
    pub(crate) fn files(
        &self,
        version: Option<u64>,
    ) -> Result<Option<(Schema, u64, Vec<Visible>)>, DeltaError> {
        let Some(snapshot) = self.load(version)? else { return Ok(None) };
        let schema = self.schema_of(&snapshot)?;
        let at = snapshot.version();
        let scan = snapshot.scan_builder().build().map_err(|e| self.failed(&e))?;
        let mut files = Vec::new();
        for found in scan.scan_metadata(self.engine.as_ref()).map_err(|e| self.failed(&e))? {
            let found = found.map_err(|e| self.failed(&e))?;
            let mut statistics = stored_statistics(found.scan_files.data());
            files.reserve(statistics.len());
            let from = files.len();
            let visit = |files: &mut Vec<Visible>, file: ScanFile| {
                files.push(Visible {
                    deletions: file.dv_info.has_vector(),
                    partitioned: !file.partition_values.is_empty(),
                    rows: file.stats.as_ref().map(|stats| stats.num_records),
                    statistics: None,
                    path: file.path,
                    bytes: u64::try_from(file.size).unwrap_or_default(),
                });
            };
            files = found.visit_scan_files(files, visit).map_err(|e| self.failed(&e))?;
            for file in files.iter_mut().skip(from) {
                file.statistics = statistics.remove(&file.path);
            }
        }
        // Names carry run, commit, epoch and lane: any fixed order will do, and of a run this is the order in
        // which it was written.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Some((schema, at, files)))
    }

    /// Makes files visible under a transaction, unless the log has it already. Creates a table that is not
    /// there with the same commit.
    ///
    /// With `replace`, everything that was visible before goes, in the same version, and its columns with it.
    pub(crate) fn commit(
        &self,
        transaction: &str,
        version: u64,
        schema: Option<&Schema>,
        files: &[Added],
        replace: bool,
    ) -> Result<(), DeltaError> {
        let version = i64::try_from(version).map_err(|e| self.error(e))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.snapshot.is_none() {
            known.snapshot = self.load(None)?;
        }
        loop {
            let done = match known.snapshot.clone() {
                None => {
                    let missing = || self.error("there is no table, and the sink was not started");
                    self.create(transaction, version, schema.ok_or_else(missing)?, files)?
                }
                Some(snapshot) => {
                    let seen = match known.transactions.get(transaction) {
                        Some(seen) => Some(*seen),
                        None => snapshot
                            .get_app_id_version(transaction, self.engine.as_ref())
                            .map_err(|e| self.failed(&e))?,
                    };
                    if seen.is_some_and(|seen| seen >= version) {
                        known.transactions.extend(seen.map(|seen| (transaction.to_owned(), seen)));
                        return Ok(());
                    }
                    self.append(snapshot, transaction, version, schema, files, replace)?
                }
            };
            match done {
                Some((committed, snapshot)) => {
                    match snapshot {
                        Some(snapshot) => known.snapshot = Some(snapshot),
                        None => self.refresh(&mut known)?,
                    }
                    known.transactions.insert(transaction.to_owned(), version);
                    if committed % CHECKPOINT == CHECKPOINT - 1
                        && let Some(snapshot) = known.snapshot.clone()
                        && let Err(e) = snapshot.checkpoint(self.engine.as_ref(), None)
                    {
                        // A checkpoint only makes opening faster.
                        tracing::warn!("no checkpoint of {}: {e}", self.url);
                    }
                    return Ok(());
                }
                None => self.refresh(&mut known)?,
            }
        }
    }

    /// The first version: the table and its first files. `None` when somebody else was faster.
    fn create(
        &self,
        transaction: &str,
        version: i64,
        schema: &Schema,
        files: &[Added],
    ) -> Result<Option<Done>, DeltaError> {
        if let Some(folder) = &self.folder {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|e| self.error(format!("cannot create the folder: {}", explain(&e))))?;
        }
        let engine = self.engine.as_ref();
        let columns = schema;
        let schema = StructType::try_from_arrow(schema).map_err(|e| self.error(e))?;
        let begun = create_table(self.root.as_str(), Arc::new(schema), WRITER, true)
            .with_transaction_id(transaction, version)
            .build(engine, Box::new(FileSystemCommitter::new()));
        let created = begun.and_then(|mut creation| {
            if !files.is_empty() {
                creation.add_files(Box::new(ArrowEngineData::new(added(files, Some(columns))?)));
            }
            creation.commit(engine)
        });
        match created {
            Ok(CommitResult::Committed(done)) => {
                Ok(Some((done.commit_version(), done.post_commit_snapshot().cloned())))
            }
            Ok(CommitResult::Conflicted(_) | CommitResult::Retryable(_)) => Ok(None),
            Err(_) if self.load(None)?.is_some() => Ok(None),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// A further version. `None` when somebody else was faster.
    fn append(
        &self,
        snapshot: SnapshotRef,
        transaction: &str,
        version: i64,
        schema: Option<&Schema>,
        files: &[Added],
        replace: bool,
    ) -> Result<Option<Done>, DeltaError> {
        let engine = self.engine.as_ref();
        let columns = schema.filter(|_| replace).map(StructType::try_from_arrow).transpose();
        let columns = columns.map_err(|e| self.error(e))?.map(Arc::new);
        let columns = columns.filter(|columns| *columns != snapshot.schema());
        let other_columns = columns.is_some();
        let committer: Box<dyn Committer> = match columns {
            Some(columns) => Box::new(WithColumns { columns }),
            None => Box::new(FileSystemCommitter::new()),
        };
        let mut update = Arc::clone(&snapshot)
            .update_table(UpdateTableOperation::StreamingUpdate, WRITER, true)
            .with_transaction_id(transaction, version)
            .build(engine, committer)
            .map_err(|e| self.failed(&e))?;
        if replace {
            let scan = snapshot.scan_builder().build().map_err(|e| self.failed(&e))?;
            for old in scan.scan_metadata(engine).map_err(|e| self.failed(&e))? {
                update.remove_files(old.map_err(|e| self.failed(&e))?.scan_files);
            }
        }
        if !files.is_empty() {
            let batch = added(files, schema).map_err(|e| self.error(e))?;
            update.add_files(Box::new(ArrowEngineData::new(batch)));
        }
        match update.commit(engine).map_err(|e| self.failed(&e))? {
            CommitResult::Committed(done) => {
                // The library's own snapshot knows nothing of other columns.
                let snapshot = done.post_commit_snapshot().filter(|_| !other_columns).cloned();
                Ok(Some((done.commit_version(), snapshot)))
            }
            CommitResult::Conflicted(_) | CommitResult::Retryable(_) => Ok(None),
        }
    }

    /// The newest snapshot, from what is known if anything is. Transactions are looked up in it anew: others
    /// may have committed since.
    fn refresh(&self, known: &mut Known) -> Result<(), DeltaError> {
        known.transactions.clear();
        known.snapshot = match known.snapshot.take() {
            Some(old) => {
                let newer = Snapshot::builder_from(old).build(self.engine.as_ref());
                Some(newer.map_err(|e| self.failed(&e))?)
            }
            None => self.load(None)?,
        };
        Ok(())
    }

    fn load(&self, version: Option<u64>) -> Result<Option<SnapshotRef>, DeltaError> {
        if self.folder.as_ref().is_some_and(|folder| !folder.join("_delta_log").exists()) {
            return Ok(None);
        }
        let mut builder = Snapshot::builder_for(self.root.as_str());
        if let Some(version) = version {
            builder = builder.at_version(version);
        }
        match builder.build(self.engine.as_ref()) {
            Ok(snapshot) => Ok(Some(snapshot)),
            // Only an empty log is no table: a file that is missing is damage, and nothing is written over it.
            Err(e) if version.is_none() && matches!(plain(&e), KernelError::EmptyLog) => Ok(None),
            Err(e) => {
                // The library names the version before or after the one that was asked for.
                let newest = version.and_then(|_| Some(self.load(None).ok()??.version()));
                match (version, newest) {
                    (Some(asked), Some(newest)) if asked > newest => {
                        Err(self
                            .error(format!("there is no version {asked}; the newest is {newest}")))
                    }
                    _ => Err(self.failed(&e)),
                }
            }
        }
    }

    fn schema_of(&self, snapshot: &Snapshot) -> Result<Schema, DeltaError> {
        Schema::try_from_kernel(snapshot.schema().as_ref()).map_err(|e| self.error(e))
    }

    /// An error of the library, with what to do about it where the store's error behind it tells.
    fn failed(&self, error: &KernelError) -> DeltaError {
        self.error(match plain(error) {
            KernelError::ObjectStore(error) => explain(error),
            KernelError::IOError(error) => explain(error),
            other => explain(other),
        })
    }

    fn error(&self, message: impl ToString) -> DeltaError {
        let message = message.to_string();
        // Kernel errors may carry a backtrace behind the first line.
        let first = message.lines().next().unwrap_or_default().to_owned();
        DeltaError { url: self.url.clone(), message: first }
    }
}

/// The error without its backtrace.
fn plain(error: &KernelError) -> &KernelError {
    match error {
        KernelError::Backtraced { source, .. } => plain(source),
        other => other,
    }
}

/// What the log says of the values of files, by path, as it stands there.
fn stored_statistics(data: &dyn EngineData) -> HashMap<String, String> {
    let rows = data.any_ref().downcast_ref::<ArrowEngineData>().map(ArrowEngineData::record_batch);
    let text = |name: &str| rows?.column_by_name(name)?.as_string_opt::<i32>();
    let (Some(paths), Some(stats)) = (text("path"), text("stats")) else { return HashMap::new() };
    let known = paths.iter().zip(stats).filter_map(|(path, stats)| path.zip(stats));
    known.map(|(path, stats)| (path.to_owned(), stats.to_owned())).collect()
}

/// The `add` actions of these files of a table with these columns.
fn added(files: &[Added], columns: Option<&Schema>) -> Result<RecordBatch, ArrowError> {
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
    let arrays: HashMap<&str, ArrayRef> = HashMap::from([
        (
            "path",
            Arc::new(files.iter().map(|f| Some(f.path.as_str())).collect::<StringArray>())
                as ArrayRef,
        ),
        ("partitionValues", Arc::new(partitions.finish())),
        ("size", Arc::new(files.iter().map(|f| Some(f.bytes as i64)).collect::<Int64Array>())),
        ("modificationTime", Arc::new(Int64Array::from(vec![now; files.len()]))),
        ("stats", Arc::new(stats(files, columns)?)),
    ]);
    let names = ["path", "partitionValues", "size", "modificationTime", "stats"];
    RecordBatch::try_from_iter(
        names.iter().filter_map(|name| Some((*name, Arc::clone(arrays.get(name)?)))),
    )
}

/// What the log says of the files' values, as far as it is known and of these columns.
fn stats(files: &[Added], columns: Option<&Schema>) -> Result<StructArray, ArrowError> {
    let of = |wanted: fn(&Field) -> bool, data_type: Option<DataType>| -> Fields {
        let fields = columns.iter().flat_map(|columns| columns.fields().iter());
        let fields = fields.filter(|field| wanted(field)).map(|field| {
            let data_type = data_type.clone().unwrap_or_else(|| field.data_type().clone());
            Field::new(field.name(), data_type, true)
        });
        fields.collect()
    };
    let bounds = of(statistics::has_bounds, None);
    let nulls = of(statistics::has_statistics, Some(DataType::Int64));
    let mut fields = vec![Field::new("numRecords", DataType::Int64, true)];
    for (name, of) in [("nullCount", nulls), ("minValues", bounds.clone()), ("maxValues", bounds)] {
        if !of.is_empty() {
            fields.push(Field::new_struct(name, of, true));
        }
    }
    let rows = files.iter().map(|file| {
        let mut row = file.statistics.as_object().cloned().unwrap_or_default();
        row.insert("numRecords".to_owned(), file.rows.into());
        Value::Object(row)
    });
    let mut decoder = ReaderBuilder::new(Arc::new(Schema::new(fields))).build_decoder()?;
    decoder.serialize(&rows.collect::<Vec<_>>())?;
    let rows = decoder.flush()?;
    rows.map(StructArray::from).ok_or_else(|| ArrowError::JsonError("no row".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_commit_writes_a_checkpoint_and_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(folder.path().to_str().unwrap()).unwrap();
        let log = DeltaLog::new(&location).unwrap();
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        for number in 0..=CHECKPOINT {
            let file = Added {
                path: format!("data/{number}.parquet"),
                bytes: 1,
                rows: 1,
                statistics: Value::Null,
            };
            log.commit("test", number, Some(&schema), &[file], false).unwrap();
        }
        let names = std::fs::read_dir(folder.path().join("_delta_log")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().any(|name| name.ends_with(".checkpoint.parquet")));
        assert_eq!(log.load(None).unwrap().unwrap().version(), CHECKPOINT);
    }

    #[test]
    fn a_commit_that_another_writer_made_is_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(folder.path().to_str().unwrap()).unwrap();
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let commit = |log: &DeltaLog, number: u64| {
            let file = Added {
                path: format!("data/{number}.parquet"),
                bytes: 1,
                rows: 1,
                statistics: Value::Null,
            };
            log.commit("test", number, Some(&schema), &[file], false).unwrap();
        };
        let (one, other) = (DeltaLog::new(&location).unwrap(), DeltaLog::new(&location).unwrap());
        commit(&one, 0);
        commit(&other, 0);
        (1..4).for_each(|number| commit(&other, number));
        // What the one that created the table knows is three versions old by now; what the other one knows
        // is as old when it comes to its turn again.
        (0..7).for_each(|number| commit(&one, number));
        // A look at the schema in between must not make old news of transactions look new.
        assert!(other.schema().unwrap().is_some());
        (0..7).for_each(|number| commit(&other, number));
        assert_eq!(one.files(None).unwrap().unwrap().2.len(), 7);
        assert_eq!(other.load(None).unwrap().unwrap().version(), 6);
    }

    #[test]
    fn a_damaged_log_is_an_error_and_no_new_table() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(folder.path().to_str().unwrap()).unwrap();
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let file =
            Added { path: "data/a.parquet".to_owned(), bytes: 1, rows: 1, statistics: Value::Null };
        let log = DeltaLog::new(&location).unwrap();
        for number in 0..3 {
            let files = std::slice::from_ref(&file);
            log.commit("test", number, Some(&schema), files, false).unwrap();
        }
        let entry = |number| folder.path().join(format!("_delta_log/{number:020}.json"));
        std::fs::remove_file(entry(0)).unwrap();
        let opened = DeltaLog::new(&location).unwrap();
        assert!(opened.schema().is_err());
        assert!(opened.commit("other", 0, Some(&schema), &[file], false).is_err());
        assert!(!entry(0).exists() && !entry(3).exists());
    }

    #[test]
    fn a_table_has_the_folder_that_its_path_names() {
        let folder = tempfile::tempdir().unwrap();
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let odd = "out #1%20[x] ü?%";
        let path = folder.path().join(odd).join("table");
        for at in [path.to_str().unwrap(), "memory://odd/out%20%231%2520%5Bx%5D/table"] {
            let location = Location::parse(at).unwrap();
            for number in 0..2 {
                // Opened anew: what one remembers of its own commit it need not find.
                let log = DeltaLog::new(&location).unwrap();
                let path = format!("data/{number}.parquet");
                let file = Added { path, bytes: 1, rows: 1, statistics: Value::Null };
                log.commit("test", number, Some(&schema), &[file], false).unwrap();
            }
            let (_, version, files) =
                DeltaLog::new(&location).unwrap().files(None).unwrap().unwrap();
            assert_eq!((version, files.len()), (1, 2));
        }
        let names = std::fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [odd]);
        assert!(path.join("_delta_log/00000000000000000001.json").is_file());
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let location = Location::parse("memory://full/table").unwrap();
        let log = DeltaLog::new(&location).unwrap();
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let store = object_store::Error::Generic { store: "local", source: Box::new(full()) };
        for error in [KernelError::ObjectStore(store), KernelError::IOError(full())] {
            let backtrace = Box::new(std::backtrace::Backtrace::capture());
            let traced = KernelError::Backtraced { source: Box::new(error), backtrace };
            let message = log.failed(&traced).to_string();
            assert!(message.contains("free some space"), "{message}");
        }
    }
}
