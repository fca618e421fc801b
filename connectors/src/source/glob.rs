//! Objects by path, folder or glob.

use anabranch_pipelines::source::{SourceError, Split};
use anabranch_pipelines::store::Location;
use futures::TryStreamExt;
use globset::{GlobBuilder, GlobMatcher};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

/// A pattern over the objects of one store.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    /// The part before the first wildcard: keys are relative to it.
    pub(super) root: Location,
    pattern: Option<GlobMatcher>,
    written: String,
}

impl Objects {
    /// Understands `dir/*.png`, `dir/**`, a folder or a single object.
    pub(super) fn parse(pattern: &str) -> Result<Self, SourceError> {
        let error =
            |message: String| SourceError::Options(format!("`path = {pattern:?}`: {message}"));
        let wild = pattern.find(['*', '?', '[', '{']);
        let (root, glob) = match wild {
            Some(at) => {
                let cut = pattern
                    .get(..at)
                    .and_then(|before| before.rfind('/'))
                    .map_or(0, |slash| slash + 1);
                pattern.split_at(cut)
            }
            None => (pattern, ""),
        };
        let root = Location::parse(if root.is_empty() { "." } else { root })
            .map_err(|e| error(e.to_string()))?;
        let pattern_of = |glob: &str| GlobBuilder::new(glob).literal_separator(true).build();
        let matcher = match glob {
            "" => None,
            glob => Some(pattern_of(glob).map_err(|e| error(e.to_string()))?.compile_matcher()),
        };
        Ok(Self { root, pattern: matcher, written: pattern.to_owned() })
    }

    /// Whether an object that is listed is whole: a file on a disk may still be written.
    pub(super) fn are_whole(&self) -> bool {
        self.root.local_path().is_none()
    }

    /// The objects that match, in order of their keys.
    pub(super) async fn list(&self) -> Result<Vec<Split>, SourceError> {
        let store_error = |source| SourceError::Store { location: self.root.url.clone(), source };
        if self.pattern.is_none()
            && let Ok(object) = self.root.store.head(&self.root.path).await
        {
            let name = object.location.filename().unwrap_or_default().to_owned();
            return Ok(vec![split(name, &object)]);
        }
        let listed: Vec<ObjectMeta> =
            self.root.store.list(Some(&self.root.path)).try_collect().await.map_err(store_error)?;
        let mut splits: Vec<Split> = listed
            .iter()
            .filter_map(|object| Some(split(self.key(object)?.to_owned(), object)))
            .collect();
        splits.sort_by(|a, b| a.name.cmp(&b.name));
        if splits.is_empty() {
            return Err(SourceError::Nothing {
                location: self.written.clone(),
                hint: "check the path; `*` stays inside a folder, `**/` goes into folders"
                    .to_owned(),
            });
        }
        Ok(splits)
    }

    /// The key of the first listed object, as the store lists them, of which `says` says something; and that.
    pub(super) async fn first<T>(
        &self,
        says: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SourceError> {
        let store_error = |source| SourceError::Store { location: self.root.url.clone(), source };
        if self.pattern.is_none()
            && let Ok(object) = self.root.store.head(&self.root.path).await
        {
            return Ok(says(object.location.filename().unwrap_or_default()));
        }
        let mut listed = self.root.store.list(Some(&self.root.path));
        while let Some(object) = listed.try_next().await.map_err(store_error)? {
            if let Some(key) = self.key(&object)
                && let Some(said) = says(key)
            {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    /// The key of a listed object that matches.
    fn key<'a>(&self, object: &'a ObjectMeta) -> Option<&'a str> {
        let key = object.location.as_ref().strip_prefix(self.root.path.as_ref())?;
        let key = key.trim_start_matches('/');
        let hidden = key.split('/').any(|part| part.starts_with(['.', '_']));
        let fits = match &self.pattern {
            Some(pattern) => pattern.is_match(key),
            None => !hidden,
        };
        fits.then_some(key)
    }

    /// Whether the pattern names gzipped objects.
    pub(super) fn may_be_gzipped(&self) -> bool {
        super::object::gzipped(&self.written)
    }

    /// The place of a listed object.
    pub(super) fn location(&self, split: &Split) -> Location {
        match self.pattern.is_none() && self.root.path.filename() == Some(split.name.as_str()) {
            true => self.root.clone(),
            false => self.root.join(&split.name),
        }
    }
}

fn split(name: String, object: &ObjectMeta) -> Split {
    Split { name, bytes: object.size, version: version(object) }
}

/// What tells a changed object from this one.
pub(in crate::source) fn version(object: &ObjectMeta) -> String {
    let modified = object.last_modified.timestamp_micros();
    object.e_tag.clone().unwrap_or_else(|| format!("{modified}-{}", object.size))
}
