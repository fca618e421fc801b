//! A store that fails as it is told.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It fails and has no effect.
    Before,
    /// It has its effect, but the answer is lost; a body or listing breaks in the middle.
    After,
    /// It is never answered.
    Stall,
    /// It fails for good, as on a full disk.
    Full,
}

type Decide = dyn Fn(u64, &str, &Path) -> Fault + Send + Sync;

/// A store whose requests fail as a function of (number of the request, operation, path) says.
#[derive(Clone)]
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    decide: Arc<Decide>,
    requests: Arc<AtomicU64>,
}

impl Faulty {
    pub(crate) fn new(
        inner: Arc<dyn ObjectStore>,
        decide: impl Fn(u64, &str, &Path) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self { inner, decide: Arc::new(decide), requests: Arc::default() }
    }

    /// A store that fails one request in `n`, before or after it had its effect.
    pub(crate) fn one_in(n: u64, seed: u64, inner: Arc<dyn ObjectStore>) -> Self {
        Self::new(inner, move |number, _, _| {
            let mut z = (seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z ^= z >> 27;
            match z % (2 * n) {
                0 => Fault::Before,
                1 => Fault::After,
                _ => Fault::None,
            }
        })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn fault(&self, operation: &str, path: Option<&Path>) -> Fault {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        (self.decide)(number, operation, path.unwrap_or(&Path::default()))
    }

    async fn request<T>(
        &self,
        operation: &str,
        path: Option<&Path>,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.fault(operation, path) {
            Fault::None => request.await,
            Fault::Before => Err(broken()),
            Fault::After => {
                request.await?;
                Err(broken())
            }
            Fault::Stall => std::future::pending().await,
            Fault::Full => Err(full()),
        }
    }
}

fn broken() -> Error {
    Error::Generic { store: "faulty", source: "503 slow down".into() }
}

fn full() -> Error {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    Error::Generic { store: "faulty", source: Box::new(source) }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, options);
        self.request("put", Some(location), put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let fault = self.fault("get", Some(location));
        if fault == Fault::Before || (fault == Fault::After && head) {
            return Err(broken());
        }
        let mut found = self.inner.get_opts(location, options).await?;
        if head || fault == Fault::None {
            return Ok(found);
        }
        let GetResult { payload, meta, range, attributes, extensions } = found;
        let whole = GetResult {
            payload,
            meta: meta.clone(),
            range: range.clone(),
            attributes: attributes.clone(),
            extensions: extensions.clone(),
        };
        let bytes = whole.bytes().await?;
        let half = bytes.slice(..bytes.len() / 2);
        let end = async move {
            match fault {
                Fault::Stall => std::future::pending().await,
                _ => Err(broken()),
            }
        };
        let payload = stream::iter([Ok(half)]).chain(stream::once(end)).boxed();
        found = GetResult {
            payload: GetResultPayload::Stream(payload),
            meta,
            range,
            attributes,
            extensions,
        };
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.request("get", Some(location), self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .and_then(move |path| {
                let this = this.clone();
                async move {
                    this.request("delete", Some(&path), this.inner.delete(&path)).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        match self.fault("list", prefix) {
            Fault::None => listed,
            Fault::Before => stream::iter([Err(broken())]).boxed(),
            Fault::Stall => stream::pending().boxed(),
            Fault::Full => stream::iter([Err(full())]).boxed(),
            Fault::After => listed.take(1).chain(stream::iter([Err(broken())])).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request("list", prefix, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request("copy", Some(to), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.request("rename", Some(to), self.inner.rename_opts(from, to, options)).await
    }
}
