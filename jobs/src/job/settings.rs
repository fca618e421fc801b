//! The `[job]` table.

use anabranch_pipelines::graph::{CommitSize, ErrorLimit, Mode, PartSize, Settings};
use anabranch_pipelines::quantity::{ByteSize, Interval};
use anabranch_pipelines::source::BatchSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of a job as a whole. All but `name` may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobOptions {
    /// The job's name, by which reports and run logs call it.
    pub name: String,
    /// `batch` ends with its sources; `stream` keeps looking for more until it is stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: ModeOption,
    /// Bytes in flight between sources and sinks, at most. Default `256MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub credit: Option<ByteSize>,
    /// Timely workers per process, which route and do not compute. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub workers: Option<usize>,
    /// Processes of the run, on this machine, which share the credit. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub processes: Option<usize>,
    /// Threads per process that compute. Default: one per core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub threads: Option<usize>,
    /// Size of the batches that sources emit, at most. Does not change the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<SizeOption>,
    /// When a part, the unit that becomes one shard, is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<SizeOption>,
    /// When a commit, which makes its parts durable together, is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitOption>,
    /// How many commits may be open at once. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub open_commits: Option<u64>,
    /// Commits between two snapshots of the state of joins. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub snapshot_every: Option<u64>,
    /// How many records may be refused before the run fails: a count, or a share like `"1%"`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_errors: Option<ErrorOption>,
    /// How often a stream looks for new data. Default `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub poll: Option<Interval>,
    /// How long a run that was told to stop may take to finish what is in flight. Default `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub grace: Option<Interval>,
    /// How long nothing may progress while work is in flight before the run is ended. Default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub stall: Option<Interval>,
    /// How long a process of the run may be silent before it counts as lost. Default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub heartbeat: Option<Interval>,
    /// How often a run of several processes starts again without a new commit in between. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// Where the run log stands. Default: below the first sink's location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Where refused records go, as a table. Default: `_anabranch/dead_letters` below the first sink's location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    /// What to do when the destination holds data already. Default `resume`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub if_exists: IfExists,
}

/// Whether a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModeOption {
    /// Ends when the listed sources were read.
    #[default]
    Batch,
    /// Lists the sources again and again until it is stopped.
    Stream,
}

/// What to do when the destination holds data already.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// Continue an unfinished run of this job; say so when it is complete; else refuse.
    #[default]
    Resume,
    /// Add to what is there.
    Append,
    /// Replace what is there with the first commit.
    Overwrite,
    /// Refuse.
    Error,
}

/// A bound on records and bytes; whichever is reached first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizeOption {
    /// Records, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub records: Option<u64>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub bytes: Option<ByteSize>,
}

/// When a commit is closed; whichever bound is reached first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitOption {
    /// Parts of each source, at least 1. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub parts: Option<u64>,
    /// Bytes as stored at the sources. Default `256MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub bytes: Option<ByteSize>,
    /// In a stream, how long a commit stays open at most. Default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub interval: Option<Interval>,
}

/// A count of records, or a share of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ErrorOption {
    /// At most so many.
    Count(u64),
    /// At most this share, like `"1%"`.
    Share(String),
}

impl JobOptions {
    /// The run's settings; what the job leaves out has the library's default.
    ///
    /// # Errors
    /// When `max_errors` is neither a count nor a share.
    pub fn settings(&self) -> Result<Settings, String> {
        let default = Settings::default();
        let bytes = |size: Option<ByteSize>, or: usize| size.map_or(or, ByteSize::as_usize);
        let (batch, part) =
            (self.batch.unwrap_or(SizeOption::NONE), self.part.unwrap_or(SizeOption::NONE));
        let commit = self.commit.unwrap_or(CommitOption::NONE);
        Ok(Settings {
            mode: match self.mode {
                ModeOption::Batch => Mode::Batch,
                ModeOption::Stream => Mode::Stream,
            },
            credit: bytes(self.credit, default.credit),
            batch: BatchSize {
                records: batch
                    .records
                    .map_or(default.batch.records, |n| usize::try_from(n).unwrap_or(usize::MAX)),
                bytes: bytes(batch.bytes, default.batch.bytes),
            },
            part: PartSize {
                records: part.records.unwrap_or(default.part.records),
                bytes: part.bytes.map_or(default.part.bytes, |size| size.0),
            },
            commit: CommitSize {
                parts: commit.parts.unwrap_or(default.commit.parts),
                bytes: commit.bytes.map_or(default.commit.bytes, |size| size.0),
                interval: commit.interval.map_or(default.commit.interval, |interval| interval.0),
            },
            open_commits: self.open_commits.unwrap_or(default.open_commits),
            snapshot_every: self.snapshot_every.unwrap_or(default.snapshot_every),
            workers: self.workers.unwrap_or(default.workers),
            processes: self.processes.unwrap_or(default.processes),
            threads: self.threads.unwrap_or(default.threads),
            max_errors: self
                .max_errors
                .as_ref()
                .map_or(Ok(default.max_errors), ErrorOption::limit)?,
            poll: self.poll.map_or(default.poll, |interval| interval.0),
            grace: self.grace.map_or(default.grace, |interval| interval.0),
            stall: self.stall.map_or(default.stall, |interval| interval.0),
            heartbeat: self.heartbeat.map_or(default.heartbeat, |interval| interval.0),
            restarts: self.restarts.unwrap_or(default.restarts),
            state: self.state.clone(),
        })
    }
}

impl SizeOption {
    const NONE: Self = Self { records: None, bytes: None };
}

impl CommitOption {
    const NONE: Self = Self { parts: None, bytes: None, interval: None };
}

impl ErrorOption {
    /// The limit that this stands for.
    ///
    /// # Errors
    /// When it is no share between 0 % and 100 %.
    pub fn limit(&self) -> Result<ErrorLimit, String> {
        match self {
            Self::Count(count) => Ok(ErrorLimit::Count(*count)),
            Self::Share(text) => text
                .trim()
                .strip_suffix('%')
                .and_then(|number| number.trim().parse::<f64>().ok())
                .filter(|percent| (0.0..=100.0).contains(percent))
                .map(|percent| ErrorLimit::Share(percent / 100.0))
                .ok_or_else(|| {
                    format!("`{text}` is no share; write a count like 10 or a share like \"1%\"")
                }),
        }
    }
}

impl From<IfExists> for anabranch_pipelines::run::IfExists {
    fn from(choice: IfExists) -> Self {
        match choice {
            IfExists::Resume => Self::Resume,
            IfExists::Append => Self::Append,
            IfExists::Overwrite => Self::Overwrite,
            IfExists::Error => Self::Error,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> JobOptions {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_left_out_has_the_library_default() {
        assert_eq!(parsed("name = 'a'").settings().unwrap(), Settings::default());
    }

    #[test]
    fn settings_survive_a_round_trip() {
        let text = r#"
            name = "a"
            mode = "stream"
            credit = "64MiB"
            workers = 2
            processes = 3
            threads = 4
            batch = { records = 7, bytes = "1MiB" }
            part = { records = 100, bytes = "2MiB" }
            commit = { parts = 3, bytes = "5MiB", interval = "500ms" }
            open_commits = 5
            snapshot_every = 6
            max_errors = "1.5%"
            poll = "2s"
            grace = "1m"
            stall = "1h"
            heartbeat = "5s"
            restarts = 1
            state = "s3://bucket/state"
            if_exists = "overwrite"
        "#;
        let options = parsed(text);
        let again: JobOptions = toml::from_str(&toml::to_string(&options).unwrap()).unwrap();
        assert_eq!(options, again);
        let settings = options.settings().unwrap();
        assert_eq!(settings.mode, Mode::Stream);
        assert_eq!(settings.credit, 64 << 20);
        assert_eq!((settings.workers, settings.processes, settings.threads), (2, 3, 4));
        assert_eq!((settings.heartbeat.as_secs(), settings.restarts), (5, 1));
        assert_eq!(settings.batch, BatchSize { records: 7, bytes: 1 << 20 });
        assert_eq!(settings.part, PartSize { records: 100, bytes: 2 << 20 });
        assert_eq!((settings.commit.parts, settings.commit.bytes), (3, 5 << 20));
        assert_eq!(settings.commit.interval.as_millis(), 500);
        assert_eq!((settings.open_commits, settings.snapshot_every), (5, 6));
        assert_eq!(settings.max_errors, ErrorLimit::Share(0.015));
        assert_eq!(settings.stall.as_secs(), 3600);
        assert_eq!(settings.state.as_deref(), Some("s3://bucket/state"));
    }

    #[test]
    fn an_error_limit_is_a_count_or_a_share() {
        assert_eq!(ErrorOption::Count(3).limit(), Ok(ErrorLimit::Count(3)));
        assert_eq!(ErrorOption::Share("2 %".into()).limit(), Ok(ErrorLimit::Share(0.02)));
        for wrong in ["2", "-1%", "101%", "x%", ""] {
            assert!(ErrorOption::Share(wrong.into()).limit().unwrap_err().contains("like 10"));
        }
    }
}
