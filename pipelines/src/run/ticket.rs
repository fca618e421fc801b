//! Which run a start executes, and where in it: decided once, before any process works.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{IfExists, RunError};
use crate::graph::{Mode, Plan, Work};
use crate::log::{Commit, Existing, LOG_VERSION, Registry, RunLog, RunRecord, now, ordinal};
use crate::source::Split;
use crate::store::Location;

/// What a start has decided.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) record: RunRecord,
    pub(crate) log: RunLog,
    pub(crate) generation: u64,
    /// The run's commits so far.
    pub(crate) commits: Vec<Commit>,
    /// The splits of each node that is a source, in the plan's order. Empty for a stream.
    pub(crate) listing: Vec<Option<Vec<Arc<Split>>>>,
}

impl Ticket {
    pub(crate) fn complete(&self) -> bool {
        self.commits.last().is_some_and(|commit| commit.last)
    }

    /// The splits of a stream's source that the commits so far have taken up, in the order of discovery.
    pub(crate) fn taken_up(&self, source: &str) -> Vec<Arc<Split>> {
        let cuts = self.commits.iter().flat_map(|commit| &commit.cuts);
        let added = cuts.filter(|cut| cut.source == source).flat_map(|cut| &cut.added);
        added.cloned().map(Arc::new).collect()
    }

    /// The ticket of the next start of this run, after the loss of a process.
    pub(crate) async fn renew(&mut self) -> Result<(), RunError> {
        self.generation = self.log.next_generation().await?;
        self.commits = self.log.commits().await?;
        Ok(())
    }

    /// The ticket for another process of the run.
    pub(crate) fn written(&self) -> Written {
        let Self { record, log: _, generation, commits, listing } = self.clone();
        Written { record, generation, commits, listing }
    }

    /// The ticket that another process of the run took.
    pub(crate) fn read(plan: &Plan, written: Written) -> Result<Self, RunError> {
        let Written { record, generation, commits, listing } = written;
        let location = state(plan)?;
        let log = Registry::new(Arc::clone(&location.store), &location.path).log(&record.run);
        Ok(Self { record, log, generation, commits, listing })
    }
}

/// A [`Ticket`] as it travels between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Written {
    record: RunRecord,
    generation: u64,
    commits: Vec<Commit>,
    listing: Vec<Option<Vec<Arc<Split>>>>,
}

/// Looks at the destination and decides, as [`IfExists`] says, which run to execute.
pub(crate) async fn take(plan: &Plan, if_exists: IfExists) -> Result<Ticket, RunError> {
    // A stream lists its sources as it goes, and what it has taken up stands in its commits.
    let (listing, fingerprint) = match plan.settings().mode {
        Mode::Batch => {
            let listing = list(plan).await?;
            let fingerprint = fingerprint(&listing);
            (listing, fingerprint)
        }
        Mode::Stream => (Vec::new(), String::new()),
    };
    let location = state(plan)?;
    let registry = Registry::new(Arc::clone(&location.store), &location.path);
    let mut runs = registry.runs().await?;
    let last = runs.last().map_or(0, |run| ordinal(&run.record.run));
    let cpu = cpu();
    let same = runs.iter().rposition(|run| {
        run.record.plan == plan.hash() && run.record.listing == fingerprint && run.record.cpu == cpu
    });
    let newest = runs.len().checked_sub(1);
    let resume = match if_exists {
        // Only the newest run can go on: what an older one wrote may have been replaced since.
        IfExists::Resume => same.filter(|at| Some(*at) == newest).map(|at| runs.swap_remove(at)),
        // An append or overwrite that was killed goes on as well; a complete one is done again.
        IfExists::Append | IfExists::Overwrite => {
            same.filter(|at| Some(*at) == newest).map(|at| runs.swap_remove(at)).filter(|run| {
                !run.complete() && run.record.overwrite == (if_exists == IfExists::Overwrite)
            })
        }
        IfExists::Error => None,
    };
    if let Some(Existing { record, log, commits }) = resume {
        let complete = commits.last().is_some_and(|commit| commit.last);
        let generation = if complete { 0 } else { log.next_generation().await? };
        return Ok(Ticket { record, log, generation, commits, listing });
    }
    if matches!(if_exists, IfExists::Resume | IfExists::Error) {
        refuse_if_taken(plan, &location, newest.and_then(|at| runs.get(at)), &fingerprint).await?;
    }
    let make = |number: u64| {
        let mut hash = Sha256::new();
        hash.update(plan.hash().as_bytes());
        hash.update(fingerprint.as_bytes());
        hash.update(cpu.as_bytes());
        let digest = crate::hex(&hash.finalize());
        RunRecord {
            version: LOG_VERSION,
            run: format!("r{number}-{}", digest.get(..8).unwrap_or_default()),
            job: plan.name().to_owned(),
            plan: plan.hash().to_owned(),
            listing: fingerprint.clone(),
            cpu: cpu.clone(),
            overwrite: if_exists == IfExists::Overwrite,
            created: now(),
        }
    };
    let (record, log) = registry.register(make, last).await?;
    let generation = log.next_generation().await?;
    Ok(Ticket { record, log, generation, commits: Vec::new(), listing })
}

/// Where the run log stands.
pub(crate) fn state(plan: &Plan) -> Result<Location, RunError> {
    let first = plan.sinks().next().map(|(_, sink)| sink.location()).unwrap_or_default();
    Ok(Location::parse(plan.settings().state.as_ref().unwrap_or(&first))?)
}

async fn refuse_if_taken(
    plan: &Plan,
    state: &Location,
    newest: Option<&Existing>,
    fingerprint: &str,
) -> Result<(), RunError> {
    let choices = "choose `--if-exists append` to add to it, `--if-exists overwrite` to replace it, \
                   or another destination";
    if let Some(run) = newest {
        let name = &run.record.run;
        let differs = if run.record.plan != plan.hash() {
            "of another plan (the job file or its settings changed)"
        } else if run.record.listing != fingerprint {
            "of other input files (the source's listing changed)"
        } else if run.record.cpu != cpu() {
            "made on another CPU feature level"
        } else {
            "of this very job"
        };
        let how = if run.complete() { "complete" } else { "unfinished" };
        return Err(RunError::Exists {
            location: state.url.clone(),
            found: format!("holds the {how} run {name} {differs}"),
            choices: choices.to_owned(),
        });
    }
    for (node, sink) in plan.sinks() {
        let there = sink.exists().await;
        if there.map_err(|error| RunError::Sink { node: node.name.clone(), error })? {
            return Err(RunError::Exists {
                location: sink.location(),
                found: "holds data that no run of this state wrote".to_owned(),
                choices: choices.to_owned(),
            });
        }
    }
    Ok(())
}

async fn list(plan: &Plan) -> Result<Vec<Option<Vec<Arc<Split>>>>, RunError> {
    let mut listing = Vec::new();
    for node in plan.nodes() {
        listing.push(match &node.work {
            Work::Source { source, .. } => {
                let splits = source.splits().await;
                let splits =
                    splits.map_err(|error| RunError::Source { node: node.name.clone(), error })?;
                Some(splits.into_iter().map(Arc::new).collect())
            }
            _ => None,
        });
    }
    Ok(listing)
}

fn fingerprint(listing: &[Option<Vec<Arc<Split>>>]) -> String {
    let mut hash = Sha256::new();
    for splits in listing.iter().flatten() {
        hash.update((splits.len() as u64).to_le_bytes());
        for split in splits {
            for text in [&split.name, &split.version] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
            hash.update(split.bytes.to_le_bytes());
        }
    }
    crate::hex(&hash.finalize())
}

/// The CPU feature level: kernels may choose other instructions, and so other last bits, on another one.
pub(crate) fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let level = if std::arch::is_x86_feature_detected!("avx512f") {
            "avx512"
        } else if std::arch::is_x86_feature_detected!("avx2") {
            "avx2"
        } else {
            "sse2"
        };
        format!("x86_64+{level}")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH.to_owned()
    }
}
