//! The JSON Schema of job files, for editors and for checking.

use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value as Json, json};

use super::node::{OperatorKeys, SinkKeys, SourceKeys};
use super::settings::JobOptions;
use crate::components::{Component, Registry};

/// The schema of a whole job file, with every kind there is.
pub fn job_schema(registry: &Registry) -> Json {
    let mut definitions = Map::new();
    let mut job = schema_for!(JobOptions).to_value();
    lift(&mut job, &mut definitions);
    let sources = role::<SourceKeys, _>("source", &registry.sources, &mut definitions);
    let operators = role::<OperatorKeys, _>("operator", &registry.operators, &mut definitions);
    let sinks = role::<SinkKeys, _>("sink", &registry.sinks, &mut definitions);
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

/// The same for editors, which see a file before its variables are put in: wherever a number or a truth value may
/// stand, so may a text with a `${NAME}`.
pub fn editor_schema(registry: &Registry) -> Json {
    let mut schema = job_schema(registry);
    if let Some(definitions) = schema.get_mut("$defs") {
        allow_variables(definitions);
    }
    if let Some(job) = schema.get_mut("properties").and_then(|all| all.get_mut("job")) {
        allow_variables(job);
    }
    schema
}

fn allow_variables(schema: &mut Json) {
    match schema {
        Json::Array(all) => all.iter_mut().for_each(allow_variables),
        Json::Object(object) => {
            object.values_mut().for_each(allow_variables);
            let is_value = object.get("type").is_some_and(|kinds| {
                let is = |kind: &Json| ["integer", "number", "boolean"].iter().any(|k| kind == k);
                is(kinds) || kinds.as_array().is_some_and(|kinds| kinds.iter().any(is))
            });
            if is_value {
                let description = object.remove("description");
                let value = std::mem::take(object);
                let variable = json!({ "type": "string", "pattern": r"\$\{[^}]+\}" });
                object.insert("anyOf".into(), json!([value, variable]));
                object.extend(description.map(|text| ("description".to_owned(), text)));
            }
        }
        _ => {}
    }
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
    components: &[Component<T>],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{shape, text::Text, tree, vars};

    #[test]
    fn every_example_is_valid_under_the_schema_of_job_files() {
        let schema = job_schema(&Registry::standard());
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        let mut seen = 0;
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|e| e == "toml")) {
            let text = std::fs::read_to_string(path).unwrap();
            let (mut all, mut problems) = (Text::default(), Vec::new());
            let mut table = tree::parse(&mut all, "example", &text, &mut problems);
            vars::expand(&mut table, &|_| None, &mut problems);
            shape::check(&schema, "the file", &table, 0..0, &mut problems);
            assert!(problems.is_empty(), "{problems:?}");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn editors_do_not_mark_variables_where_numbers_stand() {
        let schema = editor_schema(&Registry::standard());
        let property = |at: &str| schema.pointer(&format!("/$defs/{at}")).unwrap().clone();
        for at in ["source-sample/properties/records", "operator-encode/properties/quality"] {
            let property = property(at);
            assert!(property["description"].is_string(), "{property}");
            assert_eq!(property["anyOf"][1]["type"], "string", "{property}");
            assert!(property["anyOf"][0]["minimum"].is_number(), "{property}");
        }
        // Which kind it is stays certain: else a mistake would be told of every kind.
        assert_eq!(property("source-sample/properties/kind"), json!({ "const": "sample" }));
    }

    #[test]
    fn every_reference_in_the_schema_has_its_definition() {
        let schema = job_schema(&Registry::standard());
        let text = schema.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let path = part.split('"').next().unwrap();
            assert!(schema.pointer(path).is_some(), "{path} is not defined");
        }
    }
}
