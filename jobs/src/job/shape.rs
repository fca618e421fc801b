//! Checks a parsed table against a JSON Schema and tells every difference with its place.
//!
//! Deserialising stops at the first error and knows no neighbours; this finds all unknown keys, wrong
//! types and missing keys at once, with the nearest valid name. It understands what `schemars`
//! writes for option structs; the rest is left to deserialising.

use std::ops::Range;

use serde_json::Value as Json;
use toml::de::DeValue;

use super::problem::Problem;
use super::tree::{Table, Value, article};

/// Tells how `table`, which is called `name` in messages, differs from `schema`.
pub(super) fn check(
    schema: &Json,
    name: &str,
    table: &Table<'_>,
    span: Range<usize>,
    problems: &mut Vec<Problem>,
) {
    Checker { root: schema }.table(schema, name, table, span, problems);
}

struct Checker<'s> {
    root: &'s Json,
}

impl<'s> Checker<'s> {
    /// Follows `$ref` into the schema's definitions.
    fn resolve(&self, mut schema: &'s Json) -> &'s Json {
        for _ in 0..32 {
            let Some(target) = schema.get("$ref").and_then(Json::as_str) else { break };
            match target.strip_prefix('#').and_then(|path| self.root.pointer(path)) {
                Some(found) => schema = found,
                None => break,
            }
        }
        schema
    }

    fn table(
        &self,
        schema: &'s Json,
        name: &str,
        table: &Table<'_>,
        span: Range<usize>,
        problems: &mut Vec<Problem>,
    ) {
        let schema = self.resolve(schema);
        let known = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties");
        for (key, value) in table {
            match (known.and_then(|known| known.get(key.get_ref().as_ref())), others) {
                (Some(schema), _) => self.value(schema, key.get_ref(), value, problems),
                (None, Some(Json::Bool(false))) => {
                    let valid =
                        known.into_iter().flat_map(|known| known.keys().map(String::as_str));
                    let message = format!("unknown key `{}` in {name}", key.get_ref());
                    let problem = Problem::new(key.span(), message);
                    problems.push(problem.suggest(key.get_ref(), valid, "the keys are"));
                }
                (None, Some(schema)) => self.value(schema, key.get_ref(), value, problems),
                (None, None) => {}
            }
        }
        for key in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
            if let Some(key) = key.as_str().filter(|key| !table.contains_key(*key)) {
                let problem = Problem::new(span.clone(), format!("{name} lacks `{key}`"));
                let about = known
                    .and_then(|known| known.get(key))
                    .and_then(|schema| summary(self.resolve(schema)).or_else(|| summary(schema)));
                problems.push(match about {
                    Some(about) => problem.help(format!("`{key}`: {about}")),
                    None => problem,
                });
            }
        }
    }

    fn value(&self, schema: &'s Json, key: &str, value: &Value<'_>, problems: &mut Vec<Problem>) {
        let schema = self.resolve(schema);
        if let Some(branches) = ["anyOf", "oneOf"].iter().find_map(|of| schema.get(of)?.as_array())
        {
            return self.branches(branches, key, value, problems);
        }
        if let Some(all) = schema.get("allOf").and_then(Json::as_array) {
            return all.iter().for_each(|schema| self.value(schema, key, value, problems));
        }
        if let Some(valid) = constants(schema) {
            return constant(&valid, key, value, problems);
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|name| fits(name, value.get_ref())) {
            let expected = expected(&types);
            let found = article(value.get_ref().type_str());
            let problem = Problem::new(value.span(), format!("`{key}` is {found}, not {expected}"));
            problems.push(match summary(schema) {
                Some(about) => problem.help(format!("`{key}`: {about}")),
                None => problem,
            });
            return;
        }
        match value.get_ref() {
            DeValue::Table(table) => {
                self.table(schema, &format!("`{key}`"), table, value.span(), problems)
            }
            DeValue::Array(items) => {
                if let Some(of) = schema.get("items") {
                    items.iter().for_each(|item| self.value(of, key, item, problems));
                }
            }
            DeValue::Integer(_) | DeValue::Float(_) => bounds(schema, key, value, problems),
            _ => {}
        }
    }

    /// A value that may be one of several shapes: the shape it comes nearest to has the say.
    fn branches(
        &self,
        branches: &'s [Json],
        key: &str,
        value: &Value<'_>,
        problems: &mut Vec<Problem>,
    ) {
        let branches: Vec<&Json> = branches.iter().map(|branch| self.resolve(branch)).collect();
        let constants: Vec<&str> = branches.iter().filter_map(|b| constants(b)).flatten().collect();
        if let (DeValue::String(_), false) = (value.get_ref(), constants.is_empty()) {
            let open = branches.iter().any(|b| constants_free_string(b));
            return if open {
            } else {
                constant(&constants, key, value, problems)
            };
        }
        let mut nearest: Option<Vec<Problem>> = None;
        for branch in &branches {
            let types = types(branch);
            if !types.is_empty() && !types.iter().any(|name| fits(name, value.get_ref())) {
                continue;
            }
            let mut found = Vec::new();
            self.value(branch, key, value, &mut found);
            if found.is_empty() {
                return;
            }
            if nearest.as_ref().is_none_or(|best| found.len() < best.len()) {
                nearest = Some(found);
            }
        }
        problems.extend(nearest.unwrap_or_else(|| {
            let types: Vec<&str> = branches.iter().flat_map(|branch| types_of(branch)).collect();
            let found = article(value.get_ref().type_str());
            vec![Problem::new(
                value.span(),
                format!("`{key}` is {found}, not {}", expected(&types)),
            )]
        }));
    }
}

/// The strings that are valid, when the schema lists them.
fn constants(schema: &Json) -> Option<Vec<&str>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(one), _) => one.as_str().map(|one| vec![one]),
        (None, Some(all)) => {
            all.as_array().map(|all| all.iter().filter_map(Json::as_str).collect())
        }
        (None, None) => None,
    }
}

/// Whether the schema takes any string.
fn constants_free_string(schema: &Json) -> bool {
    constants(schema).is_none() && types(schema).contains(&"string")
}

fn constant(valid: &[&str], key: &str, value: &Value<'_>, problems: &mut Vec<Problem>) {
    let found = match value.get_ref() {
        DeValue::String(text) if valid.contains(&text.as_ref()) => return,
        DeValue::String(text) => text.as_ref(),
        other => other.type_str(),
    };
    let problem = Problem::new(value.span(), format!("`{key}` cannot be `{found}`"));
    problems.push(problem.suggest(found, valid.iter().copied(), "it is one of"));
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(all)) => all.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn types_of(schema: &Json) -> Vec<&str> {
    match types(schema) {
        none if none.is_empty() && constants(schema).is_some() => vec!["string"],
        types => types,
    }
}

fn fits(name: &str, value: &DeValue<'_>) -> bool {
    match name {
        "string" => value.is_str(),
        "integer" => value.is_integer(),
        "number" => value.is_integer() || value.is_float(),
        "boolean" => value.is_bool(),
        "array" => value.is_array(),
        "object" => value.is_table(),
        _ => false,
    }
}

fn expected(types: &[&str]) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in types.iter().filter(|name| **name != "null") {
        let name = article(if *name == "object" { "table" } else { name });
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" or ")
}

fn bounds(schema: &Json, key: &str, value: &Value<'_>, problems: &mut Vec<Problem>) {
    let number: Option<f64> = match value.get_ref() {
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as f64)
        }
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    let Some(number) = number else { return };
    let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
    let message = match (bound("minimum"), bound("maximum")) {
        (Some(least), _) if number < least => format!("`{key}` is {number}, less than {least}"),
        (_, Some(most)) if number > most => format!("`{key}` is {number}, more than {most}"),
        _ => return,
    };
    problems.push(Problem::new(value.span(), message));
}

/// The first sentence of a schema's description.
pub fn summary(schema: &Json) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    let paragraph = text.split("\n\n").next().unwrap_or(text).replace('\n', " ");
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    Some(paragraph.get(..end)?.trim_end_matches('.').to_owned())
}
