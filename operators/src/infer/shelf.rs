//! Where artifacts stand: a folder or URL that is one, or holds some at any depth.
//!
//! Folders whose names begin with `_` or `.` are not looked into: what stands there is not published.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anabranch_models::artifact::{Artifact, ArtifactError, CARD, Card, WEIGHTS};
use anabranch_pipelines::operator::{Context, FetchError, Listed};
use anabranch_pipelines::record::Reference;
use anabranch_pipelines::store::{Location, LocationError};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Bytes of a card, at most.
const LARGEST_CARD: u64 = 16 << 20;
/// Objects that are listed, at most.
const MOST: usize = 1 << 20;
/// Folders in folders that are looked into, at most: links may lead in circles.
const DEPTH: usize = 16;

/// A place that is an artifact or holds some.
#[derive(Debug, Clone)]
pub struct Shelf {
    place: Location,
    /// Files of this machine are read without a store.
    local: Option<PathBuf>,
}

/// An artifact of a shelf, not opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its folder below the shelf; empty where the shelf itself is the artifact.
    pub name: String,
    /// When anything of it was last written, in milliseconds since 1970.
    pub modified: i64,
    /// Bytes of its card and of its weights, where they are there.
    pub card_bytes: u64,
    /// See `card_bytes`.
    pub weights_bytes: Option<u64>,
}

/// Why there is no artifact.
#[derive(Debug, Error)]
pub enum ShelfError {
    /// It is no place.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A store or disk does not give it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not as it was written.
    #[error("artifact {at}: {source}")]
    Artifact {
        /// Where.
        at: String,
        /// What is wrong.
        source: ArtifactError,
    },
    /// Nothing is there.
    #[error("there is no artifact at {at}: no `card.json` stands in it or below it")]
    Empty {
        /// Where.
        at: String,
    },
    /// Another one is there.
    #[error("the card of {at} has the SHA-256 {found}, not {expected}")]
    Other {
        /// Where.
        at: String,
        /// What it is.
        found: String,
        /// What was asked for.
        expected: String,
    },
}

impl ShelfError {
    /// Whether it may be otherwise when it is looked for again.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.passing)
    }
}

/// An artifact that was opened, and the SHA-256 of its card, which has that of its weights.
#[derive(Debug)]
pub struct Opened {
    /// The artifact.
    pub artifact: Artifact,
    /// In hexadecimal digits.
    pub sha256: String,
    /// Bytes of both files.
    pub bytes: u64,
}

impl Shelf {
    /// The shelf at a path or URL. Nothing is read.
    ///
    /// # Errors
    /// When it is no place.
    pub fn at(place: &str) -> Result<Self, ShelfError> {
        let place = Location::parse(place)?;
        Ok(Self { local: place.local_path(), place })
    }

    /// Whether it is on this machine's disk.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// Where an entry stands, for people.
    pub fn place(&self, entry: &str) -> String {
        match (&self.local, entry) {
            (Some(folder), "") => folder.display().to_string(),
            (Some(folder), entry) => folder.join(entry).display().to_string(),
            (None, "") => self.place.url.clone(),
            (None, entry) => self.place.join(entry).url,
        }
    }

    /// The artifacts that are there, in order of names. One whose card is not written yet is none.
    ///
    /// # Errors
    /// When the place cannot be listed. A folder that is not there holds none.
    pub fn list(&self, context: &Context) -> Result<Vec<Entry>, ShelfError> {
        let listed = match &self.local {
            Some(folder) => local(folder)?,
            None => context.list(&self.place.url, MOST)?,
        };
        Ok(entries(&listed))
    }

    /// The card of an entry, checked, and its SHA-256.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn card(&self, entry: &str, context: &Context) -> Result<(Card, String), ShelfError> {
        let bytes = self.read(entry, CARD, LARGEST_CARD, context)?;
        let card = Card::read(&bytes).map_err(|source| self.damaged(entry, source))?;
        Ok((card, hash(&bytes)))
    }

    /// Opens an entry: all of it is read and checked.
    ///
    /// # Errors
    /// When a file cannot be read, or anything of it is not as it was written.
    pub fn open(&self, entry: &str, context: &Context) -> Result<Opened, ShelfError> {
        let bytes = self.read(entry, CARD, LARGEST_CARD, context)?;
        let damaged = |source| self.damaged(entry, source);
        let card = Card::read(&bytes).map_err(damaged)?;
        // One byte more, so that a file that is too long is told as that.
        let most = card.files.get(WEIGHTS).map_or(0, |file| file.bytes.saturating_add(1));
        let weights = self.read(entry, WEIGHTS, most, context)?;
        let artifact = Artifact::from_bytes(&bytes, &weights).map_err(damaged)?;
        let held = bytes.len() as u64 + weights.len() as u64;
        Ok(Opened { artifact, sha256: hash(&bytes), bytes: held })
    }

    fn damaged(&self, entry: &str, source: ArtifactError) -> ShelfError {
        ShelfError::Artifact { at: self.place(entry), source }
    }

    fn read(
        &self,
        entry: &str,
        file: &str,
        most: u64,
        context: &Context,
    ) -> Result<bytes::Bytes, ShelfError> {
        let name = if entry.is_empty() { file.to_owned() } else { format!("{entry}/{file}") };
        let Some(folder) = &self.local else {
            let uri = self.place.join(&name).url;
            let read = context.fetch(&[Reference { uri: uri.clone(), range: None }], most).pop();
            let message = "it was not read".to_owned();
            let lost = || Err(FetchError { path: uri, message, passing: true });
            return Ok(read.unwrap_or_else(lost)?);
        };
        let path = folder.join(name);
        let failed = |e: std::io::Error| failed(&path, &e);
        let bytes = fs::metadata(&path).map_err(failed)?.len();
        if bytes > most {
            let message = format!("it has {bytes} bytes, of at most {most}");
            let path = path.display().to_string();
            return Err(FetchError { path, message, passing: false }.into());
        }
        Ok(fs::read(&path).map_err(failed)?.into())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> FetchError {
    let passing = error.kind() != std::io::ErrorKind::NotFound;
    FetchError { path: path.display().to_string(), message: error.to_string(), passing }
}

/// SHA-256 in hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of artifacts below a folder of this machine.
fn local(folder: &Path) -> Result<Vec<Listed>, FetchError> {
    let mut listed = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((path, below, depth)) = folders.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // One that went while the others were looked at.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| failed(&path, &e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(facts) = fs::metadata(entry.path()) else { continue };
            let below = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            if facts.is_dir() && depth < DEPTH {
                folders.push((entry.path(), below, depth + 1));
            } else if facts.is_file() && (name == CARD || name == WEIGHTS) {
                let modified =
                    facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let modified = modified.map_or(0, |since| since.as_millis());
                let modified = i64::try_from(modified).unwrap_or(i64::MAX);
                listed.push(Listed { name: below, bytes: facts.len(), modified });
            }
        }
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// The artifacts among these files, both in order of names.
fn entries(listed: &[Listed]) -> Vec<Entry> {
    let of = |file: &Listed| {
        let name = match file.name.rsplit_once('/') {
            Some((folder, CARD)) => folder,
            None if file.name == CARD => "",
            _ => return None,
        };
        if name.split('/').any(|part| part.starts_with(['_', '.'])) {
            return None;
        }
        let weights =
            if name.is_empty() { WEIGHTS.to_owned() } else { format!("{name}/{WEIGHTS}") };
        let at = listed.binary_search_by(|file| file.name.as_str().cmp(&weights)).ok();
        let weights = at.and_then(|at| listed.get(at));
        Some(Entry {
            name: name.to_owned(),
            modified: weights.map_or(file.modified, |weights| weights.modified.max(file.modified)),
            card_bytes: file.bytes,
            weights_bytes: weights.map(|weights| weights.bytes),
        })
    };
    let mut entries: Vec<Entry> = listed.iter().filter_map(of).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_folders_with_a_card() {
        let file = |name: &str, bytes| Listed { name: name.to_owned(), bytes, modified: 7 };
        let mut files = vec![
            file("card.json", 1),
            file("weights.safetensors", 2),
            file("runs/b/card.json", 3),
            file("runs/b/weights.safetensors", 4),
            file("runs/c/card.json", 5),
            file("_staging/d/card.json", 6),
            file("runs/.tmp/card.json", 6),
            file("runs/b-2/card.json", 8),
            file("runs/e/weights.safetensors", 6),
            file("runs/f/other-card.json", 6),
        ];
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let entry = |name: &str, card_bytes, weights_bytes| Entry {
            name: name.to_owned(),
            modified: 7,
            card_bytes,
            weights_bytes,
        };
        let expected = [
            entry("", 1, Some(2)),
            entry("runs/b", 3, Some(4)),
            entry("runs/b-2", 8, None),
            entry("runs/c", 5, None),
        ];
        assert_eq!(entries(&files), expected);
    }
}
