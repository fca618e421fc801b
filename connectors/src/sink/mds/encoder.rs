//! Rows to an MDS shard: how many there are, where each begins, how columns are stored, and then the rows.
//!
//! What stands first is known last, so rows [wait](super::spool) until their shard is complete.

use std::io::Write;

use anabranch_pipelines::record::KEY;
use arrow::array::{AsArray, RecordBatch};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::columns::Column;
use super::spool::Spool;
use crate::sink::json;
use crate::sink::shard::Encode;

/// The zstd level, as readers name it.
const ZSTD: (i32, &str) = (3, "zstd:3");

pub(super) struct Encoder {
    columns: Vec<Column>,
    /// Whether the shard is packed with zstd.
    packed: bool,
    /// How columns are stored, as the shard says it.
    config: Vec<u8>,
    /// Where each row ends, from the first one's begin on.
    ends: Vec<u32>,
    rows: Spool,
    /// What is left to give once all rows are there.
    giving: Option<Giving>,
    /// The shard before it is packed.
    raw: (u64, Sha256),
}

enum Giving {
    Packed(Box<zstd::Encoder<'static, Vec<u8>>>),
    Plain,
    Nothing,
}

impl Encoder {
    pub(super) fn new(columns: Vec<Column>, packed: bool) -> Self {
        let config = config(&columns, packed);
        let config = Value::Object(config).to_string().into_bytes();
        Self {
            columns,
            packed,
            config,
            ends: Vec::new(),
            rows: Spool::default(),
            giving: None,
            raw: (0, Sha256::new()),
        }
    }

    /// Bytes before the rows.
    fn head_size(&self) -> usize {
        4 * (self.ends.len() + 2) + self.config.len()
    }

    fn head(&self) -> Result<Vec<u8>, String> {
        let begin = u32::try_from(self.head_size()).map_err(|_| too_large())?;
        let rows = u32::try_from(self.ends.len()).map_err(|_| too_large())?;
        let mut head = Vec::with_capacity(self.head_size());
        head.extend(rows.to_le_bytes());
        for end in std::iter::once(&0).chain(&self.ends) {
            head.extend(begin.checked_add(*end).ok_or_else(too_large)?.to_le_bytes());
        }
        head.extend(&self.config);
        Ok(head)
    }

    fn begin(&mut self) -> Result<(Giving, Vec<u8>), String> {
        let head = self.head()?;
        self.rows.rewind()?;
        if !self.packed {
            return Ok((Giving::Plain, head));
        }
        let mut packer = zstd::Encoder::new(Vec::new(), ZSTD.0).map_err(|e| e.to_string())?;
        // Readers want to know the size before they unpack.
        let size = self.rows.length() + head.len() as u64;
        packer.set_pledged_src_size(Some(size)).map_err(|e| e.to_string())?;
        Ok((Giving::Packed(Box::new(packer)), head))
    }
}

impl Encode for Encoder {
    fn encode(&mut self, batch: &RecordBatch, from: usize) -> Result<(usize, Vec<u8>), String> {
        let options = json::options();
        let schema = batch.schema_ref();
        let mut writers = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let (field, array) = column.field(schema.fields(), batch.columns())?;
            writers.push((column.encoding.size(), column.writer(field, array, &options)?));
        }
        let (mut head, mut body) = (Vec::new(), Vec::new());
        for row in from..batch.num_rows() {
            head.clear();
            body.clear();
            for (size, write) in &mut writers {
                let begin = body.len();
                write(row, &mut body).map_err(|e| format!("{}: {e}", named(batch, row)))?;
                if size.is_none() {
                    let size = u32::try_from(body.len() - begin).map_err(|_| too_large())?;
                    head.extend(size.to_le_bytes());
                }
            }
            self.rows.push(&head)?;
            self.rows.push(&body)?;
            self.ends.push(u32::try_from(self.rows.length()).map_err(|_| too_large())?);
        }
        Ok((batch.num_rows(), Vec::new()))
    }

    fn rest(&mut self) -> Result<Vec<u8>, String> {
        loop {
            let (giving, raw) = match self.giving.take() {
                None => self.begin()?,
                Some(giving) => (giving, self.rows.piece()?),
            };
            self.raw.0 += raw.len() as u64;
            self.raw.1.update(&raw);
            let (giving, bytes) = match giving {
                Giving::Nothing => (Giving::Nothing, raw),
                Giving::Plain => (Giving::Plain, raw),
                Giving::Packed(packer) if raw.is_empty() => {
                    (Giving::Nothing, packer.finish().map_err(|e| e.to_string())?)
                }
                Giving::Packed(mut packer) => {
                    packer.write_all(&raw).map_err(|e| e.to_string())?;
                    let bytes = std::mem::take(packer.get_mut());
                    (Giving::Packed(packer), bytes)
                }
            };
            let more = matches!(giving, Giving::Packed(_));
            self.giving = Some(giving);
            if !more || !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }

    fn finish(self) -> Result<(Vec<u8>, Value), String> {
        let mut statistics = config(&self.columns, self.packed);
        let hash: String = self.raw.1.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        statistics.insert(
            "raw_data".to_owned(),
            json!({ "bytes": self.raw.0, "hashes": { "sha256": hash } }),
        );
        Ok((Vec::new(), Value::Object(statistics)))
    }
}

/// What a shard, and the index, say of how it is stored.
fn config(columns: &[Column], packed: bool) -> serde_json::Map<String, Value> {
    let all = |what: fn(&Column) -> Value| columns.iter().map(what).collect::<Vec<Value>>();
    let config = json!({
        "version": 2,
        "format": "mds",
        "compression": packed.then_some(ZSTD.1),
        "hashes": ["sha256"],
        "size_limit": null,
        "column_names": all(|column| json!(column.name)),
        "column_encodings": all(|column| json!(column.encoding.name())),
        "column_sizes": all(|column| json!(column.encoding.size())),
    });
    match config {
        Value::Object(config) => config,
        _ => serde_json::Map::new(),
    }
}

fn named(batch: &RecordBatch, row: usize) -> String {
    let keys = batch.column_by_name(KEY).and_then(|column| column.as_string_opt::<i32>());
    keys.map_or_else(
        || format!("row {row} of a batch"),
        |keys| format!("record {:?}", keys.value(row)),
    )
}

fn too_large() -> String {
    "an MDS shard is less than 4 GiB; make parts smaller with `part = { bytes = \"64MiB\" }` in `[job]`".to_owned()
}
