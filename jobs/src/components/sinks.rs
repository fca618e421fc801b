//! Kinds of sinks.

use super::Sinks;

/// All kinds of sinks.
pub const SINKS: Sinks = &[];
