//! Bytes of one version of an object, and never of another one.

use std::ops::Range;

use bytes::Bytes;
use object_store::{Error, GetOptions, GetRange, Result};

use super::Location;

/// The bytes of a range of an object, as long as its store calls it by this ETag, where one is known.
///
/// ```
/// use anabranch_pipelines::store::{Location, range_of_version};
/// use object_store::ObjectStoreExt;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let at = Location::parse("memory://doc-version/a")?;
/// at.store.put(&at.path, "first".into()).await?;
/// let etag = at.store.head(&at.path).await?.e_tag;
/// assert_eq!(range_of_version(&at, 1..3, etag.as_deref()).await?, "ir");
/// at.store.put(&at.path, "other".into()).await?;
/// assert!(range_of_version(&at, 1..3, etag.as_deref()).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Precondition`] when it is another version, and what else the store says.
pub async fn range_of_version(
    at: &Location,
    range: Range<u64>,
    etag: Option<&str>,
) -> Result<Bytes> {
    let mut options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
    // A weak ETag is equal to nothing in `If-Match`, and a server may not know the header: the answer is compared
    // in any case.
    options.if_match = etag.filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
    let found = at.store.get_opts(&at.path, options).await?;
    if let (Some(etag), Some(there)) = (etag, &found.meta.e_tag)
        && etag != there
    {
        let source = format!("its ETag was {etag} and is {there}").into();
        return Err(Error::Precondition { path: at.path.to_string(), source });
    }
    found.bytes().await
}
