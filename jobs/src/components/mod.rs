//! Every kind of source, operator and sink that a job file may name: one registry for parsing, for the
//! JSON Schema and for messages.

use std::sync::Arc;

use anabranch_pipelines::operator::Operator;
use anabranch_pipelines::sink::Sink;
use anabranch_pipelines::source::Source;
use serde_json::Value as Json;
use toml::de::ValueDeserializer;

mod operators;
mod sinks;
mod sources;

pub use operators::OPERATORS;
pub use sinks::SINKS;
pub use sources::SOURCES;

/// Builds a component from options that were read already. The error is a sentence for people.
pub type Build<T> = Box<dyn FnOnce() -> Result<Arc<T>, String> + Send>;

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
        crate::job::summary(&self.schema()).unwrap_or_default()
    }

    /// Reads its options.
    ///
    /// # Errors
    /// With the place, when they do not read.
    pub fn read(&self, options: ValueDeserializer<'_>) -> Result<Build<T>, toml::de::Error> {
        (self.read)(options)
    }
}

/// The component called `kind`.
pub fn find<T: ?Sized>(all: &'static [Component<T>], kind: &str) -> Option<&'static Component<T>> {
    all.iter().find(|component| component.kind == kind)
}

/// The component of this kind with these options, for what the program itself builds.
///
/// # Errors
/// When there is no such kind, or its options do not read.
pub fn make<T: ?Sized>(
    all: &'static [Component<T>],
    kind: &str,
    options: &str,
) -> Result<Arc<T>, String> {
    let component = find(all, kind).ok_or_else(|| format!("there is no kind `{kind}`"))?;
    let options = ValueDeserializer::parse(options).map_err(|error| error.to_string())?;
    component.read(options).map_err(|error| error.to_string())?()
}

/// A TOML inline table that holds one string.
pub fn with_path(path: &str) -> String {
    format!("{{ path = {} }}", toml::Value::from(path))
}

/// A [`Component`] from its kind and its options' type.
#[allow(unused_macros)]
macro_rules! component {
    ($kind:literal, $options:ty) => {
        $crate::components::Component {
            kind: $kind,
            schema: || schemars::schema_for!($options).to_value(),
            read: |deserializer| {
                let options = <$options as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Box::new(move || options.build().map_err(|error| error.to_string())))
            },
        }
    };
}
#[allow(unused_imports)]
use component;

/// A list of components that job files may name.
pub type Sources = &'static [Component<dyn Source>];
/// See [`OPERATORS`].
pub type Operators = &'static [Component<dyn Operator>];
/// See [`SINKS`].
pub type Sinks = &'static [Component<dyn Sink>];
