//! Kinds that fail on purpose, for job files of tests.

use anabranch::component;
use anabranch::components::Registry;

mod operator;
mod sink;

pub use operator::FaultOptions;
pub use sink::SlowTableOptions;

/// The standard kinds, and those that fail.
pub fn registry() -> Registry {
    let mut registry = Registry::standard();
    registry.operators.push(component!("fault", FaultOptions));
    registry.sinks.push(component!("slow_table", SlowTableOptions));
    registry
}
