//! Parquet as Hugging Face `datasets` lays it out. `kind = "parquet"`.
//!
//! For whoever hands a dataset on: the folder is one that `load_dataset("FOLDER")`, `push_to_hub` and any reader of
//! Parquet take as it is.
//!
//! ```toml
//! [sink.photos]
//! kind = "parquet"
//! path = "photos"
//! inputs = ["encode"]
//! ```
//!
//! ```text
//! photos/README.md                                            which files are which split
//! photos/data/r1-5f0c9a12-photos-c000000-p00000000-0.parquet  committed rows, and only these
//! photos/_index/  photos/_staging/  photos/_anabranch/        what makes it exactly once
//! ```
//!
//! Images and sound are structs of `bytes` and `path`, and every file's footer says which columns they are, so that
//! `datasets` decodes them without being told. Types are those of a [`table`](super::TableOptions), names may be
//! any. Files appear in `data` when their commit is made, by a rename; names like `train-00000-of-00042.parquet`
//! would have to know the number of files before the end. A `README.md` that somebody else wrote is left alone.
//!
//! Against a `table`, it has no log: readers may see a commit's files one by one, and an overwrite shows new and old
//! files beside each other for a moment.

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::log::Commit;
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Sink, SinkError};
use anabranch_pipelines::store::Location;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::card::Card;
use super::columns;
use super::publish::Published;
use super::shard::{self, ShardWriter};

pub(super) mod encoder;
#[cfg(test)]
mod tests;

use encoder::Format;

/// Options of `kind = "parquet"`: Parquet files that Hugging Face `datasets` loads from their folder.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetOptions {
    /// Folder of the dataset, as a path or URL. Its files are in `data` below it.
    pub path: String,
    /// What `README.md` calls these rows. Default `"train"`.
    #[serde(default = "split")]
    pub split: String,
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

pub(super) fn split() -> String {
    "train".to_owned()
}

impl ParquetOptions {
    /// Parquet at `path` with defaults.
    pub fn at(path: impl Into<String>) -> Self {
        let (zstd, row_group) = (encoder::level(), encoder::row_group());
        Self { path: path.into(), split: split(), zstd, row_group, page: None }
    }

    /// The sink.
    ///
    /// # Errors
    /// When the path is no location or an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Sink>, SinkError> {
        let error =
            |message: String| SinkError::Destination { location: self.path.clone(), message };
        let location = Location::parse(&self.path).map_err(|e| error(e.to_string()))?;
        let format = Format::new(self.zstd, self.row_group, self.page).map_err(error)?;
        let card = Card::new(self.split.clone(), "data/*.parquet").map_err(error)?;
        let published = Published::at(&location, card, None);
        Ok(Arc::new(Parquet { location, published, format, options: self }))
    }
}

struct Parquet {
    location: Location,
    published: Published,
    format: Format,
    options: ParquetOptions,
}

#[async_trait]
impl Sink for Parquet {
    fn kind(&self) -> &'static str {
        "parquet"
    }

    fn options(&self) -> serde_json::Value {
        let ParquetOptions { path: _, split, zstd, row_group, page } = &self.options;
        let mut options =
            serde_json::json!({ "split": split, "zstd": zstd, "row_group": row_group });
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
        columns::plain(input).map(|_| ())
    }

    fn reserve(&self) -> usize {
        self.format.reserve() + shard::UPLOADING
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
        let path = Published::path(part, "parquet");
        let location = self.location.join(&path);
        let error = |message: String| SinkError::Encode { location: location.url.clone(), message };
        let stored = columns::plain(schema).map_err(|e| error(e.to_string()))?;
        let encoder = self.format.encoder(stored).map_err(error)?;
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
