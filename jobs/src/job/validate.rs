//! The tables `[source.NAME]`, `[operator.NAME]` and `[sink.NAME]`: kinds, keys, types and names.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::log::DEAD_LETTERS;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::problem::Problem;
use super::schema::node_schema;
use super::shape;
use super::tree::{Table, article};
use crate::components::{Component, Registry, find};

/// Keys that belong to a node's role and not to its kind.
const ROLE_KEYS: [&str; 3] = ["inputs", "order", "resources"];

/// One node's table.
pub(super) struct Entry<'a> {
    pub(super) role: &'static str,
    pub(super) name: String,
    pub(super) span: Range<usize>,
    table: Table<'a>,
}

impl Entry<'_> {
    /// What `inputs` lists, as far as it is a list of strings.
    pub(super) fn inputs(&self) -> Vec<Spanned<String>> {
        let Some(DeValue::Array(items)) = self.table.get("inputs").map(Spanned::get_ref) else {
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| Some(Spanned::new(item.span(), item.get_ref().as_str()?.to_owned())))
            .collect()
    }
}

/// Takes all nodes out of the file, in its order, and notes their places by name.
pub(super) fn entries<'a>(
    file: &mut Table<'a>,
    places: &mut BTreeMap<String, Range<usize>>,
    problems: &mut Vec<Problem>,
) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    for role in ["source", "operator", "sink"] {
        let Some(value) = file.remove(role) else { continue };
        let span = value.span();
        let DeValue::Table(nodes) = value.into_inner() else {
            problems.push(
                Problem::new(span, format!("`{role}` is no table of {role}s"))
                    .help(format!("write [{role}.NAME]")),
            );
            continue;
        };
        for (key, value) in nodes {
            let name = key.get_ref().to_string();
            match value.into_inner() {
                DeValue::Table(table) => {
                    entries.push(Entry { role, name, span: key.span(), table })
                }
                other => {
                    let message =
                        format!("`{role}.{name}` is {}, not a table", article(other.type_str()));
                    problems.push(
                        Problem::new(key.span(), message)
                            .help(format!("name the {role}, like [{role}.NAME]")),
                    );
                }
            }
        }
    }
    entries.sort_by_key(|entry| entry.span.start);
    for entry in &entries {
        let name = &entry.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.starts_with('_') || !name.chars().all(plain) {
            problems.push(
                Problem::new(entry.span.clone(), format!("`{name}` is no name")).help(
                    "names consist of letters, digits, `_` and `-`, and do not begin with `_`",
                ),
            );
        }
        if name == DEAD_LETTERS || places.insert(name.clone(), entry.span.clone()).is_some() {
            problems
                .push(Problem::new(entry.span.clone(), format!("the name `{name}` is taken")).help(
                "names are unique over sources, operators and sinks; `dead_letters` is built in",
            ));
        }
    }
    entries
}

/// Reads and builds one node: its role's keys and the component.
pub(super) fn component<T: ?Sized, K: DeserializeOwned + JsonSchema>(
    registry: &Registry,
    kinds: &[Component<T>],
    entry: Entry<'_>,
    problems: &mut Vec<Problem>,
) -> Option<(K, Arc<T>)> {
    let Entry { role, name, span, mut table } = entry;
    let table_name = format!("`[{role}.{name}]`");
    let valid = || kinds.iter().map(|component| component.kind);
    let Some(kind) = table.get("kind") else {
        let problem = Problem::new(span, format!("{table_name} lacks `kind`"));
        problems.push(
            problem
                .help(format!("kinds of {role}s are {}", valid().collect::<Vec<_>>().join(", "))),
        );
        return None;
    };
    let Some(component) = kind.get_ref().as_str().and_then(|kind| find(kinds, kind)) else {
        let found = kind.get_ref().as_str().unwrap_or(kind.get_ref().type_str());
        let problem = Problem::new(kind.span(), format!("there is no {role} of kind `{found}`"));
        problems.push(problem.suggest(found, valid(), &format!("kinds of {role}s are")));
        return None;
    };
    let before = problems.len();
    let schema = node_schema::<K>(component.kind, &component.schema());
    shape::check(
        &schema,
        &format!("{table_name} of kind `{}`", component.kind),
        &table,
        span.clone(),
        problems,
    );
    if problems.len() > before {
        return None;
    }
    table.remove("kind");
    let mut keys = Table::new();
    for key in ROLE_KEYS {
        if let Some((key, value)) = table.remove_entry(key) {
            keys.insert(key, value);
        }
    }
    let deserializer =
        |table| ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(table)));
    let mut failed = |error: &toml::de::Error| {
        problems.push(Problem::new(error.span().unwrap_or(span.clone()), sentence(error)));
    };
    let keys = K::deserialize(deserializer(keys)).map_err(|error| failed(&error)).ok();
    let build = component.read(deserializer(table)).map_err(|error| failed(&error)).ok();
    match (keys, build?(registry)) {
        (Some(keys), Ok(component)) => Some((keys, component)),
        (None, Ok(_)) => None,
        (_, Err(message)) => {
            problems.push(Problem::new(span, format!("{name}: {message}")));
            None
        }
    }
}

/// A deserialiser's message on one line.
pub(super) fn sentence(error: &toml::de::Error) -> String {
    error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ")
}
