//! A checked graph: schemas, classes, stages, lanes and memory, the same in every process.

use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use sha2::{Digest, Sha256};

use super::check::{self, PlanError, PlanErrorKind};
use super::memory::{self, Memory};
use super::{Graph, Mode, PartSize, SchemaError, Settings, Work, parts};
use crate::log::Replays;
use crate::operator::{Class, Resources, Tier};
use crate::record::{media, with_id_field};
use crate::sink::Sink;
use crate::source::BatchSize;

/// A node of a [`Plan`].
#[derive(Clone)]
pub struct PlannedNode {
    /// Its name.
    pub name: String,
    /// Indices of the nodes it reads from, in the plan's order.
    pub inputs: Vec<usize>,
    /// Schema of what it emits; for a sink, of what it writes.
    pub schema: SchemaRef,
    /// The class of its output: its own or that of what it reads, whichever determines less.
    pub class: Class,
    /// How many ways lead from sources to it.
    pub lanes: u32,
    /// First lane of each input among its own.
    pub lane_offsets: Vec<u32>,
    /// What it does.
    pub work: Work,
}

impl PlannedNode {
    /// The operator's declared resources; the default for sources and sinks.
    pub fn resources(&self) -> Resources {
        match &self.work {
            Work::Operator { resources, .. } => *resources,
            _ => Resources::default(),
        }
    }

    /// Whether it is an operator with state.
    pub fn is_keyed(&self) -> bool {
        matches!(&self.work, Work::Operator { operator, .. } if operator.keyed().is_some())
    }
}

/// What the run executes: nodes from sources to sinks, and stages of operators that run back to back.
pub struct Plan {
    name: String,
    nodes: Vec<PlannedNode>,
    stages: Vec<Vec<usize>>,
    settings: Settings,
    parts: Vec<PartSize>,
    memory: Memory,
    hash: String,
    dead_letters: Option<Arc<dyn Sink>>,
    replays: Option<Replays>,
}

impl Plan {
    /// Checks a graph and computes every schema, looking into sources where they need it.
    ///
    /// # Errors
    /// The first thing that makes the graph impossible, with the node at fault.
    pub async fn new(graph: Graph, mut settings: Settings) -> Result<Arc<Self>, PlanError> {
        let order = check::order(&graph)?;
        if settings.mode == Mode::Stream {
            // What a stream has committed may be deleted at the source, so its state cannot be rebuilt.
            settings.snapshot_every = 1;
        }
        settings_in_range(&graph, &settings)?;
        let mut nodes: Vec<PlannedNode> = Vec::with_capacity(order.len());
        for at in order {
            let Some(node) = graph.nodes.get(at) else { continue };
            let planned = plan_node(node, &nodes, &settings).await;
            nodes.push(planned.map_err(|kind| PlanError::new(&node.name, kind))?);
        }
        let stages = stages(&nodes);
        let memory = memory::plan(&nodes, &stages, &settings, graph.dead_letters.as_ref())
            .map_err(|kind| PlanError::new(&graph.name, kind))?;
        let parts =
            parts::plan(&nodes, &settings).map_err(|(node, kind)| PlanError::new(node, kind))?;
        let hash = hash(&graph, &nodes, &settings, &parts);
        Ok(Arc::new(Self {
            name: graph.name,
            nodes,
            stages,
            settings,
            parts,
            memory,
            hash,
            dead_letters: graph.dead_letters,
            replays: graph.replays,
        }))
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes, every node after those it reads from.
    pub fn nodes(&self) -> &[PlannedNode] {
        &self.nodes
    }

    /// Operators that run back to back on one executor thread, as indices of nodes.
    pub fn stages(&self) -> &[Vec<usize>] {
        &self.stages
    }

    /// The job's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the run will hold in memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Hash of everything that determines output; workers, batches and resources do not.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The least class among the nodes.
    pub fn class(&self) -> Class {
        self.nodes.iter().map(|node| node.class).max().unwrap_or_default()
    }

    /// The sink of dead letters, if the job has one; without, the first refused record fails the run.
    pub fn dead_letters(&self) -> Option<&Arc<dyn Sink>> {
        self.dead_letters.as_ref()
    }

    /// For a replay of dead letters, whose they are.
    pub fn replays(&self) -> Option<&Replays> {
        self.replays.as_ref()
    }

    /// The sinks with their nodes, dead letters aside.
    pub fn sinks(&self) -> impl Iterator<Item = (&PlannedNode, &Arc<dyn Sink>)> {
        self.nodes.iter().filter_map(|node| match &node.work {
            Work::Sink { sink } => Some((node, sink)),
            _ => None,
        })
    }

    /// When a part of source `at` is full: the job's setting, or less when its rows reach state.
    pub fn part(&self, at: usize) -> PartSize {
        self.parts.get(at).copied().unwrap_or(self.settings.part)
    }

    /// The nodes with state, in the plan's order.
    pub(crate) fn keyed(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_keyed()).map(|(at, _)| at)
    }

    /// Whether rows that leave node `at` reach state on some way.
    pub(crate) fn feeds_state(&self, at: usize) -> bool {
        self.readers(at).any(|reader| {
            self.nodes.get(reader).is_some_and(PlannedNode::is_keyed) || self.feeds_state(reader)
        })
    }

    /// Whether some operator [chooses](crate::operator::Choosing) once for an epoch: then all parts of an epoch
    /// are worked on by one worker, and so by one process.
    pub(crate) fn keeps_epochs_whole(&self) -> bool {
        self.nodes.iter().any(|node| match &node.work {
            Work::Operator { operator, .. } => operator.choosing().is_some(),
            _ => false,
        })
    }

    /// Size of the batches that source `at` emits.
    pub fn batch_size(&self, at: usize) -> BatchSize {
        BatchSize { bytes: self.memory.batch_bytes(at), ..self.settings.batch }
    }

    /// Nodes that read from node `at`.
    pub(crate) fn readers(&self, at: usize) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(move |(_, n)| n.inputs.contains(&at)).map(|(i, _)| i)
    }
}

async fn plan_node(
    node: &super::Node,
    planned: &[PlannedNode],
    settings: &Settings,
) -> Result<PlannedNode, PlanErrorKind> {
    let inputs: Vec<usize> = node
        .inputs
        .iter()
        .filter_map(|name| planned.iter().position(|other| &other.name == name))
        .collect();
    let above: Vec<&PlannedNode> = inputs.iter().filter_map(|at| planned.get(*at)).collect();
    let schemas: Vec<SchemaRef> = above.iter().map(|node| Arc::clone(&node.schema)).collect();
    let mut class = above.iter().map(|node| node.class).max().unwrap_or_default();
    let mut lane_offsets = Vec::new();
    let mut lanes = 0;
    for node in &above {
        lane_offsets.push(lanes);
        lanes += node.lanes;
    }
    let schema = match &node.work {
        Work::Source { source, order } => {
            lanes = 1;
            let abilities = source.abilities();
            if order.shuffle.is_some() && !abilities.random_access {
                return Err(PlanErrorKind::Ability(format!(
                    "`{}` cannot be shuffled here, because its records cannot be opened one by one; \
                     leave `shuffle` out or repack the data first",
                    source.kind()
                )));
            }
            if settings.mode == Mode::Stream && (!abilities.grows || *order != Default::default()) {
                return Err(PlanErrorKind::Ability(format!(
                    "`{}` with this order cannot be read as a stream; use `mode = \"batch\"`",
                    source.kind()
                )));
            }
            with_id_field(source.schema().await?.as_ref())
        }
        Work::Operator { operator, resources } => {
            class = class.max(operator.class());
            if resources.isolate && operator.tier() != Tier::WorkerProcess {
                return Err(PlanErrorKind::Ability(format!(
                    "`{}` shall be isolated, but nothing says how its worker processes are started; put it \
                     into an `executor::isolated::Isolated`",
                    operator.kind()
                )));
            }
            if operator.journaled().is_some()
                && let Some(state) = inputs.iter().find_map(|at| behind_state(planned, *at))
            {
                return Err(PlanErrorKind::Ability(format!(
                    "`{}` takes a decision from the first records before the run begins, and so cannot \
                     read from `{state}`, whose output comes only during the run; put it before `{state}`",
                    operator.kind()
                )));
            }
            match operator.keyed() {
                Some(_) => lanes = 1,
                None => same(&above)?,
            }
            operator.output(if operator.keyed().is_some() {
                &schemas
            } else {
                schemas.get(..1).unwrap_or(&[])
            })?
        }
        Work::Sink { sink } => {
            same(&above)?;
            let schema = schemas
                .first()
                .cloned()
                .unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty()));
            sink.check(&schema)?;
            schema
        }
    };
    let work = node.work.clone();
    Ok(PlannedNode { name: node.name.clone(), inputs, schema, class, lanes, lane_offsets, work })
}

/// The operator with state that stands above node `at`, or is it.
fn behind_state(nodes: &[PlannedNode], at: usize) -> Option<&str> {
    let node = nodes.get(at)?;
    if node.is_keyed() {
        return Some(&node.name);
    }
    node.inputs.iter().find_map(|input| behind_state(nodes, *input))
}

/// Inputs that are read beside one another have one schema.
fn same(inputs: &[&PlannedNode]) -> Result<(), SchemaError> {
    let Some((first, rest)) = inputs.split_first() else { return Ok(()) };
    match rest.iter().find(|node| node.schema.fields() != first.schema.fields()) {
        None => Ok(()),
        Some(other) => {
            let names = |node: &PlannedNode| {
                let of =
                    |f: &Arc<arrow::datatypes::Field>| format!("{} {}", f.name(), f.data_type());
                node.schema.fields().iter().map(of).collect::<Vec<_>>().join(", ")
            };
            Err(SchemaError::Mismatch(format!(
                "its inputs have different columns: `{}` has ({}), `{}` has ({}); make them equal with a `select`",
                first.name,
                names(first),
                other.name,
                names(other)
            )))
        }
    }
}

/// Groups operators that can run back to back: each the only reader of the one before it, stateless,
/// undecided by nothing, and with the same resources.
fn stages(nodes: &[PlannedNode]) -> Vec<Vec<usize>> {
    let plain = |at: usize| match nodes.get(at).map(|node| &node.work) {
        Some(Work::Operator { operator, .. }) => operator.keyed().is_none(),
        _ => false,
    };
    let journaled = |at: usize| match nodes.get(at).map(|node| &node.work) {
        Some(Work::Operator { operator, .. }) => operator.journaled().is_some(),
        _ => false,
    };
    let readers = |at: usize| nodes.iter().filter(|node| node.inputs.contains(&at)).count();
    let mut stages: Vec<Vec<usize>> = Vec::new();
    for (at, node) in nodes.iter().enumerate().filter(|(at, _)| plain(*at)) {
        let follows = match node.inputs.as_slice() {
            [above] if plain(*above) && readers(*above) == 1 && !journaled(at) => Some(*above),
            _ => None,
        };
        let resources = node.resources();
        let stage = follows.and_then(|above| {
            let fits = |stage: &&mut Vec<usize>| {
                stage.last() == Some(&above)
                    && nodes.get(above).is_some_and(|n| n.resources() == resources)
                    && !resources.isolate
            };
            stages.iter_mut().find(fits)
        });
        match stage {
            Some(stage) => stage.push(at),
            None => stages.push(vec![at]),
        }
    }
    stages
}

fn settings_in_range(graph: &Graph, settings: &Settings) -> Result<(), PlanError> {
    let checks = [
        (settings.batch.records == 0 || settings.batch.bytes == 0, "a batch has at least 1 record"),
        (settings.part.records == 0 || settings.part.bytes == 0, "a part has at least 1 record"),
        (settings.commit.parts == 0 || settings.commit.bytes == 0, "a commit has at least 1 part"),
        (settings.open_commits == 0, "`open_commits` is at least 1"),
        (settings.snapshot_every == 0, "`snapshot_every` is at least 1"),
        (settings.workers == 0, "`workers` is at least 1"),
        (settings.processes == 0, "`processes` is at least 1"),
        (
            settings.heartbeat < std::time::Duration::from_secs(1),
            "`heartbeat` is at least 1s, for processes report a few times per second",
        ),
        (settings.poll.is_zero(), "`poll` is longer than nothing"),
    ];
    match checks.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, message)) => {
            Err(PlanError::new(&graph.name, PlanErrorKind::Setting(message.to_owned())))
        }
        None => Ok(()),
    }
}

fn hash(graph: &Graph, nodes: &[PlannedNode], settings: &Settings, parts: &[PartSize]) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(&graph.name);
    add(&format!("{:?}", (settings.mode, parts, settings.commit.parts, settings.commit.bytes)));
    for node in nodes {
        add(&node.name);
        add(node.work.kind());
        add(&format!("{:?}", node.inputs));
        add(&match &node.work {
            Work::Source { source, order } => format!("{}{order:?}", source.options()),
            Work::Operator { operator, .. } => operator.options().to_string(),
            Work::Sink { sink } => sink.options().to_string(),
        });
        // Some sources look into their data for a schema, and may find another one at the next start; what a
        // stream's source finds depends on what has come, and is no part of the plan.
        if settings.mode == Mode::Batch {
            node.schema.fields().iter().for_each(|field| add(&known(field)));
        }
    }
    crate::hex(&hash.finalize())
}

/// What a plan's hash knows of a column: where dictionaries stand is no part of what is done with it, and
/// further runs add some.
fn known(field: &Field) -> String {
    let mut field = field.clone();
    field.metadata_mut().remove(media::DICTIONARIES_KEY);
    format!("{field:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Modality;
    use crate::testing::{Lines, LinesSink, Retyped, settings, wait};
    use arrow::datatypes::DataType;

    #[test]
    fn two_sinks_at_one_place_are_refused() {
        let mut graph = Graph::new("twice");
        let lines = graph.source("lines", Lines::of("memory://plan-twice/in"));
        graph.sink("out", LinesSink::at("memory://plan-twice/out"), &[lines]);
        graph.sink("again", LinesSink::at("memory://plan-twice/out"), &[lines]);
        let error = wait(Plan::new(graph, settings())).err().unwrap();
        assert!(error.to_string().starts_with("again: writes to memory:"), "{error}");
        assert!(error.to_string().contains("as `out` does"), "{error}");
    }

    #[test]
    fn the_credit_that_is_named_is_enough_and_less_is_not() {
        let plan = |credit| {
            let mut graph = Graph::new("small");
            let lines = graph.source("lines", Lines::of("memory://plan-credit/in"));
            graph.sink("out", LinesSink::at("memory://plan-credit/out"), &[lines]);
            wait(Plan::new(graph, Settings { credit, threads: 8, ..settings() }))
        };
        let error = plan(1 << 20).err().unwrap();
        let PlanErrorKind::Credit { needed, .. } = error.kind else { panic!("{error}") };
        let needed: crate::quantity::ByteSize = needed.replace(' ', "").parse().unwrap();
        plan(needed.as_usize()).unwrap();
        assert!(plan(needed.as_usize() / 2).is_err());
    }

    #[test]
    fn where_dictionaries_stand_is_no_part_of_a_plan() {
        let field = |state| media::field("text", Modality::Text, state);
        let mut named = field(media::State::Encoded);
        named.metadata_mut().insert(media::DICTIONARIES_KEY.to_owned(), "memory://d".to_owned());
        assert_eq!(known(&named), known(&field(media::State::Encoded)));
        assert_ne!(known(&named), known(&field(media::State::Decoded)));
    }

    #[test]
    fn a_source_that_finds_another_schema_makes_another_plan() {
        let hash = |mode, of: DataType| {
            let mut graph = Graph::new("typed");
            let lines = Retyped::of(Lines::of("memory://plan-typed/in"), of);
            let lines = graph.source("lines", lines);
            graph.sink("out", LinesSink::at("memory://plan-typed/out"), &[lines]);
            let plan = wait(Plan::new(graph, Settings { mode, ..settings() })).unwrap();
            plan.hash().to_owned()
        };
        let (number, text) = (DataType::Int64, DataType::Utf8);
        assert_eq!(hash(Mode::Batch, text.clone()), hash(Mode::Batch, text.clone()));
        assert_ne!(hash(Mode::Batch, number.clone()), hash(Mode::Batch, text.clone()));
        assert_eq!(hash(Mode::Stream, number), hash(Mode::Stream, text));
    }
}
