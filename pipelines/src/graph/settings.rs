//! What a job sets for its run as a whole.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::source::BatchSize;

const MIB: usize = 1024 * 1024;

/// Whether the run ends with its sources or keeps looking for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Ends when the listed sources were read.
    #[default]
    Batch,
    /// Lists the sources again and again until it is cancelled.
    Stream,
}

/// When a part is full. Part of the plan's hash: it decides what is in each shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSize {
    /// Records, at least 1.
    pub records: u64,
    /// Bytes as stored at the source.
    pub bytes: u64,
}

/// When a commit is closed. Part of the plan's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitSize {
    /// Epochs (at most one part of each source in each), at least 1.
    pub parts: u64,
    /// Bytes as stored at the sources.
    pub bytes: u64,
    /// In a stream, how long a commit stays open at most.
    pub interval: Duration,
}

/// How many records may be refused before the run fails.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ErrorLimit {
    /// No limit: every refused record becomes a dead letter.
    Unlimited,
    /// At most so many.
    Count(u64),
    /// At most this share of the records read so far, judged from the 100th record on and at the end.
    Share(f64),
}

/// Settings of a run. The defaults suit a machine with a few cores and images of a few hundred kB.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Batch or stream.
    pub mode: Mode,
    /// Bytes in flight between source and sink, over all processes of the run.
    pub credit: usize,
    /// Size of the batches that sources emit. Does not change the output.
    pub batch: BatchSize,
    /// When a part is full.
    pub part: PartSize,
    /// When a commit is closed.
    pub commit: CommitSize,
    /// How many commits may be open at once.
    pub open_commits: u64,
    /// Commits between two snapshots of state.
    pub snapshot_every: u64,
    /// Timely workers per process.
    pub workers: usize,
    /// Processes of the run, on this machine. They share the credit.
    pub processes: usize,
    /// Executor threads per process; 0 shares out one per core.
    pub threads: usize,
    /// When refused records fail the run.
    pub max_errors: ErrorLimit,
    /// How often a stream looks for new splits.
    pub poll: Duration,
    /// How long a cancelled run may take to finish what is in flight.
    pub grace: Duration,
    /// How long nothing may progress while work is in flight before the run is ended.
    pub stall: Duration,
    /// How long a process of the run may be silent before it counts as lost.
    pub heartbeat: Duration,
    /// How often a run of several processes starts again without a new commit in between.
    pub restarts: u32,
    /// Where the run log stands; by default below the first sink's location.
    pub state: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Batch,
            credit: 256 * MIB,
            batch: BatchSize { records: 64, bytes: 8 * MIB },
            part: PartSize { records: 4096, bytes: 64 * MIB as u64 },
            commit: CommitSize {
                parts: 4,
                bytes: 256 * MIB as u64,
                interval: Duration::from_secs(10),
            },
            open_commits: 2,
            snapshot_every: 4,
            workers: 1,
            processes: 1,
            threads: 0,
            max_errors: ErrorLimit::Unlimited,
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(30),
            stall: Duration::from_secs(300),
            heartbeat: Duration::from_secs(10),
            restarts: 3,
            state: None,
        }
    }
}
