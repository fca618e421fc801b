//! The source `mixture`: its parts are other sources, named in the same table.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_connectors::source::{Mixture, MixturePart, WhenDry};
use anabranch_pipelines::source::Source;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Component, Registry, inline, make};

/// Options of `kind = "mixture"`: several sources with the same columns, interleaved by weight.
///
/// Each part is a source of any other kind in a table of its own, `[source.NAME.parts.PART]`. A record's key
/// begins with its part's name. The same seed gives the same sequence.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MixtureOptions {
    /// The parts by name: each has a `kind`, the options of that kind, and a `weight`.
    parts: BTreeMap<String, Part>,
    /// Another seed interleaves the parts in another way. Default 1.
    #[serde(default = "one")]
    seed: u64,
    /// What happens when a part has no more records: the others `"go_on"` until all are dry, which is the
    /// default; the mixture ends (`"stop"`); or the part begins again (`"repeat"`), until every part has been
    /// read whole at least once.
    #[serde(default)]
    when_dry: WhenDry,
}

/// A part of a mixture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MixturePart")]
struct Part {
    /// The kind of source.
    kind: String,
    /// Its share of the records, beside those of the other parts. Default 1.
    #[serde(default = "share")]
    weight: f64,
    /// The options of that kind.
    #[serde(flatten)]
    options: serde_json::Map<String, serde_json::Value>,
}

const fn one() -> u64 {
    1
}

const fn share() -> f64 {
    1.0
}

/// The kind. Its parts are of any kind that the program has, also of those that were added to it.
pub(super) fn component() -> Component<dyn Source> {
    Component::new(
        "mixture",
        || schemars::schema_for!(MixtureOptions).to_value(),
        |deserializer| {
            let options = MixtureOptions::deserialize(deserializer)?;
            Ok(Box::new(move |registry: &Registry| options.build(registry)))
        },
    )
}

impl MixtureOptions {
    fn build(self, registry: &Registry) -> Result<Arc<dyn Source>, String> {
        let part = |(name, Part { kind, weight, options }): (String, Part)| {
            let error = |error: String| format!("`parts.{name}`: {error}");
            if name.is_empty() || name.contains('/') {
                return Err(error("a part's name is not empty and has no `/`".to_owned()));
            }
            let options = inline(&options.into()).map_err(error)?;
            let source = make(registry, &registry.sources, &kind, &options).map_err(error)?;
            Ok(MixturePart { name, weight, source })
        };
        let parts = self.parts.into_iter().map(part).collect::<Result<_, _>>()?;
        Mixture::build(parts, self.seed, self.when_dry).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_connectors::source::SampleOptions;

    #[test]
    fn parts_are_sources_of_any_kind() {
        let mut registry = Registry::standard();
        registry.sources.push(crate::component!("samples_of_mine", SampleOptions));
        let build = |options: &str| {
            make(&registry, &registry.sources, "mixture", options).map(|s| s.options())
        };
        build(r#"{ parts = { a = { kind = "samples_of_mine", seed = 1 } } }"#).unwrap();
        let both = build(
            r#"{ seed = 3, parts = { a = { kind = "sample", seed = 1, weight = 2 },
                 b = { kind = "sample", records = 5 } } }"#,
        );
        let options = both.unwrap();
        assert_eq!(options.pointer("/parts/1/options/records").unwrap(), 5);
        assert_eq!(options.pointer("/when_dry").unwrap(), "go_on");
        for (options, says) in [
            (r#"{ parts = { a = { kind = "sampel" } } }"#, "`parts.a`: there is no kind `sampel`"),
            (r#"{ parts = { a = { kind = "sample", sed = 1 } } }"#, "unknown field `sed`"),
            (r#"{ parts = { "a/b" = { kind = "sample" } } }"#, "has no `/`"),
            (r#"{ parts = { a = { kind = "sample", weight = 0 } } }"#, "is no share"),
            ("{ parts = {} }", "a mixture has parts"),
        ] {
            let error = build(options).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
