//! Stores of one's own under a URL.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use object_store::ObjectStore;
use url::Url;

use super::{LocationError, Patience, Patient};

static MOUNTED: LazyLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> =
    LazyLock::new(Mutex::default);

/// Puts a store under `SCHEME://HOST` for every [`Location`](super::Location) of this process.
///
/// Requests go through a [`Patient`] with this patience, as those to any other store do. What was mounted
/// there before is replaced.
///
/// ```
/// use std::sync::Arc;
/// use anabranch_pipelines::store::{Location, Patience, mount};
/// use object_store::memory::InMemory;
///
/// mount("attic://boxes", Arc::new(InMemory::new()), Patience::default())?;
/// assert_eq!(Location::parse("attic://boxes/letters/1999")?.path.as_ref(), "letters/1999");
/// # Ok::<(), anabranch_pipelines::store::LocationError>(())
/// ```
///
/// # Errors
/// When `prefix` is no URL, or has a path.
pub fn mount(
    prefix: &str,
    store: Arc<dyn ObjectStore>,
    patience: Patience,
) -> Result<(), LocationError> {
    let error = |message: String| LocationError { location: prefix.to_owned(), message };
    let url = Url::parse(prefix).map_err(|e| error(e.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) || !matches!(url.path(), "" | "/") {
        return Err(error("a store is mounted at SCHEME://HOST, without a path".to_owned()));
    }
    let store: Arc<dyn ObjectStore> = Arc::new(Patient::new(store, patience));
    MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).insert(key(&url), store);
    Ok(())
}

/// What is mounted where this URL points, if anything is.
pub(super) fn mounted(url: &Url) -> Option<Arc<dyn ObjectStore>> {
    MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).get(&key(url)).map(Arc::clone)
}

fn key(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.authority())
}
