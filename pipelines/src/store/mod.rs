//! Object stores by URL or path.
//!
//! ```
//! use anabranch_pipelines::store::Location;
//!
//! let here = Location::parse("memory://doc/tables/photos")?;
//! assert_eq!(here.join("data").url, "memory://doc/tables/photos/data");
//! # Ok::<(), anabranch_pipelines::store::LocationError>(())
//! ```
//!
//! Every store but the local disk is asked again when it fails for a moment or stalls ([`Patient`]).
//! [`mount`] puts a store of one's own under a URL.
//!
//! # Credentials and endpoints
//!
//! Clients of buckets are set up by the environment variables that `object_store` reads. Of S3 they are
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and `AWS_REGION`, or what the machine's role
//! gives. Another server that speaks S3 (MinIO, Ceph, R2) is named by `AWS_ENDPOINT_URL`; one without TLS needs
//! `AWS_ALLOW_HTTP=true` as well:
//!
//! ```text
//! AWS_ENDPOINT_URL=http://127.0.0.1:9000 AWS_ALLOW_HTTP=true AWS_REGION=us-east-1 \
//! AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... anabranch run job.toml --set out=s3://bucket/photos
//! ```
//!
//! Google Cloud Storage takes `GOOGLE_APPLICATION_CREDENTIALS`, Azure `AZURE_STORAGE_ACCOUNT_NAME` and
//! `AZURE_STORAGE_ACCOUNT_KEY`. A server must honour conditional puts (`If-None-Match: *`): the run log stands on
//! them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use thiserror::Error;
use url::Url;

mod body;
mod fault;
mod fetch;
mod leftovers;
mod mount;
mod patient;
mod version;
mod web;

pub use fault::{explain, refusal};
pub use fetch::StoreFetcher;
pub use mount::mount;
pub use patient::{Patience, Patient};
pub use version::range_of_version;

/// A place in an object store.
#[derive(Debug, Clone)]
pub struct Location {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The path in it.
    pub path: Path,
    /// The same as an absolute URL, for people and references.
    pub url: String,
}

/// A location that cannot be used.
#[derive(Debug, Error)]
#[error(
    "`{location}` is no location: {message}; write a path, or a URL of scheme file, s3, gs, az, http, https or memory"
)]
pub struct LocationError {
    location: String,
    message: String,
}

/// Stores of `memory://NAME/`, the same for all who name it in this process.
static MEMORY: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

/// Clients of buckets, by the part of a URL before its path.
static CLIENTS: LazyLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> =
    LazyLock::new(Mutex::default);

/// A client of the store that a URL names, and the path in it.
fn client(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    let (store, path) =
        object_store::parse_url_opts(url, std::env::vars()).map_err(|e| e.to_string())?;
    Ok((Arc::new(Patient::of_retrying(Arc::from(store))), path))
}

impl Location {
    /// The place that a path or URL names. Nothing is read or created.
    ///
    /// ```
    /// # use anabranch_pipelines::store::Location;
    /// let error = Location::parse("~/photos").unwrap_err().to_string();
    /// assert!(error.starts_with("`~/photos` is no location: only a shell expands `~`"));
    /// ```
    ///
    /// Local files are written with fsync: a shard is durable before an entry names it.
    ///
    /// # Errors
    /// When the scheme is unknown or a store refuses its options.
    pub fn parse(location: &str) -> Result<Self, LocationError> {
        let error = |message: String| LocationError { location: location.to_owned(), message };
        if location == "~" || location.starts_with("~/") {
            let message = "only a shell expands `~`, and a folder of that name is written `./~`";
            return Err(error(message.to_owned()));
        }
        if !location.contains("://") {
            return Self::local(std::path::Path::new(location)).map_err(error);
        }
        let url = Url::parse(location).map_err(|e| error(e.to_string()))?;
        let path = || Path::from_url_path(url.path()).map_err(|e| error(e.to_string()));
        let written = || location.trim_end_matches('/').to_owned();
        if let Some(store) = mount::mounted(&url) {
            return Ok(Self { store, path: path()?, url: written() });
        }
        match url.scheme() {
            "file" => {
                let path =
                    url.to_file_path().map_err(|()| error("it is no absolute path".into()))?;
                Self::local(&path).map_err(error)
            }
            "memory" => {
                let name = url.host_str().unwrap_or_default().to_owned();
                let mut stores = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
                let store = Arc::clone(stores.entry(name).or_default());
                Ok(Self { store, path: path()?, url: written() })
            }
            // One client, and so one pool of connections, for all places of a bucket.
            "s3" | "s3a" | "gs" | "az" | "abfs" | "abfss" => {
                let bucket = url[..url::Position::BeforePath].to_owned();
                let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
                let store = match clients.entry(bucket) {
                    Entry::Occupied(there) => Arc::clone(there.get()),
                    Entry::Vacant(new) => Arc::clone(new.insert(client(&url).map_err(error)?.0)),
                };
                Ok(Self { store, path: path()?, url: written() })
            }
            "http" | "https" => {
                let (store, path) = web::store(&url).map_err(error)?;
                Ok(Self { store, path, url: written() })
            }
            _ => {
                let (store, path) = client(&url).map_err(error)?;
                Ok(Self { store, path, url: written() })
            }
        }
    }

    fn local(path: &std::path::Path) -> Result<Self, String> {
        let path = std::path::absolute(path).map_err(|e| e.to_string())?;
        // `..` has no meaning in an object store; resolve it here, without asking the disk.
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                std::path::Component::ParentDir => {
                    plain.pop();
                }
                std::path::Component::CurDir => {}
                other => plain.push(other),
            }
        }
        let url = Url::from_file_path(&plain).map_err(|()| "it is no absolute path".to_owned())?;
        let path = Path::from_absolute_path(&plain).map_err(|e| e.to_string())?;
        let store = Arc::new(LocalFileSystem::new().with_fsync(true));
        Ok(Self { store, path, url: url.as_str().trim_end_matches('/').to_owned() })
    }

    /// The place of this name below this one, a name as a listing tells it: nothing in it is encoded.
    ///
    /// ```
    /// # use anabranch_pipelines::store::Location;
    /// let odd = Location::parse("memory://doc/in")?.join("a/50% #1?.png");
    /// assert_eq!(odd.path.as_ref(), "in/a/50% #1?.png");
    /// assert_eq!(Location::parse(&odd.url)?.path, odd.path);
    /// assert_eq!(odd.url, "memory://doc/in/a/50%25%20%231%3F.png");
    /// # Ok::<(), anabranch_pipelines::store::LocationError>(())
    /// ```
    #[must_use]
    pub fn join(&self, below: &str) -> Self {
        let whole = match self.path.as_ref() {
            "" => below.to_owned(),
            path => format!("{path}/{below}"),
        };
        let encoded = |_| below.split('/').fold(self.path.clone(), |path, part| path.join(part));
        let path = Path::parse(whole).unwrap_or_else(encoded);
        let mut url = Url::parse(&self.url).ok();
        let extended = url.as_mut().and_then(|url| {
            url.path_segments_mut().ok()?.pop_if_empty().extend(below.split('/'));
            Some(())
        });
        let url = match (url, extended) {
            (Some(url), Some(())) => url.into(),
            _ => format!("{}/{below}", self.url),
        };
        Self { store: Arc::clone(&self.store), path, url }
    }

    /// The path on this machine's disk, if that is where it is.
    pub fn local_path(&self) -> Option<PathBuf> {
        Url::parse(&self.url).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
    }
}
