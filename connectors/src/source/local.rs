//! Files of this machine's disk, listed.
//!
//! One look at each file that matches, none at others: a listing of millions of files is most of what a short
//! job does before its first record.

use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anabranch_pipelines::source::{SourceError, Split};
use walkdir::{DirEntry, WalkDir};

/// The files below `root`, at most `depth` folders deep, whose keys `fits`. No order; none if there is no root.
pub(super) fn list(
    root: &Path,
    depth: usize,
    fits: impl Fn(&str) -> bool,
) -> Result<Vec<Split>, SourceError> {
    let mut splits = Vec::new();
    for (key, entry) in files(root, depth, fits) {
        let found = entry.map_err(io::Error::from).and_then(|entry| Ok(entry.metadata()?));
        match found {
            Ok(found) => splits.push(split(key, &found)),
            // Deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(root, &key, error)),
        }
    }
    Ok(splits)
}

/// What `says` says of the first key of which it says something.
pub(super) fn first<T>(
    root: &Path,
    depth: usize,
    says: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, SourceError> {
    for (key, entry) in files(root, depth, |key| says(key).is_some()) {
        match entry {
            Ok(_) => return Ok(says(&key)),
            Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
            }
            Err(error) => return Err(failed(root, &key, error.into())),
        }
    }
    Ok(None)
}

/// Keys and entries of files that fit, and what could not be looked at.
fn files(
    root: &Path,
    depth: usize,
    fits: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (String, walkdir::Result<DirEntry>)> {
    let walk = WalkDir::new(root).follow_links(true).min_depth(1).max_depth(depth);
    walk.into_iter().filter_map(move |entry| match entry {
        Err(error) => {
            let place = error.path().unwrap_or(root).display().to_string();
            Some((place, Err(error)))
        }
        Ok(entry) if !entry.file_type().is_file() => None,
        Ok(entry) => {
            // A name that is no UTF-8 cannot be a key; it is shown, and matched, with marks for what it lacks.
            let key = entry.path().strip_prefix(root).ok()?.to_string_lossy().into_owned();
            fits(&key).then_some((key, Ok(entry)))
        }
    })
}

/// A file as a split.
pub(super) fn split(name: String, found: &Metadata) -> Split {
    let modified = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.map_or(0, |time| time.as_micros());
    let bytes = found.len();
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(found);
    #[cfg(not(unix))]
    let file = 0;
    Split { name, bytes, version: format!("{file:x}-{modified:x}-{bytes:x}") }
}

fn failed(root: &Path, at: &str, error: io::Error) -> SourceError {
    let source = object_store::Error::Generic { store: "local", source: error.into() };
    SourceError::Store { location: root.join(at).display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_files_are_found_as_deep_as_asked_and_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        for name in ["1.png", "2.txt", "a/3.png", "a/b/4.png", "odd #1%20[x].png"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(root.join("2.txt"), root.join("link.png")).unwrap();
        std::os::unix::fs::symlink(root.join("gone"), root.join("broken.png")).unwrap();
        let names = |depth| {
            let splits = list(root, depth, |key| key.ends_with(".png")).unwrap();
            let mut names: Vec<String> = splits.into_iter().map(|split| split.name).collect();
            names.sort();
            names
        };
        assert_eq!(names(1), ["1.png", "link.png", "odd #1%20[x].png"]);
        assert_eq!(names(9), ["1.png", "a/3.png", "a/b/4.png", "link.png", "odd #1%20[x].png"]);
        let text = |key: &str| key.ends_with(".txt").then(|| key.to_owned());
        assert_eq!(first(root, 9, text).unwrap().unwrap(), "2.txt");
        assert_eq!(list(&root.join("none"), 9, |_| true).unwrap(), []);
    }
}
