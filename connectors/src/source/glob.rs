//! Objects by path, folder or glob.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_pipelines::source::{SourceError, Split};
use anabranch_pipelines::store::Location;
use futures::stream::{self, StreamExt, TryStreamExt};
use globset::{GlobBuilder, GlobMatcher};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{braces, local};

/// Objects that are asked for at a time.
const REQUESTS: usize = 16;

/// A pattern over the objects of one store.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    /// The part before the first wildcard: keys are relative to it.
    pub(super) root: Location,
    pattern: Option<Pattern>,
    /// How many folders deep the pattern reaches, its own one being the first.
    depth: usize,
    written: String,
}

/// What keys must be.
#[derive(Debug, Clone)]
enum Pattern {
    Glob(GlobMatcher),
    /// Exactly these, all of which must be there.
    Names(Arc<BTreeSet<String>>),
}

impl Objects {
    /// Understands `dir/*.png`, `dir/**`, `dir/{000..146}.tar`, a folder or a single object.
    ///
    /// What matches nothing, but is the name of a file or folder on this machine's disk as it stands, is that:
    /// names have brackets.
    pub(super) fn parse(pattern: &str) -> Result<Self, SourceError> {
        let wild = pattern.find(['*', '?', '[', '{']);
        let parsed = Self::split_at(pattern, wild);
        if wild.is_none() || pattern.contains("://") || !Path::new(pattern).exists() {
            return parsed;
        }
        match parsed {
            Ok(objects) if objects.has_local()? => Ok(objects),
            _ => Self::split_at(pattern, None),
        }
    }

    /// A pattern whose first wildcard is there.
    fn split_at(pattern: &str, wild: Option<usize>) -> Result<Self, SourceError> {
        let error =
            |message: String| SourceError::Options(format!("`path = {pattern:?}`: {message}"));
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
            glob if braces::count(glob) && glob.contains(['*', '?', '[']) => {
                let message = "a range of numbers in braces stands beside no other wildcard";
                return Err(error(message.to_owned()));
            }
            glob if braces::count(glob) => {
                let names = braces::expand(glob).map_err(error)?.into_iter().collect();
                Some(Pattern::Names(Arc::new(names)))
            }
            glob => {
                let glob = pattern_of(glob).map_err(|e| error(e.to_string()))?;
                Some(Pattern::Glob(glob.compile_matcher()))
            }
        };
        let depth = match glob {
            "" => usize::MAX,
            glob if glob.contains("**") => usize::MAX,
            glob => glob.matches('/').count() + 1,
        };
        Ok(Self { root, pattern: matcher, depth, written: pattern.to_owned() })
    }

    /// Whether any file on this machine's disk matches.
    fn has_local(&self) -> Result<bool, SourceError> {
        let Some(root) = self.root.local_path() else { return Ok(false) };
        Ok(local::first(&root, self.depth, |key| self.fits(key).then_some(()))?.is_some())
    }

    /// Whether an object that is listed is whole: a file on a disk may still be written.
    pub(super) fn are_whole(&self) -> bool {
        self.root.local_path().is_none()
    }

    /// The objects that match, in order of their keys.
    pub(super) async fn list(&self) -> Result<Vec<Split>, SourceError> {
        if let Some(split) = self.single().await {
            return Ok(vec![split]);
        }
        let names = match &self.pattern {
            Some(Pattern::Names(names)) => Some(names),
            _ => None,
        };
        let mut splits = match self.root.local_path() {
            Some(root) => {
                let objects = self.clone();
                let list = move || local::list(&root, objects.depth, |key| objects.fits(key));
                tokio::task::spawn_blocking(list).await.map_err(lost)??
            }
            // The web lists nothing.
            None if self.root.url.starts_with("http") && names.is_some() => {
                self.named(names.into_iter().flat_map(|names| names.iter())).await?
            }
            None => {
                let split = |object: &ObjectMeta| Some(split(self.key(object)?.into(), object));
                self.listed().await?.iter().filter_map(split).collect()
            }
        };
        splits.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(names) = names.filter(|names| names.len() > splits.len()) {
            let there: BTreeSet<&str> = splits.iter().map(|split| split.name.as_str()).collect();
            let missing = names.iter().find(|name| !there.contains(name.as_str()));
            return Err(SourceError::Nothing {
                location: missing.map_or_else(String::new, |name| self.root.join(name).url),
                hint: format!(
                    "of the {} objects that `{}` names, {} are there",
                    names.len(),
                    self.written,
                    splits.len()
                ),
            });
        }
        if splits.is_empty() {
            return Err(SourceError::Nothing {
                location: self.written.clone(),
                hint: self.why_nothing().to_owned(),
            });
        }
        Ok(splits)
    }

    /// Why nothing was listed, and what to do.
    fn why_nothing(&self) -> &'static str {
        let there = self.root.local_path().map(|root| root.exists());
        match (there, &self.pattern) {
            (Some(false), None) => "there is no such file or folder",
            (Some(false), Some(_)) => "there is no such folder",
            (Some(true), None) => {
                "the folder has no files, but for ones whose names begin with `.` or `_`"
            }
            _ => "check the path; `*` stays inside a folder, `**/` goes into folders",
        }
    }

    /// The key of the first listed object, as the store lists them, of which `says` says something; and that.
    pub(super) async fn first<T>(
        &self,
        says: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SourceError> {
        if let Some(split) = self.single().await {
            return Ok(says(&split.name));
        }
        if let Some(root) = self.root.local_path() {
            let says = |key: &str| self.fits(key).then(|| says(key)).flatten();
            return local::first(&root, self.depth, says);
        }
        let mut listed = self.root.store.list(Some(&self.root.path));
        while let Some(object) = listed.try_next().await.map_err(|e| self.failed(e))? {
            if let Some(said) = self.key(&object).and_then(&says) {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    /// The object that a pattern without wildcards names, if it is one and no folder.
    async fn single(&self) -> Option<Split> {
        if self.pattern.is_some() {
            return None;
        }
        let name = self.root.path.filename()?.to_owned();
        Some(Split { name, ..look(&self.root).await.ok()? })
    }

    /// Those of these objects that are there.
    async fn named(&self, names: impl Iterator<Item = &String>) -> Result<Vec<Split>, SourceError> {
        let look = |name: &String| {
            let (name, at) = (name.clone(), self.root.join(name));
            async move {
                match look(&at).await {
                    Ok(found) => Ok(Some(Split { name, ..found })),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(source) => Err(SourceError::Store { location: at.url, source }),
                }
            }
        };
        let looks: Vec<_> = names.map(look).collect();
        let found = stream::iter(looks).buffered(REQUESTS);
        found.try_filter_map(|found| async move { Ok(found) }).try_collect().await
    }

    /// All objects below the root that the pattern may reach.
    async fn listed(&self) -> Result<Vec<ObjectMeta>, SourceError> {
        let root = Some(&self.root.path);
        if self.depth == 1 {
            // One folder may hold millions of objects in folders that the pattern does not reach.
            let listed = self.root.store.list_with_delimiter(root).await;
            return listed.map(|listed| listed.objects).map_err(|e| self.failed(e));
        }
        self.root.store.list(root).try_collect().await.map_err(|e| self.failed(e))
    }

    fn failed(&self, source: object_store::Error) -> SourceError {
        SourceError::Store { location: self.root.url.clone(), source }
    }

    /// The key of a listed object that matches.
    fn key<'a>(&self, object: &'a ObjectMeta) -> Option<&'a str> {
        let key = object.location.as_ref().strip_prefix(self.root.path.as_ref())?;
        let key = key.trim_start_matches('/');
        self.fits(key).then_some(key)
    }

    fn fits(&self, key: &str) -> bool {
        let hidden = key.split('/').any(|part| part.starts_with(['.', '_']));
        match &self.pattern {
            Some(Pattern::Glob(glob)) => glob.is_match(key),
            Some(Pattern::Names(names)) => names.contains(key),
            None => !hidden,
        }
    }

    /// Whether the pattern names packed objects.
    pub(super) fn may_be_packed(&self) -> bool {
        super::object::packed(&self.written)
    }

    /// Where listed objects are on this machine's disk, if they are there.
    pub(super) fn local_paths(&self) -> Option<impl Fn(&Split) -> PathBuf + use<'_>> {
        let root = self.root.local_path()?;
        let path = move |split: &Split| {
            if self.is_root(split) { root.clone() } else { root.join(&split.name) }
        };
        Some(path)
    }

    /// Whether the pattern names this object alone.
    fn is_root(&self, split: &Split) -> bool {
        self.pattern.is_none() && self.root.path.filename() == Some(split.name.as_str())
    }

    /// The place of a listed object.
    pub(super) fn location(&self, split: &Split) -> Location {
        match self.is_root(split) {
            true => self.root.clone(),
            false => self.root.join(&split.name),
        }
    }
}

fn split(name: String, object: &ObjectMeta) -> Split {
    Split { name, bytes: object.size, version: version(object) }
}

/// An object as a listing would tell it now, but for its name.
pub(in crate::source) async fn look(at: &Location) -> Result<Split, object_store::Error> {
    versioned(at).await.map(|(split, _)| split)
}

/// The same, and the ETag by which its store knows this version of it.
pub(in crate::source) async fn versioned(
    at: &Location,
) -> Result<(Split, Option<String>), object_store::Error> {
    let Some(path) = at.local_path() else {
        let found = at.store.head(&at.path).await?;
        return Ok((split(String::new(), &found), found.e_tag));
    };
    let found = tokio::fs::metadata(&path).await.and_then(|found| match found.is_file() {
        true => Ok(found),
        false => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "it is no file")),
    });
    match found {
        Ok(found) => Ok((local::split(String::new(), &found), None)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(object_store::Error::NotFound { path: at.url.clone(), source: error.into() })
        }
        Err(error) => Err(object_store::Error::Generic { store: "local", source: error.into() }),
    }
}

fn lost(error: tokio::task::JoinError) -> SourceError {
    SourceError::Options(format!("a listing thread was lost: {error}"))
}

/// What tells a changed object from this one.
fn version(object: &ObjectMeta) -> String {
    let modified = object.last_modified.timestamp_micros();
    object.e_tag.clone().unwrap_or_else(|| format!("{modified}-{}", object.size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::{block_on, folder, path};

    fn names(pattern: &str) -> Vec<String> {
        let listed = block_on(Objects::parse(pattern).unwrap().list()).unwrap();
        listed.into_iter().map(|split| split.name).collect()
    }

    #[test]
    fn a_name_with_brackets_is_a_name_where_it_matches_nothing() {
        let folder = folder(&[("a #1%20[x].png", b""), ("b[12].png", b""), ("b1.png", b"")]);
        assert_eq!(names(&path(&folder, "a #1%20[x].png")), ["a #1%20[x].png"]);
        assert_eq!(names(&path(&folder, "b[12].png")), ["b1.png"]);
        std::fs::create_dir(folder.path().join("{in")).unwrap();
        std::fs::write(folder.path().join("{in/c.png"), "").unwrap();
        assert_eq!(names(&path(&folder, "{in")), ["c.png"]);
    }

    #[test]
    fn all_names_of_a_range_must_be_there() {
        let folder = folder(&[("a-08.tar", b""), ("a-09.tar", b""), ("a-10.tar", b"")]);
        assert_eq!(names(&path(&folder, "a-{08..10}.tar")), ["a-08.tar", "a-09.tar", "a-10.tar"]);
        let more = Objects::parse(&path(&folder, "a-{08..12}.tar")).unwrap();
        let error = block_on(more.list()).unwrap_err().to_string();
        assert!(error.contains("a-11.tar: of the 5 objects"), "{error}");
        let both = Objects::parse(&path(&folder, "*-{08..12}.tar")).unwrap_err().to_string();
        assert!(both.contains("beside no other wildcard"), "{both}");
    }

    #[test]
    fn an_empty_folder_is_no_missing_one() {
        let folder = folder(&[]);
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/.hidden"), "").unwrap();
        for (pattern, why) in [
            ("in", "the folder has no files"),
            ("inn", "there is no such file or folder"),
            ("inn/*.png", "there is no such folder"),
            ("in/d[x].png", "check the path"),
        ] {
            let objects = Objects::parse(&path(&folder, pattern)).unwrap();
            let error = block_on(objects.list()).unwrap_err().to_string();
            assert!(error.contains(&format!("{pattern}: {why}")), "{error}");
        }
    }
}
