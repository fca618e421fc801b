//! Checks of sources.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anabranch_pipelines::operator::Fetcher;
use anabranch_pipelines::record::{ID, KEY, RecordId, Reference, media, with_ids};
use anabranch_pipelines::source::{BatchSize, Mark, Source, Split, SplitRange, Unreadable};
use anabranch_pipelines::store::StoreFetcher;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use futures::TryStreamExt;

use super::{Violation, ensure, failed};

/// Parts that a source is resumed at, at most.
const PLACES: usize = 40;

/// What a source gave while it was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Rows.
    pub rows: usize,
    /// Records that it could not read, in order.
    pub refused: Vec<Unreadable>,
    /// All rows as one batch.
    pub records: RecordBatch,
}

/// Checks everything that [`Source`] promises: schema, ids, stable order, that measuring and reading agree,
/// that a read may begin at any record and be cut into any batches, and that a dropped read harms nothing.
///
/// Whatever `source` cannot read must be refused record by record; the checks hold for it as well.
///
/// # Errors
/// The first promise that was broken.
pub async fn check(source: &Arc<dyn Source>) -> Result<Seen, Violation> {
    let schema = source.schema().await.map_err(failed("the schema"))?;
    leading_columns(&schema)?;
    let splits = listing(source).await?;
    let mut marks = Vec::new();
    for split in &splits {
        marks.extend(measured(source, split).await?);
    }
    let all: Vec<SplitRange> = marks.iter().map(range).collect();
    let seen = read(source, &schema, all.clone(), LARGE).await?;
    let counted: u64 = marks.iter().map(|(_, mark)| mark.records).sum();
    let given = (seen.rows + seen.refused.len()) as u64;
    ensure(counted == given, || {
        format!("measuring counted {counted} records, and reading gave {given}")
    })?;
    unique(&seen)?;
    for (records, bytes) in [(1, usize::MAX), (7, usize::MAX), (64, 10_000), (usize::MAX, 1)] {
        let other = read(source, &schema, all.clone(), BatchSize { records, bytes }).await?;
        ensure(other == seen, || {
            format!("batches of {records} records or {bytes} bytes hold other rows")
        })?;
    }
    whole_splits(source, &schema, &splits, &seen).await?;
    resumed(source, &schema, &all, &seen).await?;
    dropped(source, &schema, &all, &seen).await?;
    if source.abilities().random_access {
        backwards(source, &schema, &all, &seen).await?;
    }
    Ok(seen)
}

/// Checks that the references of one source stand for the bytes that another one reads.
///
/// # Errors
/// When they do not.
pub async fn references(
    references: &Arc<dyn Source>,
    bytes: &Arc<dyn Source>,
    column: &str,
) -> Result<(), Violation> {
    let (referring, reading) = (check(references).await?, check(bytes).await?);
    ensure(referring.rows == reading.rows, || "references are of other rows".to_owned())?;
    let missing = || Violation::new(format!("there is no media column `{column}`"));
    let paths = media::of(&referring.records, column).ok_or_else(missing)?;
    let values = media::of(&reading.records, column).ok_or_else(missing)?;
    let mut wanted: Vec<Reference> = Vec::new();
    for row in 0..referring.rows {
        ensure(media::bytes(paths, row).is_none(), || format!("reference {row} has bytes"))?;
        let path = media::path(paths, row).unwrap_or_default();
        wanted.push(path.parse().map_err(failed("parsing a reference"))?);
    }
    let fetcher = StoreFetcher::new(tokio::runtime::Handle::current());
    let fetched = tokio::task::spawn_blocking(move || fetcher.fetch(&wanted, u64::MAX)).await;
    for (row, fetched) in fetched.map_err(failed("fetching"))?.into_iter().enumerate() {
        let fetched = fetched.map_err(failed("fetching a reference"))?;
        ensure(media::bytes(values, row) == Some(fetched.as_ref()), || {
            format!("reference {row} stands for other bytes")
        })?;
    }
    Ok(())
}

const LARGE: BatchSize = BatchSize { records: 4096, bytes: 64 << 20 };

type Placed = (Arc<Split>, Mark);

fn range((split, mark): &Placed) -> SplitRange {
    SplitRange { split: Arc::clone(split), range: mark.range.clone() }
}

fn leading_columns(schema: &SchemaRef) -> Result<(), Violation> {
    let column = |at: usize| schema.fields().get(at).map(|f| (f.name().as_str(), f.data_type()));
    let (id, key) = ((ID, &DataType::FixedSizeBinary(16)), (KEY, &DataType::Utf8));
    let good = column(0) == Some(key) || (column(0) == Some(id) && column(1) == Some(key));
    ensure(good, || format!("rows begin with neither `key` nor `id` and `key`: {schema:?}"))?;
    let names: HashSet<&String> = schema.fields().iter().map(|field| field.name()).collect();
    ensure(names.len() == schema.fields().len(), || {
        format!("two columns have one name: {schema:?}")
    })
}

async fn listing(source: &Arc<dyn Source>) -> Result<Vec<Arc<Split>>, Violation> {
    let splits = source.splits().await.map_err(failed("listing"))?;
    let again = source.splits().await.map_err(failed("listing"))?;
    ensure(splits == again, || "listing twice gives other splits".to_owned())?;
    let names: HashSet<&str> = splits.iter().map(|split| split.name.as_str()).collect();
    ensure(names.len() == splits.len(), || "two splits have one name".to_owned())?;
    Ok(splits.into_iter().map(Arc::new).collect())
}

/// The marks of a split, which follow one another and are the same from wherever one measures.
async fn measured(source: &Arc<dyn Source>, split: &Arc<Split>) -> Result<Vec<Placed>, Violation> {
    let measure = |from: u64| async move {
        let marks = source.measure(Arc::clone(split), from).try_collect::<Vec<Mark>>().await;
        marks.map_err(failed("measuring"))
    };
    let marks = measure(0).await?;
    for pair in marks.windows(2) {
        if let [one, next] = pair {
            ensure(one.range.end == next.range.start, || {
                format!("a gap between {one:?} and {next:?}")
            })?;
        }
    }
    for mark in &marks {
        let good = mark.range.start < mark.range.end && mark.records > 0;
        ensure(good, || format!("an empty mark: {mark:?}"))?;
    }
    for at in places(marks.len()) {
        let Some(mark) = marks.get(at) else { continue };
        let rest = measure(mark.range.end).await?;
        ensure(Some(rest.as_slice()) == marks.get(at + 1..), || {
            format!("measuring `{}` from {} gives other marks", split.name, mark.range.end)
        })?;
    }
    Ok(marks.into_iter().map(|mark| (Arc::clone(split), mark)).collect())
}

/// Some of `0..count`, the first and the last among them.
fn places(count: usize) -> impl Iterator<Item = usize> {
    let step = count.div_ceil(PLACES).max(1);
    (0..count).filter(move |at| at % step == 0 || at + 1 == count)
}

async fn read(
    source: &Arc<dyn Source>,
    schema: &SchemaRef,
    ranges: Vec<SplitRange>,
    size: BatchSize,
) -> Result<Seen, Violation> {
    let batches: Vec<_> =
        source.open(ranges, size).try_collect().await.map_err(failed("reading"))?;
    let (mut records, mut refused) = (Vec::new(), Vec::new());
    for batch in batches {
        ensure(batch.records.schema().fields() == schema.fields(), || {
            format!(
                "a batch has the columns {:?}, and the schema is {schema:?}",
                batch.records.schema()
            )
        })?;
        ensure(batch.records.num_rows() <= size.records, || {
            format!("a batch has {} rows of at most {}", batch.records.num_rows(), size.records)
        })?;
        records.push(batch.records);
        refused.extend(batch.refused);
    }
    let records = concat_batches(schema, &records).map_err(failed("concatenating"))?;
    Ok(Seen { rows: records.num_rows(), refused, records })
}

fn unique(seen: &Seen) -> Result<(), Violation> {
    let records = with_ids("conformance", &seen.records).map_err(failed("making ids"))?;
    let ids: HashSet<Option<RecordId>> =
        (0..records.num_rows()).map(|row| RecordId::of_row(&records, row)).collect();
    ensure(ids.len() == records.num_rows(), || {
        format!("{} rows have {} ids", records.num_rows(), ids.len())
    })
}

/// One read of everything equals reads split by split, from offset 0 on.
async fn whole_splits(
    source: &Arc<dyn Source>,
    schema: &SchemaRef,
    splits: &[Arc<Split>],
    seen: &Seen,
) -> Result<(), Violation> {
    let whole =
        |split: &Arc<Split>| SplitRange { split: Arc::clone(split), range: 0..i64::MAX as u64 };
    let read = read(source, schema, splits.iter().map(whole).collect(), LARGE).await?;
    ensure(read.records == seen.records, || "reading whole splits gives other rows".to_owned())
}

/// What stands before a place and what stands behind it are together everything.
async fn resumed(
    source: &Arc<dyn Source>,
    schema: &SchemaRef,
    all: &[SplitRange],
    seen: &Seen,
) -> Result<(), Violation> {
    for at in places(all.len() + 1) {
        let (before, behind) = all.split_at(at.min(all.len()));
        let before = read(source, schema, before.to_vec(), LARGE).await?;
        let behind = read(source, schema, behind.to_vec(), LARGE).await?;
        let rows = concat_batches(schema, [&before.records, &behind.records]);
        let rows = rows.map_err(failed("concatenating"))?;
        ensure(rows == seen.records, || format!("a read resumed at record {at} gives other rows"))?;
        let refused = [before.refused, behind.refused].concat();
        ensure(refused == seen.refused, || {
            format!("a read resumed at record {at} refuses other records")
        })?;
    }
    Ok(())
}

/// A read that is dropped half-way leaves the source as it was.
async fn dropped(
    source: &Arc<dyn Source>,
    schema: &SchemaRef,
    all: &[SplitRange],
    seen: &Seen,
) -> Result<(), Violation> {
    let one = BatchSize { records: 1, bytes: usize::MAX };
    let mut begun = source.open(all.to_vec(), one);
    begun.try_next().await.map_err(failed("reading"))?;
    drop(begun);
    let again = read(source, schema, all.to_vec(), LARGE).await?;
    ensure(again == *seen, || "after a dropped read the source gives other rows".to_owned())
}

/// Records opened one by one in another order are the same records.
async fn backwards(
    source: &Arc<dyn Source>,
    schema: &SchemaRef,
    all: &[SplitRange],
    seen: &Seen,
) -> Result<(), Violation> {
    let some: Vec<SplitRange> = places(all.len()).filter_map(|at| all.get(at).cloned()).collect();
    let in_order = read(source, schema, some.clone(), LARGE).await?;
    let reversed = read(source, schema, some.into_iter().rev().collect(), LARGE).await?;
    let rows = in_order.rows;
    ensure(rows == reversed.rows, || "read backwards, other records are rows".to_owned())?;
    for row in 0..rows {
        let (one, other) =
            (in_order.records.slice(row, 1), reversed.records.slice(rows - 1 - row, 1));
        ensure(one == other, || format!("read backwards, row {row} is another"))?;
    }
    let refused: Vec<Unreadable> = reversed.refused.into_iter().rev().collect();
    ensure(in_order.refused == refused, || {
        "read backwards, other records are refused, or not in the order in which they were read"
            .to_owned()
    })?;
    // And they are the rows that one read of everything gives.
    let ids = |records: &RecordBatch| -> Result<Vec<Option<RecordId>>, Violation> {
        let records = with_ids("conformance", records).map_err(failed("making ids"))?;
        Ok((0..records.num_rows()).map(|row| RecordId::of_row(&records, row)).collect())
    };
    let all: HashMap<_, _> = ids(&seen.records)?.into_iter().zip(0..).collect();
    for (row, id) in ids(&in_order.records)?.into_iter().enumerate() {
        let same = all
            .get(&id)
            .is_some_and(|at| in_order.records.slice(row, 1) == seen.records.slice(*at, 1));
        ensure(same, || format!("opened alone, row {row} is none that reading everything gives"))?;
    }
    Ok(())
}
