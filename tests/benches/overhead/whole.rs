//! The job as a run of Anabranch.

use std::path::Path;

use anabranch_connectors::sink::TableOptions;
use anabranch_connectors::source::FilesOptions;
use anabranch_operators::{DecodeOptions, EncodeOptions, ResizeOptions};
use anabranch_pipelines::graph::{Graph, Plan, Settings};
use anabranch_pipelines::progress::Ending;
use anabranch_pipelines::run::{IfExists, Run};
use serde_json::json;

/// Runs it into a new table.
pub(crate) fn run(folder: &Path) {
    let table = tempfile::tempdir_in(folder).unwrap();
    let mut graph = Graph::new("overhead");
    let files: FilesOptions =
        serde_json::from_value(json!({ "path": folder.join("pictures/*.jpg") })).unwrap();
    let decode: DecodeOptions =
        serde_json::from_value(json!({ "column": "image", "mode": "rgb" })).unwrap();
    let resize: ResizeOptions =
        serde_json::from_value(json!({ "column": "image", "width": 128, "height": 128 })).unwrap();
    let encode: EncodeOptions =
        serde_json::from_value(json!({ "column": "image", "codec": "jpeg", "quality": 75 }))
            .unwrap();
    let table = TableOptions::at(table.path().join("table").display().to_string());
    let files = graph.source("files", files.build().unwrap());
    let decode = graph.operator("decode", decode.build().unwrap(), &[files]);
    let resize = graph.operator("resize", resize.build().unwrap(), &[decode]);
    let encode = graph.operator("encode", encode.build().unwrap(), &[resize]);
    graph.sink("table", table.build().unwrap(), &[encode]);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let plan = runtime.block_on(Plan::new(graph, Settings::default())).unwrap();
    let report = Run::start(plan, IfExists::Error).unwrap().wait().unwrap();
    assert_eq!(report.ending, Ending::Complete);
}
