//! References: media values that were not read yet.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A range of an object in a store, written `uri#offset+length`.
///
/// A plain URI without a range stands for the whole object. The last `#` separates, so a URI may
/// contain others.
///
/// ```
/// use anabranch_pipelines::record::Reference;
///
/// let reference: Reference = "s3://bucket/train.tar#1536+20481".parse()?;
/// assert_eq!(reference.uri, "s3://bucket/train.tar");
/// assert_eq!(reference.range, Some(1536..1536 + 20481));
/// assert_eq!(reference.to_string(), "s3://bucket/train.tar#1536+20481");
/// # Ok::<(), anabranch_pipelines::record::ReferenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// URL of the object.
    pub uri: String,
    /// Bytes of the object; `None` for all of it.
    pub range: Option<std::ops::Range<u64>>,
}

/// What stands between a URI and the version that is meant.
const VERSION: &str = "#etag=";

impl Reference {
    /// The same object, as long as its store calls it by this ETag: read later, another one is an error.
    ///
    /// The ETag becomes part of the URI, behind `#etag=`, which no server sees. A range that begins with the first
    /// byte stands for the whole object then, and says how large that is; any other one for what it says.
    ///
    /// ```
    /// use anabranch_pipelines::record::Reference;
    ///
    /// let plain = Reference { uri: "https://x.org/a.jpg?w=2".to_owned(), range: Some(0..7) };
    /// let text = plain.at_version("\"1 #2\"").to_string();
    /// assert_eq!(text, "https://x.org/a.jpg?w=2#etag=%221+%232%22#0+7");
    /// let read: Reference = text.parse()?;
    /// assert_eq!(read.version(), ("https://x.org/a.jpg?w=2", Some("\"1 #2\"".to_owned())));
    /// # Ok::<(), anabranch_pipelines::record::ReferenceError>(())
    /// ```
    #[must_use]
    pub fn at_version(self, etag: &str) -> Self {
        let etag: String = url::form_urlencoded::byte_serialize(etag.as_bytes()).collect();
        Self { uri: format!("{}{VERSION}{etag}", self.uri), range: self.range }
    }

    /// The URI without a version, and the ETag if there is one.
    pub fn version(&self) -> (&str, Option<String>) {
        let Some((uri, etag)) = self.uri.rsplit_once(VERSION) else { return (&self.uri, None) };
        let pair = format!("e={etag}");
        let read = url::form_urlencoded::parse(pair.as_bytes()).next();
        (uri, read.map(|(_, etag)| etag.into_owned()))
    }
}

/// A path that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no reference: expected `scheme://...` with an optional `#offset+length`")]
pub struct ReferenceError(String);

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains("://") {
            return Err(ReferenceError(text.to_owned()));
        }
        let range = text.rsplit_once('#').and_then(|(uri, range)| {
            let (offset, length) = range.split_once('+')?;
            let (offset, length): (u64, u64) = (offset.parse().ok()?, length.parse().ok()?);
            Some((uri, offset..offset.checked_add(length)?))
        });
        Ok(match range {
            Some((uri, range)) => Self { uri: uri.to_owned(), range: Some(range) },
            None => Self { uri: text.to_owned(), range: None },
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.range {
            Some(range) => {
                write!(f, "{}#{}+{}", self.uri, range.start, range.end - range.start)
            }
            None => f.write_str(&self.uri),
        }
    }
}
