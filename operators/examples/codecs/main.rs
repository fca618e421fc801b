//! What codecs store of records, and what that costs a model: runs what is missing of each part and writes the page.
//!
//! ```sh
//! cargo build --release -p anabranch   # the parts that count bytes of tables run the program
//! cargo run --release -p anabranch-operators --example codecs -- results [PART ..]
//! ci/results codecs      # all parts: docs/results/codecs.md and codecs.json
//! ci/verify codecs       # one run of every part again, against what is recorded
//! cargo run -p anabranch-operators --example codecs -- try segment separate   # do they run? Nothing is written
//! ```
//!
//! A part is a module with a [`Part`](part::Part): it names its runs, makes one of them, and says what they come to. A
//! finished run is kept in `$ANABRANCH_RESULTS/codecs/PART-RUN.json` (`target/results`) and not repeated, and several
//! processes that are started at once share the runs that are missing. With names of parts, only those are run; the page
//! keeps what it has of the others. Data are those of `$ANABRANCH_DATA`, by default `../shared/data` beside the workspace;
//! the program is `$ANABRANCH_PROGRAM`, by default the one that was built beside this example.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to a person")]
#![allow(
    clippy::indexing_slicing,
    reason = "JSON of its own making, which gives null for what it lacks"
)]

mod cifar;
mod dense;
mod families;
mod image;
mod latents;
mod network;
mod page;
mod part;
mod photos;
mod program;
mod records;
mod speech;
mod study;
mod text;

use std::error::Error;
use std::path::{Path, PathBuf};

use part::Part;

/// All parts, in the order of the page.
const PARTS: &[&dyn Part] = &[
    &speech::Speech,
    &text::Text,
    &photos::Photos,
    &image::Images,
    &latents::Latents,
    &dense::Segment,
    &dense::Separate,
    &families::Families,
];

const USAGE: &str = "codecs results|verify|try [PART ..]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, names) = arguments.split_first().ok_or(USAGE)?;
    let named = |part: &&&dyn Part| names.is_empty() || names.iter().any(|n| n == part.name());
    let parts: Vec<&dyn Part> = PARTS.iter().filter(named).copied().collect();
    if parts.len() < names.len() {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name()).collect();
        return Err(format!("the parts are {}", known.join(", ")).into());
    }
    match command.as_str() {
        "results" => study::results(&parts),
        "verify" => study::verify(&parts),
        "try" => study::try_out(&parts),
        _ => Err(USAGE.into()),
    }
}

/// Where the data stand.
fn data() -> PathBuf {
    std::env::var_os("ANABRANCH_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    )
}
