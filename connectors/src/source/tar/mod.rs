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

use super::archive;
use super::glob::Objects;
use super::labels::{Labels, LabelsOptions};
use super::media::MediaColumn;
use super::member::{self, Columns, Member};
use super::object::{Failure, Object, Unpacked};
use super::repeats::Repeats;
use super::scan::{Format, Located, Open, Scanned, Scanner};

mod header;
pub(super) mod members;
#[cfg(test)]
mod tests;

use members::{Members, Scan};

/// Options of `kind = "tar"`: every member of every archive that matches is a record.
///
/// A record's key is the member's name, behind the archive's name where there are several. Columns are
/// those of `kind = "files"`. Of two members with one name the second one is a dead letter, and so is a file that is
/// stored with holes.
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
        archive::refer_to_any(self.references, objects.may_be_packed())?;
        let members = self.members.as_deref().map(member::pattern).transpose()?.map(Arc::new);
        let (one, repeats) = (archive::one(&self.path, &archive::TAR), Repeats::default());
        Ok(Arc::new(Scanned::new(objects, Tar { media, members, one, repeats, options: self })))
    }
}

/// The names of the first members of an archive, or of the first of several that has any: what somebody wants to
/// know who has to choose between kinds of sources.
///
/// # Errors
/// When nothing is there, or its store fails. Archives that cannot be read have no members.
pub async fn first_members(path: &str) -> Result<Vec<String>, SourceError> {
    let objects = Objects::parse(path)?;
    let splits = objects.list().await?;
    let look = move || {
        let open =
            |split: &Split| Object::open(objects.location(split), split, Unpacked { limit: None });
        archive::names(&splits, &open, None)
    };
    let names = tokio::task::spawn_blocking(look)
        .await
        .map_err(|lost| SourceError::Options(format!("a reading thread was lost: {lost}")))?;
    Ok(names?.unwrap_or_default())
}

struct Tar {
    media: MediaColumn,
    members: Option<Arc<GlobMatcher>>,
    one: bool,
    repeats: Repeats,
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
        archive::refer_to(self.options.references, splits)?;
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
        archive::refer_within(self.options.references, &object)?;
        Ok(Box::new(Scan {
            known: self.repeats.of(object.split()),
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
    /// The first members' names, none where nothing needs them.
    fn names(&self, splits: &[Split], open: &Open<'_>) -> Result<Vec<String>, SourceError> {
        match archive::names(splits, open, self.members.as_ref())? {
            Ok(names) => Ok(names),
            Err(_) if self.media.modality.is_some() => Ok(Vec::new()),
            Err(why) => Err(SourceError::Format {
                location: splits.last().map_or_else(String::new, |split| split.name.clone()),
                message: format!("no member tells what there is: {why}"),
            }),
        }
    }
}
