//! Rows to the bytes of a shard: file after file, with nothing between.

use anabranch_pipelines::record::media;
use arrow::array::{AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::json;

use super::layout::Layout;
use super::names::{self, File, Names};
use crate::sink::cells::{Cells, unread};
use crate::sink::json;
use crate::sink::shard::Encode;

/// Bytes that are uploaded at a time.
pub(super) const PIECE: usize = 4 << 20;

pub(super) struct Encoder {
    layout: Layout,
    names: Names,
    files: Vec<File>,
}

impl Encoder {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, names: Names::default(), files: Vec::new() }
    }
}

impl Encode for Encoder {
    fn encode(&mut self, batch: &RecordBatch, from: usize) -> Result<(usize, Vec<u8>), String> {
        let options = json::options();
        let mut cells = Vec::with_capacity(self.layout.columns.len());
        let schema = batch.schema_ref();
        for at in &self.layout.columns {
            let found = schema.fields().get(*at).zip(batch.columns().get(*at));
            let (field, column) = found.ok_or("rows have fewer columns than the plan says")?;
            let media = column.as_struct_opt().filter(|_| media::is_media(field.data_type()));
            cells.push((field.name(), media, Cells::of(field, column, &options)?));
        }
        let keys = batch.columns().get(self.layout.name);
        let keys = keys.ok_or("rows have fewer columns than the plan says")?;
        let written = FormatOptions::default().with_null("");
        let keys = ArrayFormatter::try_new(keys, &written).map_err(|e| e.to_string())?;

        let (mut at, mut bytes, mut space) = (from, Vec::new(), Vec::new());
        let alone = cells.len() == 1;
        while at < batch.num_rows() && bytes.len() < PIECE {
            let key = keys.value(at).to_string();
            let failed = |why: String| format!("record {key:?}: {why}");
            names::check(&key).map_err(|why| failed(format!("its name is no path: {why}")))?;
            for (column, media, cell) in &mut cells {
                space.clear();
                if let Some(why) = media.and_then(|media| unread(column, media, at)) {
                    return Err(failed(why));
                }
                let Some(value) = cell.bytes(at, &mut space) else { continue };
                let path = if alone { key.clone() } else { format!("{key}/{column}") };
                self.names.add(&path).map_err(|why| {
                    failed(format!(
                        "{why}; give records names of their own, or name another column"
                    ))
                })?;
                bytes.extend_from_slice(value);
                self.files.push(File { path, bytes: value.len() as u64 });
            }
            at += 1;
        }
        Ok((at, bytes))
    }

    fn finish(self) -> Result<(Vec<u8>, serde_json::Value), String> {
        Ok((Vec::new(), json!({ "files": self.files })))
    }
}
