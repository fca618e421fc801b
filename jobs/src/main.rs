//! The program `anabranch`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    anabranch::memory::keep_what_is_freed();
    anabranch::cli::main()
}
