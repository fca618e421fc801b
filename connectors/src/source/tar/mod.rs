//! Members of archives as records: `kind = "tar"`, for `.tar`, `.tar.gz` and `.tar.zst`.
//!
//! Archives are splits; offsets are positions in the unpacked archive, where a member's headers begin.
//! Regular files are records; folders, links and devices hold no bytes and are none. A packed archive is
//! unpacked from its start, once per worker, and can neither be shuffled nor referred to.

use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Reference, media};
use anabranch_pipelines::source::{Abilities, Source, SourceBatch, SourceError, Split, Unreadable};
use arrow::array::{BinaryBuilder, StringArray};
use arrow::datatypes::SchemaRef;
use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::glob::Objects;
use super::labels::{Labels, LabelsOptions};
use super::media::{self as named, MediaColumn};
use super::object::{Failure, Object, Unpacked, packed};
use super::scan::{Format, Located, Open, Scanned, Scanner};

mod header;
mod members;
#[cfg(test)]
mod tests;

use members::{Body, Member, Members, Scan};

/// A range of the unpacked bytes is no range of the object.
const NO_REFERENCES: &str = "members of a packed archive cannot be read alone; unpack it to `.tar`, or leave `references` out";
/// Members whose names are looked at for the modality.
const SAMPLED: usize = 1000;

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
    #[serde(default = "max_member")]
    #[schemars(with = "String")]
    pub max_member: ByteSize,
    /// Size to which a packed archive may unpack. Default: 200 times its size, and 64 MiB in any case.
    #[schemars(with = "Option<String>")]
    pub max_unpacked: Option<ByteSize>,
}

const fn max_member() -> ByteSize {
    ByteSize(256 << 20)
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
        let pattern = |glob: &String| {
            let glob = GlobBuilder::new(glob).literal_separator(true).build();
            glob.map(|glob| glob.compile_matcher())
        };
        let members = self.members.as_ref().map(pattern).transpose();
        let members = members.map_err(|e| SourceError::Options(format!("`members`: {e}")))?;
        // Without a wildcard in a name that ends like an archive's, there is one, and names suffice.
        let one = !self.path.contains(['*', '?', '[', '{'])
            && [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"]
                .iter()
                .any(|end| self.path.ends_with(end));
        Ok(Arc::new(Scanned::new(objects, Tar { media, members, one, options: self })))
    }
}

struct Tar {
    media: MediaColumn,
    members: Option<GlobMatcher>,
    one: bool,
    options: TarOptions,
}

/// What the members hold.
struct Columns {
    schema: SchemaRef,
    labels: Option<Labels>,
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
        let modality = self.media.modality(&self.options.path, names.iter())?;
        let plain = self.media.schema(modality, None);
        let labels = labels
            .map(|labels| Labels::read(labels, |name| plain.field_with_name(name).is_ok()))
            .transpose()?;
        if let Some(labels) = &labels {
            labels.look(names.iter().map(String::as_str));
        }
        Ok(Columns { schema: self.media.schema(modality, labels.as_ref()), labels })
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
        let mut refused = Vec::new();
        let lacks = |member: &Member| columns.labels.as_ref()?.lacks(&member.name);
        let mut rows = Vec::with_capacity(members.len());
        for Located { split, range, row } in members {
            match lacks(&row) {
                None => rows.push(row),
                Some(error) => refused.push(Unreadable {
                    key: row.key,
                    split: split.name.clone(),
                    range,
                    error,
                    bytes: None,
                }),
            }
        }
        let size = rows.iter().map(|row| row.body.len()).sum();
        let mut bytes = BinaryBuilder::with_capacity(rows.len(), size);
        let mut paths: Vec<String> = Vec::with_capacity(rows.len());
        for row in &rows {
            match &row.body {
                Body::Bytes(body) => {
                    bytes.append_value(body);
                    paths.push(row.name.clone());
                }
                Body::At { uri, range } => {
                    bytes.append_null();
                    let (uri, range) = (uri.to_string(), Some(range.clone()));
                    paths.push(Reference { uri, range }.to_string());
                }
            }
        }
        let media = media::assemble(bytes.finish(), StringArray::from(paths));
        let keys: StringArray = rows.iter().map(|row| Some(row.key.as_str())).collect();
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let records = named::rows(keys, &names, media, columns.labels.as_ref(), &columns.schema)?;
        Ok(SourceBatch { records, refused })
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
