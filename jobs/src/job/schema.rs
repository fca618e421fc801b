//! The JSON Schema of job files, for editors and for checking.

use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value as Json, json};

use super::node::{OperatorKeys, SinkKeys, SourceKeys};
use super::settings::JobOptions;
use crate::components::{Component, OPERATORS, SINKS, SOURCES};

/// The schema of a whole job file, with every kind there is.
pub fn job_schema() -> Json {
    let mut definitions = Map::new();
    let mut job = schema_for!(JobOptions).to_value();
    lift(&mut job, &mut definitions);
    let sources = role::<SourceKeys, _>("source", SOURCES, &mut definitions);
    let operators = role::<OperatorKeys, _>("operator", OPERATORS, &mut definitions);
    let sinks = role::<SinkKeys, _>("sink", SINKS, &mut definitions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Anabranch job",
        "description": "A job of Anabranch: sources, operators and sinks, wired by `inputs`.",
        "type": "object",
        "additionalProperties": false,
        "required": ["job", "source", "sink"],
        "properties": {
            "job": job,
            "vars": {
                "description": "Variables of the job with their defaults, used as `${NAME}` and set by `--set NAME=VALUE`.",
                "type": "object",
                "additionalProperties": { "type": ["string", "number", "boolean"] },
            },
            "source": sources,
            "operator": operators,
            "sink": sinks,
        },
        "$defs": definitions,
    })
}

/// The schema of one component's table in a job file: `kind`, the role's keys and the kind's options.
pub(super) fn node_schema<K: JsonSchema>(kind: &str, options: &Json) -> Json {
    let mut schema = options.clone();
    let keys = schema_for!(K).to_value();
    for part in ["properties", "$defs"] {
        for (name, value) in keys.get(part).and_then(Json::as_object).into_iter().flatten() {
            object(&mut schema, part).insert(name.clone(), value.clone());
        }
    }
    object(&mut schema, "properties").insert("kind".into(), json!({ "const": kind }));
    let mut required = vec![json!("kind")];
    for from in [&keys, options] {
        required
            .extend(from.get("required").and_then(Json::as_array).into_iter().flatten().cloned());
    }
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("required".into(), Json::Array(required));
        schema.insert("additionalProperties".into(), Json::Bool(false));
    }
    schema
}

fn role<K: JsonSchema, T: ?Sized>(
    role: &str,
    components: &'static [Component<T>],
    definitions: &mut Map<String, Json>,
) -> Json {
    let kinds: Vec<Json> = components
        .iter()
        .map(|component| {
            let mut schema = node_schema::<K>(component.kind, &component.schema());
            lift(&mut schema, definitions);
            let name = format!("{role}-{}", component.kind);
            definitions.insert(name.clone(), schema);
            json!({ "$ref": format!("#/$defs/{name}") })
        })
        .collect();
    json!({ "type": "object", "additionalProperties": { "oneOf": kinds } })
}

/// Moves a schema's own definitions up to the file's, where its references look for them.
fn lift(schema: &mut Json, definitions: &mut Map<String, Json>) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("$schema");
    schema.remove("title");
    if let Some(Json::Object(own)) = schema.remove("$defs") {
        definitions.extend(own);
    }
}

/// The object at `key` of `schema`, made if it is not there.
fn object<'a>(schema: &'a mut Json, key: &str) -> &'a mut Map<String, Json> {
    if !schema.is_object() {
        *schema = json!({});
    }
    let entry = &mut schema[key];
    if !entry.is_object() {
        *entry = json!({});
    }
    match entry {
        Json::Object(object) => object,
        _ => unreachable!("it was just made an object"),
    }
}
