//! Members of archives as records: `kind = "tar"`, for `.tar`, `.tar.gz` and `.tar.zst`.
//!
//! Archives are splits; offsets are positions in the unpacked archive, where a member's headers begin.
//! Regular files are records; folders, links and devices hold no bytes and are none. A packed archive is
//! unpacked from its start, once per worker, and can neither be shuffled nor referred to.

use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split};
use arrow::datatypes::SchemaRef;
use globset::GlobMatcher;
use serde::{Deserialize, Serialize};

use super::glob::Objects;
use super::labels::{Labels, LabelsOptions};
use super::media::MediaColumn;
use super::member::{self, Columns, Member, SAMPLED};
use super::object::{Failure, Object, Unpacked, packed};
use super::scan::{Format, Located, Open, Scanned, Scanner};

mod header;
pub(super) mod members;
#[cfg(test)]
mod tests;

use members::{Members, Scan};

/// A range of the unpacked bytes is no range of the object.
const NO_REFERENCES: &str = "members of a packed archive cannot be read alone; unpack it to `.tar`, or leave `references` out";

/// Options of `kind = "tar"`: every member of every archive that matches is a record.
///
/// A record's key is the member's name, behind the archive's name where there are several. Columns are
/// those of `kind = "files"`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TarOptions {
    /// An archive, a folder of archives or a glob, as a path or URL: `"train/*.tar"`.
    pub path: String,
    /// `"image"` or `"audio"`; by default what the members' extensions say.
    pub modality: Option<String>,
    /// Name of the media column; by default the modality.
    pub column: Option<String>,
    /// A glob for names of members, e.g. `"**/*.jpg"`. The others are left out.
    pub members: Option<String>,
    /// Emit references: members are read by the operator that needs their bytes, or never.
    #[serde(default)]
    pub references: bool,
    /// Columns from a table keyed by file name: `{ path = "labels.tsv", key = "file" }`.
    pub labels: Option<LabelsOptions>,
    /// Size of a member at most; a larger one is a dead letter. Default `"256MiB"`.
    #[serde(default = "member::max_member")]
    #[schemars(with = "String")]
    pub max_member: ByteSize,
    /// Size to which a packed archive may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

impl TarOptions {
    /// The source.
    ///
    /// # Errors
    /// When the path, the modality or the pattern is not understood.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        let objects = Objects::parse(&self.path)?;
        let media = MediaColumn::parse(self.modality.as_deref(), self.column.as_deref())?;
        if self.references && objects.may_be_packed() {
            return Err(SourceError::Options(format!("`references = true`: {NO_REFERENCES}")));
        }
        let members = self.members.as_deref().map(member::pattern).transpose()?;
        // Without a wildcard in a name that ends like an archive's, there is one, and names suffice.
        let one = !self.path.contains(['*', '?', '[', '{'])
            && [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"]
                .iter()
                .any(|end| self.path.ends_with(end));
        Ok(Arc::new(Scanned::new(objects, Tar { media, members, one, options: self })))
    }
}

/// The names of the first members of an archive, or of the first of several that has any: what somebody wants to
/// know who has to choose between kinds of sources.
///
/// # Errors
/// When nothing is there, or its store fails. Archives that cannot be read have no members.
pub async fn first_members(path: &str) -> Result<Vec<String>, SourceError> {
    let objects = Objects::parse(path)?;
    for split in objects.list().await? {
        let location = objects.location(&split);
        let look = move || -> Result<Vec<String>, Failure> {
            let object = Object::open(location, &split, Unpacked { limit: None })?;
            let mut members = Members::new(object, None);
            let mut names = Vec::new();
            // What stands before damage is told.
            while names.len() < SAMPLED
                && let Ok(Some(found)) = members.next()
            {
                names.push(found.name);
            }
            Ok(names)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(names)) if !names.is_empty() => return Ok(names),
            Ok(Err(Failure::Store(error))) => return Err(error),
            Ok(Ok(_) | Err(Failure::Damaged(_))) => {}
            Err(lost) => return Err(SourceError::Options(format!("a thread was lost: {lost}"))),
        }
    }
    Ok(Vec::new())
}

struct Tar {
    media: MediaColumn,
    members: Option<GlobMatcher>,
    one: bool,
    options: TarOptions,
}

impl Format for Tar {
    type Row = Member;
    type Columns = Columns;

    fn kind(&self) -> &'static str {
        "tar"
    }

    fn options(&self) -> serde_json::Value {
        let TarOptions { modality, column, members, references, labels, .. } = &self.options;
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
        if self.options.references
            && let Some(split) = splits.iter().find(|split| packed(&split.name))
        {
            let message =
                format!("`references = true`, but `{}` is there: {NO_REFERENCES}", split.name);
            return Err(SourceError::Options(message));
        }
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
        object: Object,
    ) -> Result<Box<dyn Scanner<Row = Member>>, Failure> {
        // Also of an archive that came while a stream was running.
        if self.options.references && object.size().is_none() {
            return Err(Failure::Damaged(NO_REFERENCES.to_owned()));
        }
        Ok(Box::new(Scan {
            members: Members::new(object, self.members.clone()),
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

impl Tar {
    /// The first names in the first archive with any member, and else why there are none.
    fn names(&self, splits: &[Split], open: &Open<'_>) -> Result<Vec<String>, SourceError> {
        let mut names = Vec::new();
        let mut why = String::new();
        for split in splits {
            if split.bytes == 0 {
                why = "it is empty".to_owned();
                continue;
            }
            match open(split) {
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Damaged(error)) => why = error,
                Ok(object) => {
                    let mut members = Members::new(object, self.members.clone());
                    while names.len() < SAMPLED {
                        match members.next() {
                            Ok(Some(found)) => names.push(found.name),
                            Ok(None) => {
                                why = match &self.options.members {
                                    None => "it is an archive without files".to_owned(),
                                    Some(only) => format!("no file fits `members = {only:?}`"),
                                };
                                break;
                            }
                            Err(Failure::Damaged(error)) => {
                                why = format!("it is no tar archive, or a damaged one: {error}");
                                break;
                            }
                            Err(Failure::Store(error)) => return Err(error),
                        }
                    }
                }
            }
            if !names.is_empty() {
                return Ok(names);
            }
        }
        if self.media.modality.is_some() {
            return Ok(names);
        }
        Err(SourceError::Format {
            location: splits.last().map_or_else(String::new, |split| split.name.clone()),
            message: format!("no member tells what there is: {why}"),
        })
    }
}
