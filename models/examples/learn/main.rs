//! Whether tables learn what MLPs learn: trains contenders on the same data, with the same batches, and writes the
//! comparison.
//!
//! ```sh
//! cargo run --release -p anabranch-models --example learn -- one --task shakespeare \
//!     --contender rows:64x6:projected:damping=0.5 --rate 2e-3 --steps 2000 --seed 1
//! ci/results lut      # every run of docs/results/lut.md, which takes hours
//! ci/verify lut       # one seed of it again, against the recorded spread
//! ```
//!
//! Tasks: `shakespeare` (nanoGPT's configuration for processors: 4 layers, 4 heads, 128 wide, context 64, batches of
//! 12), `cifar10` and `fashion` (small ViTs). Contenders: `mlp`, `none`, `rows:NODESxINPUTS:axis`,
//! `rows:NODESxINPUTS:projected`, `bits:MULTIPLE`; behind rows and bits stand `:damping=0.5`, `:choices=8`,
//! `:table-rate=2`, `:decay=0.5`, `:table-bits=4`; `teacher=1000:fit=300` among them warm-starts tables with so many steps of an MLP model and so many
//! of distillation, which count. `--save FOLDER` writes the artifact. The data stand in `$ANABRANCH_DATA` or in
//! `../shared/data` beside the workspace. A run ends with a line of JSON.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to a person")]

mod contender;
mod costs;
mod frontier;
mod page;
mod pictures;
mod plan;
mod run;
mod score;
mod study;
mod task;

use std::error::Error;
use std::path::{Path, PathBuf};

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has the allocator keep freed memory for ten seconds, as the program does: the next step wants what
/// the last one had, and fresh pages are a sixth of its time.
fn keep_what_is_freed() {
    // SAFETY: it stores a number in a table of options that allocations read; 15 is the purge delay.
    unsafe { libmimalloc_sys::mi_option_set(15, 10_000) };
}

fn main() -> Result<(), Box<dyn Error>> {
    keep_what_is_freed();
    let mut arguments = std::env::args().skip(1);
    let usage = "learn one OPTIONS | learn results NAME | learn verify NAME";
    match arguments.next().as_deref() {
        Some("one") => {
            let mut settings = run::Settings::default();
            let mut save = None;
            while let Some(name) = arguments.next() {
                let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                match name.as_str() {
                    "--save" => save = Some(PathBuf::from(value)),
                    _ => settings.set(&name, &value)?,
                }
            }
            let outcome = run::run(&settings, save.as_deref(), |line| println!("{line}"))?;
            println!("{}", serde_json::to_string(&outcome)?);
        }
        Some("results") => study::results(&arguments.next().ok_or(usage)?)?,
        Some("verify") => study::verify(&arguments.next().ok_or(usage)?)?,
        _ => return Err(usage.into()),
    }
    Ok(())
}

/// Where the data stand.
fn data() -> PathBuf {
    std::env::var_os("ANABRANCH_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    )
}
