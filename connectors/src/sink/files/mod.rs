//! Each record as files of its own, called by its key. `kind = "files"`.
//!
//! For what is used as files: trained models, pictures for a web server, documents.
//!
//! ```toml
//! [sink.pictures]
//! kind = "files"
//! path = "s3://bucket/pictures"
//! columns = ["image"]
//! inputs = ["encode"]
//! ```
//!
//! ```text
//! pictures/data/cats/1.jpg                      of one column: called by the key of its record
//! models/data/shakespeare-step-00002000/        of several: a folder, in which files are called by their columns
//!     card.json  weights.safetensors
//! pictures/_index/  pictures/_staging/  pictures/_anabranch/     what makes it exactly once
//! ```
//!
//! Of media the bytes are written, texts and bytes as they are, all else as JSON. A value that is missing is no file.
//! `columns` names those that become files; without it these are all but `id`, the key and the facts of media.
//!
//! A key is a path below `data`: it has no `..`, does not begin with `/`, and no two records of the destination have
//! the same. Such a record fails the run, which names it: a file that is overwritten by another record's would be a
//! record that vanished.
//!
//! A part of the run waits as one object in `_staging` until its commit, and is taken apart then. A kill in between
//! leaves some of a commit's files unwritten; the next start writes the rest. So a listing shows only whole files of
//! committed records at any moment and, at the moments of a commit, may show a part of it; an overwrite writes the
//! new files before it removes the old ones. A file that no run wrote is never overwritten.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::log::Commit;
use anabranch_pipelines::record::KEY;
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Shard, Sink, SinkError};
use anabranch_pipelines::store::{Location, explain};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::index::{Index, Listed};
use super::publish::STAGING;
use super::shard::{self, DATA, ShardWriter};

mod encoder;
mod layout;
mod names;
#[cfg(test)]
mod tests;
mod unpack;

use encoder::{Encoder, PIECE};
use layout::Layout;
use names::{File, Names, files};

/// Options of `kind = "files"`: each record becomes files of its own, called by its key.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesOptions {
    /// Folder, as a path or URL. The files are in `data` below it.
    pub path: String,
    /// The column that records are called by. Default `"key"`.
    #[serde(default = "name")]
    pub name: String,
    /// The columns that become files: one is called by the key, several stand in a folder of that name. Default: all
    /// but `id`, the key and the facts of media.
    #[serde(default)]
    pub columns: Vec<String>,
}

fn name() -> String {
    KEY.to_owned()
}

impl FilesOptions {
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
        Ok(Arc::new(Files { location, index, options: self }))
    }
}

struct Files {
    location: Location,
    index: Index,
    options: FilesOptions,
}

impl Files {
    fn layout(&self, schema: &SchemaRef) -> Result<Layout, SchemaError> {
        Layout::of(schema, &self.options.name, &self.options.columns)
    }

    /// Whether the files of a commit are called as no others are. Those that it replaces do not count.
    async fn check_names(&self, shards: &[Shard], replaces: bool) -> Result<(), SinkError> {
        if shards.is_empty() {
            return Ok(());
        }
        let mine: BTreeSet<&str> = shards.iter().map(|shard| shard.path.as_str()).collect();
        let others = |shown: &[Listed], _: &[Listed]| -> Vec<Vec<File>> {
            let others = shown.iter().filter(|shard| !replaces && !mine.contains(&*shard.path));
            others.map(|shard| files(&shard.statistics)).collect()
        };
        let mut names = Names::default();
        for file in self.index.listed(others).await?.into_iter().flatten() {
            // They stand there, so they do not collide.
            let _ = names.add(&file.path);
        }
        let new = shards.iter().flat_map(|shard| files(&shard.statistics));
        for file in new {
            names.add(&file.path).map_err(|why| SinkError::Destination {
                location: self.location.url.clone(),
                message: format!(
                    "`{}` would be written by two records: {why}; give records keys of their own, or write with \
                     `--if-exists overwrite`, which replaces what earlier runs wrote",
                    file.path
                ),
            })?;
        }
        Ok(())
    }

    async fn list(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        self.index.commit(run, commit, |shard| Listed::from(shard)).await
    }
}

fn of_sink<'a>(run: &RunStart, commit: &'a Commit) -> &'a [Shard] {
    commit.shards.get(&run.sink).map_or(&[], Vec::as_slice)
}

#[async_trait]
impl Sink for Files {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn options(&self) -> serde_json::Value {
        let FilesOptions { path: _, name, columns } = &self.options;
        json!({ "name": name, "columns": columns })
    }

    fn location(&self) -> String {
        self.location.url.clone()
    }

    fn check(&self, input: &SchemaRef) -> Result<(), SchemaError> {
        self.layout(input).map(|_| ())
    }

    fn reserve(&self) -> usize {
        // Values in a buffer that grows by doubling, their names, and the upload's own.
        2 * PIECE + names::BYTES + shard::UPLOADING
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        let data = self.location.join(DATA);
        let seen = data.store.list(Some(&data.path)).try_next().await;
        let seen =
            seen.map_err(|e| SinkError::Store { location: data.url, message: explain(&e) })?;
        Ok(seen.is_some() || self.index.exists().await?)
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
        let path = shard::path(STAGING, part, "files");
        let layout = self.layout(schema).map_err(|e| SinkError::Encode {
            location: self.location.join(&path).url,
            message: e.to_string(),
        })?;
        let encoder = Encoder::new(layout);
        Ok(Box::new(ShardWriter::new(&self.location, path, part, compute, encoder)))
    }

    /// Names that collide are found before the run log names their shards: after that no start would get past them.
    async fn admit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        self.check_names(of_sink(run, commit), run.overwrite && commit.number == 0).await
    }

    async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        self.list(run, commit).await?;
        for shard in of_sink(run, commit) {
            self.unpack(shard).await?;
        }
        if run.overwrite && commit.number == 0 { self.withdraw().await } else { Ok(()) }
    }

    async fn recover(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        for commit in committed {
            self.list(run, commit).await?;
        }
        let staged = self.staged().await?;
        for shard in committed.iter().flat_map(|commit| of_sink(run, commit)) {
            if shard.path.rsplit('/').next().is_some_and(|name| staged.contains(name)) {
                self.unpack(shard).await?;
            }
        }
        if !committed.is_empty() {
            self.withdraw().await?;
        }
        shard::remove_unfinished(&self.location, STAGING, run).await
    }

    async fn clean(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        shard::remove_unnamed(&self.location, STAGING, run, committed).await
    }
}
