//! A shard on its way to a store: what sinks of every format share.
//!
//! A format [encodes](Encode) rows on the executor; [`ShardWriter`] hashes what comes out, sends it (in one
//! request while it is small, else in several) and says in the end what the run log shall name.
//! [`remove_unnamed`] takes away the shards that no commit names.

use anabranch_pipelines::log::Commit;
use anabranch_pipelines::sink::{
    Compute, PartName, PartWriter, RunStart, Shard, SinkError, is_rubbish,
};
use anabranch_pipelines::store::{Location, explain};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use sha2::{Digest, Sha256};

/// Bytes of one request of a multipart upload: the least that stores of today take.
const CHUNK: usize = 5 << 20;
/// Requests of one upload at the same time. Lanes upload beside one another.
const UPLOADS: usize = 1;
/// Bytes that an upload holds: requests under way, and the one that is being gathered.
pub(super) const UPLOADING: usize = (UPLOADS + 1) * CHUNK;
/// The folder, below a sink's location, that holds its shards.
pub(super) const DATA: &str = "data";

/// Rows to the bytes of one shard. Bytes depend on the rows alone, not on how they were batched.
pub(super) trait Encode: Send + 'static {
    /// Takes rows of the batch, from row `from` on, and gives the row behind the last one that it took and the
    /// bytes that are ready to upload. Takes at least one, and no more than it can hold beside the bytes that
    /// they become. The error is a sentence.
    fn encode(&mut self, batch: &RecordBatch, from: usize) -> Result<(usize, Vec<u8>), String>;

    /// More bytes that could not be told before the last row, called until there are none.
    fn rest(&mut self) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    /// The last bytes, and what the log of the sink wants to know of all of them.
    fn finish(self) -> Result<(Vec<u8>, serde_json::Value), String>;
}

/// The path of a part's shard in a folder below the sink's location, relative to that.
pub(super) fn path(folder: &str, part: &PartName, extension: &str) -> String {
    format!("{folder}/{}.{extension}", part.stem())
}

/// Writes one part to one shard.
pub(super) struct ShardWriter<E> {
    /// `None` after an error, when its state says nothing any more.
    encoder: Option<Hashed<E>>,
    upload: Upload,
    compute: Compute,
    shard: Shard,
}

/// What computes: all of it on the executor.
struct Hashed<E> {
    encoder: E,
    hash: Sha256,
}

impl<E: Encode> ShardWriter<E> {
    /// A writer of the shard at `path` below a sink's location.
    pub(super) fn new(
        folder: &Location,
        path: String,
        part: &PartName,
        compute: &Compute,
        encoder: E,
    ) -> Self {
        Self {
            encoder: Some(Hashed { encoder, hash: Sha256::new() }),
            upload: Upload { location: folder.join(&path), begun: None, chunk: Vec::new() },
            compute: compute.clone(),
            shard: Shard {
                path,
                epoch: part.epoch,
                lane: part.lane,
                rows: 0,
                bytes: 0,
                sha256: String::new(),
                statistics: serde_json::Value::Null,
            },
        }
    }

    fn encoder(&mut self) -> Result<Hashed<E>, SinkError> {
        let taken = self.encoder.take();
        taken.ok_or_else(|| self.upload.error("an earlier write of this shard failed"))
    }

    /// Encodes some rows from row `from` on, and uploads what came out of them. Gives the row behind them.
    async fn encode(&mut self, rows: &RecordBatch, from: usize) -> Result<usize, SinkError> {
        let mut hashed = self.encoder()?;
        let rows = rows.clone();
        let encoded = self.compute.run(move || {
            let (at, bytes) = hashed.encoder.encode(&rows, from)?;
            hashed.hash.update(&bytes);
            Ok((hashed, at, bytes))
        });
        let (hashed, at, bytes) = encoded.await.map_err(|e| self.unfit(e))?;
        self.encoder = Some(hashed);
        self.send(bytes).await?;
        Ok(at)
    }

    /// Uploads what the encoder kept until it had all rows.
    async fn rest(&mut self) -> Result<(), SinkError> {
        loop {
            let mut hashed = self.encoder()?;
            let rest = self.compute.run(move || {
                let bytes = hashed.encoder.rest()?;
                hashed.hash.update(&bytes);
                Ok((hashed, bytes))
            });
            let (hashed, bytes) = rest.await.map_err(|e| self.unfit(e))?;
            self.encoder = Some(hashed);
            if bytes.is_empty() {
                return Ok(());
            }
            self.send(bytes).await?;
        }
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), SinkError> {
        self.shard.bytes += bytes.len() as u64;
        self.upload.send(&bytes).await
    }

    fn unfit(&self, message: String) -> SinkError {
        SinkError::Encode { location: self.upload.location.url.clone(), message }
    }
}

#[async_trait]
impl<E: Encode> PartWriter for ShardWriter<E> {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.shard.rows += batch.num_rows() as u64;
        let mut at = 0;
        while at < batch.num_rows() {
            at = self.encode(&batch, at).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Option<Shard>, SinkError> {
        if self.shard.rows == 0 {
            return Ok(None);
        }
        self.rest().await?;
        let Hashed { encoder, mut hash } = self.encoder()?;
        let rest = self.compute.run(move || {
            let (rest, statistics) = encoder.finish()?;
            hash.update(&rest);
            let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            Ok((rest, statistics, hash))
        });
        let (rest, statistics, hash) = rest.await.map_err(|e| self.unfit(e))?;
        self.send(rest).await?;
        self.upload.finish().await?;
        (self.shard.sha256, self.shard.statistics) = (hash, statistics);
        Ok(Some(self.shard))
    }
}

/// Bytes on their way to one object.
struct Upload {
    location: Location,
    begun: Option<WriteMultipart>,
    /// The next request, as far as it is there.
    chunk: Vec<u8>,
}

impl Upload {
    /// Takes bytes, and waits while the store is slow.
    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), SinkError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            if self.chunk.capacity() - self.chunk.len() < now.len() {
                // As a vector grows, but not above what is sent.
                let more = now.len().max(self.chunk.len());
                self.chunk.reserve_exact(more.min(CHUNK - self.chunk.len()));
            }
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK {
                let sent = self.send_chunk().await;
                sent.map_err(|e| self.error(explain(&e)))?;
            }
        }
        Ok(())
    }

    async fn send_chunk(&mut self) -> object_store::Result<()> {
        let upload = match &mut self.begun {
            Some(upload) => upload,
            None => {
                let begun = self.location.store.put_multipart(&self.location.path).await?;
                self.begun.insert(WriteMultipart::new_with_chunk_size(begun, CHUNK))
            }
        };
        upload.wait_for_capacity(UPLOADS).await?;
        upload.put(std::mem::take(&mut self.chunk).into());
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), SinkError> {
        let last = std::mem::take(&mut self.chunk);
        match self.begun.take() {
            Some(mut upload) => {
                upload.put(last.into());
                upload.finish().await.map(|_| ())
            }
            None => self.location.store.put(&self.location.path, last.into()).await.map(|_| ()),
        }
        .map_err(|e| self.error(explain(&e)))
    }

    fn error(&self, message: impl ToString) -> SinkError {
        SinkError::Store { location: self.location.url.clone(), message: message.to_string() }
    }
}

/// Removes what killed writers of a run left unfinished. One that is not dead fails, as it is fenced anyway.
pub(super) async fn remove_unfinished(
    location: &Location,
    folder: &str,
    run: &RunStart,
) -> Result<(), SinkError> {
    let prefix = format!("{}-{}-c", run.run, run.sink);
    let cleared = location.join(folder).clear_leftovers(&prefix).await;
    cleared.map_err(|e| SinkError::Store { location: location.url.clone(), message: explain(&e) })
}

/// Removes the shards of a run that none of its commits names or will name.
pub(super) async fn remove_unnamed(
    location: &Location,
    folder: &str,
    run: &RunStart,
    committed: &[Commit],
) -> Result<(), SinkError> {
    let error = |message: String| SinkError::Store { location: location.url.clone(), message };
    let folder = location.join(folder);
    let listed = folder.store.list(Some(&folder.path)).try_collect::<Vec<_>>().await;
    for object in listed.map_err(|e| error(explain(&e)))? {
        if object.location.filename().is_some_and(|name| is_rubbish(name, run, committed)) {
            let deleted = folder.store.delete(&object.location).await;
            deleted.map_err(|e| error(explain(&e)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{MultipartUpload, PutPayload, PutResult, UploadPart};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Requests that take a while, and are counted while they do.
    #[derive(Debug, Default, Clone)]
    struct Slow {
        bytes: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        all: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl MultipartUpload for Slow {
        fn put_part(&mut self, data: PutPayload) -> UploadPart {
            let (size, slow) = (data.content_length(), self.clone());
            let now = slow.bytes.fetch_add(size, Ordering::SeqCst) + size;
            slow.most.fetch_max(now, Ordering::SeqCst);
            Box::pin(async move {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                slow.bytes.fetch_sub(data.content_length(), Ordering::SeqCst);
                slow.all.fetch_add(data.content_length(), Ordering::SeqCst);
                Ok(())
            })
        }

        async fn complete(&mut self) -> object_store::Result<PutResult> {
            Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
        }

        async fn abort(&mut self) -> object_store::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_large_row_group_does_not_wait_for_a_slow_store_in_memory() {
        let slow = Slow::default();
        let begun = WriteMultipart::new_with_chunk_size(Box::new(slow.clone()), CHUNK);
        let location = Location::parse("memory://upload/a").unwrap();
        let mut upload = Upload { location, begun: Some(begun), chunk: Vec::new() };
        for size in [10, CHUNK * 7 + 3, 5, CHUNK - 1] {
            upload.send(&vec![1; size]).await.unwrap();
            assert!(upload.chunk.capacity() <= CHUNK);
            assert!(slow.bytes.load(Ordering::SeqCst) + upload.chunk.capacity() <= UPLOADING);
        }
        upload.finish().await.unwrap();
        assert_eq!(slow.all.load(Ordering::SeqCst), CHUNK * 8 + 17);
        assert!(slow.most.load(Ordering::SeqCst) <= UPLOADING);
    }
}
