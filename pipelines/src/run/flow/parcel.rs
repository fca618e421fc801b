//! What workers send to one another around a keyed operator.
//!
//! Within a process the columns move as they are; between processes timely serialises, and rows then are
//! an Arrow IPC stream that is encoded once (timely asks for its length first).

use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use serde::de::{Error as _, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::{Position, from_ipc, to_ipc};

/// Rows, each with its virtual shard.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) records: RecordBatch,
    encoded: Arc<OnceLock<Vec<u8>>>,
}

impl From<RecordBatch> for Rows {
    fn from(records: RecordBatch) -> Self {
        Self { records, encoded: Arc::default() }
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(encoded) = self.encoded.get() {
            return serializer.serialize_bytes(encoded);
        }
        let encoded = to_ipc(&self.records).map_err(S::Error::custom)?;
        serializer.serialize_bytes(self.encoded.get_or_init(|| encoded))
    }
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ipc;
        impl Visitor<'_> for Ipc {
            type Value = RecordBatch;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an Arrow IPC stream")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<RecordBatch, E> {
                from_ipc(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Ipc).map(Self::from).map_err(D::Error::custom)
    }
}

/// A part of a batch, on its way to the worker that owns its virtual shards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Parcel {
    /// The worker that absorbs it.
    pub(super) worker: usize,
    /// Which input of the operator it came by.
    pub(super) input: usize,
    pub(super) position: Position,
    /// Its rows; without, it says that there is this epoch.
    pub(super) rows: Option<Rows>,
    /// The virtual shard of each row.
    pub(super) shards: Vec<u8>,
    /// What gives the charge of the rows back.
    pub(super) receipt: Option<Receipt>,
}

/// Says that a parcel has arrived, whose memory now is the operator's.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// The worker that sent the parcel.
    pub(super) worker: usize,
    pub(super) number: u64,
}

/// What one worker's shards made of an epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Harvest {
    /// The worker, to put the harvests of an epoch in order.
    pub(super) worker: usize,
    pub(super) commit: u64,
    pub(super) epoch: u64,
    /// Bytes of state that the worker holds after it.
    pub(super) state: usize,
    /// Output rows in order of shard.
    pub(super) output: Sheaf,
    /// Dead letters in order of shard.
    pub(super) letters: Sheaf,
}

/// Rows in order of shard.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Sheaf {
    pub(super) rows: Option<Rows>,
    pub(super) shards: Vec<u8>,
}

/// A worker's snapshot of one operator is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Snapped {
    pub(crate) commit: u64,
    pub(crate) operator: String,
    /// The virtual shards that were not empty.
    pub(crate) shards: Vec<u32>,
}

/// What every worker must know of commits.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Tick {
    /// The commit ends before this epoch.
    Commit { number: u64, end: u64 },
    /// The inputs ended: this epoch closes the run's last commit.
    Close { commit: u64, epoch: u64 },
    /// The run was cancelled: commits from this one on will not be made.
    GiveUp { from: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    #[test]
    fn rows_cross_a_process_boundary_and_are_encoded_once() {
        let column = Arc::new(Int64Array::from(vec![1, 2, 3])) as _;
        let rows = Rows::from(RecordBatch::try_from_iter([("a", column)]).unwrap());
        let bytes = serde_json::to_vec(&rows).unwrap();
        let before = rows.encoded.get().unwrap().as_ptr();
        assert_eq!(serde_json::to_vec(&rows).unwrap(), bytes);
        assert_eq!(rows.encoded.get().unwrap().as_ptr(), before);
        let back = from_ipc(&serde_json::from_slice::<Vec<u8>>(&bytes).unwrap()).unwrap();
        assert_eq!(back, rows.records);
    }
}
