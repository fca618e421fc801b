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

/// Bytes of one request of a multipart upload.
pub(super) const CHUNK: usize = 8 << 20;
/// Requests of one upload at the same time.
const UPLOADS: usize = 2;
/// The folder, below a sink's location, that holds its shards.
const FOLDER: &str = "data";

/// Rows to the bytes of one shard. Bytes depend on the rows alone, not on how they were batched.
pub(super) trait Encode: Send + 'static {
    /// Takes rows and gives the bytes that are ready to upload. The error is a sentence.
    fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, String>;

    /// The rest of the bytes.
    fn finish(self) -> Result<Vec<u8>, String>;
}

/// The path of a part's shard, relative to the sink's location.
pub(super) fn path(part: &PartName, extension: &str) -> String {
    format!("{FOLDER}/{}.{extension}", part.stem())
}

/// Writes one part to one shard.
pub(super) struct ShardWriter<E> {
    /// `None` after an error, when its state says nothing any more.
    encoder: Option<Hashed<E>>,
    upload: Upload,
    compute: Compute,
    shard: Shard,
    /// Bytes of rows that are encoded before what came out of them is uploaded.
    slice: usize,
}

/// What computes: all of it on the executor.
struct Hashed<E> {
    encoder: E,
    hash: Sha256,
}

impl<E: Encode> ShardWriter<E> {
    /// A writer of the shard at `path` below a sink's location, which encodes so many bytes of rows at a time.
    pub(super) fn new(
        folder: &Location,
        path: String,
        part: &PartName,
        compute: &Compute,
        slice: usize,
        encoder: E,
    ) -> Self {
        Self {
            encoder: Some(Hashed { encoder, hash: Sha256::new() }),
            upload: Upload { location: folder.join(&path), begun: None, small: Vec::new() },
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
            slice,
        }
    }

    fn encoder(&mut self) -> Result<Hashed<E>, SinkError> {
        let taken = self.encoder.take();
        taken.ok_or_else(|| self.upload.error("an earlier write of this shard failed"))
    }

    async fn encode(&mut self, rows: RecordBatch) -> Result<(), SinkError> {
        let mut hashed = self.encoder()?;
        let encoded = self.compute.run(move || {
            let encoded = hashed.encoder.encode(&rows);
            encoded.map(|bytes| {
                hashed.hash.update(&bytes);
                (hashed, bytes)
            })
        });
        let (hashed, bytes) = encoded.await.map_err(|e| self.unfit(e))?;
        self.encoder = Some(hashed);
        self.send(bytes).await
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), SinkError> {
        self.shard.bytes += bytes.len() as u64;
        if bytes.is_empty() { Ok(()) } else { self.upload.send(bytes).await }
    }

    fn unfit(&self, message: String) -> SinkError {
        SinkError::Encode { location: self.upload.location.url.clone(), message }
    }
}

#[async_trait]
impl<E: Encode> PartWriter for ShardWriter<E> {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.shard.rows += batch.num_rows() as u64;
        let slices = batch.get_array_memory_size().div_ceil(self.slice).max(1);
        let rows = batch.num_rows().div_ceil(slices).max(1);
        for from in (0..batch.num_rows()).step_by(rows) {
            self.encode(batch.slice(from, rows.min(batch.num_rows() - from))).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Option<Shard>, SinkError> {
        let Hashed { encoder, mut hash } = self.encoder()?;
        if self.shard.rows == 0 {
            return Ok(None);
        }
        let rest = self.compute.run(move || {
            let rest = encoder.finish()?;
            hash.update(&rest);
            let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            Ok::<(Vec<u8>, String), String>((rest, hash))
        });
        let (rest, hash) = rest.await.map_err(|e| self.unfit(e))?;
        self.send(rest).await?;
        self.upload.finish().await?;
        self.shard.sha256 = hash;
        Ok(Some(self.shard))
    }
}

/// Bytes on their way to one object.
struct Upload {
    location: Location,
    begun: Option<WriteMultipart>,
    /// What is still small enough for one request.
    small: Vec<u8>,
}

impl Upload {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), SinkError> {
        if self.begun.is_none() {
            if self.small.is_empty() {
                self.small = bytes;
            } else {
                self.small.extend_from_slice(&bytes);
            }
            if self.small.len() < CHUNK {
                return Ok(());
            }
            let begun = self.location.store.put_multipart(&self.location.path).await;
            let begun = begun.map_err(|e| self.error(explain(&e)))?;
            let mut upload = WriteMultipart::new_with_chunk_size(begun, CHUNK);
            upload.put(std::mem::take(&mut self.small).into());
            self.begun = Some(upload);
        } else if let Some(upload) = &mut self.begun {
            upload.put(bytes.into());
        }
        if let Some(upload) = &mut self.begun {
            let waited = upload.wait_for_capacity(UPLOADS).await;
            waited.map_err(|e| self.error(explain(&e)))?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), SinkError> {
        match self.begun.take() {
            Some(upload) => upload.finish().await.map(|_| ()),
            None => {
                let body = std::mem::take(&mut self.small);
                self.location.store.put(&self.location.path, body.into()).await.map(|_| ())
            }
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
    run: &RunStart,
) -> Result<(), SinkError> {
    let prefix = format!("{}-{}-c", run.run, run.sink);
    let cleared = location.join(FOLDER).clear_leftovers(&prefix).await;
    cleared.map_err(|e| SinkError::Store { location: location.url.clone(), message: explain(&e) })
}

/// Removes the shards of a run that none of its commits names or will name.
pub(super) async fn remove_unnamed(
    location: &Location,
    run: &RunStart,
    committed: &[Commit],
) -> Result<(), SinkError> {
    let error = |message: String| SinkError::Store { location: location.url.clone(), message };
    let folder = location.join(FOLDER);
    let listed = folder.store.list(Some(&folder.path)).try_collect::<Vec<_>>().await;
    for object in listed.map_err(|e| error(explain(&e)))? {
        if object.location.filename().is_some_and(|name| is_rubbish(name, run, committed)) {
            let deleted = folder.store.delete(&object.location).await;
            deleted.map_err(|e| error(explain(&e)))?;
        }
    }
    Ok(())
}
