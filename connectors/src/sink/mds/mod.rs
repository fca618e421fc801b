//! MDS, the shards of MosaicML Streaming. `kind = "mds"`.
//!
//! For training on many machines with `StreamingDataset(remote=..., local=...)`.
//!
//! ```toml
//! [sink.photos]
//! kind = "mds"
//! path = "s3://bucket/photos"
//! encodings = { image = "jpeg", label = "int" }
//! inputs = ["encode"]
//! ```
//!
//! ```text
//! photos/index.json                                           all committed shards: what readers open
//! photos/data/r1-5f0c9a12-photos-c000000-p00000000-0.mds      a shard
//! photos/_index/  photos/_anabranch/                          what makes it exactly once
//! ```
//!
//! `index.json` is replaced whole at each commit, so readers see all of a commit or nothing, and an overwrite at
//! once.
//!
//! Every column has one encoding, and `encodings` names those that are not to be as here:
//!
//! | Column | Encoding | Also |
//! | --- | --- | --- |
//! | pictures, sounds and other media | `bytes` | `jpeg`, `png`: readers decode |
//! | texts | `str` | `bytes`, `json` |
//! | bytes, ids | `bytes` | `json` |
//! | whole numbers that are never null | `int` | `json` |
//! | whole numbers that may be null | `json`: readers have `int` or `None` | `int`, if none is null |
//! | floats | `float32`, `float64` | `json` |
//! | all others | `json` | |
//!
//! MDS knows no nulls: a missing text or medium is empty, a missing float NaN, and what has no such value fails
//! the run and says what to change.
//!
//! A shard is a part of the run: `part = { records = ..., bytes = ... }` of `[job]` sets its size, 64 MiB of
//! input as it stands. Until a shard is complete its rows wait in a temporary file (`TMPDIR`), for the places of all
//! rows stand before the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::log::{Commit, DEAD_LETTERS};
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Sink, SinkError};
use anabranch_pipelines::store::{Location, explain};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use object_store::{Error, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::index::{Index, Listed};
use super::shard::{self, DATA, ShardWriter};

mod columns;
mod encoder;
mod spool;
#[cfg(test)]
mod tests;

pub use columns::MdsEncoding;
use encoder::Encoder;
use spool::PIECE;

/// What readers open.
const INDEX: &str = "index.json";
/// What zstd holds at its level.
const PACKER: usize = 4 << 20;

/// Options of `kind = "mds"`: shards and their index, as MosaicML Streaming reads them.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MdsOptions {
    /// Folder of the dataset, as a path or URL.
    pub path: String,
    /// How columns are stored, where it is not by their types.
    #[serde(default)]
    pub encodings: BTreeMap<String, MdsEncoding>,
    /// `"none"` writes `.mds`, `"zstd"` writes `.mds.zstd`, which readers unpack. Default `"none"`.
    #[serde(default)]
    pub compression: MdsCompression,
}

/// How shards of `kind = "mds"` are compressed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MdsCompression {
    /// Not at all: media are compressed already.
    #[default]
    None,
    /// zstd, level 3.
    Zstd,
}

impl MdsOptions {
    /// The sink.
    ///
    /// # Errors
    /// When the path is no location.
    pub fn build(self) -> Result<Arc<dyn Sink>, SinkError> {
        let location = Location::parse(&self.path).map_err(|e| SinkError::Destination {
            location: self.path.clone(),
            message: e.to_string(),
        })?;
        let index = Index::of(&location);
        Ok(Arc::new(Mds { location, index, options: self }))
    }
}

/// All shards, as readers know them.
fn render(shards: &[Listed]) -> Vec<u8> {
    let shards: Vec<Value> = shards.iter().map(rendered).collect();
    json!({ "version": 2, "shards": shards }).to_string().into_bytes()
}

fn rendered(shard: &Listed) -> Value {
    let mut all = shard.statistics.as_object().cloned().unwrap_or_default();
    let mut raw = all.remove("raw_data").unwrap_or_default();
    let packed = shard.path.strip_suffix(".zstd");
    if let Some(raw) = raw.as_object_mut() {
        raw.insert("basename".to_owned(), packed.unwrap_or(&shard.path).into());
    }
    let zip = packed.map(|_| {
        json!({ "basename": shard.path, "bytes": shard.bytes, "hashes": { "sha256": shard.sha256 } })
    });
    all.insert("samples".to_owned(), shard.rows.into());
    all.insert("raw_data".to_owned(), raw);
    all.insert("zip_data".to_owned(), zip.unwrap_or_default());
    Value::Object(all)
}

struct Mds {
    location: Location,
    index: Index,
    options: MdsOptions,
}

#[async_trait]
impl Sink for Mds {
    fn kind(&self) -> &'static str {
        "mds"
    }

    fn options(&self) -> Value {
        let MdsOptions { path: _, encodings, compression } = &self.options;
        json!({ "encodings": encodings, "compression": compression })
    }

    fn location(&self) -> String {
        self.location.url.clone()
    }

    fn check(&self, input: &SchemaRef) -> Result<(), SchemaError> {
        columns::of(input, &self.options.encodings).map(|_| ())
    }

    fn reserve(&self) -> usize {
        // What waits in memory, which grows by doubling, a piece on its way, packed and not, and the upload's own.
        4 * PIECE + PACKER + shard::UPLOADING
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        let index = self.location.join(INDEX);
        match index.store.head(&index.path).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => self.index.exists().await,
            Err(error) => Err(SinkError::Store { location: index.url, message: explain(&error) }),
        }
    }

    async fn start(&self, run: &RunStart, schema: &SchemaRef) -> Result<(), SinkError> {
        self.index.start(run, schema).await
    }

    fn writer(
        &self,
        part: &PartName,
        schema: &SchemaRef,
        compute: &Compute,
    ) -> Result<Box<dyn PartWriter>, SinkError> {
        let packed = self.options.compression == MdsCompression::Zstd;
        let path = shard::path(DATA, part, if packed { "mds.zstd" } else { "mds" });
        let columns = columns::of(schema, &self.options.encodings).map_err(|e| {
            SinkError::Encode { location: self.location.join(&path).url, message: e.to_string() }
        })?;
        let encoder = Encoder::new(columns, packed);
        Ok(Box::new(ShardWriter::new(&self.location, path, part, compute, encoder)))
    }

    async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        self.index.commit(run, commit, |shard| Listed::from(shard)).await?;
        let is_empty = commit.shards.get(&run.sink).is_none_or(Vec::is_empty);
        let replaces = run.overwrite && commit.number == 0;
        if is_empty && !replaces && !(commit.last && run.sink != DEAD_LETTERS) {
            return Ok(());
        }
        self.index.derive(&self.location.join(INDEX), render).await
    }

    async fn recover(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        for commit in committed {
            self.index.commit(run, commit, |shard| Listed::from(shard)).await?;
        }
        if !committed.is_empty() {
            self.index.derive(&self.location.join(INDEX), render).await?;
        }
        shard::remove_unfinished(&self.location, DATA, run).await
    }

    async fn clean(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        shard::remove_unnamed(&self.location, DATA, run, committed).await
    }
}
