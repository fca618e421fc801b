//! The trait that every sink implements: prepare, commit, recover.
//!
//! *Prepare*: a [`PartWriter`] writes one part to one shard, durable when
//! [`finish`](PartWriter::finish) returns, and invisible. *Commit*: after the run log names the shards
//! of a commit, [`Sink::commit`] derives whatever makes them visible to readers (a Delta log, an index);
//! it is idempotent. *Recover*: after a kill, [`Sink::recover`] repeats the commits that the derived log
//! lacks, and [`Sink::clean`] removes what no commit names any more. The run log is the single truth
//! throughout.
//!
//! A start cannot know that the one before it is dead: a stopped process may wake up and append the commit
//! whose shards it had prepared. Until that commit's number is taken, those shards are not rubbish; they are
//! written again under the same names, and become rubbish only where a commit came to be without them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::graph::SchemaError;
use crate::log::Commit;

/// Names a part's output for good: a second run cannot vanish into the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartName {
    /// The run.
    pub run: String,
    /// The sink's name in the job.
    pub sink: String,
    /// The commit that the part belongs to.
    pub commit: u64,
    /// The part's epoch.
    pub epoch: u64,
    /// The part's lane.
    pub lane: u32,
    /// The start of the run that writes it, where what is written depends on more than records and decisions (class
    /// `live`): a start that is yet to notice that a newer one took over must not write over that one's shards.
    pub generation: Option<u64>,
}

impl PartName {
    /// A file name without extension, e.g. `r1-5f0c9a12-photos-c000003-p00000017-0`, with `-g000002` behind it when it
    /// belongs to a start.
    pub fn stem(&self) -> String {
        let Self { run, sink, commit, epoch, lane, generation } = self;
        let start = generation.map(|generation| format!("-g{generation:06}")).unwrap_or_default();
        format!("{run}-{sink}-c{commit:06}-p{epoch:08}-{lane}{start}")
    }
}

/// One file that a sink wrote, as the run log names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Path relative to the sink's location.
    pub path: String,
    /// Epoch of the part.
    pub epoch: u64,
    /// Lane of the part.
    pub lane: u32,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// What the derived log wants to know of it, e.g. column statistics.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub statistics: serde_json::Value,
}

/// What the run tells a sink before it writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStart {
    /// The run's id.
    pub run: String,
    /// The sink's name in the job.
    pub sink: String,
    /// Whether earlier contents are replaced by this run's first commit.
    pub overwrite: bool,
}

/// Why a sink failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The destination refuses writes, is full, or failed after retries.
    #[error("cannot write {location}: {message}")]
    Store {
        /// The object or folder.
        location: String,
        /// What the store said, and what to do about it.
        message: String,
    },
    /// What is at the destination does not fit this job.
    #[error("{location}: {message}")]
    Destination {
        /// The destination.
        location: String,
        /// Why it does not fit, and what to do.
        message: String,
    },
    /// The rows cannot be written in this format.
    #[error("cannot encode for {location}: {message}")]
    Encode {
        /// The shard.
        location: String,
        /// Why.
        message: String,
    },
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs a writer's computation on the executor instead of the I/O threads.
#[derive(Clone)]
pub struct Compute {
    submit: Arc<dyn Fn(Job) + Send + Sync>,
}

impl Compute {
    /// A `Compute` that hands each job to `submit`.
    pub fn new(submit: impl Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static) -> Self {
        Self { submit: Arc::new(submit) }
    }

    /// Computes on the calling thread, for tests.
    pub fn inline() -> Self {
        Self::new(|job| job())
    }

    /// Runs `work` on the executor and waits for its result. A panic in it panics here.
    pub fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = R> + Send>> {
        let (send, receive) = tokio::sync::oneshot::channel();
        (self.submit)(Box::new(move || {
            let _ = send.send(crate::panics::catch(work));
        }));
        Box::pin(async move {
            match receive.await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => panic!("{panic}"),
                Err(_) => panic!("the executor was shut down while a shard was being written"),
            }
        })
    }
}

/// Writes one part to one shard.
#[async_trait]
pub trait PartWriter: Send {
    /// Appends rows, which come in the part's order in batches of any size.
    ///
    /// The bytes of the shard depend on the rows alone, not on how they were batched. The writer waits
    /// here while the store is slow, and holds no more than [`Sink::reserve`].
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError>;

    /// Makes the shard durable (fsync on local disks), not visible. `None` when the part had no rows.
    async fn finish(self: Box<Self>) -> Result<Option<Shard>, SinkError>;
}

/// Something that records are written to. See the [module documentation](self).
///
/// Every implementation runs the conformance suite `anabranch_connectors::conformance::sink`.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// The kind in job files: `table`, `jsonl`, ...
    fn kind(&self) -> &'static str;

    /// The options that determine what is written (not where), for the plan's hash.
    fn options(&self) -> serde_json::Value;

    /// The destination's URL. The run log stands below it, unless the job says otherwise.
    fn location(&self) -> String;

    /// Whether rows of this schema can be written here.
    ///
    /// # Errors
    /// When a column's type has no equivalent; the message says what to do.
    fn check(&self, input: &SchemaRef) -> Result<(), SchemaError>;

    /// Bytes that one open [`PartWriter`] may hold, rows and encoded bytes together.
    fn reserve(&self) -> usize;

    /// Whether something that readers would see is at the destination.
    async fn exists(&self) -> Result<bool, SinkError>;

    /// Makes the destination ready for a new run of rows of this schema. Repeated safely: every process of a
    /// run calls it before it writes or commits, and one of them, before all others, also
    /// [`recover`](Self::recover).
    ///
    /// # Errors
    /// When the destination is read-only or holds something of another schema.
    async fn start(&self, run: &RunStart, schema: &SchemaRef) -> Result<(), SinkError>;

    /// Opens a writer for one part.
    fn writer(
        &self,
        part: &PartName,
        schema: &SchemaRef,
        compute: &Compute,
    ) -> Result<Box<dyn PartWriter>, SinkError>;

    /// Whether readers can be shown these shards beside what they see. It is asked before the run log names them:
    /// what was named is shown sooner or later, so this is where a run can still end without a trace.
    ///
    /// # Errors
    /// When they cannot, now or later.
    async fn admit(&self, _run: &RunStart, _commit: &Commit) -> Result<(), SinkError> {
        Ok(())
    }

    /// Makes a commit's shards visible. Repeating it changes nothing.
    async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError>;

    /// Repeats the commits that the derived log lacks.
    ///
    /// `committed` holds all commits of the run so far, in order.
    async fn recover(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError>;

    /// Removes shards of this run that no commit names or [will name](is_rubbish).
    ///
    /// `committed` holds all commits of the run so far, in order.
    async fn clean(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError>;
}

/// Whether a file is a shard of this run and sink, by its [stem](PartName::stem), that these commits do not
/// name and no later one will: a shard of a commit that is still to be made may be named by it.
pub fn is_rubbish(file: &str, run: &RunStart, committed: &[Commit]) -> bool {
    let Some(last) = committed.last() else { return false };
    let prefix = format!("{}-{}-c", run.run, run.sink);
    // Another sink's name may go on where this one's ends: `out`, and `out-copy`.
    let rest = file.strip_prefix(&prefix).filter(|rest| is_part(rest));
    let number = rest.and_then(|rest| rest.split('-').next()?.parse().ok());
    let Some(number): Option<u64> = number else { return false };
    let commit = usize::try_from(number).ok().and_then(|number| committed.get(number));
    let shards = commit.and_then(|commit| commit.shards.get(&run.sink)).into_iter().flatten();
    let named = shards.filter_map(|shard| shard.path.rsplit('/').next()).any(|name| name == file);
    (last.last || number <= last.number) && !named
}

/// Whether this is how a [part's name](PartName::stem) goes on behind its sink: `000003-p00000017-0.parquet`.
fn is_part(end: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let after = |letter| move |text: &str| text.strip_prefix(letter).is_some_and(number);
    let stem = end.split_once('.').map_or(end, |(stem, _)| stem);
    let parts: Vec<&str> = stem.splitn(4, '-').collect();
    match parts.as_slice() {
        [commit, epoch, lane] => number(commit) && after('p')(epoch) && number(lane),
        [commit, epoch, lane, start] => {
            number(commit) && after('p')(epoch) && number(lane) && after('g')(start)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_known_again() {
        let part = |generation| PartName {
            run: "r1".into(),
            sink: "out".into(),
            commit: 3,
            epoch: 17,
            lane: 0,
            generation,
        };
        assert_eq!(part(None).stem(), "r1-out-c000003-p00000017-0");
        assert_eq!(part(Some(2)).stem(), "r1-out-c000003-p00000017-0-g000002");
        for part in [part(None), part(Some(2))] {
            let stem = part.stem();
            let end = stem.strip_prefix("r1-out-c").unwrap();
            assert!(is_part(end) && is_part(&format!("{end}.tar.gz")), "{stem}");
        }
        for other in ["copy-c000003-p00000017-0", "000003-p00000017-0-2", "000003-17-0", "3-p1-0-g"]
        {
            assert!(!is_part(other), "{other}");
        }
    }
}
