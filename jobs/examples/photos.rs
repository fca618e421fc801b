//! The job `photos.toml`, built in Rust: the same graph, the same checks, the same table.
//!
//! ```text
//! cargo run --example photos -- FOLDER TABLE      # FOLDER holds *.png
//! ```

use std::error::Error;

use anabranch::components::{Registry, make};
use anabranch_pipelines::graph::{Graph, Plan, Settings};
use anabranch_pipelines::run::{IfExists, Run};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, table] = arguments.as_slice() else {
        return Err("usage: photos FOLDER TABLE".into());
    };

    // Components are built from the options that job files give them, or by the types of their crates
    // (`anabranch_operators::ResizeOptions { .. }.build()`).
    let kinds = Registry::standard();
    let files = make(&kinds, &kinds.sources, "files", &format!("{{ path = '{folder}/*.png' }}"))?;
    let decode = make(&kinds, &kinds.operators, "decode", "{ column = 'image', mode = 'rgb' }")?;
    let resize = make(
        &kinds,
        &kinds.operators,
        "resize",
        "{ column = 'image', width = 256, height = 256 }",
    )?;
    let encode = make(
        &kinds,
        &kinds.operators,
        "encode",
        "{ column = 'image', codec = 'jpeg', quality = 75 }",
    )?;
    let sink = |path: &str| make(&kinds, &kinds.sinks, "table", &format!("{{ path = '{path}' }}"));

    // Nodes have names: ids of records and names of shards carry them.
    let mut graph = Graph::new("photos");
    let files = graph.source("files", files);
    let decode = graph.operator("decode", decode, &[files]);
    let resize = graph.operator("resize", resize, &[decode]);
    let encode = graph.operator("encode", encode, &[resize]);
    graph.sink("table", sink(table)?, &[encode]);
    graph.dead_letters(sink(&format!("{table}/_anabranch/dead_letters"))?);

    // A plan knows every column and what the run will hold in memory; nothing has been read yet.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let plan = runtime.block_on(Plan::new(graph, Settings::default()))?;
    let run = Run::start(plan, IfExists::Resume)?;
    let report = run.wait()?;

    // The same text that `anabranch run` ends with.
    use std::io::Write;
    std::io::stdout().write_all(anabranch::terminal::report(&report).as_bytes())?;
    Ok(())
}
