//! `kind = "dedup"`: of records that are equal in some columns, the first stays.
//!
//! First in the order of the sources, whatever the workers: so the same records stay every time. The others
//! are left out on purpose and are no dead letters. Equal is equal byte for byte; of media the bytes count, not
//! the path. A record of whose columns all are missing stays, since it is equal to nothing.
//!
//! What is kept of each record is 16 bytes, the first half of a SHA-256, so ten million records take 400 MB.
//! Media that were not read yet are refused: `kind = "digest"` before this reads them without keeping them, and
//! then `by = ["digest"]`.
//!
//! ```
//! use anabranch_operators::DedupOptions;
//!
//! let dedup = DedupOptions::by(["text"]).build()?;
//! assert_eq!(dedup.keyed().map(|keyed| keyed.inputs()), Some(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```toml
//! [operator.unique]
//! kind = "dedup"
//! by = "text"
//! memory = "256MiB"
//! inputs = ["paragraphs"]
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Keyed, Operator, OperatorError, Outcome, Shard, Yield,
};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{ID, compact};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::digest::value::{self, Hash, Identities, Identity};
use crate::{Names, OptionsError};

/// Options of `kind = "dedup"`: of records that are equal, the first stays.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupOptions {
    /// The column, or columns, in which equal records are equal.
    pub by: Names,
    /// What the hashes of all records that stay, 40 bytes each, and rows on their way may take in memory: half
    /// of it each. Part of the job's `credit`.
    #[serde(default = "memory")]
    #[schemars(with = "String")]
    pub memory: ByteSize,
}

const fn memory() -> ByteSize {
    ByteSize(64 << 20)
}

impl DedupOptions {
    /// By these columns, with the default memory.
    pub fn by<const N: usize>(columns: [&str; N]) -> Self {
        Self { by: columns.into(), memory: memory() }
    }

    /// The operator.
    ///
    /// # Errors
    /// When no column is given.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        match self.by.as_slice() {
            [] => {
                Err(OptionsError("`by` names the columns in which equal records are equal".into()))
            }
            names if names.iter().any(|name| name == ID) => {
                Err(OptionsError("`id` is another for every record".to_owned()))
            }
            _ => Ok(Arc::new(Dedup { options: self })),
        }
    }
}

struct Dedup {
    options: DedupOptions,
}

impl Operator for Dedup {
    fn kind(&self) -> &'static str {
        "dedup"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("dedup reads one input".into()));
        };
        let by = self.options.by.as_slice();
        by.iter().try_for_each(|column| value::require(input, column))?;
        Ok(Arc::clone(input))
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Err(OperatorError::Failed("a dedup knows what came before and is fed, not invoked".into()))
    }

    fn keyed(&self) -> Option<&dyn Keyed> {
        Some(self)
    }
}

impl Keyed for Dedup {
    fn inputs(&self) -> usize {
        1
    }

    fn memory(&self) -> usize {
        self.options.memory.as_usize()
    }

    fn hashes(&self, _: usize, batch: &RecordBatch) -> Result<UInt64Array, OperatorError> {
        let identities = Identities::of(batch, self.options.by.as_slice())?;
        let hash = |row: usize| match identities.identity(row) {
            Identity::Is(hash) => hash.first_chunk().map_or(0, |half| u64::from_le_bytes(*half)),
            // Not kept anywhere, so they may all meet in one shard.
            Identity::Missing | Identity::Unread(_) => 0,
        };
        Ok((0..batch.num_rows()).map(hash).collect::<Vec<u64>>().into())
    }

    fn shard(&self, _: &[SchemaRef]) -> Result<Box<dyn Shard>, OperatorError> {
        Ok(Box::new(Seen { by: self.options.by.clone(), hashes: HashSet::new() }))
    }
}

/// What a hash takes in a set, spare room included.
const ENTRY: usize = 40;
const MAGIC: &[u8; 8] = b"ABRNDEDU";
const VERSION: u32 = 1;

/// Records of one virtual shard that came before.
struct Seen {
    by: Names,
    hashes: HashSet<Hash>,
}

impl Shard for Seen {
    fn absorb(&mut self, _: usize, batch: &RecordBatch) -> Result<Yield, OperatorError> {
        let identities = Identities::of(batch, self.by.as_slice())?;
        let (mut stay, mut refused) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            match identities.identity(row) {
                Identity::Is(hash) if !self.hashes.insert(hash) => {}
                Identity::Is(_) | Identity::Missing => stay.push(row as u64),
                Identity::Unread(at) => {
                    let column = self.by.as_slice().get(at).map_or("", String::as_str);
                    let error = format!(
                        "its `{column}` is a reference that was not read; put `kind = \"digest\"` before \
                         `dedup`, and name its column in `by`"
                    );
                    refused.push((compact(&batch.slice(row, 1))?, error));
                }
            }
        }
        // Copied out: a slice would hold, and be counted with, the lists of the whole epoch.
        let records = match stay.is_empty() {
            true => Vec::new(),
            false => vec![take_record_batch(batch, &UInt64Array::from(stay))?],
        };
        Ok(Yield { records, refused })
    }

    fn bytes(&self) -> usize {
        self.hashes.len() * ENTRY
    }

    fn snapshot(&self) -> Result<Vec<u8>, OperatorError> {
        if self.hashes.is_empty() {
            return Ok(Vec::new());
        }
        // In an order of their own: the same state is the same snapshot.
        let mut hashes: Vec<&Hash> = self.hashes.iter().collect();
        hashes.sort_unstable();
        let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + hashes.len() * size_of::<Hash>());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        hashes.into_iter().for_each(|hash| bytes.extend_from_slice(hash));
        Ok(bytes)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), OperatorError> {
        let damaged = |how: &str| OperatorError::Failed(format!("the snapshot of a dedup: {how}"));
        let rest = snapshot.strip_prefix(MAGIC);
        let rest = rest.ok_or_else(|| damaged("it does not begin like one"))?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(|| damaged("it ends early"))?;
        match u32::from_le_bytes(*version) {
            VERSION => {}
            other => {
                let how = format!("it is of version {other}, this program reads {VERSION}");
                return Err(damaged(&how));
            }
        }
        let (hashes, []) = rest.as_chunks() else {
            return Err(damaged("it ends within a hash"));
        };
        self.hashes = hashes.iter().copied().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
