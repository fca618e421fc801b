//! Members of zip archives as records: `kind = "zip"`.
//!
//! Archives are splits; an offset is the number of a member in the archive's directory, so any member is read
//! alone, from any store. Members that are stored as they are can be referred to; packed ones (deflate, zstd)
//! are read. Folders and links hold no bytes and are no records.
//!
//! ```
//! use anabranch_connectors::source::ZipOptions;
//!
//! let options = serde_json::json!({ "path": "photos/*.zip", "members": "**/*.jpg" });
//! let source = serde_json::from_value::<ZipOptions>(options)?.build()?;
//! assert!(source.abilities().random_access);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split};
use arrow::datatypes::SchemaRef;
use globset::GlobMatcher;
use serde::{Deserialize, Serialize};

use super::archive;
use super::glob::Objects;
use super::labels::{Labels, LabelsOptions};
use super::media::MediaColumn;
use super::member::{self, Columns, Member, SAMPLED};
use super::object::{Failure, Object, Unpacked};
use super::scan::{Format, Located, Open, Scanned, Scanner};

mod directory;
mod entry;
mod members;
#[cfg(test)]
mod tests;

use directory::Directory;
use members::Members;

/// Bytes of directories that are kept, for reads in any order; that of the archive that is being read is kept in any
/// case.
const DIRECTORIES: usize = 64 << 20;

/// Options of `kind = "zip"`: every member of every archive that matches is a record.
///
/// A record's key is the member's name, behind the archive's name where there are several. Columns are
/// those of `kind = "files"`. Of two members with one name the second one is a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZipOptions {
    /// An archive, a folder of archives or a glob, as a path or URL: `"train/*.zip"`.
    pub path: String,
    /// `"image"` or `"audio"`; by default what the members' extensions say.
    pub modality: Option<String>,
    /// Name of the media column; by default the modality.
    pub column: Option<String>,
    /// A glob for names of members, e.g. `"**/*.jpg"`. The others are left out.
    pub members: Option<String>,
    /// Emit references to members that are stored as they are: the operator that needs their bytes reads
    /// them, or nobody. Packed members are read.
    #[serde(default)]
    pub references: bool,
    /// Columns from a table keyed by file name: `{ path = "labels.tsv", key = "file" }`.
    pub labels: Option<LabelsOptions>,
    /// Size of an unpacked member at most; a larger one is a dead letter. Default `"256MiB"`.
    #[serde(default = "member::max_member")]
    #[schemars(with = "String")]
    pub max_member: ByteSize,
    /// Size to which all members of an archive may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

impl ZipOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path, the modality or the pattern is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let objects = Objects::parse(&self.path)?;
        let media = MediaColumn::parse(self.modality.as_deref(), self.column.as_deref())?;
        let members = self.members.as_deref().map(member::pattern).transpose()?;
        let one = archive::one(&self.path, &archive::ZIP);
        let directories = Mutex::default();
        Ok(Arc::new(Scanned::new(objects, Zip { media, members, one, directories, options: self })))
    }
}

struct Zip {
    media: MediaColumn,
    members: Option<GlobMatcher>,
    one: bool,
    directories: Mutex<VecDeque<(Split, Arc<Directory>)>>,
    options: ZipOptions,
}

impl Format for Zip {
    type Row = Member;
    type Columns = Columns;

    fn kind(&self) -> &'static str {
        "zip"
    }

    fn options(&self) -> serde_json::Value {
        let ZipOptions { modality, column, members, references, labels, .. } = &self.options;
        let labels = labels.as_ref().map(|labels| (&labels.key, &labels.types, labels.missing));
        serde_json::json!({
            "modality": modality, "column": column, "members": members, "references": references,
            "labels": labels, "max_member": self.options.max_member,
            "max_unpacked": self.options.max_unpacked,
        })
    }

    fn beside<'a>(&self, columns: &'a Columns) -> Option<&'a str> {
        columns.labels.as_ref().map(Labels::digest)
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, references: true, stable_offsets: false, grows: true }
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: self.options.max_unpacked.map(|size| size.0) }
    }

    fn columns(&self, splits: &[Split], open: &Open<'_>) -> Result<Columns, SourceError> {
        let labels = self.options.labels.as_ref();
        let names = match self.media.modality.is_none() || labels.is_some() {
            true => self.names(splits, open)?,
            false => Vec::new(),
        };
        Columns::of(&self.media, &self.options.path, labels, &names)
    }

    fn schema(&self, columns: &Columns) -> SchemaRef {
        Arc::clone(&columns.schema)
    }

    fn scanner(
        &self,
        _: &Columns,
        mut object: Object,
    ) -> Result<Box<dyn Scanner<Row = Member>>, Failure> {
        let directory = self.directory(&mut object)?;
        Ok(Box::new(Members {
            object,
            directory,
            next: 0,
            folder: !self.one,
            references: self.options.references,
            max_member: self.options.max_member.0.min(i32::MAX as u64),
        }))
    }

    fn batch(
        &self,
        columns: &Columns,
        members: Vec<Located<Member>>,
    ) -> Result<SourceBatch, SourceError> {
        columns.batch(members)
    }
}

impl Zip {
    /// The directory of an archive, which is read once.
    fn directory(&self, object: &mut Object) -> Result<Arc<Directory>, Failure> {
        let lock = || self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, directory)) = lock().iter().find(|(split, _)| split == object.split()) {
            return Ok(Arc::clone(directory));
        }
        let directory = Arc::new(Directory::read(object, self.members.as_ref())?);
        let mut kept = lock();
        let mut all: usize = kept.iter().map(|(_, kept)| kept.bytes()).sum();
        while all + directory.bytes() > DIRECTORIES
            && let Some((_, oldest)) = kept.pop_front()
        {
            all -= oldest.bytes();
        }
        kept.push_back((object.split().clone(), Arc::clone(&directory)));
        Ok(directory)
    }

    /// The first names in the first archive with any member, and else why there are none.
    fn names(&self, splits: &[Split], open: &Open<'_>) -> Result<Vec<String>, SourceError> {
        let mut why = String::new();
        for split in splits {
            let directory = open(split).and_then(|mut object| self.directory(&mut object));
            match directory {
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Damaged(error)) => why = error,
                Ok(directory) if directory.entries.is_empty() => {
                    let only = self.options.members.as_deref();
                    let damage = directory.damage.clone();
                    why = damage.unwrap_or_else(|| archive::without_files(only));
                }
                Ok(directory) => {
                    let names = directory.entries.iter().take(SAMPLED);
                    return Ok(names.map(|entry| entry.name.clone()).collect());
                }
            }
        }
        if self.media.modality.is_some() {
            return Ok(Vec::new());
        }
        Err(SourceError::Format {
            location: splits.last().map_or_else(String::new, |split| split.name.clone()),
            message: format!("no member tells what there is: {why}"),
        })
    }
}
