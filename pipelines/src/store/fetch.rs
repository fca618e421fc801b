//! Reads references for operators.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{StreamExt, TryStreamExt};
use object_store::{GetResult, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

use super::{Location, explain, range_of_version, refusal};
use crate::operator::{FetchError, Fetcher, Listed};
use crate::quantity::ByteSize;
use crate::record::Reference;

const CHANGED: &str = "it changed since its source looked at it";
/// Bytes that are made ready for a body of which a server says how large it is, at most; the rest grows.
const AHEAD: usize = 16 << 20;

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
    fn fetch(&self, references: &[Reference], most: u64) -> Vec<Result<Bytes, FetchError>> {
        let local = |reference: &Reference| reference.uri.starts_with("file://");
        if references.iter().all(local) {
            return references.iter().map(|reference| read_local(reference, most)).collect();
        }
        self.runtime.block_on(join_all(references.iter().map(|reference| read(reference, most))))
    }

    fn list(&self, url: &str, most: usize) -> Result<Vec<Listed>, FetchError> {
        self.runtime.block_on(list(url, most))
    }
}

async fn list(url: &str, most: usize) -> Result<Vec<Listed>, FetchError> {
    let error = |message, passing| FetchError { path: url.to_owned(), message, passing };
    let location = Location::parse(url).map_err(|e| error(e.to_string(), false))?;
    let mut objects = location.store.list(Some(&location.path));
    let mut listed = Vec::new();
    while let Some(object) = objects.next().await {
        let object = object.map_err(|e| error(explain(&e), true))?;
        let Some(parts) = object.location.prefix_match(&location.path) else { continue };
        let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
        if listed.len() == most {
            return Err(error(format!("there are more than {most} objects below it"), false));
        }
        let modified = object.last_modified.timestamp_millis();
        listed.push(Listed { name, bytes: object.size, modified });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// Why a value of this size, or of more than that, is not read.
fn too_large(size: Option<u64>, most: u64) -> String {
    let most = ByteSize(most);
    match size {
        Some(size) => format!("it has {}, of at most {most}", ByteSize(size)),
        None => format!("it has more than {most}"),
    }
}

async fn read(reference: &Reference, most: u64) -> Result<Bytes, FetchError> {
    let error = |message, passing| FetchError { path: reference.to_string(), message, passing };
    let (uri, version) = reference.version();
    let location = Location::parse(uri).map_err(|e| error(e.to_string(), false))?;
    let length = reference.range.as_ref().map(|range| range.end.saturating_sub(range.start));
    if let Some(length) = length.filter(|length| *length > most) {
        return Err(error(too_large(Some(length), most), false));
    }
    if length == Some(0) {
        return Ok(Bytes::new());
    }
    let read = match (&reference.range, &version) {
        // What begins with the first byte of a version is all of it.
        (Some(range), version) if range.start > 0 || version.is_none() => {
            range_of_version(&location, range.clone(), version.as_deref()).await
        }
        (size, version) => match location.store.get(&location.path).await {
            Ok(found) => {
                let size = size.as_ref().map(|range| range.end);
                if version.is_some()
                    && (found.meta.e_tag != *version
                        || size.is_some_and(|size| size != found.meta.size))
                {
                    return Err(error(CHANGED.to_owned(), false));
                }
                if found.meta.size > most {
                    return Err(error(too_large(Some(found.meta.size), most), false));
                }
                match body(found, most).await {
                    Ok(Some(bytes)) => Ok(bytes),
                    Ok(None) => return Err(error(too_large(None, most), false)),
                    Err(e) => Err(e),
                }
            }
            Err(e) => Err(e),
        },
    };
    match (read, &reference.range) {
        (Ok(bytes), _) if length.is_some_and(|length| length != bytes.len() as u64) => {
            let what = format!("there are {} bytes of it", bytes.len());
            Err(error(format!("the object ends before the reference does: {what}"), false))
        }
        (Ok(bytes), _) => Ok(bytes),
        (Err(e @ object_store::Error::NotFound { .. }), _) => Err(error(e.to_string(), false)),
        (Err(object_store::Error::Precondition { .. }), _) if version.is_some() => {
            Err(error(CHANGED.to_owned(), false))
        }
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

/// What comes of an object, or `None` as soon as that is more than so many bytes: a server may send more than it
/// said.
async fn body(found: GetResult, most: u64) -> object_store::Result<Option<Bytes>> {
    let expected = found.range.end.saturating_sub(found.range.start).min(most);
    let mut chunks = found.into_stream();
    let Some(first) = chunks.try_next().await? else { return Ok(Some(Bytes::new())) };
    if first.len() as u64 > most {
        return Ok(None);
    }
    let Some(mut next) = chunks.try_next().await? else { return Ok(Some(first)) };
    let mut whole = Vec::with_capacity(usize::try_from(expected).unwrap_or_default().min(AHEAD));
    whole.extend_from_slice(&first);
    loop {
        if (whole.len() + next.len()) as u64 > most {
            return Ok(None);
        }
        whole.extend_from_slice(&next);
        match chunks.try_next().await? {
            Some(more) => next = more,
            None => return Ok(Some(whole.into())),
        }
    }
}

fn read_local(reference: &Reference, most: u64) -> Result<Bytes, FetchError> {
    let error = |message, passing| FetchError { path: reference.to_string(), message, passing };
    let location = Location::parse(&reference.uri).map_err(|e| error(e.to_string(), false))?;
    let path = location.local_path().ok_or_else(|| error("it is no local file".into(), false))?;
    let open = || -> std::io::Result<(File, u64)> {
        let file = File::open(&path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    let failed = |e: std::io::Error| {
        let passing = !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof);
        error(e.to_string(), passing)
    };
    let (mut file, there) = open().map_err(failed)?;
    let range = reference.range.clone().unwrap_or(0..there);
    let length = range.end.saturating_sub(range.start);
    if length > most {
        return Err(error(too_large(Some(length), most), false));
    }
    let mut read = || -> std::io::Result<Vec<u8>> {
        // Never trust a written length with an allocation: the file says how much there is.
        let there = there.saturating_sub(range.start);
        if there < length {
            let what = format!("the file ends {} bytes before the reference does", length - there);
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, what));
        }
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().map(Bytes::from).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is there of a reference, read with this limit.
    async fn fetch(text: &str, most: u64) -> Result<Bytes, FetchError> {
        let reference: Reference = text.parse().unwrap();
        let fetcher = StoreFetcher::new(Handle::current());
        let fetched = tokio::task::spawn_blocking(move || fetcher.fetch(&[reference], most));
        fetched.await.unwrap().remove(0)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_object_of_unknown_size_is_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        for place in [file.to_str().unwrap(), "memory://fetch-limit/a"] {
            let at = Location::parse(place).unwrap();
            at.store.put(&at.path, vec![7; 1000].into()).await.unwrap();
            let ranged = format!("{}#10+900", at.url);
            assert_eq!(fetch(&at.url, 1000).await.unwrap().len(), 1000);
            assert_eq!(fetch(&ranged, 900).await.unwrap().len(), 900);
            for (reference, most) in [(&at.url, 999), (&ranged, 899)] {
                let error = fetch(reference, most).await.unwrap_err();
                assert!(!error.passing && error.message.contains("of at most"), "{error}");
            }
            // A reference that goes beyond its object stands for nothing.
            let error = fetch(&format!("{}#10+1000", at.url), 5000).await.unwrap_err();
            assert!(!error.passing, "{error}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_place_is_listed_at_any_depth_and_not_beyond_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().join("in");
        for place in [here.to_str().unwrap(), "memory://fetch-list/in"] {
            let at = Location::parse(place).unwrap();
            for (name, bytes) in [("b/card 1.json", 3), ("a", 2), ("b/c/d", 1)] {
                at.store.put(&at.join(name).path, vec![7; bytes].into()).await.unwrap();
            }
            let fetcher = StoreFetcher::new(Handle::current());
            let list = move |most| fetcher.list(&at.url, most);
            let (all, few) = tokio::task::spawn_blocking(move || (list(3), list(2))).await.unwrap();
            let found = all.unwrap().into_iter().map(|o| (o.name, o.bytes)).collect::<Vec<_>>();
            let expected = [("a", 2), ("b/c/d", 1), ("b/card 1.json", 3)];
            assert_eq!(found, expected.map(|(name, bytes)| (name.to_owned(), bytes)));
            assert!(few.unwrap_err().message.contains("more than 2 objects"));
        }
    }

    #[tokio::test]
    async fn a_body_that_is_larger_than_its_server_said_is_left_where_the_limit_is() {
        let chunk = || Ok(Bytes::from_static(&[1; 100]));
        let endless = futures::stream::repeat_with(chunk);
        let found = |payload| GetResult {
            payload,
            meta: object_store::ObjectMeta {
                location: "a".into(),
                last_modified: Default::default(),
                size: 10,
                e_tag: None,
                version: None,
            },
            range: 0..10,
            attributes: Default::default(),
            extensions: Default::default(),
        };
        let stream = object_store::GetResultPayload::Stream(Box::pin(endless));
        assert_eq!(body(found(stream), 1000).await.unwrap(), None);
        let three = futures::stream::repeat_with(chunk).take(3);
        let stream = object_store::GetResultPayload::Stream(Box::pin(three));
        assert_eq!(body(found(stream), 300).await.unwrap().unwrap().len(), 300);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_range_of_a_version_is_of_no_other_one() {
        let at = Location::parse("memory://fetch-version/a").unwrap();
        at.store.put(&at.path, "first version".into()).await.unwrap();
        let etag = at.store.head(&at.path).await.unwrap().e_tag.unwrap();
        let reference =
            |range| Reference { uri: at.url.clone(), range }.at_version(&etag).to_string();
        let (part, whole) = (reference(Some(6..13)), reference(Some(0..13)));
        assert_eq!(fetch(&part, 100).await.unwrap(), "version");
        assert_eq!(fetch(&whole, 100).await.unwrap(), "first version");
        at.store.put(&at.path, "other version".into()).await.unwrap();
        for reference in [part, whole] {
            let error = fetch(&reference, 100).await.unwrap_err();
            assert!(!error.passing && error.message.contains("changed"), "{error}");
        }
    }
}
