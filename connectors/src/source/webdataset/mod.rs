//! WebDataset shards: `kind = "webdataset"`. A sample is what follows one another in a tar archive under one
//! name: `0001.jpg`, `0001.txt` and `0001.cls` are one record with three columns.
//!
//! Shards are splits, plain (`.tar`) or packed (`.tar.gz`, `.tar.zst`); offsets are positions in the unpacked
//! shard, where the headers of a sample's first member begin. A name ends at the first dot behind its last
//! slash, and what follows says which column a member belongs to. A sample that lacks a member has null
//! there. Only neighbours are one sample: a name that comes again later in the shard is a dead letter, so
//! that an unordered shard is noticed instead of giving halves of samples or samples of two.
//!
//! ```
//! use anabranch_connectors::source::WebDatasetOptions;
//!
//! let options = serde_json::json!({
//!     "path": "s3://bucket/train-{000..146}.tar",
//!     "columns": { "image": "jpg;png", "caption": "txt", "label": "cls" },
//! });
//! let source = serde_json::from_value::<WebDatasetOptions>(options)?.build()?;
//! assert_eq!(source.kind(), "webdataset");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::Modality;
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::archive;
use super::glob::Objects;
use super::jsonl::Unknown;
use super::member;
use super::object::{Failure, Object, Unpacked};
use super::repeats::Repeats;
use super::scan::{Format, Located, Open, Scanned, Scanner};
use super::tar::members::Members;

mod columns;
mod name;
mod samples;
#[cfg(test)]
mod tests;
mod value;

use columns::Columns;
pub use name::are_samples;
use samples::{Sample, Samples};

/// Options of `kind = "webdataset"`: every sample of every shard that matches is a record.
///
/// A record's key is the sample's name, behind the shard's name where there are several. No data, and passed, are
/// members whose file names begin with a dot, those called `__NAME__`, and what is in a folder `__NAME__` at the top.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebDatasetOptions {
    /// Shards, as a path or URL with wildcards or a range of numbers: `"train-{000..146}.tar"`. Of a range,
    /// every shard must be there.
    pub path: String,
    /// Columns, each with what its members' names end in, in order of preference: `{ image = "jpg;png",
    /// mask = "seg.png" }`; of a sample with both, `jpg` is taken. Members of no column are left out. Default: what
    /// the first members are.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Types by column: `"image"`, `"audio"`, `"text"`, `"int64"`, `"float64"`, `"json"` (checked text) or
    /// `"bytes"`. Default: what the endings say, and bytes for those that say nothing.
    #[serde(default)]
    pub types: BTreeMap<String, WebDatasetType>,
    /// What becomes of a sample with a member of no column: `"refuse"` makes it a dead letter, which is the
    /// default unless `columns` are named, `"ignore"` leaves the member out.
    pub unknown: Option<Unknown>,
    /// Emit references to images and sounds: they are read by the operator that needs their bytes, or never.
    #[serde(default)]
    pub references: bool,
    /// Size of a member at most; a sample with a larger one is a dead letter. Default `"256MiB"`.
    #[serde(default = "member::max_member")]
    #[schemars(with = "String")]
    pub max_member: ByteSize,
    /// Size to which a packed shard may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

/// The type of a column of `kind = "webdataset"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebDatasetType {
    /// Pictures.
    Image,
    /// Sound.
    Audio,
    /// Text.
    Text,
    /// A whole number, written as text.
    Int64,
    /// A number, written as text.
    Float64,
    /// JSON, kept as text.
    Json,
    /// Bytes as they are.
    Bytes,
}

impl WebDatasetType {
    fn modality(self) -> Option<Modality> {
        match self {
            Self::Image => Some(Modality::Image),
            Self::Audio => Some(Modality::Audio),
            _ => None,
        }
    }
}

impl WebDatasetOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path or a column is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let objects = Objects::parse(&self.path)?;
        archive::refer_to_any(self.references, objects.may_be_packed())?;
        columns::declared(&self.columns, &self.types)?;
        let (one, repeats) = (archive::one(&self.path, &archive::TAR), Repeats::default());
        Ok(Arc::new(Scanned::new(objects, WebDataset { one, repeats, options: self })))
    }
}

struct WebDataset {
    one: bool,
    repeats: Repeats,
    options: WebDatasetOptions,
}

impl Format for WebDataset {
    type Row = Sample;
    type Columns = Columns;

    fn kind(&self) -> &'static str {
        "webdataset"
    }

    fn options(&self) -> serde_json::Value {
        let WebDatasetOptions { columns, types, unknown, references, .. } = &self.options;
        serde_json::json!({
            "columns": columns, "types": types, "unknown": unknown, "references": references,
            "max_member": self.options.max_member, "max_unpacked": self.options.max_unpacked,
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: true, stable_offsets: false, grows: true }
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: self.options.max_unpacked.map(|size| size.0) }
    }

    fn columns(&self, splits: &[Split], open: &Open<'_>) -> Result<Columns, SourceError> {
        let WebDatasetOptions { columns, types, references, .. } = &self.options;
        archive::refer_to(*references, splits)?;
        let found = match columns.is_empty() {
            true => columns::found(&self.names(splits, open)?, types)?,
            false => columns::declared(columns, types)?,
        };
        let unless = if columns.is_empty() { Unknown::Refuse } else { Unknown::Ignore };
        Ok(Columns::new(found, self.options.unknown.unwrap_or(unless)))
    }

    fn schema(&self, columns: &Columns) -> SchemaRef {
        Arc::clone(&columns.schema)
    }

    fn scanner(
        &self,
        columns: &Columns,
        object: Object,
    ) -> Result<Box<dyn Scanner<Row = Sample>>, Failure> {
        archive::refer_within(self.options.references, &object)?;
        let known = self.repeats.of(object.split());
        Ok(Box::new(Samples {
            members: Members::new(object, None),
            ahead: None,
            at: 0,
            known,
            columns: columns.clone(),
            folder: !self.one,
            references: self.options.references,
            max_member: self.options.max_member.0.min(i32::MAX as u64),
        }))
    }

    fn batch(
        &self,
        columns: &Columns,
        samples: Vec<Located<Sample>>,
    ) -> Result<SourceBatch, SourceError> {
        columns.batch(samples.into_iter().map(|sample| sample.row).collect())
    }
}

impl WebDataset {
    /// The first members' names in the first shard with any.
    fn names(&self, splits: &[Split], open: &Open<'_>) -> Result<Vec<String>, SourceError> {
        archive::names(splits, open, None)?.map_err(|why| SourceError::Format {
            location: splits.last().map_or_else(String::new, |split| split.name.clone()),
            message: format!("no member tells the columns: {why}; name them with `columns`"),
        })
    }
}
