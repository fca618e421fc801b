//! From committed shards to files.

use std::collections::HashSet;

use anabranch_pipelines::sink::{Shard, SinkError};
use anabranch_pipelines::store::{Location, explain};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use super::Files;
use super::names::{File, files};
use crate::sink::index::Listed;
use crate::sink::publish::STAGING;
use crate::sink::shard::DATA;

/// Files that are written at the same time.
const WRITES: usize = 8;

impl Files {
    /// Names of the shards that wait.
    pub(super) async fn staged(&self) -> Result<HashSet<String>, SinkError> {
        let folder = self.location.join(STAGING);
        let listed = folder.store.list(Some(&folder.path)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|e| self.failed(&folder, &e))?;
        Ok(listed.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect())
    }

    /// Writes the files of a shard and removes it. Repeating it changes nothing.
    pub(super) async fn unpack(&self, shard: &Shard) -> Result<(), SinkError> {
        let staged = self.location.join(&shard.path);
        let files = files(&shard.statistics);
        match staged.store.head(&staged.path).await {
            Ok(_) => {}
            // It is removed when all its files are written.
            Err(Error::NotFound { .. }) => return self.all_there(&shard.path, &files).await,
            Err(error) => return Err(self.failed(&staged, &error)),
        }
        let (mut ends, mut end) = (Vec::with_capacity(files.len()), 0);
        for file in files {
            end += file.bytes;
            ends.push((file, end));
        }
        let writes = ends.into_iter().map(|(file, end)| self.write(&staged, file, end));
        stream::iter(writes).buffer_unordered(WRITES).try_collect::<()>().await?;
        match staged.store.delete(&staged.path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(&staged, &error)),
        }
    }

    /// Writes the file that ends there in a shard, unless it is there. What no run wrote stays.
    async fn write(&self, staged: &Location, file: File, end: u64) -> Result<(), SinkError> {
        let bytes = match file.bytes {
            0 => Bytes::new(),
            bytes => {
                let range = end - bytes..end;
                let read = staged.store.get_range(&staged.path, range).await;
                read.map_err(|e| self.failed(staged, &e))?
            }
        };
        let place = self.place(&file.path);
        let put =
            |mode: PutMode| place.store.put_opts(&place.path, bytes.clone().into(), mode.into());
        match put(PutMode::Create).await {
            Ok(_) => return Ok(()),
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(self.failed(&place, &error)),
        }
        let found = async { place.store.get(&place.path).await?.bytes().await };
        if found.await.map_err(|e| self.failed(&place, &e))? == bytes {
            return Ok(());
        }
        let path = file.path;
        let wrote = move |_: &[Listed], replaced: &[Listed]| {
            replaced.iter().flat_map(|shard| files(&shard.statistics)).any(|old| old.path == path)
        };
        if !self.index.listed(wrote).await? {
            return Err(SinkError::Destination {
                location: place.url.clone(),
                message: "a file that no run wrote is there, and is not overwritten; move it away, or write to \
                          another path"
                    .to_owned(),
            });
        }
        put(PutMode::Overwrite).await.map(|_| ()).map_err(|e| self.failed(&place, &e))
    }

    async fn all_there(&self, shard: &str, files: &[File]) -> Result<(), SinkError> {
        for file in files {
            let place = self.place(&file.path);
            match place.store.head(&place.path).await {
                Ok(_) => {}
                Err(Error::NotFound { .. }) => {
                    return Err(SinkError::Store {
                        location: place.url,
                        message: format!(
                            "the run log names its shard {shard}, which is gone; write the records again with \
                             `--if-exists overwrite`"
                        ),
                    });
                }
                Err(error) => return Err(self.failed(&place, &error)),
            }
        }
        Ok(())
    }

    /// Removes the files of shards that were replaced, unless a newer one wrote them again.
    pub(super) async fn withdraw(&self) -> Result<(), SinkError> {
        let old = |shown: &[Listed], replaced: &[Listed]| -> HashSet<String> {
            let paths = |shards: &[Listed]| -> HashSet<String> {
                let all = shards.iter().flat_map(|shard| files(&shard.statistics));
                all.map(|file| file.path).collect()
            };
            &paths(replaced) - &paths(shown)
        };
        let old = self.index.listed(old).await?;
        if old.is_empty() {
            return Ok(());
        }
        let data = self.location.join(DATA);
        let listed = data.store.list(Some(&data.path)).try_collect::<Vec<_>>().await;
        let there: HashSet<_> = listed
            .map_err(|e| self.failed(&data, &e))?
            .into_iter()
            .map(|object| object.location)
            .collect();
        for path in old {
            let place = self.place(&path);
            if !there.contains(&place.path) {
                continue;
            }
            match place.store.delete(&place.path).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(&place, &error)),
            }
        }
        Ok(())
    }

    /// Where a file is seen.
    fn place(&self, path: &str) -> Location {
        self.location.join(&format!("{DATA}/{path}"))
    }

    fn failed(&self, place: &Location, error: &Error) -> SinkError {
        SinkError::Store { location: place.url.clone(), message: explain(error) }
    }
}
