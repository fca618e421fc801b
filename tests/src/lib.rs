//! What tests that cross crates stand on: the program with faults, jobs that run in child processes, and
//! tables that are read and judged.
//!
//! * [`faults`]: kinds of operators and sinks that panic, hang, abort or are slow, for job files of tests;
//! * [`program`]: runs a job in a child process that a test may kill, stop and watch;
//! * [`s3`]: a server of S3 on this machine, and a way to it on which requests go wrong;
//! * [`table`]: what a run left behind, read without the engine, and what must hold of it;
//! * [`dataset`]: the same for sinks of other kinds;
//! * [`random`]: moments that differ from run to run and can be had again.
//!
//! The tests themselves are in `outcomes/`.

// A test that finds its own ground missing shall panic, and say so.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::unwrap_used)]

pub mod dataset;
pub mod faults;
pub mod program;
pub mod random;
pub mod s3;
pub mod table;
