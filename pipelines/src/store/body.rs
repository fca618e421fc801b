//! A body that is fetched on from where it broke.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, Result};

use super::{Patience, fault};

/// What is left of a body, and how to ask for it.
struct Body {
    store: Arc<dyn ObjectStore>,
    location: Path,
    options: GetOptions,
    patience: Patience,
    left: Range<u64>,
    current: Option<BoxStream<'static, Result<Bytes>>>,
    /// Attempts since the last bytes came.
    attempt: u32,
}

/// The same answer, with a body that survives breaks. Files on this machine are given as they are.
pub(super) fn resumed(
    found: GetResult,
    store: &Arc<dyn ObjectStore>,
    location: &Path,
    options: &GetOptions,
    patience: Patience,
) -> GetResult {
    let GetResult { payload, meta, range, attributes, extensions } = found;
    let payload = match payload {
        GetResultPayload::Stream(first) if !options.head => {
            let mut options = options.clone();
            // The rest must be of the same object, or records of two would be mixed.
            if let Some(e_tag) = &meta.e_tag {
                options.if_match = Some(e_tag.clone());
            }
            let body = Body {
                store: Arc::clone(store),
                location: location.clone(),
                options,
                patience,
                left: range.clone(),
                current: Some(first),
                attempt: 1,
            };
            let chunks = stream::try_unfold(body, |mut body| async {
                Ok(body.next().await?.map(|chunk| (chunk, body)))
            });
            GetResultPayload::Stream(chunks.boxed())
        }
        other => other,
    };
    GetResult { payload, meta, range, attributes, extensions }
}

impl Body {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.left.start < self.left.end {
            match self.chunk().await {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => {
                    self.left.start += chunk.len() as u64;
                    self.attempt = 1;
                    return Ok(Some(chunk));
                }
                Err(error)
                    if self.attempt < self.patience.attempts && fault::is_transient(&error) =>
                {
                    tracing::debug!("the body of {} broke, going on: {error}", self.location);
                    self.current = None;
                    self.patience.pause(self.attempt).await;
                    self.attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn chunk(&mut self) -> Result<Bytes> {
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let mut options = self.options.clone();
                options.range = Some(GetRange::Bounded(self.left.clone()));
                let again = self.store.get_opts(&self.location, options);
                self.current.insert(self.patience.limit(0, again).await?.into_stream())
            }
        };
        match self.patience.limit(0, current.try_next()).await? {
            Some(chunk) => Ok(chunk),
            None => {
                let what =
                    format!("the body ended {} bytes early", self.left.end - self.left.start);
                let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what);
                Err(Error::Generic { store: "object store", source: Box::new(source) })
            }
        }
    }
}
