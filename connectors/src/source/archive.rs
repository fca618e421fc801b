//! What sources of archives have in common before a member is read: whether there is one archive, whether its
//! members can be referred to, and what its first members are called.

use std::sync::Arc;

use anabranch_pipelines::source::{SourceError, Split};
use globset::GlobMatcher;

use super::member::SAMPLED;
use super::object::{Failure, Object, packed};
use super::scan::Open;
use super::tar::members::Members;

/// How names of tar archives end.
pub(super) const TAR: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];
/// How names of zip archives end.
pub(super) const ZIP: [&str; 1] = [".zip"];

/// A range of the unpacked bytes is no range of the object.
const NO_REFERENCES: &str = "members of a packed archive cannot be read alone; unpack it to `.tar`, or leave `references` out";

/// Whether a path is that of one archive, so that its members' names tell them apart: one without a wildcard,
/// which ends as archives do.
pub(super) fn one(path: &str, endings: &[&str]) -> bool {
    let name = path.to_ascii_lowercase();
    !path.contains(['*', '?', '[', '{']) && endings.iter().any(|end| name.ends_with(end))
}

/// Refuses references to members of archives that may be packed.
pub(super) fn refer_to_any(references: bool, may_be_packed: bool) -> Result<(), SourceError> {
    match references && may_be_packed {
        true => Err(SourceError::Options(format!("`references = true`: {NO_REFERENCES}"))),
        false => Ok(()),
    }
}

/// Refuses references to members of these archives if one of them is packed.
pub(super) fn refer_to(references: bool, splits: &[Split]) -> Result<(), SourceError> {
    match splits.iter().find(|split| references && packed(&split.name)) {
        Some(split) => Err(SourceError::Options(format!(
            "`references = true`, but `{}` is there: {NO_REFERENCES}",
            split.name
        ))),
        None => Ok(()),
    }
}

/// Refuses references to members of this archive if it is packed, as one may be that came while a stream was
/// running.
pub(super) fn refer_within(references: bool, object: &Object) -> Result<(), Failure> {
    match references && object.size().is_none() {
        true => Err(Failure::Damaged(NO_REFERENCES.to_owned())),
        false => Ok(()),
    }
}

/// The first names in the first tar archive with any that a pattern lets through, or else why there are none.
pub(super) fn names(
    splits: &[Split],
    open: &Open<'_>,
    pattern: Option<&Arc<GlobMatcher>>,
) -> Result<Result<Vec<String>, String>, SourceError> {
    let mut why = "there is none".to_owned();
    for split in splits {
        let mut names = Vec::new();
        let mut look = || -> Result<(), Failure> {
            let mut members = Members::new(open(split)?, pattern.cloned());
            while names.len() < SAMPLED
                && let Some(found) = members.next()?
            {
                names.push(found.name);
            }
            Ok(())
        };
        match look() {
            _ if split.bytes == 0 => why = "it is empty".to_owned(),
            Err(Failure::Store(error)) => return Err(error),
            Err(Failure::Damaged(error)) => {
                why = format!("it is no tar archive, or a damaged one: {error}");
            }
            Ok(()) => why = without_files(pattern.map(|only| only.glob().glob())),
        }
        if !names.is_empty() {
            return Ok(Ok(names));
        }
    }
    Ok(Err(why))
}

/// What an archive is called that has no members, or none that a pattern lets through.
pub(super) fn without_files(pattern: Option<&str>) -> String {
    match pattern {
        None => "it is an archive without files".to_owned(),
        Some(only) => format!("no file fits `members = {only:?}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_archive_is_named_whole() {
        for path in ["a.tar", "s3://b/A.TAR.GZ", "x/y.tzst"] {
            assert!(one(path, &TAR), "{path}");
        }
        for path in ["*.tar", "a", "a.zip", "t-{0..2}.tar", "a.tar/"] {
            assert!(!one(path, &TAR), "{path}");
        }
        assert!(one("a.ZIP", &ZIP));
    }
}
