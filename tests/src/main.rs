//! The program as it is shipped, with kinds that fail on purpose.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    anabranch::memory::keep_what_is_freed();
    anabranch::cli::main_with(&anabranch_tests::faults::registry())
}
