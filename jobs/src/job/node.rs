//! Keys that every source, operator or sink of a job file has, whatever its kind.

use anabranch_pipelines::operator::Resources;
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::source::Order;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keys of a source that do not depend on its kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceKeys {
    /// In which order, and how often, the source is read. Default: once, in listing order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderOption>,
}

/// Keys of an operator that do not depend on its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OperatorKeys {
    /// Names of the sources and operators that it reads.
    pub inputs: Vec<String>,
    /// What each invocation is granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceOption>,
}

/// Keys of a sink that do not depend on its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkKeys {
    /// Names of the sources and operators that it writes.
    pub inputs: Vec<String>,
}

/// Order and repetition of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderOption {
    /// Seed of a permutation of all records, another one in each pass. Default: listing order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shuffle: Option<u64>,
    /// How often the whole source is read. Default 1.
    #[serde(default = "once")]
    #[schemars(range(min = 1))]
    pub passes: u32,
}

fn once() -> u32 {
    1
}

/// What an operator's invocations are granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceOption {
    /// Threads per invocation. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub threads: Option<usize>,
    /// Bytes per invocation beyond its input. Default: what the operator declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<ByteSize>,
    /// Whether to run in a worker process of its own, for what may crash.
    #[serde(default)]
    pub isolate: bool,
}

impl From<OrderOption> for Order {
    fn from(option: OrderOption) -> Self {
        Self { shuffle: option.shuffle, passes: option.passes }
    }
}

impl From<ResourceOption> for Resources {
    fn from(option: ResourceOption) -> Self {
        let default = Self::default();
        Self {
            threads: option.threads.unwrap_or(default.threads),
            memory: option.memory.map(ByteSize::as_usize),
            isolate: option.isolate,
        }
    }
}
