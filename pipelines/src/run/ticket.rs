//! Which run a start executes, and where in it: decided once, before any process works.
//!
//! A run belongs to its sinks' locations, which its record holds: shards and Delta versions of the run are
//! there and nowhere else, so a job whose sink was moved is another run.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{IfExists, RunError};
use crate::graph::{Mode, Plan, Work};
use crate::log::{
    Commit, DEAD_LETTERS, Existing, LOG_VERSION, Registry, RunLog, RunRecord, nonce, now, ordinal,
};
use crate::progress::Chosen;
use crate::sink::{RunStart, Sink};
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
    /// What was done about earlier runs.
    pub(crate) chosen: Chosen,
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
        let Self { record, log: _, generation, commits, listing, chosen: _ } = self.clone();
        Written { record, generation, commits, listing }
    }

    /// The ticket that another process of the run took.
    pub(crate) fn read(plan: &Plan, written: Written) -> Result<Self, RunError> {
        let Written { record, generation, commits, listing } = written;
        let location = state(plan)?;
        let log = Registry::new(&location).log(&record.run);
        // What was chosen is for the supervisor to tell.
        Ok(Self { record, log, generation, commits, listing, chosen: Chosen::default() })
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
    let registry = Registry::new(&location);
    let identity =
        Identity { listing: fingerprint, cpu: cpu(), sinks: destinations(plan, &location)? };
    loop {
        let runs = registry.runs().await?;
        let (record, chosen) = match choose(plan, if_exists, &identity, &runs) {
            Choice::GoOn(run) => {
                let chosen = if run.complete() { Chosen::Nothing } else { Chosen::Resumed };
                let Existing { record, log, commits } = run.clone();
                let generation = if run.complete() { 0 } else { log.next_generation().await? };
                return Ok(Ticket { record, log, generation, commits, listing, chosen });
            }
            Choice::Refuse(found, more) => return Err(taken(&location, found, &more)),
            Choice::Begin(record, chosen) => (record, chosen),
        };
        if chosen == Chosen::Began {
            refuse_foreign(plan).await?;
        }
        if let Some(run) = runs.last() {
            tell_readers(plan, run, &identity.sinks).await?;
        }
        // Registered by another start at this moment: look again, it may be this very job.
        let Some(log) = registry.register(&record).await? else { continue };
        if let Some(replays) = &record.replays {
            copy_decisions(plan, &registry.log(&replays.run), &log).await?;
        }
        let generation = log.next_generation().await?;
        return Ok(Ticket { record, log, generation, commits: Vec::new(), listing, chosen });
    }
}

/// What makes a run this very one, beside its plan.
struct Identity {
    /// Hash of the sources' listing.
    listing: String,
    cpu: String,
    /// Where each sink writes, as [`RunRecord::sinks`] says it.
    sinks: BTreeMap<String, String>,
}

impl Identity {
    fn is_of(&self, plan: &Plan, record: &RunRecord) -> bool {
        self.same_work(plan, record) && self.moved(record).is_none()
    }

    /// Whether it is the same but for where it writes.
    fn same_work(&self, plan: &Plan, record: &RunRecord) -> bool {
        record.plan == plan.hash() && record.listing == self.listing && record.cpu == self.cpu
    }

    /// The first sink that the run wrote elsewhere: its name, where it was, and where it is now.
    fn moved<'a>(&'a self, record: &'a RunRecord) -> Option<(&'a str, &'a str, &'a str)> {
        self.sinks.iter().find_map(|(name, now)| {
            let was = record.sinks.get(name).filter(|was| *was != now)?;
            Some((name.as_str(), was.as_str(), now.as_str()))
        })
    }
}

/// What to do, given the runs that are there.
enum Choice<'a> {
    GoOn(&'a Existing),
    Begin(RunRecord, Chosen),
    /// What is there, and what else can be chosen.
    Refuse(String, String),
}

fn choose<'a>(
    plan: &Plan,
    if_exists: IfExists,
    identity: &Identity,
    runs: &'a [Existing],
) -> Choice<'a> {
    let is_same = |run: &Existing| identity.is_of(plan, &run.record);
    let begin = |chosen| {
        let number = runs.last().map_or(0, |run| ordinal(&run.record.run)) + 1;
        Choice::Begin(begin(plan, number, identity, chosen), chosen)
    };
    if plan.replays().is_some() {
        let again = runs.iter().rfind(|run| run.record.replays.as_ref() == plan.replays());
        return again
            .filter(|run| is_same(run))
            .map_or_else(|| begin(Chosen::Replayed), Choice::GoOn);
    }
    // Only the newest run can go on: what an older one wrote may have been replaced since. Replays add to
    // runs and replace nothing.
    let newest = runs.iter().rfind(|run| run.record.replays.is_none());
    // A run that has no commit has replaced nothing yet either: it failed, or is about to. It keeps others from
    // beginning, and not this very job from going on.
    let committed = |run: &&Existing| run.record.replays.is_none() && !run.commits.is_empty();
    let same = newest.filter(|run| is_same(run));
    let same = same.or_else(|| runs.iter().rfind(committed).filter(|run| is_same(run)));
    let unfinished =
        |overwrite: bool| same.filter(|run| !run.complete() && run.record.overwrite == overwrite);
    match (if_exists, newest) {
        (IfExists::Resume, _) if same.is_some() => {
            same.map_or_else(|| begin(Chosen::Began), Choice::GoOn)
        }
        (IfExists::Resume | IfExists::Error, Some(run)) => {
            let instead = if is_same(run) && !run.complete() {
                "choose `--if-exists resume` to go on with it, ".to_owned()
            } else if identity.same_work(plan, &run.record)
                && let Some((sink, was, _)) = identity.moved(&run.record)
            {
                format!("let `{sink}` write to `{was}` again to go on with it, or choose ")
            } else if !run.complete() && !run.commits.is_empty() {
                "run the job as it was to finish it, which cannot be done later, or choose "
                    .to_owned()
            } else {
                "choose ".to_owned()
            };
            Choice::Refuse(found(plan, run, identity), instead)
        }
        (IfExists::Resume | IfExists::Error, None) => begin(Chosen::Began),
        // An append or overwrite that was killed goes on; a complete one is done again.
        (IfExists::Append, _) => {
            unfinished(false).map_or_else(|| begin(Chosen::Appended), Choice::GoOn)
        }
        (IfExists::Overwrite, _) => {
            unfinished(true).map_or_else(|| begin(Chosen::Overwrote), Choice::GoOn)
        }
    }
}

fn begin(plan: &Plan, number: u64, identity: &Identity, chosen: Chosen) -> RunRecord {
    let mut hash = Sha256::new();
    for text in [plan.hash(), &identity.listing, &identity.cpu] {
        hash.update(text.as_bytes());
    }
    let nonce = nonce();
    hash.update(nonce.to_le_bytes());
    let digest = crate::hex(&hash.finalize());
    RunRecord {
        version: LOG_VERSION,
        run: format!("r{number}-{}", digest.get(..8).unwrap_or_default()),
        nonce,
        job: plan.name().to_owned(),
        plan: plan.hash().to_owned(),
        listing: identity.listing.clone(),
        cpu: identity.cpu.clone(),
        sinks: identity.sinks.clone(),
        overwrite: chosen == Chosen::Overwrote,
        replays: plan.replays().cloned(),
        created: now(),
    }
}

/// What a run is that stands in the way.
fn found(plan: &Plan, run: &Existing, identity: &Identity) -> String {
    let differs = if run.record.job != plan.name() {
        format!("of the job `{}`", run.record.job)
    } else if run.record.plan != plan.hash() {
        "of another plan (the job file or its settings changed)".to_owned()
    } else if run.record.listing != identity.listing {
        "of other input files (the source's listing changed)".to_owned()
    } else if run.record.cpu != identity.cpu {
        let (was, now) = (&run.record.cpu, &identity.cpu);
        format!("made on another CPU feature level ({was}, this is {now})")
    } else if let Some((sink, was, now)) = identity.moved(&run.record) {
        format!("whose sink `{sink}` writes to `{was}`, not to `{now}`")
    } else {
        "of this very job".to_owned()
    };
    let how = if run.complete() { "complete" } else { "unfinished" };
    format!("holds the {how} run {} {differs}", run.record.run)
}

fn taken(location: &Location, found: String, instead: &str) -> RunError {
    RunError::Exists {
        location: location.url.clone(),
        found,
        choices: format!(
            "{instead}`--if-exists append` to add to it, `--if-exists overwrite` to replace it, or another \
             destination"
        ),
    }
}

/// A replay decides nothing anew: its rows stand beside those of the run that it replays.
async fn copy_decisions(plan: &Plan, from: &RunLog, to: &RunLog) -> Result<(), RunError> {
    for node in plan.nodes() {
        let Work::Operator { operator, .. } = &node.work else { continue };
        if operator.journaled().is_some()
            && let Some(decision) = from.decision(&node.name).await?
        {
            to.decide(&node.name, decision.to_vec()).await?;
        }
    }
    Ok(())
}

/// Repeats the last commit of the run before this one: it may have been killed before readers were told.
/// A sink of the same name that writes elsewhere now holds nothing of that run.
async fn tell_readers(
    plan: &Plan,
    run: &Existing,
    now: &BTreeMap<String, String>,
) -> Result<(), RunError> {
    let Some(last) = run.commits.last() else { return Ok(()) };
    for (node, sink) in plan.sinks().filter(|(node, _)| last.shards.contains_key(&node.name)) {
        let was = run.record.sinks.get(&node.name);
        if was.is_some() && was != now.get(&node.name) {
            continue;
        }
        let overwrite = run.record.overwrite;
        let start = RunStart { run: run.record.run.clone(), sink: node.name.clone(), overwrite };
        let told = async {
            if !sink.exists().await? {
                // A table is made by its first commit; one that is gone was taken away on purpose.
                if last.number > 0 {
                    return Ok(());
                }
                sink.start(&start, &node.schema).await?;
            }
            sink.commit(&start, last).await
        };
        told.await.map_err(|error| RunError::Sink { node: node.name.clone(), error })?;
    }
    Ok(())
}

/// Where the run log stands.
pub(crate) fn state(plan: &Plan) -> Result<Location, RunError> {
    let first = plan.sinks().next().map(|(_, sink)| sink.location()).unwrap_or_default();
    Ok(Location::parse(plan.settings().state.as_ref().unwrap_or(&first))?)
}

/// Where each sink writes, dead letters included, as [`RunRecord::sinks`] says it.
fn destinations(plan: &Plan, state: &Location) -> Result<BTreeMap<String, String>, RunError> {
    let named = plan.sinks().map(|(node, sink)| (node.name.as_str(), sink));
    let letters = plan.dead_letters().map(|sink| (DEAD_LETTERS, sink));
    let destination = |(name, sink): (&str, &Arc<dyn Sink>)| {
        let url = Location::parse(&sink.location())?.url;
        let below =
            url.strip_prefix(&state.url).filter(|below| below.is_empty() || below.starts_with('/'));
        let relative = below.map(|below| format!(".{below}"));
        Ok((name.to_owned(), relative.unwrap_or(url)))
    };
    named.chain(letters).map(destination).collect()
}

/// Refuses data that no run of this state wrote.
async fn refuse_foreign(plan: &Plan) -> Result<(), RunError> {
    for (node, sink) in plan.sinks() {
        let there = sink.exists().await;
        if there.map_err(|error| RunError::Sink { node: node.name.clone(), error })? {
            let location = Location::parse(&sink.location())?;
            let found = "holds data that no run of this state wrote".to_owned();
            return Err(taken(&location, found, "choose "));
        }
    }
    Ok(())
}

/// What the hash of a batch job's listing is now, as [`RunRecord::listing`] keeps it.
pub(crate) async fn listed(plan: &Plan) -> Result<String, RunError> {
    Ok(fingerprint(&list(plan).await?))
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
