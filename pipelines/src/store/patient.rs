//! A store that is asked again when it fails for a moment or does not answer.
//!
//! [`Patient`] wraps any store. Errors that another attempt may mend are retried with growing pauses; what
//! is final (not found, no permission, exists already, a full disk) is told at once. A body that breaks or
//! stalls is fetched on from where it broke. And a put-if-absent whose answer was lost is not mistaken for
//! a conflict: when the object there is the very one that was put, the put has succeeded.
//!
//! ```
//! use std::sync::Arc;
//! use anabranch_pipelines::store::{Patience, Patient};
//! use object_store::{ObjectStoreExt, memory::InMemory, path::Path};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let store = Patient::new(Arc::new(InMemory::new()), Patience::default());
//! store.put(&Path::from("a"), "1".into()).await?;
//! assert_eq!(store.get(&Path::from("a")).await?.bytes().await?, "1");
//! # Ok::<(), object_store::Error>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UploadPart,
};

use super::{body, fault};

/// Bytes of a payload that get a second more of time.
const BYTES_PER_SECOND: u64 = 256 * 1024;

/// How long to wait for a store, and how often to ask it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long a request may take without its payload, and how long a body may give nothing.
    pub timeout: Duration,
    /// How often a request is made at most, at least once.
    pub attempts: u32,
    /// The pause before the second attempt. It doubles from attempt to attempt.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Patience {
    /// About 20 seconds of pauses for a store that fails, and a minute for one that does not answer.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            attempts: 10,
            pause: Duration::from_millis(50),
            longest: Duration::from_secs(5),
        }
    }
}

impl Patience {
    /// For stores that retry by themselves, as those of the clouds do: little more than a time limit.
    pub(super) fn with_retrying_store() -> Self {
        Self { timeout: Duration::from_secs(200), attempts: 2, ..Self::default() }
    }

    fn for_bytes(&self, bytes: u64) -> Duration {
        self.timeout + Duration::from_secs(bytes / BYTES_PER_SECOND)
    }

    /// Sleeps before attempt `next`, a little less than planned so that clients do not meet again.
    pub(super) async fn pause(&self, next: u32) {
        let longest = self.pause.saturating_mul(1 << next.saturating_sub(1).min(16));
        let jitter = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let jitter = jitter.map_or(0, |since| since.subsec_nanos() % 256);
        tokio::time::sleep(longest.min(self.longest) * (512 - jitter) / 512).await;
    }

    /// The answer of a request, or an error when it takes too long.
    pub(super) async fn limit<T>(
        &self,
        bytes: u64,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.for_bytes(bytes);
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => answer,
            Err(_) => {
                let what = format!("the store did not answer within {} s", limit.as_secs_f32());
                let source = std::io::Error::new(std::io::ErrorKind::TimedOut, what);
                Err(Error::Generic { store: "object store", source: Box::new(source) })
            }
        }
    }
}

/// A store that asks another one again. See the documentation of this module.
#[derive(Debug, Clone)]
pub struct Patient {
    inner: Arc<dyn ObjectStore>,
    patience: Patience,
    /// Whether `inner` makes requests again without saying so.
    repeats: bool,
}

impl Patient {
    /// A patient view of `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, patience: Patience) -> Self {
        Self { inner, patience, repeats: false }
    }

    /// A view of a store that asks again by itself, as those of the clouds do. They repeat a put-if-absent whose
    /// answer was lost, and then tell a conflict with themselves: so every conflict is looked at.
    pub(super) fn of_retrying(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, patience: Patience::with_retrying_store(), repeats: true }
    }

    /// Makes a request until it is answered for good. The flag says whether an earlier attempt may have
    /// taken effect although it failed.
    async fn request<T, F: Future<Output = Result<T>>>(
        &self,
        bytes: u64,
        mut request: impl FnMut() -> F,
    ) -> (Result<T>, bool) {
        let (begun, mut attempt) = (Instant::now(), 1);
        loop {
            match self.patience.limit(bytes, request()).await {
                Err(error) if self.again(attempt, begun) && fault::is_transient(&error) => {
                    tracing::debug!("attempt {attempt} failed, trying again: {error}");
                    self.patience.pause(attempt).await;
                    attempt += 1;
                }
                answer => return (answer, attempt > 1),
            }
        }
    }

    /// Whether to ask once more. What fails quickly was not repeated by a store that asks again by itself (the body
    /// of an answer that broke): then it is worth as many attempts as at any other store.
    fn again(&self, attempt: u32, begun: Instant) -> bool {
        let quick = self.repeats && begun.elapsed() < self.patience.timeout / 10;
        attempt < self.patience.attempts || (quick && attempt < Patience::default().attempts)
    }

    /// Whether the object holds these bytes already, as a lost answer would leave it.
    async fn holds(&self, location: &Path, payload: &PutPayload) -> Option<ObjectMeta> {
        let found = self.get(location).await.ok()?;
        if found.meta.size != payload.content_length() as u64 {
            return None;
        }
        let meta = found.meta.clone();
        let there = found.bytes().await.ok()?;
        let mut rest = there.as_ref();
        for piece in payload.iter() {
            rest = rest.strip_prefix(piece.as_ref())?;
        }
        Some(meta)
    }

    fn listed(
        &self,
        list: impl Fn(&dyn ObjectStore) -> BoxStream<'static, Result<ObjectMeta>>
        + Send
        + Sync
        + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let patient = self.clone();
        // A listing that breaks begins again: what it gave before must not be given twice.
        let all = async move {
            let attempt = || async {
                let mut objects = Vec::new();
                let mut listing = list(patient.inner.as_ref());
                while let Some(object) = patient.patience.limit(0, listing.try_next()).await? {
                    objects.push(object);
                }
                Ok(objects)
            };
            // Each object has its own time limit; a long listing as a whole has none.
            let (begun, mut number) = (Instant::now(), 1);
            loop {
                match attempt().await {
                    Err(error) if patient.again(number, begun) && fault::is_transient(&error) => {
                        patient.patience.pause(number).await;
                        number += 1;
                    }
                    answer => return answer,
                }
            }
        };
        stream::once(all)
            .map_ok(|objects| stream::iter(objects.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}

impl fmt::Display for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Patient {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let put = || self.inner.put_opts(location, payload.clone(), options.clone());
        let (answer, uncertain) = self.request(bytes, put).await;
        match answer {
            Err(error @ Error::AlreadyExists { .. })
                if (uncertain || self.repeats) && options.mode == PutMode::Create =>
            {
                let found = self.holds(location, &payload).await.ok_or(error)?;
                let (e_tag, version) = (found.e_tag, found.version);
                Ok(PutResult { e_tag, version, extensions: Default::default() })
            }
            answer => answer,
        }
    }

    /// Parts are not repeated here, for an upload numbers them as they come: the stores of the clouds do it.
    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begin = || self.inner.put_multipart_opts(location, options.clone());
        let inner = self.request(0, begin).await.0?;
        Ok(Box::new(Upload { inner, patience: self.patience }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let get = || self.inner.get_opts(location, options.clone());
        let found = self.request(0, get).await.0?;
        Ok(body::resumed(found, &self.inner, location, &options, self.patience))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        self.request(bytes, || self.inner.get_ranges(location, ranges)).await.0
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let patient = self.clone();
        let delete = move |location: Result<Path>| {
            let patient = patient.clone();
            async move {
                let location = location?;
                match patient.request(0, || patient.inner.delete(&location)).await {
                    // The attempt whose answer was lost had deleted it.
                    (Err(Error::NotFound { .. }), true) => Ok(location),
                    (answer, _) => answer.map(|()| location),
                }
            }
        };
        locations.map(delete).buffered(8).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        self.listed(move |store| store.list(prefix.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        self.listed(move |store| store.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(0, || self.inner.list_with_delimiter(prefix)).await.0
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request(0, || self.inner.copy_opts(from, to, options.clone())).await.0
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.request(0, || self.inner.rename_opts(from, to, options.clone())).await.0
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    patience: Patience,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (bytes, patience) = (data.content_length() as u64, self.patience);
        let part = self.inner.put_part(data);
        Box::pin(async move { patience.limit(bytes, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.patience.limit(0, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.patience.limit(0, self.inner.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fault, Faulty};
    use object_store::memory::InMemory;
    use std::sync::Mutex;

    fn quick() -> Patience {
        let (timeout, pause) = (Duration::from_millis(40), Duration::from_millis(1));
        Patience { timeout, attempts: 12, pause, longest: Duration::from_millis(4) }
    }

    fn create() -> PutOptions {
        PutMode::Create.into()
    }

    /// A store whose requests meet these faults, one after the other, and none after that.
    fn with(faults: &[Fault]) -> (Faulty, Patient) {
        let faults = Mutex::new(faults.iter().rev().copied().collect::<Vec<_>>());
        let next = move |_, _: &str, _: &Path| faults.lock().unwrap().pop().unwrap_or(Fault::None);
        let faulty = Faulty::new(Arc::new(InMemory::new()), next);
        (faulty.clone(), Patient::new(Arc::new(faulty), quick()))
    }

    #[tokio::test]
    async fn what_passes_is_asked_again_and_a_stall_is_cut_off() {
        let (faulty, store) = with(&[Fault::Before, Fault::Stall, Fault::After]);
        store.put(&Path::from("a"), "abc".into()).await.unwrap();
        assert_eq!(faulty.requests(), 4);
        assert_eq!(store.get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn what_is_final_is_told_at_once() {
        let (faulty, store) = with(&[Fault::Full]);
        let error = store.put(&Path::from("a"), "abc".into()).await.unwrap_err();
        assert!(super::super::explain(&error).starts_with("the disk is full"), "{error}");
        assert_eq!(faulty.requests(), 1);
        assert!(matches!(store.head(&Path::from("a")).await, Err(Error::NotFound { .. })));
        assert_eq!(faulty.requests(), 2);
    }

    #[tokio::test]
    async fn patience_ends() {
        let faulty = Faulty::new(Arc::new(InMemory::new()), |_, _, _| Fault::Before);
        let store = Patient::new(Arc::new(faulty.clone()), quick());
        assert!(store.put(&Path::from("a"), "abc".into()).await.is_err());
        assert_eq!(faulty.requests(), u64::from(quick().attempts));
    }

    #[tokio::test]
    async fn a_lost_answer_is_no_conflict_and_a_conflict_is_one() {
        let (_, store) = with(&[Fault::After]);
        store.put_opts(&Path::from("a"), "mine".into(), create()).await.unwrap();

        let (faulty, store) = with(&[Fault::None, Fault::Before]);
        faulty.put_opts(&Path::from("a"), "theirs".into(), create()).await.unwrap();
        let taken = store.put_opts(&Path::from("a"), "mine".into(), create()).await;
        assert!(matches!(taken, Err(Error::AlreadyExists { .. })));

        // A store that asks again by itself hides that an attempt was lost.
        let inner = Arc::new(InMemory::new());
        inner.put_opts(&Path::from("a"), "mine".into(), create()).await.unwrap();
        let store = Patient::of_retrying(inner);
        store.put_opts(&Path::from("a"), "mine".into(), create()).await.unwrap();
        let taken = store.put_opts(&Path::from("a"), "theirs".into(), create()).await;
        assert!(matches!(taken, Err(Error::AlreadyExists { .. })));

        // The same bytes, but no attempt of ours was lost: somebody else wrote them.
        let (_, store) = with(&[]);
        store.put_opts(&Path::from("a"), "mine".into(), create()).await.unwrap();
        let taken = store.put_opts(&Path::from("a"), "mine".into(), create()).await;
        assert!(matches!(taken, Err(Error::AlreadyExists { .. })));
    }

    #[tokio::test]
    async fn a_body_goes_on_where_it_broke() {
        let text: String = (0..1000).map(|n| format!("{n} ")).collect();
        let (_, store) = with(&[Fault::None, Fault::After, Fault::Stall, Fault::After]);
        store.put(&Path::from("a"), text.clone().into()).await.unwrap();
        assert_eq!(store.get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), text);

        let (_, store) = with(&[Fault::None, Fault::After, Fault::Before]);
        store.put(&Path::from("a"), text.clone().into()).await.unwrap();
        let part = GetOptions { range: Some((100..2000).into()), ..Default::default() };
        let part = store.get_opts(&Path::from("a"), part).await.unwrap().bytes().await.unwrap();
        assert_eq!(part, text[100..2000]);
    }

    #[tokio::test]
    async fn a_body_is_never_of_two_objects() {
        let inner = Arc::new(InMemory::new());
        let path = Path::from("a");
        inner.put(&path, "first version".into()).await.unwrap();
        let breaks_once =
            |number, _: &str, _: &Path| if number == 0 { Fault::After } else { Fault::None };
        let faulty = Faulty::new(Arc::clone(&inner) as _, breaks_once);
        let store = Patient::new(Arc::new(faulty), quick());
        let found = store.get(&path).await.unwrap();
        inner.put(&path, "other version".into()).await.unwrap();
        assert!(matches!(found.bytes().await, Err(Error::Precondition { .. })));
    }

    #[tokio::test]
    async fn a_broken_listing_gives_every_object_once() {
        let (_, store) = with(&[Fault::None, Fault::None, Fault::After, Fault::Stall]);
        for name in ["a", "b"] {
            store.put(&Path::from(name), "x".into()).await.unwrap();
        }
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 2);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_again_and_again_is_asked_for_at_clouds_too() {
        let faults = Mutex::new(vec![Fault::None, Fault::After, Fault::After, Fault::After]);
        let next = move |_, _: &str, _: &Path| faults.lock().unwrap().pop().unwrap_or(Fault::None);
        let inner = Arc::new(InMemory::new());
        inner.put(&Path::from("a"), "x".into()).await.unwrap();
        let store = Patient::of_retrying(Arc::new(Faulty::new(inner, next)));
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
    }

    #[tokio::test]
    async fn a_delete_whose_answer_was_lost_has_deleted() {
        let (_, store) = with(&[Fault::None, Fault::After]);
        store.put(&Path::from("a"), "x".into()).await.unwrap();
        store.delete(&Path::from("a")).await.unwrap();
        assert!(store.head(&Path::from("a")).await.is_err());
    }
}
