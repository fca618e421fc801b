//! What tests of sources share: files to read, and the real data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_pipelines::source::{BatchSize, Source, SourceBatch, SplitRange};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use std::io::Write;

use crate::conformance::source::{Seen, check};

/// A folder with these files.
pub(super) fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// A path below a folder, as options take it.
pub(super) fn path(folder: &tempfile::TempDir, below: &str) -> String {
    folder.path().join(below).to_str().unwrap().to_owned()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Files of the real data, or `None` (with a word) where there is none.
pub(super) fn data(below: &str) -> Option<String> {
    let root = std::env::var_os("ANABRANCH_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = root.join(below);
    if !path.exists() {
        eprintln!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path.to_str().unwrap().to_owned())
}

/// All that a source holds, after the conformance suite.
pub(super) fn conforming(source: &Arc<dyn Source>) -> Seen {
    block_on(check(source)).unwrap()
}

/// Everything, read in one go.
pub(super) fn read_all(source: &Arc<dyn Source>) -> Vec<SourceBatch> {
    block_on(async {
        let splits = source.splits().await.unwrap().into_iter();
        let whole = splits.map(|s| SplitRange { split: Arc::new(s), range: 0..i64::MAX as u64 });
        let size = BatchSize { records: 1000, bytes: 64 << 20 };
        source.open(whole.collect(), size).try_collect().await.unwrap()
    })
}

pub(crate) fn block_on<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
