//! What must come out, whatever goes wrong on the way. Each module is one promise; see `ci/test`.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::unwrap_used)]

mod arrows;
mod bad_input;
mod client;
mod commands;
mod determinism;
mod examples;
mod follow;
mod kill;
mod latents;
mod memory;
mod panic;
mod precompress;
mod read;
mod reference;
mod replay;
mod rerun;
mod s3;
mod sounds;
mod stream;
mod tokens;
mod training;

use std::path::Path;

use anabranch_tests::program::Job;
use anabranch_tests::table::Table;

/// The program with kinds that fail on purpose.
const PROGRAM: &str = env!("CARGO_BIN_EXE_anabranch-with-faults");

/// `jobs/examples/NAME.toml`, writing to `FOLDER/table`.
fn example(folder: &Path, name: &str) -> Job {
    Job::example(PROGRAM, folder, name)
}

/// The table that jobs of this folder write.
fn table(folder: &Path) -> Table {
    Table::at(folder.join("table"))
}

/// A folder that goes when the test ends.
fn folder() -> tempfile::TempDir {
    // `ANABRANCH_KEEP=1` leaves what a failed test made, to look at it.
    let keep = std::env::var_os("ANABRANCH_KEEP").is_some();
    tempfile::Builder::new().disable_cleanup(keep).tempdir().unwrap()
}

/// Whether the long versions of the tests were asked for (`ci/soak`).
fn soak() -> bool {
    std::env::var_os("ANABRANCH_SOAK").is_some()
}
