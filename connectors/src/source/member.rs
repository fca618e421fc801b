//! Members of archives as records: what `tar` and `zip` have in common.

use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Reference, media};
use anabranch_pipelines::source::{SourceBatch, SourceError, Unreadable};
use arrow::array::{BinaryBuilder, StringArray};
use arrow::datatypes::SchemaRef;
use globset::{GlobBuilder, GlobMatcher};

use super::labels::{Labels, LabelsOptions};
use super::media::{self as named, MediaColumn};
use super::scan::Located;

/// Members whose names are looked at for the modality.
pub(super) const SAMPLED: usize = 1000;

/// The default of `max_member`.
pub(super) const fn max_member() -> ByteSize {
    ByteSize(256 << 20)
}

/// Understands `members = "..."`.
pub(super) fn pattern(glob: &str) -> Result<GlobMatcher, SourceError> {
    let built = GlobBuilder::new(glob).literal_separator(true).build();
    let built = built.map_err(|e| SourceError::Options(format!("`members`: {e}")))?;
    Ok(built.compile_matcher())
}

/// A member as a record.
pub(super) struct Member {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) body: Body,
}

/// A member's bytes, read or referred to.
pub(super) enum Body {
    Bytes(Vec<u8>),
    At { uri: Arc<str>, range: Range<u64> },
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::At { .. } => 0,
        }
    }
}

/// Why a member of this size is not read, if so.
pub(super) fn too_large(size: u64, limit: u64) -> Option<String> {
    let (found, limited) = (ByteSize(size), ByteSize(limit));
    (size > limit).then(|| format!("it has {found}, and `max_member` is {limited}"))
}

/// What the members hold.
pub(super) struct Columns {
    pub(super) schema: SchemaRef,
    pub(super) labels: Option<Labels>,
}

impl Columns {
    /// From some members' names.
    pub(super) fn of(
        media: &MediaColumn,
        path: &str,
        labels: Option<&LabelsOptions>,
        names: &[String],
    ) -> Result<Self, SourceError> {
        let modality = media.modality(path, names.iter())?;
        let plain = media.schema(modality, None);
        let labels = labels
            .map(|labels| Labels::read(labels, |name| plain.field_with_name(name).is_ok()))
            .transpose()?;
        if let Some(labels) = &labels {
            labels.look(names.iter().map(String::as_str));
        }
        Ok(Self { schema: media.schema(modality, labels.as_ref()), labels })
    }

    /// Rows from members; one without labels is refused, if labels are required.
    pub(super) fn batch(&self, members: Vec<Located<Member>>) -> Result<SourceBatch, SourceError> {
        let mut refused = Vec::new();
        let lacks = |member: &Member| self.labels.as_ref()?.lacks(&member.name);
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
        let records = named::rows(keys, &names, media, self.labels.as_ref(), &self.schema)?;
        Ok(SourceBatch { records, refused })
    }
}
