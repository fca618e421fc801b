//! What is visible of a run: one source of truth for progress bars, logs and the final report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A moment of a run, over all its processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Nodes of the plan in order from sources to sinks.
    pub nodes: Vec<NodeProgress>,
    /// Commits durable so far.
    pub commits: u64,
    /// Records that the sources hold, once that is known.
    pub records_total: Option<u64>,
    /// Bytes that the sources hold, once that is known.
    pub bytes_total: Option<u64>,
    /// In a stream, splits that were found and are not cut into parts yet: its lag.
    #[serde(default)]
    pub waiting_splits: u64,
    /// The bytes of these splits.
    #[serde(default)]
    pub waiting_bytes: u64,
    /// Bytes of the credit that are in flight.
    pub credit_used: u64,
    /// Bytes of the credit.
    pub credit: u64,
    /// Seconds since this start of the run.
    pub seconds: f64,
}

/// What a node did since the run began, resumed parts included where they are counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeProgress {
    /// Its name.
    pub name: String,
    /// `source`, `operator` or `sink`.
    pub role: String,
    /// Its kind, e.g. `resize`.
    pub kind: String,
    /// Where an operator's invocations run: `in process` or `worker process`; empty for others.
    #[serde(default)]
    pub tier: String,
    /// Records in; for a source, what it read.
    pub records_in: u64,
    /// Records out; for a sink, what it wrote.
    pub records_out: u64,
    /// Bytes in.
    pub bytes_in: u64,
    /// Bytes out; for a sink, the size of its shards.
    pub bytes_out: u64,
    /// Thread seconds spent in invocations.
    pub busy_seconds: f64,
    /// Seconds that invocations waited for an allocation.
    pub waiting_seconds: f64,
    /// Invocations running or waiting.
    pub in_flight: u64,
    /// Largest allocation granted so far, in bytes.
    pub allocated_bytes: u64,
    /// Largest output of an invocation so far, in bytes.
    pub used_bytes: u64,
    /// Threads of an invocation.
    pub threads: u64,
    /// Records refused.
    pub dead_letters: u64,
    /// Batches that arrived and were not handled yet.
    pub lag: u64,
    /// What an operator says of itself at this moment, in its own order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
    /// How such figures came to be what they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
}

/// A number that an operator shows, e.g. its loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// What it counts towards, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<f64>,
}

impl Figure {
    /// A number.
    pub fn new(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), value, of: None }
    }

    /// A number that counts towards another.
    pub fn of(name: &str, value: f64, of: f64) -> Self {
        Self { of: Some(of), ..Self::new(name, value) }
    }
}

/// A figure over the course of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What it shows.
    pub name: String,
    /// Pairs of what it goes by (the step of a training) and the value there, in order.
    pub points: Vec<[f64; 2]>,
}

impl NodeProgress {
    fn absorb(&mut self, other: &Self) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.busy_seconds += other.busy_seconds;
        self.waiting_seconds += other.waiting_seconds;
        self.in_flight += other.in_flight;
        self.allocated_bytes = self.allocated_bytes.max(other.allocated_bytes);
        self.used_bytes = self.used_bytes.max(other.used_bytes);
        self.threads = self.threads.max(other.threads);
        self.dead_letters += other.dead_letters;
        self.lag += other.lag;
        // One process holds what there is to show; the others show nothing.
        if !other.figures.is_empty() {
            self.figures.clone_from(&other.figures);
        }
        if !other.curves.is_empty() {
            self.curves.clone_from(&other.curves);
        }
    }
}

impl Progress {
    /// Adds what another process of the same run reports.
    pub fn absorb(&mut self, other: &Self) {
        for node in &other.nodes {
            match self.nodes.iter_mut().find(|mine| mine.name == node.name) {
                Some(mine) => mine.absorb(node),
                None => self.nodes.push(node.clone()),
            }
        }
        self.commits = self.commits.max(other.commits);
        self.records_total = self.records_total.or(other.records_total);
        self.bytes_total = self.bytes_total.or(other.bytes_total);
        self.waiting_splits += other.waiting_splits;
        self.waiting_bytes += other.waiting_bytes;
        self.credit_used += other.credit_used;
        self.credit += other.credit;
        self.seconds = self.seconds.max(other.seconds);
    }
}

/// What a start did about earlier runs at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chosen {
    /// Nothing was there: it began a first run.
    #[default]
    Began,
    /// It went on with an unfinished run of this very job.
    Resumed,
    /// That run is complete: there was nothing to do.
    Nothing,
    /// It began a run whose rows are added to those that are there.
    Appended,
    /// It began a run whose rows replace those that are there.
    Overwrote,
    /// It began a replay of what another run had refused.
    Replayed,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All sources were read and everything is committed.
    Complete,
    /// An earlier start had completed this run already; nothing was done.
    AlreadyComplete,
    /// It was cancelled; what was in flight was committed or will be read again.
    Cancelled,
}

/// The result of a run that did not fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// The run's id.
    pub run: String,
    /// What this start did about earlier runs at the destination.
    #[serde(default)]
    pub chosen: Chosen,
    /// How it ended.
    pub ending: Ending,
    /// Whether an earlier start had done a part of the work.
    pub resumed: bool,
    /// The commit that this start resumed after, if any.
    pub resumed_after: Option<u64>,
    /// `pure`, `journaled` or `live`.
    pub class: String,
    /// CPU feature level.
    pub cpu: String,
    /// The final figures.
    pub progress: Progress,
    /// Where each sink wrote, by name.
    pub outputs: BTreeMap<String, Output>,
    /// What journaled operators decided, by name, as far as they tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decisions: BTreeMap<String, String>,
    /// Records that all starts of the run refused.
    #[serde(default)]
    pub refused: u64,
    /// The dead-letter table's location, when it is not empty.
    pub dead_letters: Option<String>,
    /// The first few dead letters as `operator: record: error`, for the report's eye.
    pub dead_letter_examples: Vec<String>,
    /// Processes that the run was divided over.
    #[serde(default = "one")]
    pub processes: u64,
    /// How often it started again after a process was lost.
    #[serde(default)]
    pub restarts: u64,
    /// The credit of the job: reserves, and what is left for batches in flight.
    #[serde(default)]
    pub credit: u64,
    /// User and system CPU seconds over all processes of the run.
    pub cpu_seconds: f64,
    /// Peak resident memory in bytes: the sum of each process's own peak.
    pub peak_rss: u64,
}

impl Report {
    /// Whether nothing was written because every record that this start read was refused. Of a run that was resumed it
    /// is not known what earlier starts read.
    #[must_use]
    pub fn refused_all(&self) -> bool {
        let sources = self.progress.nodes.iter().filter(|node| node.role == "source");
        let read: u64 = sources.map(|node| node.records_in).sum();
        self.ending == Ending::Complete
            && !self.resumed
            && self.outputs.values().all(|output| output.rows == 0)
            && self.refused > 0
            && self.refused >= read
    }
}

const fn one() -> u64 {
    1
}

/// What a sink holds of this run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its URL.
    pub location: String,
    /// Shards.
    pub shards: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}
