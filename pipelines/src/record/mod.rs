//! Records: rows of Arrow batches, what their columns mean, and where they came from.
//!
//! A *record* is one row. A [`Batch`] is an Arrow [`RecordBatch`] plus its [`Position`] in the run.
//! Media columns are structs of exactly `bytes` and `path` with their facts in sibling columns
//! ([`media`]); what a column holds is said by its [`Modality`] in the field's metadata. Every record
//! that a source reads has two leading columns, [`ID`] and [`KEY`].
//!
//! ```
//! use anabranch_pipelines::record::{media, Modality, RecordId};
//!
//! let field = media::field("image", Modality::Image, media::State::Encoded);
//! assert_eq!(Modality::of(&field), Some(Modality::Image));
//!
//! // The id depends on the source's name and the record's key alone: the same on every machine.
//! let id = RecordId::new("photos", "holiday/beach.jpg");
//! assert_eq!(id, RecordId::new("photos", "holiday/beach.jpg"));
//! assert_ne!(id, RecordId::new("photos", "holiday/beach2.jpg"));
//! ```

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::credit::Charge;

mod id;
pub mod media;
mod modality;
mod reference;
mod rows;

pub use id::{RecordId, ids, with_ids};
pub(crate) use id::{name_of_row, with_id_field};
pub use modality::{Modality, TYPE_KEY};
pub use reference::{Reference, ReferenceError};
pub use rows::{bytes_of, compact, from_ipc, to_ipc, weight_of};

/// Name of the leading column that holds each record's [`RecordId`] as 16 bytes.
pub const ID: &str = "id";
/// Name of the second column: the record's key relative to its source's root, e.g. `cats/1.jpg`.
pub const KEY: &str = "key";

/// Where a batch stands in the run: its part, and its place inside the part.
///
/// A *part* is named by `(commit, epoch, lane)`: the epoch counts the ticks at which sources were
/// cut, the lane tells apart the ways from a source to a sink. Positions order a run's output, so
/// they are the same however many workers and processes ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The commit that will make this batch's output durable and visible.
    pub commit: u64,
    /// The epoch (timely's timestamp) of the part.
    pub epoch: u64,
    /// Which way from a source this part took; a fan-in numbers the lanes of its inputs apart.
    pub lane: u32,
    /// The batch's place in its part, from 0, without gaps.
    pub sequence: u32,
    /// Whether this is the part's last batch. Operators pass empty batches on, so it always comes.
    pub last: bool,
}

/// A [`RecordBatch`] on its way through the run.
///
/// A clone shares the columns and the charge: bytes in flight count until every clone is gone.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The rows. May be empty: the position still counts.
    pub records: RecordBatch,
    /// The place in the run.
    pub position: Position,
    /// The bytes of the job's credit that this batch holds; `None` once it left them behind.
    pub charge: Option<Charge>,
}

impl Batch {
    /// The same position and charge around other rows, as an operator emits them.
    pub fn with_records(self, records: RecordBatch) -> Self {
        Self { records, ..self }
    }
}
