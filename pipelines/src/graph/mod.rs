//! The graph of a job: sources, operators and sinks, wired by name.
//!
//! A graph is built in Rust, or from a job file by the `anabranch` crate; both are checked by
//! [`Plan::new`] before any data moves.

use std::sync::Arc;

use crate::log::Replays;
use crate::operator::{Operator, Resources};
use crate::sink::Sink;
use crate::source::{Order, Source};

mod check;
mod memory;
mod parts;
mod plan;
mod schema_error;
mod settings;
mod suggest;

pub use check::{PlanError, PlanErrorKind};
pub use memory::{Memory, Reserve};
pub(crate) use parts::{OPEN_EPOCHS, passage};
pub use plan::{Plan, PlannedNode};
pub use schema_error::SchemaError;
pub use settings::{CommitSize, ErrorLimit, Mode, PartSize, Settings};
pub use suggest::nearest;

/// Handle of a node in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

/// What a node does.
#[derive(Clone)]
pub enum Work {
    /// Reads records.
    Source {
        /// The source.
        source: Arc<dyn Source>,
        /// In which order and how often.
        order: Order,
    },
    /// Turns batches into batches.
    Operator {
        /// The operator.
        operator: Arc<dyn Operator>,
        /// What the job declares for each invocation.
        resources: Resources,
    },
    /// Writes records.
    Sink {
        /// The sink.
        sink: Arc<dyn Sink>,
    },
}

impl Work {
    /// `source`, `operator` or `sink`.
    pub const fn role(&self) -> &'static str {
        match self {
            Self::Source { .. } => "source",
            Self::Operator { .. } => "operator",
            Self::Sink { .. } => "sink",
        }
    }

    /// The kind in job files, e.g. `resize`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source { source, .. } => source.kind(),
            Self::Operator { operator, .. } => operator.kind(),
            Self::Sink { sink } => sink.kind(),
        }
    }
}

/// A named node and what it reads from.
#[derive(Clone)]
pub struct Node {
    /// Unique name; ids of records and names of shards carry it.
    pub name: String,
    /// Names of the nodes it reads from, in order; several are read one beside the other, except that a
    /// keyed operator tells its inputs apart.
    pub inputs: Vec<String>,
    /// What it does.
    pub work: Work,
}

/// Sources, operators and sinks of a job, not yet checked.
#[derive(Clone, Default)]
pub struct Graph {
    name: String,
    nodes: Vec<Node>,
    dead_letters: Option<Arc<dyn Sink>>,
    replays: Option<Replays>,
}

impl Graph {
    /// An empty graph for the job called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes in the order in which they were added.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The same job with other nodes, which replays what another run refused.
    pub(crate) fn replaying(&self, nodes: Vec<Node>, replays: Replays) -> Self {
        Self { nodes, replays: Some(replays), ..self.clone() }
    }

    /// Adds a node as is; the builders below are shorter.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// Adds a source that is read once, in listing order.
    pub fn source(&mut self, name: &str, source: Arc<dyn Source>) -> NodeId {
        self.source_in_order(name, source, Order::default())
    }

    /// Adds a source that is read in some order, perhaps several times.
    pub fn source_in_order(&mut self, name: &str, source: Arc<dyn Source>, order: Order) -> NodeId {
        let work = Work::Source { source, order };
        self.add(Node { name: name.to_owned(), inputs: Vec::new(), work })
    }

    /// Adds an operator that gets one thread per invocation.
    pub fn operator(
        &mut self,
        name: &str,
        operator: Arc<dyn Operator>,
        inputs: &[NodeId],
    ) -> NodeId {
        let work = Work::Operator { operator, resources: Resources::default() };
        let inputs = self.names(inputs);
        self.add(Node { name: name.to_owned(), inputs, work })
    }

    /// Adds a sink.
    pub fn sink(&mut self, name: &str, sink: Arc<dyn Sink>, inputs: &[NodeId]) -> NodeId {
        let inputs = self.names(inputs);
        self.add(Node { name: name.to_owned(), inputs, work: Work::Sink { sink } })
    }

    /// Sets the sink of [dead letters](crate::dead_letter). Without one, the first refused record fails the
    /// run: nothing is dropped silently.
    pub fn dead_letters(&mut self, sink: Arc<dyn Sink>) {
        self.dead_letters = Some(sink);
    }

    /// The same graph with every source replaced, e.g. by one that reads only its beginning.
    #[must_use]
    pub fn with_sources(mut self, replace: impl Fn(Arc<dyn Source>) -> Arc<dyn Source>) -> Self {
        for node in &mut self.nodes {
            if let Work::Source { source, .. } = &mut node.work {
                *source = replace(Arc::clone(source));
            }
        }
        self
    }

    fn names(&self, nodes: &[NodeId]) -> Vec<String> {
        nodes.iter().filter_map(|id| self.nodes.get(id.0)).map(|node| node.name.clone()).collect()
    }
}
