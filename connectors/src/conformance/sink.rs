//! Checks of sinks.
