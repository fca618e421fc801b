//! Checks of sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_pipelines::log::Commit;
use anabranch_pipelines::record::{KEY, Modality, media, with_ids};
use anabranch_pipelines::sink::{Compute, PartName, RunStart, Shard, Sink};
use anabranch_pipelines::store::Location;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use object_store::ObjectStoreExt;
use sha2::{Digest, Sha256};

use super::{Violation, ensure, failed};

/// Checks everything that [`Sink`] promises: what is prepared is durable and invisible, a commit shows it
/// once however often it is repeated, a kill at any step loses nothing, shards do not depend on batches, and
/// runs append or overwrite as they are told.
///
/// `open` opens the same empty destination anew, as another process would; `read` gives the keys of all rows
/// that a reader sees there.
///
/// # Errors
/// The first promise that was broken.
pub async fn check<R>(open: impl Fn() -> Arc<dyn Sink>, read: R) -> Result<(), Violation>
where
    R: AsyncFn() -> Result<Vec<String>, String>,
{
    let place = Location::parse(&open().location()).map_err(failed("parsing the location"))?;
    let bench = Bench { open: &open, read: &read, place };
    bench.batching().await?;
    bench.run("r1", false, &[]).await?;
    bench.kills().await?;
    let both = names(&[("r1", 0), ("r1", 1), ("k1", 0), ("k1", 1)]);
    bench.sees(&both, "after a second run that appends").await?;
    bench.run("r2", true, &both).await?;
    ensure(open().exists().await.map_err(failed("looking"))?, || {
        "it says that nothing is there, and rows are".to_owned()
    })
}

struct Bench<'a, O, R> {
    open: &'a O,
    read: &'a R,
    place: Location,
}

impl<O, R> Bench<'_, O, R>
where
    O: Fn() -> Arc<dyn Sink>,
    R: AsyncFn() -> Result<Vec<String>, String>,
{
    async fn sees(&self, keys: &[String], when: &str) -> Result<(), Violation> {
        let mut seen = (self.read)().await.map_err(failed("reading"))?;
        let mut keys = keys.to_vec();
        seen.sort();
        keys.sort();
        ensure(seen == keys, || format!("{when}, readers see {seen:?} and not {keys:?}"))
    }

    async fn started(&self, start: &RunStart) -> Result<Arc<dyn Sink>, Violation> {
        let sink = (self.open)();
        sink.check(&schema()).map_err(failed("checking the schema"))?;
        sink.start(start, &schema()).await.map_err(failed("starting"))?;
        Ok(sink)
    }

    /// Writes one part and looks at the shard that it became.
    async fn prepare(
        &self,
        sink: &Arc<dyn Sink>,
        name: &PartName,
        batches: Vec<RecordBatch>,
    ) -> Result<Option<Shard>, Violation> {
        let mut writer =
            sink.writer(name, &schema(), &Compute::inline()).map_err(failed("opening a writer"))?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        for batch in batches {
            writer.write(batch).await.map_err(failed("writing"))?;
        }
        let Some(shard) = writer.finish().await.map_err(failed("finishing"))? else {
            ensure(rows == 0, || format!("{rows} rows became no shard"))?;
            return Ok(None);
        };
        ensure(shard.rows == rows as u64, || {
            format!("{rows} rows are {} in the shard", shard.rows)
        })?;
        ensure((shard.epoch, shard.lane) == (name.epoch, name.lane), || {
            "a shard of another part".to_owned()
        })?;
        let bytes =
            self.bytes(&shard).await.ok_or_else(|| Violation::new("a shard is not there"))?;
        let hash: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure(hash == shard.sha256 && bytes.len() as u64 == shard.bytes, || {
            "a shard has another size or hash than it says".to_owned()
        })?;
        Ok(Some(shard))
    }

    async fn bytes(&self, shard: &Shard) -> Option<Vec<u8>> {
        let place = self.place.join(&shard.path);
        let found = place.store.get(&place.path).await.ok()?;
        found.bytes().await.ok().map(|bytes| bytes.to_vec())
    }

    /// The bytes of a shard follow from its rows, and a part without rows is no shard.
    async fn batching(&self) -> Result<(), Violation> {
        let sink = self.started(&start("b", false)).await?;
        let all = rows("b", 0, 150);
        let mut hashes = Vec::new();
        for size in [150, 1, 7, 64] {
            let batches = (0..150).step_by(size).map(|at| all.slice(at, size.min(150 - at)));
            let empty = std::iter::once(all.slice(0, 0));
            let name = part("b", 0, size as u64);
            let shard = self.prepare(&sink, &name, empty.chain(batches).collect()).await?;
            hashes.push(shard.map(|shard| shard.sha256));
        }
        ensure(hashes.windows(2).all(|pair| pair.first() == pair.last()), || {
            "the bytes of a shard depend on how its rows were batched".to_owned()
        })?;
        let none = self.prepare(&sink, &part("b", 0, 0), vec![all.slice(0, 0)]).await?;
        ensure(none.is_none(), || "a part without rows became a shard".to_owned())?;
        // A run that never commits leaves nothing.
        self.sees(&[], "before any commit").await?;
        sink.recover(&start("b", false), &[]).await.map_err(failed("recovering"))?;
        self.sees(&[], "after a run without commits").await
    }

    /// A run of two commits: invisible until each, visible once after each.
    async fn run(&self, run: &str, overwrite: bool, before: &[String]) -> Result<(), Violation> {
        let begun = start(run, overwrite);
        let sink = self.started(&begun).await?;
        let mut visible = before.to_vec();
        for number in 0..2 {
            let shard =
                self.prepare(&sink, &part(run, number, number), vec![rows(run, number, 5)]).await?;
            self.sees(&visible, "before the commit").await?;
            if overwrite && number == 0 {
                visible.clear();
            }
            visible.extend(names(&[(run, number)]));
            let commit = commit(run, number, shard, false);
            for _ in 0..2 {
                sink.commit(&begun, &commit).await.map_err(failed("committing"))?;
                self.sees(&visible, "after the commit").await?;
            }
            let other = self.started(&begun).await?;
            other.commit(&begun, &commit).await.map_err(failed("committing again"))?;
            self.sees(&visible, "after the commit was repeated by another process").await?;
        }
        let last = commit(run, 2, None, true);
        sink.commit(&begun, &last).await.map_err(failed("committing nothing"))?;
        self.sees(&visible, "after a commit without rows").await
    }

    /// A run that is killed between preparing, logging and committing.
    async fn kills(&self) -> Result<(), Violation> {
        let begun = start("k1", false);
        let before = names(&[("r1", 0), ("r1", 1)]);
        let with = |numbers: &[u64]| {
            let mine: Vec<(&str, u64)> = numbers.iter().map(|number| ("k1", *number)).collect();
            [before.clone(), names(&mine)].concat()
        };
        // Killed after the run log named the first commit's shard, before the sink showed it.
        let sink = self.started(&begun).await?;
        let shard = self.prepare(&sink, &part("k1", 0, 0), vec![rows("k1", 0, 5)]).await?;
        let first = commit("k1", 0, shard, false);
        drop(sink);
        let sink = self.started(&begun).await?;
        self.sees(&before, "after a kill before the commit").await?;
        for _ in 0..2 {
            let recovered = sink.recover(&begun, std::slice::from_ref(&first)).await;
            recovered.map_err(failed("recovering"))?;
            self.sees(&with(&[0]), "after recovery of a logged commit").await?;
        }
        // Killed after preparing the second one, which the run log does not name.
        let orphan = self.prepare(&sink, &part("k1", 1, 1), vec![rows("k1", 1, 5)]).await?;
        let orphan = orphan.ok_or_else(|| Violation::new("5 rows became no shard"))?;
        drop(sink);
        let sink = self.started(&begun).await?;
        let recovered = sink.recover(&begun, std::slice::from_ref(&first)).await;
        recovered.map_err(failed("recovering"))?;
        self.sees(&with(&[0]), "after a kill before the log").await?;
        sink.clean(&begun, std::slice::from_ref(&first)).await.map_err(failed("cleaning"))?;
        ensure(self.bytes(&orphan).await.is_some(), || {
            "a shard is removed that the next commit may name".to_owned()
        })?;
        let without = [first.clone(), commit("k1", 1, None, false)];
        sink.clean(&begun, &without).await.map_err(failed("cleaning"))?;
        ensure(self.bytes(&orphan).await.is_none(), || {
            "a shard that no commit names is kept".to_owned()
        })?;
        // Written again, it has the same name and bytes.
        let again = self.prepare(&sink, &part("k1", 1, 1), vec![rows("k1", 1, 5)]).await?;
        ensure(again.as_ref() == Some(&orphan), || {
            "the same part became another shard".to_owned()
        })?;
        let second = commit("k1", 1, again, true);
        sink.commit(&begun, &second).await.map_err(failed("committing"))?;
        let sink = self.started(&begun).await?;
        let all = [first, second];
        sink.recover(&begun, &all).await.map_err(failed("recovering"))?;
        sink.clean(&begun, &all).await.map_err(failed("cleaning"))?;
        self.sees(&with(&[0, 1]), "after recovery of a complete run").await
    }
}

fn start(run: &str, overwrite: bool) -> RunStart {
    RunStart { run: run.to_owned(), sink: "out".to_owned(), overwrite }
}

fn part(run: &str, commit: u64, epoch: u64) -> PartName {
    PartName {
        run: run.to_owned(),
        sink: "out".to_owned(),
        commit,
        epoch,
        lane: 0,
        generation: None,
    }
}

fn commit(run: &str, number: u64, shard: Option<Shard>, last: bool) -> Commit {
    Commit {
        run: run.to_owned(),
        number,
        generation: 1,
        epochs: number..number + 1,
        cuts: Vec::new(),
        decisions: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        shards: BTreeMap::from([("out".to_owned(), shard.into_iter().collect())]),
        last,
        written: 0,
    }
}

/// Keys of the five rows of each of these commits.
fn names(commits: &[(&str, u64)]) -> Vec<String> {
    let five = |(run, number): &(&str, u64)| {
        (0..5).map(move |row| format!("{run}-{number}-{row}")).collect()
    };
    commits.iter().flat_map(|commit| -> Vec<String> { five(commit) }).collect()
}

fn plain() -> SchemaRef {
    let mut fields = vec![
        Field::new(KEY, DataType::Utf8, false),
        media::field("image", Modality::Image, media::State::Encoded),
    ];
    fields.extend(media::fact_fields("image", Modality::Image));
    fields.push(Field::new("label", DataType::Int64, true));
    Arc::new(Schema::new(fields))
}

fn schema() -> SchemaRef {
    rows("", 0, 0).schema()
}

/// Rows with a media column, some of it missing and some of it referred to.
fn rows(run: &str, number: u64, count: usize) -> RecordBatch {
    let keys: Vec<String> = (0..count).map(|row| format!("{run}-{number}-{row}")).collect();
    let bytes: Vec<Vec<u8>> = (0..count).map(|row| vec![row as u8; 30 + row]).collect();
    let bytes =
        bytes.iter().enumerate().map(|(row, bytes)| (row % 3 > 0).then_some(bytes.as_slice()));
    let paths = keys.iter().enumerate().map(|(row, key)| (row % 4 > 0).then_some(key.as_str()));
    let image: ArrayRef = Arc::new(media::column(bytes.collect(), paths.collect()));
    let schema = plain();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(keys)), image];
    let facts = schema.fields().iter().skip(2).take(schema.fields().len().saturating_sub(3));
    columns.extend(facts.map(|field| arrow::array::new_null_array(field.data_type(), count)));
    columns.push(Arc::new(Int64Array::from_iter_values(0..count as i64)));
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns);
    let rows = rows.unwrap_or_else(|_| RecordBatch::new_empty(schema));
    with_ids("conformance", &rows).unwrap_or(rows)
}
