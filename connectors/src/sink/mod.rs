//! Sinks: what records are written to.

mod columns;
mod table;

pub use table::TableOptions;
