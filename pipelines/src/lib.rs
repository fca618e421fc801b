//! Records, the graph, its traits, and the run on timely dataflow.
//!
//! This is the only crate that names timely, and the interface that every other crate stands on:
//!
//! * [`record`]: rows of Arrow batches, media columns, ids;
//! * [`source`], [`operator`], [`sink`]: the three traits;
//! * [`graph`]: wiring and checks, from a [`Graph`](graph::Graph) to a [`Plan`](graph::Plan);
//! * [`run`]: executes a plan exactly once, in bounded memory, on one process or several;
//! * [`replay`]: feeds what a run refused back in;
//! * [`log`]: the run log, the single truth of what was committed;
//! * [`store`]: object stores by URL.
//!
//! It knows no file format, no codec, no model and no terminal.

pub mod credit;
pub mod dead_letter;
pub mod executor;
pub mod graph;
pub mod log;
pub mod operator;
pub mod panics;
pub mod progress;
pub mod quantity;
pub mod record;
pub mod replay;
pub mod run;
pub mod sink;
pub mod source;
pub mod store;
#[cfg(test)]
mod testing;

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
