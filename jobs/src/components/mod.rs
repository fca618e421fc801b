//! Every kind of source, operator and sink that a job file may name: one [`Registry`] for parsing, for the
//! JSON Schema and for messages.
//!
//! A program of your own adds its kinds to the standard ones and keeps the whole command line:
//!
//! ```no_run
//! use std::sync::Arc;
//! use anabranch::components::Registry;
//! use anabranch_pipelines::operator::Operator;
//!
//! /// Options of `kind = "shout"`.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct ShoutOptions {
//!     /// The column.
//!     column: String,
//! }
//!
//! impl ShoutOptions {
//!     fn build(self) -> Result<Arc<dyn Operator>, String> {
//!         Err(format!("cannot shout {} yet", self.column))
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let mut registry = Registry::standard();
//!     registry.operators.push(anabranch::component!("shout", ShoutOptions));
//!     anabranch::cli::main_with(&registry)
//! }
//! ```

use std::sync::Arc;

use anabranch_pipelines::executor::isolated::Start;
use anabranch_pipelines::operator::Operator;
use anabranch_pipelines::sink::Sink;
use anabranch_pipelines::source::Source;
use serde_json::Value as Json;
use toml::de::ValueDeserializer;

mod mixture;
mod operators;
mod sinks;
mod sources;

/// Builds a component from options that were read already; the kinds are those that its parts may have. The error
/// is a sentence for people.
pub type Build<T> = Box<dyn FnOnce(&Registry) -> Result<Arc<T>, String> + Send>;

/// One kind of source, operator or sink.
pub struct Component<T: ?Sized> {
    /// The value of `kind` in job files.
    pub kind: &'static str,
    schema: fn() -> Json,
    read: fn(ValueDeserializer<'_>) -> Result<Build<T>, toml::de::Error>,
}

impl<T: ?Sized> Component<T> {
    /// The JSON Schema of its options, without `kind` and what all of its role have in common.
    pub fn schema(&self) -> Json {
        (self.schema)()
    }

    /// What it does, in one sentence.
    pub fn summary(&self) -> String {
        let text = crate::job::summary(&self.schema()).unwrap_or_default();
        // "Options of `kind = "tar"`: every member ..." is about the options; what follows is about the kind.
        match text.split_once("`: ") {
            Some((before, what)) if before.starts_with("Options of") => what.to_owned(),
            _ => text,
        }
    }

    /// Reads its options.
    ///
    /// # Errors
    /// With the place, when they do not read.
    pub fn read(&self, options: ValueDeserializer<'_>) -> Result<Build<T>, toml::de::Error> {
        (self.read)(options)
    }
}

impl<T: ?Sized> Component<T> {
    /// A component from its parts; [`component!`](crate::component) is shorter.
    pub const fn new(
        kind: &'static str,
        schema: fn() -> Json,
        read: fn(ValueDeserializer<'_>) -> Result<Build<T>, toml::de::Error>,
    ) -> Self {
        Self { kind, schema, read }
    }
}

/// The kinds that job files may name.
pub struct Registry {
    /// Kinds of sources.
    pub sources: Vec<Component<dyn Source>>,
    /// Kinds of operators.
    pub operators: Vec<Component<dyn Operator>>,
    /// Kinds of sinks.
    pub sinks: Vec<Component<dyn Sink>>,
    /// Starts the worker processes of operators with `isolate = true`. The standard one starts this very
    /// program, which must call [`cli::main_with`](crate::cli::main_with).
    pub workers: Arc<Start>,
}

impl Registry {
    /// All kinds that Anabranch comes with.
    pub fn standard() -> Self {
        Self {
            sources: sources::all(),
            operators: operators::all(),
            sinks: sinks::all(),
            workers: Arc::new(crate::cli::start_worker),
        }
    }
}

/// The component called `kind`.
pub fn find<'a, T: ?Sized>(all: &'a [Component<T>], kind: &str) -> Option<&'a Component<T>> {
    all.iter().find(|component| component.kind == kind)
}

/// The component of this kind, one of `all`, with these options, for what the program itself builds.
///
/// # Errors
/// When there is no such kind, or its options do not read.
pub fn make<T: ?Sized>(
    registry: &Registry,
    all: &[Component<T>],
    kind: &str,
    options: &str,
) -> Result<Arc<T>, String> {
    let component = find(all, kind).ok_or_else(|| format!("there is no kind `{kind}`"))?;
    let options = ValueDeserializer::parse(options).map_err(|error| error.to_string())?;
    component.read(options).map_err(|error| error.to_string())?(registry)
}

/// A TOML inline table that holds one string.
pub fn with_path(path: &str) -> String {
    format!("{{ path = {} }}", toml::Value::from(path))
}

/// Options as a TOML inline table. What is null is left out.
///
/// # Errors
/// When they are no table.
pub fn inline(options: &Json) -> Result<String, String> {
    fn without_nulls(value: &Json) -> Json {
        match value {
            Json::Object(fields) => {
                let kept = fields.iter().filter(|(_, value)| !value.is_null());
                kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
            }
            Json::Array(values) => values.iter().map(without_nulls).collect(),
            other => other.clone(),
        }
    }
    let table = toml::Value::try_from(without_nulls(options)).map_err(|error| error.to_string())?;
    if !table.is_table() {
        return Err("options are a table".to_owned());
    }
    Ok(table.to_string())
}

/// A [`Component`] from its kind and its options' type, which deserialises, has a JSON Schema, and builds
/// the component with `build(self)`.
#[macro_export]
macro_rules! component {
    ($kind:literal, $options:ty) => {
        $crate::components::Component::new(
            $kind,
            || schemars::schema_for!($options).to_value(),
            |deserializer| {
                let options = <$options as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Box::new(move |_: &$crate::components::Registry| {
                    options.build().map_err(|error| error.to_string())
                }))
            },
        )
    };
}
