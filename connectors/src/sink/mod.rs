//! Sinks: what records are written to.

mod columns;
#[cfg(test)]
mod recovery;
mod table;

pub use table::TableOptions;
