//! What makes a graph impossible, said before any data moves.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{Graph, Node, SchemaError, Work, nearest};
use crate::quantity::ByteSize;
use crate::source::SourceError;

/// Why a graph is no plan.
#[derive(Debug, Error)]
#[error("{node}: {kind}")]
pub struct PlanError {
    /// The node at fault, or the job's name.
    pub node: String,
    /// What is wrong with it.
    #[source]
    pub kind: PlanErrorKind,
}

/// What can be wrong with a graph.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// There is nothing to run.
    #[error("the job has no {0}; add a `[{0}.NAME]` table")]
    Empty(&'static str),
    /// Two nodes share a name.
    #[error("two nodes have this name; names are unique over sources, operators and sinks")]
    Duplicate,
    /// A name that ids and file names cannot carry.
    #[error("a name consists of letters, digits, `_` and `-`, and does not begin with `_`")]
    Name,
    /// An input that is not there.
    #[error("there is no node `{input}` to read from{}", nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
    UnknownInput {
        /// The name in `inputs`.
        input: String,
        /// The most similar node there is.
        nearest: Option<String>,
    },
    /// An operator or sink reads nothing, or a source reads something.
    #[error("{0}")]
    Inputs(String),
    /// The node is part of a cycle.
    #[error("reads from itself, through {0}; a graph has no cycles")]
    Cycle(String),
    /// Nothing reads this node.
    #[error("nothing reads from this {0}; wire it to a sink or leave it out")]
    Unread(&'static str),
    /// The columns do not fit.
    #[error("{0}")]
    Schema(#[from] SchemaError),
    /// The source cannot tell its schema.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The source cannot do what its options ask.
    #[error("{0}")]
    Ability(String),
    /// The credit is smaller than what the graph must hold.
    #[error(
        "the credit of {credit} is too small: {needed} are needed ({detail}); raise `credit` in `[job]`"
    )]
    Credit {
        /// What the job grants.
        credit: String,
        /// What is needed at least.
        needed: String,
        /// What for.
        detail: String,
    },
    /// Two sinks would write over each other.
    #[error("writes to {location}, as `{other}` does; give each sink a place of its own")]
    Destination {
        /// Where.
        location: String,
        /// The other sink.
        other: String,
    },
    /// A setting is out of range.
    #[error("{0}")]
    Setting(String),
}

impl PlanErrorKind {
    /// The same need, told of a job that grants this credit.
    pub(super) fn of_credit(self, granted: usize) -> Self {
        match self {
            Self::Credit { needed, detail, .. } => {
                Self::Credit { credit: ByteSize(granted as u64).to_string(), needed, detail }
            }
            other => other,
        }
    }
}

impl PlanError {
    pub(super) fn new(node: impl Into<String>, kind: impl Into<PlanErrorKind>) -> Self {
        Self { node: node.into(), kind: kind.into() }
    }
}

/// Checks names and wiring, and gives the nodes' indices from sources to sinks.
pub(super) fn order(graph: &Graph) -> Result<Vec<usize>, PlanError> {
    let index = names(graph)?;
    for role in ["source", "sink"] {
        if !graph.nodes.iter().any(|node| node.work.role() == role) {
            return Err(PlanError::new(&graph.name, PlanErrorKind::Empty(role)));
        }
    }
    graph.nodes.iter().try_for_each(|node| inputs(graph, node, &index))?;
    destinations(graph)?;

    let mut order = Vec::new();
    let mut placed = BTreeSet::new();
    while order.len() < graph.nodes.len() {
        let ready = graph.nodes.iter().enumerate().find(|(at, node)| {
            !placed.contains(at)
                && node
                    .inputs
                    .iter()
                    .all(|input| index.get(input.as_str()).is_some_and(|i| placed.contains(i)))
        });
        let Some((at, _)) = ready else { return Err(cycle(graph, &placed)) };
        placed.insert(at);
        order.push(at);
    }
    let read: BTreeSet<&str> =
        graph.nodes.iter().flat_map(|node| node.inputs.iter().map(String::as_str)).collect();
    let unread = graph
        .nodes
        .iter()
        .find(|node| !matches!(node.work, Work::Sink { .. }) && !read.contains(node.name.as_str()));
    match unread {
        Some(node) => Err(PlanError::new(&node.name, PlanErrorKind::Unread(node.work.role()))),
        None => Ok(order),
    }
}

fn names(graph: &Graph) -> Result<BTreeMap<&str, usize>, PlanError> {
    let mut index = BTreeMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if node.name.is_empty() || node.name.starts_with('_') || !node.name.chars().all(plain) {
            return Err(PlanError::new(&node.name, PlanErrorKind::Name));
        }
        if index.insert(node.name.as_str(), at).is_some() || node.name == crate::log::DEAD_LETTERS {
            return Err(PlanError::new(&node.name, PlanErrorKind::Duplicate));
        }
    }
    Ok(index)
}

fn destinations(graph: &Graph) -> Result<(), PlanError> {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for node in &graph.nodes {
        let Work::Sink { sink } = &node.work else { continue };
        let location = sink.location();
        if let Some(other) = taken.insert(location.clone(), &node.name) {
            let other = other.to_owned();
            return Err(PlanError::new(&node.name, PlanErrorKind::Destination { location, other }));
        }
    }
    Ok(())
}

fn inputs(graph: &Graph, node: &Node, index: &BTreeMap<&str, usize>) -> Result<(), PlanError> {
    let wrong = |message: String| Err(PlanError::new(&node.name, PlanErrorKind::Inputs(message)));
    let is_sink = |at: &usize| {
        graph.nodes.get(*at).is_some_and(|node| matches!(node.work, Work::Sink { .. }))
    };
    for input in &node.inputs {
        match index.get(input.as_str()) {
            Some(at) if is_sink(at) => {
                return wrong(format!(
                    "`{input}` is a sink, which gives nothing in the job that writes it; read from what \
                     `{input}` reads, or read what it wrote in another job"
                ));
            }
            Some(_) => {}
            None => {
                let readable =
                    index.iter().filter(|(name, at)| **name != node.name && !is_sink(at));
                let nearest = nearest(input, readable.map(|(name, _)| *name)).map(str::to_owned);
                let kind = PlanErrorKind::UnknownInput { input: input.clone(), nearest };
                return Err(PlanError::new(&node.name, kind));
            }
        }
    }
    match &node.work {
        Work::Source { .. } if !node.inputs.is_empty() => wrong("a source has no inputs".into()),
        Work::Operator { operator, .. } => match operator.keyed() {
            Some(keyed) if keyed.inputs() != node.inputs.len() => wrong(format!(
                "`{}` reads {} inputs, not {}",
                operator.kind(),
                keyed.inputs(),
                node.inputs.len()
            )),
            _ if node.inputs.is_empty() => {
                wrong("`inputs` is empty; name the node it reads".into())
            }
            _ => Ok(()),
        },
        Work::Sink { .. } if node.inputs.is_empty() => {
            wrong("`inputs` is empty; name the node it reads".into())
        }
        _ => Ok(()),
    }
}

fn cycle(graph: &Graph, placed: &BTreeSet<usize>) -> PlanError {
    let left: Vec<&str> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(at, _)| !placed.contains(at))
        .map(|(_, node)| node.name.as_str())
        .collect();
    PlanError::new(*left.first().unwrap_or(&""), PlanErrorKind::Cycle(left.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lines, LinesSink};

    #[test]
    fn a_sink_is_no_input() {
        let mut graph = Graph::new("chain");
        let lines = graph.source("lines", Lines::of("memory://check/in"));
        let first = graph.sink("first", LinesSink::at("memory://check/first"), &[lines]);
        graph.sink("second", LinesSink::at("memory://check/second"), &[first]);
        let error = order(&graph).unwrap_err();
        assert!(matches!(error.kind, PlanErrorKind::Inputs(_)), "{error}");
        assert!(error.to_string().starts_with("second: `first` is a sink"), "{error}");
        // Nor is one suggested for a name that is not there.
        graph.nodes[2].inputs = vec!["firs".to_owned()];
        let error = order(&graph).unwrap_err();
        assert!(!error.to_string().contains("`first`"), "{error}");
    }
}
