//! The type of an option as people write it, from its JSON Schema.

use std::collections::BTreeSet;

use serde_json::Value as Json;

/// Names types, and notes the tables that they refer to.
pub(super) struct Types<'s> {
    pub(super) schema: &'s Json,
    pub(super) tables: &'s mut BTreeSet<String>,
}

impl Types<'_> {
    /// The type of `option`, as Markdown.
    pub(super) fn of(&mut self, option: &Json) -> String {
        if let Some(target) = option.get("$ref").and_then(Json::as_str) {
            return self.referred(target);
        }
        if let Some(value) = option.get("const") {
            return format!("`{value}`");
        }
        if let Some(values) = option.get("enum").and_then(Json::as_array) {
            let values = values.iter().map(|value| format!("`{value}`"));
            return values.collect::<Vec<_>>().join(", ");
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            if let Some(parts) = option.get(choice).and_then(Json::as_array) {
                let parts = parts.iter().filter(|part| !is_null(part)).map(|part| self.of(part));
                return parts.collect::<Vec<_>>().join(" or ");
            }
        }
        match option.get("type") {
            Some(Json::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Json::as_str).filter(|kind| *kind != "null");
                kinds.map(|kind| self.plain(kind, option)).collect::<Vec<_>>().join(" or ")
            }
            Some(Json::String(kind)) => self.plain(kind, option),
            _ => "any value".to_owned(),
        }
    }

    fn plain(&mut self, kind: &str, option: &Json) -> String {
        match (kind, option.get("items"), option.get("additionalProperties")) {
            ("array", Some(items), _) => format!("list of {}", self.of(items)),
            ("object", _, Some(values)) if values.is_object() => {
                format!("table of {}", self.of(values))
            }
            ("object", ..) => self.tagged(option).unwrap_or_else(|| "table".to_owned()),
            (kind, ..) => kind.to_owned(),
        }
    }

    /// A table of one key that says which of several tables stands behind it.
    fn tagged(&mut self, option: &Json) -> Option<String> {
        let properties = option.get("properties")?.as_object()?;
        let mut properties = properties.iter();
        let ((name, of), None) = (properties.next()?, properties.next()) else { return None };
        Some(format!("table with `{name}`: {}", self.of(of)))
    }

    /// What a definition is: a table of its own further down, or the few values that it may have.
    fn referred(&mut self, target: &str) -> String {
        let Some(name) = target.strip_prefix("#/$defs/") else { return "any value".to_owned() };
        let definition =
            self.schema.pointer(&format!("/$defs/{name}")).cloned().unwrap_or_default();
        if definition.get("properties").is_some() {
            self.tables.insert(name.to_owned());
            return format!("[{name}](#{})", name.to_lowercase());
        }
        self.of(&definition)
    }
}

fn is_null(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) == Some("null")
}

/// What an option is when it is not given, as far as its schema and not its text tells it.
pub(super) fn default(option: &Json) -> String {
    let text = option.get("description").and_then(Json::as_str).unwrap_or_default();
    match option.get("default") {
        None | Some(Json::Null | Json::Object(_)) => String::new(),
        Some(_) if text.contains("efault") => String::new(),
        Some(value) => format!(" Default `{value}`."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_read_as_people_write_them() {
        let schema = json!({ "$defs": {
            "Order": { "type": "object", "properties": { "passes": { "type": "integer" } } },
            "How": { "oneOf": [{ "const": "inner" }, { "const": "left" }] },
        }});
        let mut tables = BTreeSet::new();
        let mut types = Types { schema: &schema, tables: &mut tables };
        let cases = [
            (json!({ "type": ["string", "null"] }), "string"),
            (json!({ "type": "array", "items": { "type": "string" } }), "list of string"),
            (
                json!({ "anyOf": [{ "$ref": "#/$defs/Order" }, { "type": "null" }] }),
                "[Order](#order)",
            ),
            (json!({ "$ref": "#/$defs/How" }), "`\"inner\"` or `\"left\"`"),
            (
                json!({ "additionalProperties": { "type": "number" }, "type": "object" }),
                "table of number",
            ),
            (
                json!({ "type": "object", "properties": { "by": { "$ref": "#/$defs/Order" } } }),
                "table with `by`: [Order](#order)",
            ),
        ];
        for (option, expected) in cases {
            assert_eq!(types.of(&option), expected);
        }
        assert_eq!(tables.into_iter().collect::<Vec<_>>(), ["Order"]);
        assert_eq!(default(&json!({ "default": 3 })), " Default `3`.");
        assert_eq!(default(&json!({ "default": 3, "description": "Default three." })), "");
    }
}
