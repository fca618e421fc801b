//! Objects that a list of URLs names: `kind = "urls"`. The list is a file, or stands in the job.
//!
//! Records are the list's rows with a media column more, of references: objects are read by the operator that
//! needs their bytes, or never. Each URL is asked for once when its row is read, for the object's size and ETag;
//! an object that is another one when it is read later is a dead letter and not taken for the first one. What a
//! server of the web refuses (404, 403, 410) is a dead letter with its status, and so is an object that a bucket
//! does not have; a bucket that refuses the credentials fails the run. What fails for a moment is asked again.
//!
//! ```
//! use anabranch_connectors::source::UrlsOptions;
//!
//! let options = serde_json::json!({ "path": "laion/*.parquet", "url": "URL", "modality": "image" });
//! let source = serde_json::from_value::<UrlsOptions>(options)?.build()?;
//! assert!(source.abilities().references);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Marks, Source, SourceBatches, SourceError, Split, SplitRange,
};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::media::MediaColumn;
use super::{CsvOptions, JsonlOptions, ParquetOptions, TextOptions};

mod list;
mod look;
#[cfg(test)]
mod tests;

use list::List;
use look::Looks;

/// Column of ETags.
const ETAG: &str = "etag";
/// Rows whose URLs are looked at for the modality.
const SAMPLED: usize = 1000;

/// Options of `kind = "urls"`: every URL of a list is a record, whose object is read when it is needed.
///
/// Columns are those of the list, the media column with its facts, and `etag`. URLs are of scheme `s3`, `gs`,
/// `az`, `https`, `http` or `file`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlsOptions {
    /// The list: `.csv`, `.tsv`, `.jsonl` or `.parquet` files with a column of URLs, or `.txt` with one a line,
    /// as a path, folder with wildcards, or URL: `"lists/*.csv"`.
    pub path: Option<String>,
    /// The URLs themselves, instead of a list elsewhere.
    pub urls: Option<Vec<String>>,
    /// The column of URLs. Default `url`.
    #[serde(default = "url")]
    pub url: String,
    /// The column whose values are the records' keys. Default: that of the list, or the URLs in `urls`.
    pub key: Option<String>,
    /// `"image"` or `"audio"`; by default what the URLs' extensions say.
    pub modality: Option<String>,
    /// Name of the media column; by default the modality.
    pub column: Option<String>,
    /// Ask for every object's size and ETag before it is read. Default true. Without it nothing is asked until
    /// an operator needs an object: a changed one is not noticed, and what it takes to hold one not known.
    #[serde(default = "yes")]
    pub etag: bool,
    /// What becomes of an object whose server cannot be reached or fails, after all attempts: `"fail"`, which is
    /// the default, ends the run, which can be resumed; `"refuse"` makes the record a dead letter.
    #[serde(default)]
    pub unreachable: Unreachable,
}

/// What becomes of an object whose server fails.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Unreachable {
    /// The run ends.
    #[default]
    Fail,
    /// The record becomes a dead letter.
    Refuse,
}

fn url() -> String {
    "url".to_owned()
}

const fn yes() -> bool {
    true
}

impl UrlsOptions {
    /// The source.
    ///
    /// # Errors
    /// When there is no list, or an option is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let media = MediaColumn::parse(self.modality.as_deref(), self.column.as_deref())?;
        let list = match (&self.path, &self.urls) {
            (Some(path), None) => self.list(path)?,
            (None, Some(urls)) => List::build(urls.clone(), &self.url)?,
            _ => {
                let message = "a list of URLs stands in `path` or in `urls`, one of them";
                return Err(SourceError::Options(message.to_owned()));
            }
        };
        Ok(Arc::new(Urls(Arc::new(Inner { list, media, columns: OnceCell::new(), options: self }))))
    }

    /// The source of a list's rows, by what its name ends in.
    fn list(&self, path: &str) -> Result<Arc<dyn Source>, SourceError> {
        let name = path.to_ascii_lowercase();
        let plain = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end));
        let name = plain.unwrap_or(&name);
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        let error = |e: serde_json::Error| SourceError::Options(e.to_string());
        if ends(&[".txt"]) {
            if self.key.is_some() {
                let message = "`key`: a list of plain lines has no such column";
                return Err(SourceError::Options(message.to_owned()));
            }
            let options = serde_json::json!({ "path": path, "column": self.url });
            return serde_json::from_value::<TextOptions>(options).map_err(error)?.build();
        }
        let options = serde_json::json!({ "path": path, "key": self.key });
        if ends(&[".csv", ".tsv"]) {
            serde_json::from_value::<CsvOptions>(options).map_err(error)?.build()
        } else if ends(&[".jsonl", ".ndjson"]) {
            serde_json::from_value::<JsonlOptions>(options).map_err(error)?.build()
        } else if ends(&[".parquet"]) {
            serde_json::from_value::<ParquetOptions>(options).map_err(error)?.build()
        } else {
            Err(SourceError::Options(format!(
                "`path = {path:?}`: a list of URLs is a .csv, .tsv, .jsonl, .parquet or .txt file"
            )))
        }
    }
}

struct Urls(Arc<Inner>);

struct Inner {
    list: Arc<dyn Source>,
    media: MediaColumn,
    columns: OnceCell<Columns>,
    options: UrlsOptions,
}

/// The rows' columns: those of the list, and what is added.
struct Columns {
    schema: SchemaRef,
    url: usize,
    modality: Modality,
}

#[async_trait]
impl Source for Urls {
    fn kind(&self) -> &'static str {
        "urls"
    }

    fn options(&self) -> serde_json::Value {
        let UrlsOptions { url, modality, column, etag, unreachable, .. } = &self.0.options;
        serde_json::json!({
            "list": { "kind": self.0.list.kind(), "options": self.0.list.options() }, "url": url,
            "modality": modality, "column": column, "etag": etag, "unreachable": unreachable,
        })
    }

    fn abilities(&self) -> Abilities {
        Abilities { references: true, ..self.0.list.abilities() }
    }

    fn whole(&self) -> bool {
        self.0.list.whole()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(Arc::clone(&self.0.columns().await?.schema))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        self.0.list.splits().await
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        self.0.list.measure(split, from)
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let looks = Looks::new(Arc::clone(&self.0), ranges, size);
        let batches = stream::try_unfold(looks, |mut looks| async move {
            Ok(looks.next().await?.map(|batch| (batch, looks)))
        });
        batches.boxed()
    }
}

impl Inner {
    /// What the list holds, and what its first URLs are.
    async fn columns(&self) -> Result<&Columns, SourceError> {
        self.columns
            .get_or_try_init(|| async {
                let listed = self.list.schema().await?;
                let wanted = &self.options.url;
                let is_text = |field: &Field| field.data_type() == &DataType::Utf8;
                let url = listed.fields().iter().position(|f| f.name() == wanted && is_text(f));
                let Some(url) = url else {
                    let fields = listed.fields().iter().skip(1);
                    let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
                    return Err(SourceError::Options(format!(
                        "`url = {wanted:?}`: the list has no such column of text; its columns are {}",
                        names.join(", ")
                    )));
                };
                let urls = match self.media.modality {
                    Some(_) => Vec::new(),
                    None => self.first(url).await?,
                };
                let path = self.options.path.as_deref().unwrap_or("urls");
                let modality = self.media.modality(path, urls.iter().map(|url| file(url)))?;
                let name = self.media.column.as_deref().unwrap_or(modality.name());
                let mut added = vec![media::field(name, modality, media::State::Encoded)];
                added.extend(media::fact_fields(name, modality));
                added.push(Field::new(ETAG, DataType::Utf8, true));
                let taken = |field: &&Field| listed.field_with_name(field.name()).is_ok();
                if let Some(taken) = added.iter().find(taken) {
                    return Err(SourceError::Options(format!(
                        "the list has a column `{}` already, which is added here; name the media column \
                         with `column`, or rename that of the list",
                        taken.name()
                    )));
                }
                let fields = listed.fields().iter().map(|field| field.as_ref().clone());
                let schema = Arc::new(Schema::new(fields.chain(added).collect::<Vec<_>>()));
                Ok(Columns { schema, url, modality })
            })
            .await
    }

    /// The first URLs of the list.
    async fn first(&self, column: usize) -> Result<Vec<String>, SourceError> {
        let splits = self.list.splits().await?.into_iter();
        let whole =
            splits.map(|split| SplitRange { split: Arc::new(split), range: 0..i64::MAX as u64 });
        let size = BatchSize { records: SAMPLED, bytes: 4 << 20 };
        let mut batches = self.list.open(whole.collect(), size);
        while let Some(batch) = batches.try_next().await? {
            let urls = batch.records.columns().get(column);
            let urls = urls.and_then(|urls| urls.as_string_opt::<i32>());
            let urls: Vec<String> =
                urls.into_iter().flatten().flatten().map(str::to_owned).collect();
            if !urls.is_empty() {
                return Ok(urls);
            }
        }
        Ok(Vec::new())
    }
}

/// The part of a URL that may end in an extension.
fn file(url: &str) -> &str {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    url.get(..end).unwrap_or(url)
}
