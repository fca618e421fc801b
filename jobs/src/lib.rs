//! Anabranch's job files, command line and terminal.
//!
//! * [`job`]: a TOML file becomes a graph, or a list of everything that is wrong with it;
//! * [`components`]: every kind that a job file may name;
//! * [`terminal`]: progress and reports as text;
//! * [`cli`]: the commands and their exit codes.
//!
//! This is the only crate that prints.

pub mod cli;
pub mod components;
pub mod job;
pub mod memory;
pub mod terminal;
