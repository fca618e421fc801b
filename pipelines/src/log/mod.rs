//! The run log: one put-if-absent entry per commit, the single truth of what a run did.
//!
//! It lives below the first sink's location (or the job's `state`), in `_anabranch/runs/r1/` and so on:
//!
//! | object | holds |
//! | --- | --- |
//! | `run.json` | the [`RunRecord`]: which plan and listing this run executes |
//! | `generations/000001.json` | one per start of the run: fences writers of older generations |
//! | `cuts/000000000000.json` | of a stream: an [`Epoch`] whose commit is not durable yet |
//! | `commits/00000000.json` | a [`Commit`]: cuts, decisions, snapshots, every sink's shards |
//! | `decisions/OPERATOR` | bytes of a journaled decision, named by hash in commit 0 |
//! | `snapshots/COMMIT-gGENERATION/OPERATOR/SHARD` | state of one virtual shard at a commit |
//!
//! Whatever readers use (a Delta log, an index) is derived from the commits and can be derived again.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::sink::Shard;

mod epochs;
mod registry;
mod run_log;

pub use epochs::{Epoch, StreamPart};

pub(crate) use registry::ordinal;
pub use registry::{Existing, Registry};
pub use run_log::{LogError, RunLog};

/// Format of the log; a log of a higher number is refused.
pub const LOG_VERSION: u32 = 1;

/// Which plan and data a run executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`LOG_VERSION`] of the writer.
    pub version: u32,
    /// The run's id, e.g. `r1-5f0c9a12`: its number at this destination, and a hash of the rest.
    pub run: String,
    /// A number that no other run has. It makes the id one of its own, so that neither shards nor Delta
    /// versions of a run whose log was deleted are taken for those of the next one.
    #[serde(default)]
    pub nonce: u64,
    /// The job's name.
    pub job: String,
    /// Hash of everything in the plan that determines output.
    pub plan: String,
    /// Hash of the source listing; empty for streams, whose listing grows.
    pub listing: String,
    /// CPU features that kernels may use, e.g. `x86_64+avx2`. Bytes are equal on one level only.
    pub cpu: String,
    /// Whether the run replaced what was there.
    pub overwrite: bool,
    /// Where each sink writes, dead letters included: relative to the run log's location where it lies
    /// below it, so that the whole folder may be moved or copied.
    #[serde(default)]
    pub sinks: BTreeMap<String, String>,
    /// For a replay of dead letters, whose they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replays: Option<Replays>,
    /// Milliseconds since 1970 at creation.
    pub created: i64,
}

/// What a replay feeds back in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replays {
    /// The run that refused the records.
    pub run: String,
    /// Hash of the plan of the whole job that they are replayed through.
    pub plan: String,
}

/// A place in a source: an offset in one of its splits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The pass over the source, from 0.
    pub pass: u32,
    /// Ordinal of the split in the listing; the position in the permutation when shuffled.
    pub split: u64,
    /// Name of the split, for people.
    pub name: String,
    /// Offset in the split.
    pub offset: u64,
}

/// The contiguous range of one source that a part reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The source's name in the job.
    pub source: String,
    /// The part's epoch.
    pub epoch: u64,
    /// Where it begins.
    pub from: Place,
    /// Where it ends (exclusive), which is where the next part of this source begins.
    pub to: Place,
    /// Records in it.
    pub records: u64,
    /// Bytes in it, as stored.
    pub bytes: u64,
    /// In a stream, the splits that this cut added to the listing, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<crate::source::Split>,
}

/// One entry of the run log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The run's id.
    pub run: String,
    /// Number of the commit in the run, from 0.
    pub number: u64,
    /// The generation that wrote it.
    pub generation: u64,
    /// The epochs that it closes.
    pub epochs: Range<u64>,
    /// The cuts of these epochs, in order of epoch and source.
    pub cuts: Vec<Cut>,
    /// SHA-256 of each journaled decision taken so far, by operator.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decisions: BTreeMap<String, String>,
    /// Operators whose state was snapshot at this commit, with the virtual shards that were not empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<String, Vec<u32>>,
    /// Shards by sink, in order of epoch and lane. Dead letters are the sink [`DEAD_LETTERS`].
    pub shards: BTreeMap<String, Vec<Shard>>,
    /// Whether the run is complete with this commit.
    pub last: bool,
    /// Milliseconds since 1970 at writing.
    pub written: i64,
}

/// Name of the built-in sink that holds dead letters.
pub const DEAD_LETTERS: &str = "dead_letters";

/// What a decision says to people, if it is a JSON object with a field `told`.
///
/// ```
/// use anabranch_pipelines::log::told;
///
/// assert_eq!(told(br#"{ "told": "webp, quality 60", "step": 60 }"#).as_deref(), Some("webp, quality 60"));
/// assert_eq!(told(b"the bytes of a dictionary"), None);
/// ```
pub fn told(decision: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        told: String,
    }
    serde_json::from_slice::<Told>(decision).ok().map(|decision| decision.told)
}

/// A number that nobody else has.
pub(crate) fn nonce() -> u64 {
    // Its keys come from the operating system's source of randomness, which nothing else in std gives.
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((now(), std::process::id()))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
