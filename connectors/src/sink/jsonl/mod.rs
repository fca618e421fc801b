//! JSON Lines: one object per row. `kind = "jsonl"`.
//!
//! Every line has every column, null where there is no value. Nested types are nested objects and arrays;
//! bytes, those of media included, are base64 (`{"bytes": "...", "path": "..."}`), and ids are 32
//! hexadecimal digits. Numbers that JSON has no word for (NaN and the infinities) are null.
//!
//! What readers may read is what the [index](super::index) lists.

use std::io::Write;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::log::Commit;
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Sink, SinkError};
use anabranch_pipelines::store::Location;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::base64::Base64;
use super::index::{Index, Listed};
use super::json;
use super::piece::Piece;
use super::shard::{self, DATA, Encode, ShardWriter};

#[cfg(test)]
mod tests;

/// Bytes of rows that become lines at a time.
const SLICE: usize = 256 << 10;
/// Bytes of lines that are uploaded at a time.
const LINES: usize = 4 << 20;
/// Bytes of text that are compressed at a time: shards then have the same bytes however rows were batched.
const BLOCK: usize = 128 << 10;

/// Options of `kind = "jsonl"`: a line of JSON per record, in files that `_index` lists.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlOptions {
    /// Folder of the files, as a path or URL.
    pub path: String,
    /// `"none"` writes `.jsonl`, `"zstd"` writes `.jsonl.zst`. Default `"none"`.
    #[serde(default)]
    pub compression: JsonlCompression,
}

/// How files of `kind = "jsonl"` are compressed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum JsonlCompression {
    /// Plain text.
    #[default]
    None,
    /// zstd, level 3.
    Zstd,
}

impl JsonlOptions {
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
        Ok(Arc::new(Jsonl { location, index, compression: self.compression }))
    }
}

struct Jsonl {
    location: Location,
    index: Index,
    compression: JsonlCompression,
}

#[async_trait]
impl Sink for Jsonl {
    fn kind(&self) -> &'static str {
        "jsonl"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({ "compression": self.compression })
    }

    fn location(&self) -> String {
        self.location.url.clone()
    }

    fn check(&self, input: &SchemaRef) -> Result<(), SchemaError> {
        input.fields().iter().try_for_each(json::check)
    }

    fn reserve(&self) -> usize {
        // Lines in a buffer that grows by doubling, a slice of rows that may become several times as long
        // (numbers, escapes), and the upload's own.
        2 * LINES + 8 * SLICE + shard::UPLOADING
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        self.index.exists().await
    }

    async fn start(&self, run: &RunStart, schema: &SchemaRef) -> Result<(), SinkError> {
        // The first write makes the folders.
        self.index.start(run, schema).await
    }

    fn writer(
        &self,
        part: &PartName,
        _: &SchemaRef,
        compute: &Compute,
    ) -> Result<Box<dyn PartWriter>, SinkError> {
        let (extension, packer) = match self.compression {
            JsonlCompression::None => ("jsonl", None),
            JsonlCompression::Zstd => {
                let packer = zstd::Encoder::new(Vec::new(), 3).map_err(|e| SinkError::Encode {
                    location: self.location.url.clone(),
                    message: e.to_string(),
                })?;
                ("jsonl.zst", Some(packer))
            }
        };
        let encoder = Encoder { lines: Vec::new(), packer };
        let path = shard::path(DATA, part, extension);
        Ok(Box::new(ShardWriter::new(&self.location, path, part, compute, encoder)))
    }

    async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        self.index.commit(run, commit, |shard| Listed::from(shard)).await
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

/// Rows to lines.
struct Encoder {
    /// Text that waits to be compressed.
    lines: Vec<u8>,
    packer: Option<zstd::Encoder<'static, Vec<u8>>>,
}

impl Encode for Encoder {
    fn encode(&mut self, batch: &RecordBatch, from: usize) -> Result<(usize, Vec<u8>), String> {
        let mut at = from;
        while at < batch.num_rows() && self.lines.len() < LINES {
            let end = Piece::new(usize::MAX, SLICE).fill(batch, at);
            let mut writer = WriterBuilder::new()
                .with_explicit_nulls(true)
                .with_encoder_factory(Arc::new(Base64))
                .build::<_, LineDelimited>(&mut self.lines);
            let rows = batch.slice(at, end - at);
            writer.write(&rows).and_then(|()| writer.finish()).map_err(|e| e.to_string())?;
            at = end;
        }
        let Some(packer) = &mut self.packer else {
            return Ok((at, std::mem::take(&mut self.lines)));
        };
        let whole = self.lines.len() / BLOCK * BLOCK;
        for block in self.lines.drain(..whole).as_slice().chunks(BLOCK) {
            packer.write_all(block).map_err(|e| e.to_string())?;
        }
        Ok((at, std::mem::take(packer.get_mut())))
    }

    fn finish(self) -> Result<(Vec<u8>, serde_json::Value), String> {
        let lines = match self.packer {
            None => self.lines,
            Some(mut packer) => packer
                .write_all(&self.lines)
                .and_then(|()| packer.finish())
                .map_err(|e| e.to_string())?,
        };
        Ok((lines, serde_json::Value::Null))
    }
}
