//! Shards of MosaicML's Streaming: `kind = "mds"`, a folder with an `index.json` and the shards that it names.
//!
//! Shards are splits, plain or packed (zstd, gzip), in the order of the index; offsets are numbers of samples.
//! What a shard says is held against its index: one that has other samples or another size than it should, or
//! that is not there, is refused as a whole, and a sample that makes no sense alone.
//!
//! Images stay the files that they are; arrays become lists, with their shape beside them (`NAME_shape`) unless
//! all have the same; JSON is text, and pickles are bytes that nothing here opens.
//!
//! ```
//! use anabranch_connectors::source::MdsOptions;
//!
//! let options = serde_json::json!({ "path": "s3://bucket/mds/train" });
//! let source = serde_json::from_value::<MdsOptions>(options)?.build()?;
//! assert!(source.abilities().random_access);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{ID, KEY, Modality};
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::glob::Objects;
use super::object::{Failure, Object, Unpacked, packed};
use super::scan::{Format, Located, Open, Scanned, Scanner};
use super::values::free_name;

mod encoding;
mod index;
mod ndarray;
mod shard;
#[cfg(test)]
mod tests;

use encoding::Encoding;
use index::Index;
use shard::{Sample, Shard};

/// Size of an index at most.
const INDEX: u64 = 256 << 20;

/// Options of `kind = "mds"`: every sample of every shard that the index names is a record.
///
/// A record's key is its shard's name and its number in it. Columns keep their names, but `id` and `key`
/// become `id_` and `key_`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MdsOptions {
    /// The folder of `index.json`, as a path or URL: `"s3://bucket/mds/train"`.
    pub path: String,
    /// Columns of bytes that hold images or sounds, by name: `{ speech = "audio" }`.
    #[serde(default)]
    pub media: BTreeMap<String, String>,
    /// Size of a sample at most; a larger one is a dead letter. Default `"256MiB"`.
    #[serde(default = "super::member::max_member")]
    #[schemars(with = "String")]
    pub max_sample: ByteSize,
    /// Size to which a packed shard may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

impl MdsOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path or a modality is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        for (column, name) in &self.media {
            if !matches!(Modality::named(name), Some(Modality::Image | Modality::Audio)) {
                let message = format!("`media.{column} = {name:?}`: it is \"image\" or \"audio\"");
                return Err(SourceError::Options(message));
            }
        }
        let folder = self.path.strip_suffix(index::NAME).unwrap_or(&self.path);
        let objects = Objects::parse(if folder.is_empty() { "." } else { folder })?;
        Ok(Arc::new(Scanned::new(objects, Mds { options: self })))
    }
}

struct Mds {
    options: MdsOptions,
}

/// What the index says.
struct Plan {
    /// By the name of the file that is read.
    shards: HashMap<String, Entry>,
    columns: Vec<Column>,
    schema: SchemaRef,
}

/// A shard.
#[derive(Clone)]
struct Entry {
    /// The name of its plain file, whichever is read.
    name: String,
    samples: u32,
    /// Of its plain file.
    bytes: u64,
}

#[derive(Clone)]
struct Column {
    name: String,
    encoding: Encoding,
    size: Option<u64>,
}

/// The key of a sample.
fn key(shard: &str, number: u64) -> String {
    format!("{shard}/{number:08}")
}

impl Format for Mds {
    type Row = Sample;
    type Columns = Arc<Plan>;

    fn kind(&self) -> &'static str {
        "mds"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({
            "media": self.options.media, "max_sample": self.options.max_sample,
            "max_unpacked": self.options.max_unpacked,
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: false, stable_offsets: true, grows: false }
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: self.options.max_unpacked.map(|size| size.0) }
    }

    fn splits(&self, listed: Vec<Split>, open: &Open<'_>) -> Result<Vec<Split>, SourceError> {
        let chosen = choose(&self.index(&listed, open)?, &listed).map_err(|e| self.wrong(e))?;
        Ok(chosen.into_iter().map(|(split, _)| split).collect())
    }

    fn columns(&self, listed: &[Split], open: &Open<'_>) -> Result<Arc<Plan>, SourceError> {
        let index = self.index(listed, open)?;
        let shards = choose(&index, listed).map_err(|e| self.wrong(e))?;
        let columns = self.described(&index).map_err(|e| self.wrong(e))?;
        let named = shards.iter().map(|(split, entry)| (split.name.clone(), entry.clone()));
        let plan = Arc::new(Plan::new(named.collect(), columns));
        if !plan.columns.iter().any(Column::is_open) {
            return Ok(plan);
        }
        for (split, _) in &shards {
            let learnt = open(split).and_then(|object| self.learn(object, &plan));
            match learnt {
                Ok(Some(columns)) => return Ok(Arc::new(Plan::new(plan.shards.clone(), columns))),
                Ok(None) | Err(Failure::Damaged(_)) => {}
                Err(Failure::Store(error)) => return Err(error),
            }
        }
        Err(self.wrong("no shard has a sample that tells the types of its arrays".to_owned()))
    }

    fn schema(&self, columns: &Arc<Plan>) -> SchemaRef {
        Arc::clone(&columns.schema)
    }

    fn scanner(
        &self,
        columns: &Arc<Plan>,
        object: Object,
    ) -> Result<Box<dyn Scanner<Row = Sample>>, Failure> {
        Ok(Box::new(Shard::open(object, columns, self.max_sample())?))
    }

    fn batch(
        &self,
        plan: &Arc<Plan>,
        samples: Vec<Located<Sample>>,
    ) -> Result<SourceBatch, SourceError> {
        let error = |e: arrow::error::ArrowError| SourceError::Options(e.to_string());
        let keys = samples.iter().map(|sample| {
            let name = &sample.split.name;
            let name = plan.shards.get(name).map_or(name, |entry| &entry.name);
            key(name, sample.row.number)
        });
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(keys))];
        for (at, column) in plan.columns.iter().enumerate() {
            let values: Vec<&[u8]> = samples.iter().map(|sample| sample.row.value(at)).collect();
            arrays.extend(column.encoding.columns(&values).map_err(error)?);
        }
        let records = RecordBatch::try_new(Arc::clone(&plan.schema), arrays).map_err(error)?;
        Ok(SourceBatch { records, refused: Vec::new() })
    }
}

impl Mds {
    fn max_sample(&self) -> u64 {
        self.options.max_sample.0.min(i32::MAX as u64)
    }

    fn wrong(&self, message: String) -> SourceError {
        let location = format!("{}/{}", self.options.path.trim_end_matches('/'), index::NAME);
        SourceError::Format { location, message }
    }

    fn index(&self, listed: &[Split], open: &Open<'_>) -> Result<Index, SourceError> {
        let Some(split) = listed.iter().find(|split| split.name == index::NAME) else {
            return Err(SourceError::Nothing {
                location: self.options.path.clone(),
                hint: "the folder has files, and no `index.json` that says what they are"
                    .to_owned(),
            });
        };
        let read = |mut object: Object| {
            let mut bytes = Vec::new();
            let read = object.by_ref().take(INDEX).read_to_end(&mut bytes);
            read.map_err(|e| object.failure(e)).map(|_| bytes)
        };
        match open(split).and_then(read) {
            Ok(bytes) => Index::parse(&bytes).map_err(|e| self.wrong(e)),
            Err(Failure::Damaged(error)) => Err(self.wrong(error)),
            Err(Failure::Store(error)) => Err(error),
        }
    }

    /// The columns as an index names them.
    fn described(&self, index: &Index) -> Result<Vec<Column>, String> {
        let Some(first) = index.shards.first() else { return Ok(Vec::new()) };
        let written = first.column_names.iter().zip(&first.column_encodings);
        let mut columns = Vec::new();
        for ((name, encoding), size) in written.zip(&first.column_sizes) {
            let mut encoding =
                Encoding::parse(encoding).map_err(|e| format!("the column `{name}`: {e}"))?;
            let size = size.filter(|size| *size > 0);
            if let (Some(written), Some(size)) = (size, encoding.size())
                && written != size
            {
                return Err(format!(
                    "the column `{name}` should take {written} bytes, and takes {size}"
                ));
            }
            let declared = self.options.media.get(name).and_then(|name| Modality::named(name));
            match (declared, &encoding) {
                (Some(modality), Encoding::Bytes) => encoding = Encoding::Media(modality, None),
                (Some(_), _) => return Err(format!("`media.{name}`: the column holds no bytes")),
                (None, _) => {}
            }
            columns.push(Column { name: name.clone(), encoding, size });
        }
        match self.options.media.keys().find(|name| columns.iter().all(|c| c.name != **name)) {
            None => Ok(columns),
            Some(name) => Err(format!("`media.{name}`: there is no such column")),
        }
    }

    /// The columns with the types of arrays that the first sample of a shard tells.
    fn learn(&self, object: Object, plan: &Arc<Plan>) -> Result<Option<Vec<Column>>, Failure> {
        let mut shard = Shard::open(object, plan, self.max_sample())?;
        while let Some(found) = shard.next(false)? {
            let Some(Ok(sample)) = found.row else { continue };
            let mut columns = plan.columns.clone();
            for (at, column) in columns.iter_mut().enumerate() {
                if let Encoding::Array(layout) = &mut column.encoding {
                    layout.learn(sample.value(at));
                }
            }
            return Ok(Some(columns));
        }
        Ok(None)
    }
}

impl Plan {
    fn new(shards: HashMap<String, Entry>, columns: Vec<Column>) -> Self {
        let mut fields = vec![Field::new(KEY, DataType::Utf8, false)];
        for column in &columns {
            let taken = |name: &str| name == ID || fields.iter().any(|field| field.name() == name);
            let name = free_name(&column.name, taken);
            for field in column.encoding.fields(&name) {
                let taken = |name: &str| fields.iter().any(|field| field.name() == name);
                let name = free_name(field.name(), taken);
                fields.push(field.with_name(name));
            }
        }
        Self { shards, columns, schema: Arc::new(Schema::new(fields)) }
    }
}

impl Column {
    /// Whether its type is not known yet.
    fn is_open(&self) -> bool {
        matches!(&self.encoding, Encoding::Array(layout) if layout.number.is_none())
    }
}

/// The file of each shard of an index, the plain one where both are there. One that is not there is a split all
/// the same: its samples are missed.
fn choose(index: &Index, listed: &[Split]) -> Result<Vec<(Split, Entry)>, String> {
    let there: HashMap<&str, &Split> = listed.iter().map(|s| (s.name.as_str(), s)).collect();
    let choose = |shard: &index::Shard| {
        let raw = &shard.raw_data;
        let entry = Entry { name: raw.basename.clone(), samples: shard.samples, bytes: raw.bytes };
        let files = [Some(raw), shard.zip_data.as_ref()];
        let found = files.into_iter().flatten().find_map(|file| there.get(file.basename.as_str()));
        let split = match (found, &shard.zip_data) {
            (Some(split), _) if split.name != raw.basename && !packed(&split.name) => {
                return Err(format!("`{}` is packed by a method that is not read", split.name));
            }
            (Some(split), _) => (*split).clone(),
            (None, zip) => {
                let file = zip.as_ref().unwrap_or(raw);
                let (name, bytes) = (file.basename.clone(), file.bytes);
                Split { name, bytes, version: "missing".to_owned() }
            }
        };
        Ok((split, entry))
    };
    index.shards.iter().map(choose).collect()
}
