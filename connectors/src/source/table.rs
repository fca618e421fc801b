//! Tables that this program wrote: `kind = "table"`, Parquet shards under a Delta log.
//!
//! Splits are shards, offsets are numbers of rows. Ids and keys are kept, so a record read again is the same
//! record; modalities, states and types that Delta has no word for are restored from the table's schema.

use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use anabranch_pipelines::record::{ID, KEY};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Marks, Source, SourceBatches, SourceError, Split, SplitRange,
};
use anabranch_pipelines::store::Location;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::parquet::rows::{self, Footers, Rows};
use super::scan::key;
use super::values::free_name;
use crate::table::{DeltaLog, ORIGINAL_TYPE, Visible, dictionaries};

/// Options of `kind = "table"`: every row of a table is a record, with the id and key that it has there.
///
/// A table that another program wrote, without these two columns, gets keys `FILE@ROW`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {
    /// Folder of the table, as a path or URL.
    pub path: String,
    /// The version to read. Default: the newest when the run starts.
    pub version: Option<u64>,
}

impl TableOptions {
    /// The newest version of the table at `path`.
    pub fn at(path: impl Into<String>) -> Self {
        Self { path: path.into(), version: None }
    }

    /// The source.
    ///
    /// # Errors
    /// When the path is no location.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let location = Location::parse(&self.path);
        let location = location.map_err(|e| SourceError::Options(e.to_string()))?;
        let (shards, footers) = (OnceCell::new(), Arc::default());
        Ok(Arc::new(Table(Arc::new(Inner { location, options: self, shards, footers }))))
    }
}

struct Table(Arc<Inner>);

struct Inner {
    location: Location,
    options: TableOptions,
    /// Looked at once: a run reads one version, whatever is committed meanwhile.
    shards: OnceCell<Arc<Shards>>,
    footers: Arc<Footers>,
}

/// What the table holds.
struct Shards {
    location: Location,
    splits: Vec<Split>,
    /// Stored column of each column, by name; `None` is the key that is made here.
    columns: Vec<Option<String>>,
    schema: SchemaRef,
}

#[async_trait]
impl Source for Table {
    fn kind(&self) -> &'static str {
        "table"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({ "version": self.0.options.version })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: false, stable_offsets: true, grows: false }
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(Arc::clone(&self.0.shards().await?.schema))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        Ok(self.0.shards().await?.splits.clone())
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let inner = Arc::clone(&self.0);
        let footers = Arc::clone(&inner.footers);
        let marks = async move { Ok(rows::measure(inner.shards().await?, footers, split, from)) };
        stream::once(marks).try_flatten().boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let inner = Arc::clone(&self.0);
        let footers = Arc::clone(&inner.footers);
        let rows = async move { Ok(rows::open(inner.shards().await?, footers, ranges, size)) };
        stream::once(rows).try_flatten().boxed()
    }
}

impl Inner {
    async fn shards(&self) -> Result<Arc<Shards>, SourceError> {
        let shards = self.shards.get_or_try_init(|| async {
            let (location, version) = (self.location.clone(), self.options.version);
            let look = move || DeltaLog::new(&location)?.files(version);
            let looked = tokio::task::spawn_blocking(look).await;
            let looked =
                looked.map_err(|e| SourceError::Options(format!("a thread that read was lost: {e}")))?;
            let error = |message: String| SourceError::Format {
                location: self.location.url.clone(),
                message,
            };
            match looked.map_err(|e| error(e.to_string()))? {
                Some((schema, _, files)) => {
                    let schema = dictionaries::named(&self.location, &schema).await?;
                    Shards::of(&self.location, &schema, files).map(Arc::new).map_err(error)
                }
                None => Err(SourceError::Nothing {
                    location: self.location.url.clone(),
                    hint: "there is no table; check the path, or read its files with `kind = \"parquet\"`"
                        .to_owned(),
                }),
            }
        });
        shards.await.cloned()
    }
}

impl Shards {
    fn of(location: &Location, schema: &Schema, files: Vec<Visible>) -> Result<Self, String> {
        plain(&files)?;
        let splits = files.into_iter().map(|file| {
            let version = file.bytes.to_string();
            Split { name: file.path, bytes: file.bytes, version }
        });
        let (columns, schema) = restored(schema);
        Ok(Self { location: location.clone(), splits: splits.collect(), columns, schema })
    }
}

/// Whether all rows of these files are the table's, and all its columns stand in them.
pub(crate) fn plain(files: &[Visible]) -> Result<(), String> {
    match files.iter().find(|file| file.deletions || file.partitioned) {
        None => Ok(()),
        Some(file) => Err(format!(
            "`{}` has deletion vectors or partition values, which are not read; rewrite the table without",
            file.path
        )),
    }
}

/// The columns of a table's records with the types that they had when they were written, and the stored column of
/// each; `None` is the key of rows that have none.
pub(crate) fn restored(schema: &Schema) -> (Vec<Option<String>>, SchemaRef) {
    let stored = schema.fields();
    let named = |at: usize, name: &str, kind: &DataType| {
        stored.get(at).is_some_and(|f| f.name() == name && f.data_type() == kind)
    };
    let ours = named(0, ID, &DataType::Binary) && named(1, KEY, &DataType::Utf8);
    let (mut fields, mut columns): (Vec<Field>, Vec<Option<String>>) = (Vec::new(), Vec::new());
    if ours {
        fields.push(Field::new(ID, DataType::FixedSizeBinary(16), false));
        fields.push(Field::new(KEY, DataType::Utf8, false));
        columns.extend([Some(ID.to_owned()), Some(KEY.to_owned())]);
    } else {
        fields.push(Field::new(KEY, DataType::Utf8, false));
        columns.push(None);
    }
    for field in stored.iter().skip(if ours { 2 } else { 0 }) {
        let taken = |name: &str| name == ID || fields.iter().any(|field| field.name() == name);
        let name = free_name(field.name(), taken);
        let mut metadata = field.metadata().clone();
        let original = metadata.remove(ORIGINAL_TYPE).and_then(|name| name.parse().ok());
        let data_type = original.unwrap_or_else(|| field.data_type().clone());
        fields.push(Field::new(name, data_type, true).with_metadata(metadata));
        columns.push(Some(field.name().clone()));
    }
    (columns, Arc::new(Schema::new(fields)))
}

impl Rows for Shards {
    fn location(&self, split: &Split) -> Location {
        self.location.join(&split.name)
    }

    fn verify(&self) -> bool {
        // Shards are never written twice.
        false
    }

    fn fault(&self, footer: &ArrowReaderMetadata) -> Option<String> {
        let stored = footer.schema().fields();
        let missing = self.columns.iter().flatten().find(|name| stored.find(name).is_none())?;
        Some(format!("it lacks the column `{missing}` of the table"))
    }

    fn adapt(
        &self,
        split: &Split,
        rows: &[u64],
        batch: &RecordBatch,
    ) -> Result<RecordBatch, SourceError> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let error = |e: arrow::error::ArrowError| SourceError::Format {
            location: split.name.clone(),
            message: e.to_string(),
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (stored, field) in self.columns.iter().zip(self.schema.fields()) {
            let column = stored.as_ref().and_then(|name| batch.column_by_name(name));
            columns.push(match column {
                None => {
                    Arc::new(StringArray::from_iter_values(rows.iter().map(|row| key(split, *row))))
                }
                Some(column) if column.data_type() != field.data_type() => {
                    cast(column, field.data_type()).map_err(error)?
                }
                Some(column) => Arc::clone(column),
            });
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anabranch_pipelines::log::Commit;
    use anabranch_pipelines::record::{Modality, media, with_ids};
    use anabranch_pipelines::sink::{Compute, PartName, RunStart};
    use arrow::array::{
        Float32Array, ListBuilder, TimestampNanosecondArray, TimestampNanosecondBuilder,
        TimestampSecondArray, UInt16Array,
    };
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::sink;
    use crate::source::testing::{block_on, conforming};

    fn rows() -> RecordBatch {
        let keys: Vec<String> = (0..30).map(|row| format!("k{row}")).collect();
        let bytes: Vec<Vec<u8>> = (0..30).map(|row| vec![row; 20]).collect();
        let bytes = bytes.iter().enumerate().map(|(row, b)| (row != 3).then_some(b.as_slice()));
        let image = media::column(bytes.collect(), vec![None; 30]);
        let mut fields = vec![
            Field::new(KEY, DataType::Utf8, false),
            media::field("image", Modality::Image, media::State::Decoded),
            Field::new("small", DataType::UInt16, true),
            Field::new("share", DataType::Float32, true),
        ];
        let nanoseconds = || (0..30).map(|row| 1_700_000_000_123_456_789 + row);
        let mut lists = ListBuilder::new(TimestampNanosecondBuilder::new());
        nanoseconds().for_each(|at| lists.append_value([Some(at), None]));
        let seconds = || (0..30).map(|row| 1_700_000_000 + row);
        let times: Vec<(&str, ArrayRef)> = vec![
            ("exact", Arc::new(TimestampNanosecondArray::from_iter_values(nanoseconds()))),
            (
                "there",
                Arc::new(
                    TimestampNanosecondArray::from_iter_values(nanoseconds())
                        .with_timezone("Europe/Berlin"),
                ),
            ),
            ("wall", Arc::new(TimestampSecondArray::from_iter_values(seconds()))),
            (
                "instant",
                Arc::new(TimestampSecondArray::from_iter_values(seconds()).with_timezone("+02:00")),
            ),
            ("several", Arc::new(lists.finish())),
        ];
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(keys)),
            Arc::new(image),
            Arc::new(UInt16Array::from_iter_values((0..30).map(|row| 65_000 + row))),
            Arc::new(Float32Array::from_iter_values((0..30).map(|row| row as f32 / 2.0))),
        ];
        for (name, column) in times {
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column);
        }
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        with_ids("somewhere", &rows).unwrap()
    }

    /// Writes the rows as two commits of one shard each.
    async fn write(path: &str, rows: &RecordBatch) {
        let table = sink::TableOptions::at(path).build().unwrap();
        let start = RunStart { run: "r1".into(), sink: "out".into(), overwrite: false };
        table.start(&start, &rows.schema()).await.unwrap();
        for number in 0..2 {
            let part = PartName {
                run: "r1".into(),
                sink: "out".into(),
                commit: number,
                epoch: number,
                lane: 0,
                generation: None,
            };
            let mut writer = table.writer(&part, &rows.schema(), &Compute::inline()).unwrap();
            writer.write(rows.slice(number as usize * 15, 15)).await.unwrap();
            let shard = writer.finish().await.unwrap().unwrap();
            let commit = Commit {
                run: "r1".into(),
                number,
                generation: 1,
                epochs: number..number + 1,
                cuts: Vec::new(),
                decisions: BTreeMap::new(),
                snapshots: BTreeMap::new(),
                shards: BTreeMap::from([("out".to_owned(), vec![shard])]),
                last: number == 1,
                written: 0,
            };
            table.commit(&start, &commit).await.unwrap();
        }
    }

    #[test]
    fn what_was_written_is_read_with_its_ids_and_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table").to_str().unwrap().to_owned();
        let rows = rows();
        block_on(write(&path, &rows));
        let seen = conforming(&TableOptions::at(&path).build().unwrap());
        assert_eq!(seen.records, rows);
        let schema = seen.records.schema();
        assert_eq!(schema.fields(), rows.schema().fields());
        let first = TableOptions { path, version: Some(0) }.build().unwrap();
        assert_eq!(conforming(&first).records, rows.slice(0, 15));
    }

    #[test]
    fn a_version_that_is_not_there_is_named_with_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table").to_str().unwrap().to_owned();
        block_on(write(&path, &rows()));
        let source = TableOptions { path, version: Some(7) }.build().unwrap();
        let error = block_on(source.schema()).unwrap_err().to_string();
        assert!(error.contains("there is no version 7; the newest is 1"), "{error}");
    }

    #[test]
    fn columns_of_texts_and_media_name_the_decisions_beside_the_table() {
        let path = "memory://texts/table";
        let columns = [Modality::Text, Modality::Image, Modality::Tensor];
        let fields = columns.map(|modality| {
            Arc::new(media::field(modality.name(), modality, media::State::Encoded))
        });
        let column: ArrayRef =
            Arc::new(media::column(vec![Some(b"frame".as_slice()); 30], vec![None; 30]));
        let keys: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..30).map(|row| row.to_string())));
        let key = Arc::new(Field::new(KEY, DataType::Utf8, false));
        let schema = Schema::new([vec![key], fields.to_vec()].concat());
        let columns = vec![keys, Arc::clone(&column), Arc::clone(&column), column];
        let rows = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let named = block_on(async {
            write(path, &with_ids("somewhere", &rows).unwrap()).await;
            let runs = Location::parse(path).unwrap().join("_anabranch/runs");
            for below in ["r2/decisions/squeeze", "r1/decisions/squeeze", "r1/commits/0.json"] {
                let at = runs.join(below);
                at.store.put(&at.path, vec![7].into()).await.unwrap();
            }
            let schema = TableOptions::at(path).build().unwrap().schema().await.unwrap();
            ["text", "image", "tensor"].map(|name| {
                let metadata = schema.field_with_name(name).unwrap().metadata();
                metadata.get(media::DICTIONARIES_KEY).cloned()
            })
        });
        let runs = "memory://texts/table/_anabranch/runs";
        let both = format!("{runs}/r1/decisions/squeeze\n{runs}/r2/decisions/squeeze");
        assert_eq!(named, [Some(both.clone()), Some(both), None]);
    }

    #[test]
    fn where_no_table_is_the_message_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let source = TableOptions::at(folder.path().to_str().unwrap()).build().unwrap();
        let error = block_on(source.schema()).unwrap_err().to_string();
        assert!(error.contains("there is no table"), "{error}");
    }
}
