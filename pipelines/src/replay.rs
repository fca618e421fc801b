//! Feeds dead letters back in.
//!
//! What a run refused is replayed through the job as it is now (its options may have been mended): records
//! that a source could not read are read again, records that an operator refused enter that operator again,
//! with the ids that they had. A replay is a run of its own at the same destination, whose rows are added;
//! what is refused again becomes its dead letters, which the next replay takes up. So no record is ever
//! replayed twice after it has passed.
//!
//! This crate knows no file format: whoever replays brings a [`ReadLetters`] that reads the shards which the
//! job's sink of dead letters wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use thiserror::Error;

use crate::dead_letter::{self, DeadLetter};
use crate::graph::{Graph, Mode, Node, Plan, PlanError, Settings, Work};
use crate::log::{DEAD_LETTERS, Existing, Registry, Replays};
use crate::run::{RunError, listed, state};
use crate::sink::Shard;
use crate::source::{Order, Source, SourceError};

mod refused;
mod stored;

use refused::Refused;
use stored::Stored;

/// Reads the shards of dead letters.
#[async_trait]
pub trait ReadLetters: Send + Sync + 'static {
    /// The rows of one shard below `location`, in the order in which they were written, with the columns of
    /// [`dead_letter::schema`] (ids may be plain binary).
    ///
    /// # Errors
    /// When the shard is missing or damaged.
    async fn read(&self, location: &str, shard: &Shard) -> Result<Vec<RecordBatch>, SourceError>;
}

/// What a replay would do.
pub struct Replay {
    /// The run whose dead letters these are.
    pub of: String,
    /// The plan to run, with any `if_exists`; `None` when nothing is left to do.
    pub plan: Option<Arc<Plan>>,
    /// Records that go in, by the node that refused them.
    pub letters: BTreeMap<String, u64>,
    /// Records that cannot be replayed, with the reason.
    pub left: Vec<Left>,
}

/// Dead letters of a node that stay where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The node that refused them.
    pub node: String,
    /// How many.
    pub records: u64,
    /// Why they cannot be replayed.
    pub why: String,
}

/// Why nothing can be replayed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The job as it is now is no plan.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// The run log or a shard cannot be read.
    #[error("{0}")]
    Run(#[from] RunError),
    /// There is no run to replay, or not yet.
    #[error("{0}")]
    Nothing(String),
}

impl From<crate::log::LogError> for ReplayError {
    fn from(error: crate::log::LogError) -> Self {
        Self::Run(error.into())
    }
}

/// What became of the dead letters of a node.
#[derive(Default)]
struct Found {
    records: u64,
    /// Of a source: where the records stand.
    ranges: BTreeMap<String, BTreeSet<(u64, u64)>>,
    /// Records that carry neither a place nor a row.
    bare: u64,
}

impl Replay {
    /// Looks up what the newest run of this job refused, and plans its replay.
    ///
    /// # Errors
    /// When there is no complete run of this job, or its log or letters cannot be read.
    pub async fn of(
        graph: Graph,
        mut settings: Settings,
        letters: Arc<dyn ReadLetters>,
    ) -> Result<Self, ReplayError> {
        let nothing = |message: String| Err(ReplayError::Nothing(message));
        if settings.mode == Mode::Stream {
            return nothing(
                "the dead letters of a stream cannot be replayed while it goes on; run the job with \
                 `mode = \"batch\"` over the records that it refused"
                    .to_owned(),
            );
        }
        settings.processes = 1;
        let whole = Plan::new(graph.clone(), settings.clone()).await?;
        let Some(sink) = whole.dead_letters().map(|sink| sink.location()) else {
            return nothing("the job has no sink for dead letters".to_owned());
        };
        let location = state(&whole)?;
        let runs = Registry::new(&location).runs().await?;
        let Some(newest) = runs.iter().rfind(|run| run.record.job == whole.name()) else {
            return nothing(format!("{} holds no run of `{}`", location.url, whole.name()));
        };
        let target = match &newest.record.replays {
            Some(replays) if replays.plan == whole.hash() => {
                if newest.complete() {
                    let (of, letters) = (replays.run.clone(), BTreeMap::new());
                    return Ok(Self { of, plan: None, letters, left: Vec::new() });
                }
                // A replay that was killed goes on: it is made from the same letters again.
                runs.iter().find(|run| run.record.run == replays.run).unwrap_or(newest)
            }
            _ => newest,
        };
        if !target.complete() {
            return nothing(format!(
                "run {} is unfinished; finish it first, then all that it refused is known",
                target.record.run
            ));
        }
        // The log of the replay stands where that of the run does, whichever sink comes first in it.
        settings.state = Some(location.url.clone());
        Self::planned(graph, settings, &whole, target, (sink, letters)).await
    }

    async fn planned(
        graph: Graph,
        settings: Settings,
        whole: &Plan,
        target: &Existing,
        (location, reader): (String, Arc<dyn ReadLetters>),
    ) -> Result<Self, ReplayError> {
        let named = target.commits.iter().filter_map(|commit| commit.shards.get(DEAD_LETTERS));
        let shards: Vec<Shard> = named.flatten().cloned().collect();
        let found = look(&location, &shards, reader.as_ref()).await?;
        let of = target.record.run.clone();
        // Listed only when it matters, since it may take a while.
        let places = found.iter().any(|(name, found)| {
            !found.ranges.is_empty() && source_of(&graph, name).is_some_and(|s| !mendable(s))
        });
        let changed = places && listed(whole).await.ok().as_ref() != Some(&target.record.listing);
        let mut replay = Self { of, plan: None, letters: BTreeMap::new(), left: Vec::new() };
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        for (name, found) in found {
            let node = graph.nodes().iter().find(|node| node.name == name);
            if let Some(why) = obstacle(whole, &name) {
                replay.left.push(Left { node: name, records: found.records, why });
                continue;
            }
            let Some(node) = node else { continue };
            if changed && source_of(&graph, &name).is_some_and(|source| !mendable(source)) {
                let why = format!(
                    "the input changed since run {of} read it, so the places that the letters name hold other \
                     bytes now; run a job over the mended records alone, with `--if-exists append`",
                    of = replay.of
                );
                replay.left.push(Left { node: name, records: found.records, why });
                continue;
            }
            if found.bare > 0 {
                let why = "the letters say neither where the records stand nor what they held";
                let (node, records) = (name.clone(), found.bare);
                replay.left.push(Left { node, records, why: why.to_owned() });
            }
            let records = found.records - found.bare;
            if records == 0 {
                continue;
            }
            let again = match &node.work {
                Work::Source { source, .. } => {
                    let again = Refused::new(Arc::clone(source), &replay.of, found.ranges);
                    again_node(name.clone(), Arc::new(again))
                }
                _ => {
                    let at = whole.nodes().iter().find(|planned| planned.name == name);
                    let above = at.and_then(|planned| whole.nodes().get(*planned.inputs.first()?));
                    let Some(above) = above else { continue };
                    let again = Stored {
                        run: replay.of.clone(),
                        operator: name.clone(),
                        schema: Arc::clone(&above.schema),
                        location: location.clone(),
                        shards: shards.clone(),
                        letters: Arc::clone(&reader),
                    };
                    again_node(free_name(&graph, &format!("{name}-again")), Arc::new(again))
                }
            };
            replay.letters.insert(name.clone(), records);
            nodes.insert(name, again);
        }
        if !nodes.is_empty() {
            let replays = Replays { run: replay.of.clone(), plan: whole.hash().to_owned() };
            let derived = graph.replaying(derive(&graph, nodes), replays);
            replay.plan = Some(Plan::new(derived, settings).await?);
        }
        Ok(replay)
    }

    /// Records that go in.
    pub fn records(&self) -> u64 {
        self.letters.values().sum()
    }
}

fn source_of<'a>(graph: &'a Graph, name: &str) -> Option<&'a dyn Source> {
    let node = graph.nodes().iter().find(|node| node.name == name)?;
    match &node.work {
        Work::Source { source, .. } => Some(source.as_ref()),
        _ => None,
    }
}

/// Whether a split that changed is the record that was refused, mended.
fn mendable(source: &dyn Source) -> bool {
    source.abilities().stable_offsets
}

/// Reads all letters once, keeping places and counts only.
async fn look(
    location: &str,
    shards: &[Shard],
    reader: &dyn ReadLetters,
) -> Result<BTreeMap<String, Found>, ReplayError> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for shard in shards {
        let failed = |error| RunError::Source { node: DEAD_LETTERS.to_owned(), error };
        for letter in letters_of(location, shard, reader).await.map_err(failed)? {
            let found = all.entry(letter.operator).or_default();
            found.records += 1;
            match (letter.split, letter.range, letter.record) {
                (Some(split), Some(range), _) => {
                    let new =
                        found.ranges.entry(split).or_default().insert((range.start, range.end));
                    // A record that was read in several passes is refused in each, and replayed once.
                    found.records -= u64::from(!new);
                }
                (_, _, Some(_)) => {}
                _ => found.bare += 1,
            }
        }
    }
    Ok(all)
}

async fn letters_of(
    location: &str,
    shard: &Shard,
    reader: &dyn ReadLetters,
) -> Result<Vec<DeadLetter>, SourceError> {
    let mut letters = Vec::new();
    for batch in reader.read(location, shard).await? {
        letters.extend(dead_letter::from_batch(&batch).map_err(|e| SourceError::Format {
            location: format!("{location}/{}", shard.path),
            message: e.to_string(),
        })?);
    }
    Ok(letters)
}

/// Why nothing that this node refused can be replayed, if so.
fn obstacle(whole: &Plan, name: &str) -> Option<String> {
    let Some(at) = whole.nodes().iter().position(|node| node.name == name) else {
        return Some(format!("the job has no `{name}` any more"));
    };
    if whole.nodes().get(at).is_some_and(crate::graph::PlannedNode::is_keyed) {
        return Some(format!(
            "`{name}` brings records together, and those that these waited for are not read again; run the \
             job anew with `if_exists = \"overwrite\"`"
        ));
    }
    whole.feeds_state(at).then(|| {
        "they would reach an operator that brings records together, and the others of each are not read \
         again; run the job anew with `if_exists = \"overwrite\"`"
            .to_owned()
    })
}

fn again_node(name: String, source: Arc<dyn crate::source::Source>) -> Node {
    Node { name, inputs: Vec::new(), work: Work::Source { source, order: Order::default() } }
}

fn free_name(graph: &Graph, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    while graph.nodes().iter().any(|node| node.name == name) {
        name.push('-');
    }
    name
}

/// The job's graph with sources of dead letters in place of its own: what they reach, and nothing else.
fn derive(graph: &Graph, mut again: BTreeMap<String, Node>) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut there: BTreeSet<String> = BTreeSet::new();
    let mut waiting: Vec<&Node> = graph.nodes().iter().collect();
    // Nodes may stand in any order in a graph, so each is looked at once all that it reads is decided.
    let mut decided: BTreeSet<&str> = BTreeSet::new();
    while !waiting.is_empty() {
        let (ready, later): (Vec<&Node>, Vec<&Node>) = waiting
            .into_iter()
            .partition(|node| node.inputs.iter().all(|input| decided.contains(input.as_str())));
        if ready.is_empty() {
            break;
        }
        for node in ready {
            decided.insert(&node.name);
            let stored = again.remove(&node.name);
            if let Work::Source { .. } = node.work {
                there.extend(stored.iter().map(|node| node.name.clone()));
                nodes.extend(stored);
                continue;
            }
            let mut inputs: Vec<String> =
                node.inputs.iter().filter(|input| there.contains(*input)).cloned().collect();
            inputs.extend(stored.iter().map(|node| node.name.clone()));
            nodes.extend(stored);
            if !inputs.is_empty() {
                there.insert(node.name.clone());
                nodes.push(Node { inputs, ..node.clone() });
            }
        }
        waiting = later;
    }
    nodes
}

/// The ranges of a split, in order and apart from one another.
fn disjoint(ranges: &BTreeSet<(u64, u64)>) -> Vec<Range<u64>> {
    let mut apart: Vec<Range<u64>> = Vec::new();
    for (from, to) in ranges {
        match apart.last_mut() {
            Some(last) if *from < last.end => last.end = last.end.max(*to),
            _ => apart.push(*from..*to),
        }
    }
    apart
}
