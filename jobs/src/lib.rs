//! Anabranch's job files, command line and terminal.
//!
//! * [`init`]: a job file for data that nobody has described yet;
//! * [`job`]: a TOML file becomes a graph, or a list of everything that is wrong with it;
//! * [`components`]: every kind that a job file may name;
//! * [`mod@reference`]: the page that tells every kind and option;
//! * [`page`]: a run on one page of HTML;
//! * [`plot`]: curves of a run as an SVG;
//! * [`show`]: contact sheets and spectrograms;
//! * [`terminal`]: progress and reports as text;
//! * [`cli`]: the commands and their exit codes.
//!
//! This is the only crate that prints.

pub mod cli;
pub mod components;
pub mod init;
pub mod job;
pub mod memory;
pub mod page;
pub mod plot;
pub mod reference;
pub mod show;
pub mod terminal;
