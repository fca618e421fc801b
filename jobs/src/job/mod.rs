//! Job files: from text to a checked plan.
//!
//! Reading goes through three steps, and tells everything that is wrong in a step at once: *parse*
//! (TOML, `--set`, `${NAME}`), *validate* (kinds, keys, types, names, inputs), *build* (components and
//! the graph). [`Job::plan`] then lets the sources look at their data and checks the columns.
//!
//! ```
//! use anabranch::components::Registry;
//! use anabranch::job::Job;
//!
//! let registry = Registry::standard();
//! let problems = Job::read(&registry, "job.toml", "[job]\nnam = 'x'\n", &[]).err().unwrap().to_string();
//! assert!(problems.contains("did you mean `name`?"));
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::executor::isolated::Isolated;
use anabranch_pipelines::graph::{Graph, Node, Plan, Settings, Work, nearest};
use anabranch_pipelines::operator::{Operator, Resources};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

mod node;
mod problem;
mod schema;
mod settings;
mod shape;
mod text;
mod tree;
mod validate;
mod vars;

pub use problem::{Problem, Problems};
pub use schema::{editor_schema, job_schema};
pub use settings::{IfExists, JobOptions};
pub use shape::summary;

use crate::components::{self, Registry};
use text::Text;

const TABLES: [&str; 5] = ["job", "vars", "source", "operator", "sink"];

/// A job file that was read, with its components built and wired but not yet checked as a graph.
pub struct Job {
    /// The `[job]` table.
    pub options: JobOptions,
    /// The run's settings, as `[job]` gives them.
    pub settings: Settings,
    /// The wired components.
    pub graph: Graph,
    text: Text,
    places: BTreeMap<String, Range<usize>>,
}

impl Job {
    /// Reads a job file called `label` for messages, with `--set` arguments `sets`.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn read(
        registry: &Registry,
        label: &str,
        text: &str,
        sets: &[String],
    ) -> Result<Self, Problems> {
        Self::read_in(registry, label, text, sets, &|name| std::env::var(name).ok())
    }

    /// Like [`read`](Self::read), with `environment` instead of the process's own.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn read_in(
        registry: &Registry,
        label: &str,
        text: &str,
        sets: &[String],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        let mut all = Text::default();
        let mut problems = Vec::new();
        let mut table = tree::parse(&mut all, label, text, &mut problems);
        if !problems.is_empty() {
            return Err(Problems::new(all, problems));
        }
        for argument in sets {
            tree::set(&mut all, &mut table, argument, &mut problems);
        }
        vars::expand(&mut table, environment, &mut problems);
        let read = build(registry, table, &mut problems);
        match read {
            Some((options, settings, graph, places)) if problems.is_empty() => {
                Ok(Self { options, settings, graph, text: all, places })
            }
            _ => Err(Problems::new(all, problems)),
        }
    }

    /// Checks the graph and computes every schema, looking into the sources where they need it.
    ///
    /// # Errors
    /// With the first thing that makes the graph impossible, at the node's place in the file.
    pub async fn plan(self) -> Result<Arc<Plan>, Problems> {
        let Self { graph, settings, text, places, .. } = self;
        Plan::new(graph, settings).await.map_err(|error| {
            let start = || places.get("[job]").cloned().unwrap_or(0..0);
            let span = places.get(&error.node).cloned().unwrap_or_else(start);
            Problems::new(text, vec![Problem::new(span, format!("{}: {}", error.node, error.kind))])
        })
    }
}

type Read = (JobOptions, Settings, Graph, BTreeMap<String, Range<usize>>);

fn build(
    registry: &Registry,
    mut table: tree::Table<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Read> {
    for key in table.keys().filter(|key| !TABLES.contains(&key.get_ref().as_ref())) {
        let problem = Problem::new(key.span(), format!("unknown table `{}`", key.get_ref()));
        problems.push(problem.suggest(key.get_ref(), TABLES, "the tables of a job file are"));
    }
    let mut places = BTreeMap::new();
    let options = job_table(table.remove("job"), &mut places, problems);
    let settings = options.as_ref().and_then(|options| match options.settings() {
        Ok(settings) => Some(settings),
        Err(message) => {
            let span = places.get("max_errors").cloned().unwrap_or(0..0);
            problems.push(Problem::new(span, message));
            None
        }
    });
    places.remove("max_errors");

    let mut nodes: Vec<(usize, Node, Vec<Spanned<String>>)> = Vec::new();
    for entry in validate::entries(&mut table, &mut places, problems) {
        let span = entry.span.clone();
        let at = span.start;
        let name = entry.name.clone();
        let inputs = entry.inputs();
        let work = match entry.role {
            "source" => validate::component::<_, node::SourceKeys>(
                registry,
                &registry.sources,
                entry,
                problems,
            )
            .map(|(keys, source)| Work::Source {
                source,
                order: keys.order.map(Into::into).unwrap_or_default(),
            }),
            "operator" => validate::component::<_, node::OperatorKeys>(
                registry,
                &registry.operators,
                entry,
                problems,
            )
            .and_then(|(keys, operator)| {
                let resources = keys.resources.map(Into::into).unwrap_or_default();
                isolate(registry, operator, resources)
                    .map_err(|error| problems.push(Problem::new(span, error)))
                    .ok()
            }),
            _ => {
                validate::component::<_, node::SinkKeys>(registry, &registry.sinks, entry, problems)
                    .map(|(_, sink)| Work::Sink { sink })
            }
        };
        let names = inputs.iter().map(|input| input.get_ref().clone()).collect();
        check_inputs(&name, &inputs, &places, problems);
        if let Some(work) = work {
            nodes.push((at, Node { name, inputs: names, work }, inputs));
        }
    }
    nodes.sort_by_key(|(at, ..)| *at);
    let (options, settings) = (options?, settings?);
    let mut graph = Graph::new(options.name.as_str());
    let mut first_sink = None;
    for (_, node, _) in nodes {
        if let (Work::Sink { sink }, None) = (&node.work, &first_sink) {
            first_sink = Some(sink.location());
        }
        graph.add(node);
    }
    let place = options.dead_letters.clone().or_else(|| {
        first_sink
            .map(|location| format!("{}/_anabranch/dead_letters", location.trim_end_matches('/')))
    });
    // Dead letters are few: a small row group, because every worker sets memory aside for one.
    let sink = |place: String| {
        let path = toml::Value::from(place);
        let options = format!("{{ path = {path}, row_group = \"1MiB\" }}");
        components::make(registry, &registry.sinks, "table", &options)
    };
    match place.map(sink).transpose() {
        Ok(Some(sink)) => graph.dead_letters(sink),
        Ok(None) => {}
        Err(message) => problems.push(Problem::new(places.get("[job]").cloned()?, message)),
    }
    Some((options, settings, graph, places))
}

/// The operator, in worker processes if the job says so.
fn isolate(
    registry: &Registry,
    operator: Arc<dyn Operator>,
    resources: Resources,
) -> Result<Work, String> {
    let operator = if resources.isolate {
        Arc::new(Isolated::new(operator, Arc::clone(&registry.workers))?)
    } else {
        operator
    };
    Ok(Work::Operator { operator, resources })
}

fn job_table(
    value: Option<tree::Value<'_>>,
    places: &mut BTreeMap<String, Range<usize>>,
    problems: &mut Vec<Problem>,
) -> Option<JobOptions> {
    let Some(value) = value else {
        problems.push(
            Problem::new(0..0, "the file has no `[job]` table")
                .help("begin with: [job] and name = \"...\""),
        );
        return None;
    };
    let span = value.span();
    places.insert("[job]".into(), span.clone());
    let DeValue::Table(table) = value.get_ref() else {
        problems.push(Problem::new(span, "`job` is not a table").help("write it as [job]"));
        return None;
    };
    if let Some(limit) = table.get("max_errors") {
        places.insert("max_errors".into(), limit.span());
    }
    let before = problems.len();
    let schema = schemars::schema_for!(JobOptions).to_value();
    shape::check(&schema, "`[job]`", table, span.clone(), problems);
    if problems.len() > before {
        return None;
    }
    match JobOptions::deserialize(ValueDeserializer::from(value)) {
        Ok(options) => Some(options),
        Err(error) => {
            problems.push(Problem::new(error.span().unwrap_or(span), validate::sentence(&error)));
            None
        }
    }
}

/// Every input is a node of the file.
fn check_inputs(
    name: &str,
    inputs: &[Spanned<String>],
    places: &BTreeMap<String, Range<usize>>,
    problems: &mut Vec<Problem>,
) {
    let others = || places.keys().map(String::as_str).filter(|n| *n != name && *n != "[job]");
    for input in inputs.iter().filter(|input| !others().any(|other| other == input.get_ref())) {
        let message = if input.get_ref() == name {
            format!("`{name}` reads from itself")
        } else {
            format!("there is no source or operator `{}`", input.get_ref())
        };
        let problem = Problem::new(input.span(), message);
        problems.push(match nearest(input.get_ref(), others()) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem.help(format!("there are {}", others().collect::<Vec<_>>().join(", "))),
        });
    }
}
