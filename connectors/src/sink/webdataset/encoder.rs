//! Rows to the members of an archive.

use std::sync::Arc;

use anabranch_pipelines::record::media;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::json::writer::make_encoder;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::archive;
use super::layout::{Layout, Suffix, extension};
use super::name::Names;
use crate::sink::cells::{Cells, unread};
use crate::sink::json;
use crate::sink::shard::Encode;

/// Bytes of members that are uploaded at a time.
pub(super) const MEMBERS: usize = 4 << 20;

pub(super) struct Encoder {
    layout: Layout,
    names: Names,
}

impl Encoder {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, names: Names::default() }
    }
}

impl Encode for Encoder {
    fn encode(&mut self, batch: &RecordBatch, from: usize) -> Result<(usize, Vec<u8>), String> {
        let options = json::options();
        let rest = rest(batch, &self.layout)?;
        let field: FieldRef = Arc::new(Field::new("json", rest.data_type().clone(), false));
        let mut object = make_encoder(&field, &rest, &options).map_err(|e| e.to_string())?;
        let mut cells = Vec::new();
        for (at, suffix) in &self.layout.members {
            let (field, column) = column(batch, *at)?;
            let cell = Cells::of(field, column, &options)?;
            let media = column.as_struct_opt().filter(|_| media::is_media(field.data_type()));
            cells.push((cell, Extension::of(suffix, batch, column)?, (field.name(), media)));
        }
        let name = column(batch, self.layout.name)?.1;
        let written = FormatOptions::default().with_null("");
        let name = ArrayFormatter::try_new(name, &written).map_err(|e| e.to_string())?;

        let (mut at, mut archive, mut body) = (from, Vec::new(), Vec::new());
        while at < batch.num_rows() && archive.len() < MEMBERS {
            let key = name.value(at).to_string();
            let sample = self.names.next(&key);
            let mut seen: Vec<String> = Vec::with_capacity(cells.len());
            for (cell, extension, (column, media)) in &mut cells {
                body.clear();
                if let Some(why) = media.and_then(|media| unread(column, media, at)) {
                    return Err(format!("record {key:?}: {why}"));
                }
                let Some(bytes) = cell.bytes(at, &mut body) else { continue };
                let extension = extension.of_row(at);
                if seen.contains(&extension) {
                    return Err(format!(
                        "two members of the sample {key:?} would be called `{extension}`; give one \
                         column an extension of its own with `members`"
                    ));
                }
                archive::append(&mut archive, &format!("{sample}.{extension}"), bytes);
                seen.push(extension);
            }
            body.clear();
            object.encode(at, &mut body);
            archive::append(&mut archive, &format!("{sample}.json"), &body);
            at += 1;
        }
        Ok((at, archive))
    }

    fn finish(self) -> Result<(Vec<u8>, serde_json::Value), String> {
        Ok((archive::END.to_vec(), serde_json::Value::Null))
    }
}

fn column(batch: &RecordBatch, at: usize) -> Result<(&FieldRef, &ArrayRef), String> {
    let found = batch.schema_ref().fields().get(at).zip(batch.columns().get(at));
    found.ok_or_else(|| "rows have fewer columns than the plan says".to_owned())
}

/// The columns of the object. Of a medium that is a member it has the path.
fn rest(batch: &RecordBatch, layout: &Layout) -> Result<StructArray, String> {
    let (mut fields, mut arrays): (Vec<FieldRef>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for at in &layout.rest {
        let (field, array) = column(batch, *at)?;
        fields.push(Arc::clone(field));
        arrays.push(Arc::clone(array));
    }
    for (at, _) in &layout.members {
        let (field, array) = column(batch, *at)?;
        let Some(media) = array.as_struct_opt().filter(|_| media::is_media(field.data_type()))
        else {
            continue;
        };
        let Some(paths) = media::path_array(media) else { continue };
        let path = Fields::from(vec![Field::new("path", DataType::Utf8, true)]);
        let paths: ArrayRef = Arc::new(paths.clone());
        let known = StructArray::try_new(path.clone(), vec![paths], media.nulls().cloned());
        fields.push(Arc::new(Field::new(field.name(), DataType::Struct(path), true)));
        arrays.push(Arc::new(known.map_err(|e| e.to_string())?));
    }
    StructArray::try_new_with_length(Fields::from(fields), arrays, None, batch.num_rows())
        .map_err(|e| e.to_string())
}

/// What stands behind the name of each row.
enum Extension<'a> {
    Fixed(&'a str),
    Encoded {
        prefix: &'a str,
        unknown: &'a str,
        encodings: Option<&'a ArrayRef>,
        media: &'a ArrayRef,
    },
}

impl<'a> Extension<'a> {
    fn of(suffix: &'a Suffix, batch: &'a RecordBatch, media: &'a ArrayRef) -> Result<Self, String> {
        Ok(match suffix {
            Suffix::Fixed(extension) => Self::Fixed(extension),
            Suffix::Encoded { prefix, encoding, unknown } => {
                let encodings = match encoding {
                    Some(at) => Some(column(batch, *at)?.1),
                    None => None,
                };
                Self::Encoded { prefix, unknown, encodings, media }
            }
        })
    }

    fn of_row(&self, row: usize) -> String {
        let Self::Encoded { prefix, unknown, encodings, media } = self else {
            let Self::Fixed(extension) = self else { return String::new() };
            return (*extension).to_owned();
        };
        let encodings = encodings.and_then(|column| column.as_string_opt::<i32>());
        let encoding = encodings.filter(|names| names.is_valid(row)).map(|names| names.value(row));
        let path = media.as_struct_opt().and_then(|media| media::path(media, row));
        let of_path = path.and_then(|path| path.rsplit_once('.')).map(|(_, end)| end);
        let fits = |end: &&str| {
            (1..=5).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        match encoding.map(extension).or(of_path.filter(fits)) {
            Some(known) => format!("{prefix}{}", known.to_lowercase()),
            None => (*unknown).to_owned(),
        }
    }
}
