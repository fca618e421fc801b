//! What files are called, and that no two are called the same.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// Bytes that the names of a part take, mostly.
pub(super) const BYTES: usize = 4 << 20;

/// Bytes of the name of a file or folder, at most, where a disk is to hold them: it is `NAME#1` until it is whole.
const LONGEST: usize = 250;

/// A file of a shard; files follow one another in it without anything between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    /// Below the folder of all files.
    pub(super) path: String,
    /// Its size.
    pub(super) bytes: u64,
}

/// The files of a shard, from what the log says of it.
pub(super) fn files(statistics: &serde_json::Value) -> Vec<File> {
    // What a shard without any says is nothing.
    statistics.get("files").and_then(|files| Vec::deserialize(files).ok()).unwrap_or_default()
}

/// Whether files may be called so; the error is a part of a sentence.
pub(super) fn check(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(odd) = path.chars().find(|c| c.is_control() || *c == '\\') {
        return Err(format!("it has {odd:?}"));
    }
    for part in path.split('/') {
        let unfinished = part.rsplit_once('#').is_some_and(|(_, end)| {
            !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit())
        });
        match part {
            _ if part.len() > LONGEST => {
                return Err(format!(
                    "a part of it has {} bytes, and {LONGEST} is the most",
                    part.len()
                ));
            }
            "" if path.starts_with('/') => return Err("it begins with `/`".to_owned()),
            "" => return Err("a part of it is empty".to_owned()),
            "." | ".." => return Err(format!("it leads elsewhere by `{part}`")),
            _ if unfinished => {
                return Err(format!("`{part}` is how unfinished files of a folder are called"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names that are taken.
#[derive(Debug, Default)]
pub(super) struct Names {
    files: HashSet<String>,
    folders: HashSet<String>,
}

impl Names {
    /// Takes a name; the error is a part of a sentence.
    pub(super) fn add(&mut self, path: &str) -> Result<(), String> {
        if self.files.contains(path) {
            return Err("there is a file of this name already".to_owned());
        }
        if self.folders.contains(path) {
            return Err("there is a folder of this name already".to_owned());
        }
        let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        if let Some(file) = above.clone().find(|folder| self.files.contains(*folder)) {
            return Err(format!("`{file}` is a file already, so it is no folder"));
        }
        for folder in above {
            if !self.folders.contains(folder) {
                self.folders.insert(folder.to_owned());
            }
        }
        self.files.insert(path.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_their_folder() {
        for fine in ["a", "a/b.c", "größe/1 2.jpg", "...", "a#b", "x..y/..z"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for bad in ["", "/a", "a//b", "a/", "..", "a/../b", "./a", "a\\b", "a\0", "a\n", "x#12"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_taken_once_and_a_file_is_no_folder() {
        let mut names = Names::default();
        names.add("a/b").unwrap();
        names.add("a/c").unwrap();
        for taken in ["a/b", "a", "a/b/c"] {
            assert!(names.add(taken).is_err(), "{taken}");
        }
        names.add("b").unwrap();
    }
}
