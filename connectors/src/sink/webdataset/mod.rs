//! WebDataset: tar archives whose members are put together by name. `kind = "webdataset"`.
//!
//! For training loops that stream archives: `webdataset`, `wids`, `datasets` and whatever reads tar.
//!
//! ```toml
//! [sink.photos]
//! kind = "webdataset"
//! path = "s3://bucket/photos"
//! inputs = ["encode"]
//! ```
//!
//! ```text
//! photos/data/r1-5f0c9a12-photos-c000000-p00000000-0.tar      committed samples, and only these
//!     kodim01.jpg  kodim01.json  kodim02.jpg  kodim02.json ...
//! photos/index.json                                           all shards and their samples, as `wids` reads it
//! photos/README.md                                            the same for `datasets`
//! photos/_index/  photos/_staging/  photos/_anabranch/        what makes it exactly once
//! ```
//!
//! A sample is called by its key, [without extension and dots](mod@name). Its members, each left out where the value is
//! null:
//!
//! | Column | Member |
//! | --- | --- |
//! | pictures, sounds and other media | their bytes, as `.jpg`, `.png`, `.flac`, ... by their encoding |
//! | texts | `.txt` |
//! | a whole number called `label`, `class` or `cls` | `.cls` |
//! | all others, the key and paths of media among them | one object, `.json` |
//!
//! A reference that nothing has read fails the run: its sample would lack its medium.
//!
//! Two columns of one kind have their names before it: `left.jpg` and `right.jpg`. `members` says otherwise:
//! `members = { caption = "txt", title = "json" }`.
//!
//! A shard is a part of the run: `part = { records = ..., bytes = ... }` of `[job]` sets its size. Its bytes depend
//! on its rows alone: members have no times and no owners.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::log::Commit;
use anabranch_pipelines::record::KEY;
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Sink, SinkError};
use anabranch_pipelines::store::Location;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::card::Card;
use super::index::Listed;
use super::publish::{Published, Whole};
use super::shard::{self, ShardWriter};

mod archive;
mod encoder;
mod layout;
mod name;
#[cfg(test)]
mod tests;

use encoder::{Encoder, MEMBERS};
use layout::Layout;

/// Options of `kind = "webdataset"`: tar archives of samples, as `webdataset` and `datasets` read them.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebdatasetOptions {
    /// Folder of the dataset, as a path or URL. Its archives are in `data` below it.
    pub path: String,
    /// The column that samples are named by. Default `"key"`.
    #[serde(default = "name")]
    pub name: String,
    /// Extensions of columns' members; `"json"` puts a column into the sample's object.
    #[serde(default)]
    pub members: BTreeMap<String, String>,
    /// What `README.md` calls these rows. Default `"train"`.
    #[serde(default = "super::parquet::split")]
    pub split: String,
}

fn name() -> String {
    KEY.to_owned()
}

impl WebdatasetOptions {
    /// The sink.
    ///
    /// # Errors
    /// When the path is no location or an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Sink>, SinkError> {
        let error =
            |message: String| SinkError::Destination { location: self.path.clone(), message };
        let location = Location::parse(&self.path).map_err(|e| error(e.to_string()))?;
        for (column, extension) in &self.members {
            let fits = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
            };
            if !extension.split('.').all(fits) {
                return Err(error(format!(
                    "`members.{column} = {extension:?}`: an extension is small letters, digits, `_`, `-` and \
                     dots between them"
                )));
            }
        }
        let card = Card::new(self.split.clone(), "data/*.tar").map_err(error)?;
        let whole = Whole { name: "index.json", render };
        let published = Published::at(&location, card, Some(whole));
        Ok(Arc::new(Webdataset { location, published, options: self }))
    }
}

/// All shards, as `wids` reads them.
fn render(shards: &[Listed]) -> Vec<u8> {
    let shards: Vec<_> = shards
        .iter()
        .map(|shard| json!({ "url": shard.path, "nsamples": shard.rows, "filesize": shard.bytes }))
        .collect();
    let index =
        json!({ "__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shards });
    index.to_string().into_bytes()
}

struct Webdataset {
    location: Location,
    published: Published,
    options: WebdatasetOptions,
}

impl Webdataset {
    fn layout(&self, schema: &SchemaRef) -> Result<Layout, SchemaError> {
        Layout::of(schema, &self.options.name, &self.options.members)
    }
}

#[async_trait]
impl Sink for Webdataset {
    fn kind(&self) -> &'static str {
        "webdataset"
    }

    fn options(&self) -> serde_json::Value {
        let WebdatasetOptions { path: _, name, members, split } = &self.options;
        json!({ "name": name, "members": members, "split": split })
    }

    fn location(&self) -> String {
        self.location.url.clone()
    }

    fn check(&self, input: &SchemaRef) -> Result<(), SchemaError> {
        self.layout(input).map(|_| ())
    }

    fn reserve(&self) -> usize {
        // Members in a buffer that grows by doubling, names, and the upload's own.
        2 * MEMBERS + name::BYTES + shard::UPLOADING
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        self.published.exists().await
    }

    async fn start(&self, run: &RunStart, schema: &SchemaRef) -> Result<(), SinkError> {
        self.published.start(run, schema).await
    }

    fn writer(
        &self,
        part: &PartName,
        schema: &SchemaRef,
        compute: &Compute,
    ) -> Result<Box<dyn PartWriter>, SinkError> {
        let path = Published::path(part, "tar");
        let layout = self.layout(schema).map_err(|e| SinkError::Encode {
            location: self.location.join(&path).url,
            message: e.to_string(),
        })?;
        let encoder = Encoder::new(layout);
        Ok(Box::new(ShardWriter::new(&self.location, path, part, compute, encoder)))
    }

    async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        self.published.commit(run, commit).await
    }

    async fn recover(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        self.published.recover(run, committed).await
    }

    async fn clean(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        self.published.clean(run, committed).await
    }
}
