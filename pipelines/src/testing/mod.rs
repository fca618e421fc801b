//! Small sources, sinks and stores for the tests of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::graph::{CommitSize, Graph, PartSize, Plan, Settings};
use crate::store::Location;

mod faulty;
mod lines;

pub(crate) use faulty::{Fault, Faulty};
pub(crate) use lines::{Lines, LinesReader, LinesSink, Retyped};

/// Settings that make many small parts and commits.
pub(crate) fn settings() -> Settings {
    Settings {
        part: PartSize { records: 5, bytes: 1 << 20 },
        commit: CommitSize { parts: 2, bytes: 1 << 20, interval: Duration::from_millis(30) },
        poll: Duration::from_millis(5),
        threads: 1,
        ..Settings::default()
    }
}

/// Waits for a future on this thread.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future)
}

/// A plan that copies the lines below `root/in` to `root/out`, and dead letters to `root/dead`.
pub(crate) fn copy(root: &str, settings: Settings) -> Arc<Plan> {
    let mut graph = Graph::new("copy");
    let lines = graph.source("lines", Lines::of(&format!("{root}/in")));
    graph.sink("out", LinesSink::at(&format!("{root}/out")), &[lines]);
    graph.dead_letters(LinesSink::at(&format!("{root}/dead")));
    wait(Plan::new(graph, settings)).unwrap()
}

/// Writes an object of so many lines `NAME-NUMBER`.
pub(crate) fn put_lines(folder: &str, name: &str, count: usize) {
    put(folder, name, &(0..count).map(|number| format!("{name}-{number}\n")).collect::<String>());
}

/// Writes an object.
pub(crate) fn put(folder: &str, name: &str, text: &str) {
    let at = Location::parse(folder).unwrap().join(name);
    wait(at.store.put(&at.path, text.to_owned().into())).unwrap();
}

/// Deletes an object.
pub(crate) fn delete(folder: &str, name: &str) {
    let at = Location::parse(folder).unwrap().join(name);
    wait(at.store.delete(&at.path)).unwrap();
}

/// Paths and contents of all objects below a folder whose paths contain `part`.
pub(crate) fn objects(folder: &str, part: &str) -> BTreeMap<String, String> {
    let at = Location::parse(folder).unwrap();
    wait(async {
        let listed: Vec<_> = at.store.list(Some(&at.path)).try_collect().await.unwrap();
        let mut objects = BTreeMap::new();
        for object in listed.iter().filter(|object| object.location.as_ref().contains(part)) {
            let bytes = at.store.get(&object.location).await.unwrap().bytes().await.unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            objects.insert(object.location.to_string(), text);
        }
        objects
    })
}

/// The lines that are visible at a sink, sorted; of dead letters the errors.
pub(crate) fn visible(folder: &str) -> Vec<String> {
    let data = objects(folder, "/data/");
    let named = objects(folder, "/visible/");
    let shards = named.values().flat_map(|paths| paths.lines());
    let text = |shard: &str| data.iter().find(|(path, _)| path.ends_with(shard)).unwrap().1;
    let mut lines: Vec<String> =
        shards.flat_map(|shard| text(shard).lines().map(str::to_owned)).collect();
    lines.iter_mut().for_each(|line| line.truncate(line.find('\t').unwrap_or(line.len())));
    lines.sort();
    lines
}

/// The lines of these objects as `put_lines` wrote them, sorted.
pub(crate) fn lines_of(objects: &[(&str, usize)]) -> Vec<String> {
    let lines = |(name, count): &(&str, usize)| {
        (0..*count).map(|number| format!("{name}-{number}")).collect::<Vec<_>>()
    };
    let mut lines: Vec<String> = objects.iter().flat_map(lines).collect();
    lines.sort();
    lines
}

/// Waits until `done`, and panics after a long time.
pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
