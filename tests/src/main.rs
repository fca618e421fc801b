//! The program as it is shipped, with kinds that fail on purpose.

use std::process::ExitCode;

fn main() -> ExitCode {
    anabranch::cli::main_with(&anabranch_tests::faults::registry())
}
