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
        let found = match entry {
            Err(error) if error.loop_ancestor().is_some() => return Err(looped(&error)),
            entry => entry.map_err(io::Error::from).and_then(|entry| Ok(entry.metadata()?)),
        };
        match found {
            Ok(found) => splits.push(split(key, &found)),
            // A link to nothing is listed, so that whoever reads it refuses it and nobody misses it; any other
            // file was deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let link = std::fs::symlink_metadata(root.join(&key));
                splits
                    .extend(link.ok().filter(Metadata::is_symlink).map(|found| split(key, &found)));
            }
            Err(error) => return Err(failed(root, &key, error)),
        }
    }
    Ok(splits)
}

/// Why the file at `path`, which was listed, is not found.
pub(super) fn gone(path: &Path) -> &'static str {
    match path.is_symlink() {
        true => "it is a link to a file that is not there",
        false => "it is not there any more",
    }
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
            let place = error.path().unwrap_or(root);
            let key = place.strip_prefix(root).unwrap_or(place).to_string_lossy().into_owned();
            let is_gone = error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound);
            (!is_gone || fits(&key)).then_some((key, Err(error)))
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

/// A link to a folder above it, which would be read without end.
fn looped(error: &walkdir::Error) -> SourceError {
    let show = |path: Option<&Path>| path.unwrap_or(Path::new("?")).display().to_string();
    SourceError::Format {
        location: show(error.path()),
        message: format!(
            "the link leads back to {}, a folder that it is in; remove it, or name the files by a pattern \
             without `**/`, which goes into no folders",
            show(error.loop_ancestor())
        ),
    }
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
        let one = ["1.png", "broken.png", "link.png", "odd #1%20[x].png"];
        assert_eq!(names(1), one);
        assert_eq!(names(9).len(), one.len() + 2);
        let text = |key: &str| key.ends_with(".txt").then(|| key.to_owned());
        assert_eq!(first(root, 9, text).unwrap().unwrap(), "2.txt");
        assert_eq!(list(&root.join("none"), 9, |_| true).unwrap(), []);
    }

    #[test]
    fn a_link_to_a_folder_above_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).unwrap();
        let error = list(folder.path(), 9, |_| true).unwrap_err().to_string();
        assert!(error.contains("a/up: the link leads back to"), "{error}");
        assert!(error.contains("remove it"), "{error}");
        assert_eq!(list(folder.path(), 1, |_| true).unwrap(), []);
    }
}
