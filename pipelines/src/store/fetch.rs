//! Reads references for operators.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use bytes::Bytes;
use futures::future::join_all;
use object_store::ObjectStoreExt;
use tokio::runtime::Handle;

use super::{Location, explain, refusal};
use crate::operator::{FetchError, Fetcher};
use crate::record::Reference;

/// Reads local files on the calling thread, and everything else concurrently on a tokio runtime.
#[derive(Debug, Clone)]
pub struct StoreFetcher {
    runtime: Handle,
}

impl StoreFetcher {
    /// A fetcher whose remote reads run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Self { runtime }
    }
}

impl Fetcher for StoreFetcher {
    fn fetch(&self, references: &[Reference]) -> Vec<Result<Bytes, FetchError>> {
        let local = |reference: &Reference| reference.uri.starts_with("file://");
        if references.iter().all(local) {
            return references.iter().map(read_local).collect();
        }
        self.runtime.block_on(join_all(references.iter().map(read)))
    }
}

async fn read(reference: &Reference) -> Result<Bytes, FetchError> {
    let error = |message, passing| FetchError { path: reference.to_string(), message, passing };
    let (uri, version) = reference.version();
    let location = Location::parse(uri).map_err(|e| error(e.to_string(), false))?;
    let read = match (&reference.range, &version) {
        // A reference to one version is to all of it.
        (range, Some(version)) => {
            let found = location.store.get(&location.path).await;
            let size = range.as_ref().map(|range| range.end);
            if let Ok(found) = &found
                && (found.meta.e_tag.as_ref() != Some(version)
                    || size.is_some_and(|size| size != found.meta.size))
            {
                return Err(error("it changed since its source looked at it".to_owned(), false));
            }
            match found {
                Ok(found) => found.bytes().await,
                Err(e) => Err(e),
            }
        }
        (Some(range), None) => location.store.get_range(&location.path, range.clone()).await,
        (None, None) => match location.store.get(&location.path).await {
            Ok(found) => found.bytes().await,
            Err(e) => Err(e),
        },
    };
    match (read, &reference.range) {
        (Ok(bytes), _) => Ok(bytes),
        (Err(e @ object_store::Error::NotFound { .. }), _) => Err(error(e.to_string(), false)),
        (Err(e @ object_store::Error::Precondition { .. }), _) => Err(error(e.to_string(), false)),
        // On the web each server decides for itself; that of a bucket would refuse all alike.
        (Err(e), _) if uri.starts_with("http") && refusal(&e).is_some() => {
            let status = refusal(&e).unwrap_or_default();
            Err(error(format!("the server answers with status {status}"), false))
        }
        (Err(e), range) => {
            // Stores have many words for a range behind the end of an object; its size is told in one.
            let head = location.store.head(&location.path).await;
            let beyond = range.as_ref().zip(head.ok()).is_some_and(|(r, head)| r.end > head.size);
            Err(error(explain(&e), !beyond))
        }
    }
}

fn read_local(reference: &Reference) -> Result<Bytes, FetchError> {
    let error = |message, passing| FetchError { path: reference.to_string(), message, passing };
    let location = Location::parse(&reference.uri).map_err(|e| error(e.to_string(), false))?;
    let path = location.local_path().ok_or_else(|| error("it is no local file".into(), false))?;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&path)?;
        let Some(range) = &reference.range else {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Ok(bytes);
        };
        let length = range.end - range.start;
        // Never trust a written length with an allocation: the file says how much there is.
        let there = file.metadata()?.len().saturating_sub(range.start);
        if there < length {
            let what = format!("the file ends {} bytes before the reference does", length - there);
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what));
        }
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().map(Bytes::from).map_err(|e| {
        let passing = !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof);
        error(e.to_string(), passing)
    })
}
