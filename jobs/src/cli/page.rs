//! `anabranch run JOB --page FILE`: the run on one page, with the first records as they were read and as they are stored.

use std::path::Path;
use std::sync::Arc;

use anabranch_operators::DecodeOptions;
use anabranch_pipelines::graph::{Plan, Work};
use anabranch_pipelines::operator::{Allocation, Context};
use anabranch_pipelines::progress::Report;
use anabranch_pipelines::record::{Modality, RecordId, media, with_ids};
use anabranch_pipelines::source::{BatchSize, Source, SourceBatches, SourceError, SplitRange};
use anabranch_pipelines::store::StoreFetcher;
use arrow::array::{Array, AsArray, RecordBatch};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::{Exit, Failure, plan, show};
use crate::components::{Registry, make, with_path};
use crate::page::{Example, Page};
use crate::show::{Sheet, Tile};

/// Records that are shown.
const SHOWN: usize = 8;
/// Records of a source among which those of a table are looked for.
const LOOKED_AT: usize = 4096;
/// Characters of a text that are shown.
const CHARACTERS: usize = 400;

/// Writes the page of a run that is done.
pub(super) fn write(
    registry: &Registry,
    plan: &Plan,
    report: &Report,
    path: &Path,
) -> Result<(), Failure> {
    let failed = |message: String| {
        let message = format!(
            "error: the job is done, but its page was not written to {}: {message}",
            path.display()
        );
        Failure::new(Exit::Failed, message)
    };
    let mut examples = Vec::new();
    for output in report.outputs.values() {
        // What is no table is told and not shown.
        let options = with_path(&output.location);
        let Ok(table) = make(registry, &registry.sources, "table", &options) else { continue };
        let found = plan::with_io(of_table(table.as_ref(), plan))?;
        examples.extend(found.map_err(|error| failed(error.to_string()))?);
    }
    let html = Page { report, examples }.html();
    std::fs::write(path, html).map_err(|error| failed(error.to_string()))
}

/// The first records of a table, column by column.
async fn of_table(table: &dyn Source, plan: &Plan) -> Result<Vec<Example>, SourceError> {
    let mut stored = Vec::new();
    let mut batches = beginning(table, SHOWN).await?;
    while stored.len() < SHOWN
        && let Some(batch) = batches.next().await
    {
        let records = batch?.records;
        stored.extend((0..records.num_rows()).map(|row| records.slice(row, 1)));
    }
    stored.truncate(SHOWN);
    // Sources may be gone by now, and the page is still worth having.
    let read = originals(plan, &stored).await.unwrap_or_else(|_| vec![None; stored.len()]);
    let schema = table.schema().await?;
    let mut examples = Vec::new();
    for field in schema.fields() {
        let column = field.name();
        examples.extend(match Modality::of(field) {
            Some(Modality::Image | Modality::Audio) => sheets(column, &stored, &read).await,
            Some(Modality::Text) => Some(texts(column, &stored, &read).await),
            _ => None,
        });
    }
    Ok(examples)
}

/// At least so many of the first records of a source. What is behind them is not even measured.
async fn beginning(source: &dyn Source, records: usize) -> Result<SourceBatches, SourceError> {
    let (mut ranges, mut found) = (Vec::new(), 0);
    for split in source.splits().await? {
        let split = Arc::new(split);
        let mut marks = source.measure(Arc::clone(&split), 0);
        while found < records as u64
            && let Some(mark) = marks.next().await
        {
            let mark = mark?;
            ranges.push(SplitRange { split: Arc::clone(&split), range: mark.range });
            found += mark.records;
        }
    }
    Ok(source.open(ranges, BatchSize { records, bytes: 64 << 20 }))
}

/// The records of these ids as sources read them; `None` for those that are not among the first.
async fn originals(
    plan: &Plan,
    stored: &[RecordBatch],
) -> Result<Vec<Option<RecordBatch>>, SourceError> {
    let wanted: Vec<Option<RecordId>> = stored.iter().map(|one| RecordId::of_row(one, 0)).collect();
    let mut found = vec![None; stored.len()];
    for node in plan.nodes() {
        let Work::Source { source, .. } = &node.work else { continue };
        let mut batches = beginning(source.as_ref(), LOOKED_AT).await?;
        let mut left = LOOKED_AT;
        while left > 0
            && found.iter().any(Option::is_none)
            && let Some(batch) = batches.next().await
        {
            let records = batch?.records;
            let Ok(records) = with_ids(&node.name, &records) else { break };
            left = left.saturating_sub(records.num_rows());
            for row in 0..records.num_rows() {
                let id = RecordId::of_row(&records, row);
                let places = wanted.iter().zip(&mut found);
                if let Some((_, place)) = places.into_iter().find(|(one, _)| **one == id) {
                    place.get_or_insert_with(|| records.slice(row, 1));
                }
            }
        }
    }
    Ok(found)
}

/// Sheets of a column, before and after.
async fn sheets(
    column: &str,
    stored: &[RecordBatch],
    read: &[Option<RecordBatch>],
) -> Option<Example> {
    let mut after = Sheet::of(stored.len());
    for one in stored {
        after.add(&tile(Some(one), column).await.unwrap_or_else(Tile::empty));
    }
    let (mut before, mut any) = (Sheet::of(read.len()), false);
    for one in read {
        let tile = tile(one.as_ref(), column).await;
        any |= tile.is_some();
        before.add(&tile.unwrap_or_else(Tile::empty));
    }
    let before = if any { before.png().ok() } else { None };
    Some(Example::Sheets { column: column.to_owned(), before, after: after.png().ok()? })
}

async fn tile(one: Option<&RecordBatch>, column: &str) -> Option<Tile> {
    let decoded = show::decoded(one?.clone(), column.to_owned()).await?;
    show::tile(&decoded, column)
}

/// Beginnings of the texts of a column, before and after.
async fn texts(column: &str, stored: &[RecordBatch], read: &[Option<RecordBatch>]) -> Example {
    let mut after = Vec::new();
    for one in stored {
        after.extend(text(one, column).await);
    }
    let mut before = Vec::new();
    for one in read.iter().flatten() {
        before.extend(text(one, column).await);
    }
    let before = Some(before).filter(|before| !before.is_empty());
    Example::Texts { column: column.to_owned(), before, after }
}

async fn text(one: &RecordBatch, column: &str) -> Option<String> {
    let field = one.schema().field_with_name(column).ok()?.clone();
    let one = match media::is_media(field.data_type()) {
        false => one.clone(),
        true => {
            let options = serde_json::json!({ "column": column });
            let decode = serde_json::from_value::<DecodeOptions>(options).ok()?.build().ok()?;
            let fetcher = Arc::new(StoreFetcher::new(Handle::current()));
            let (one, context) = (one.clone(), Context::new(fetcher, Arc::default()));
            let decoded = move || decode.invoke(one, &Allocation::PLAIN, &context);
            tokio::task::spawn_blocking(decoded).await.ok()?.ok()?.records
        }
    };
    let column = one.column_by_name(column)?.as_string_opt::<i32>()?.clone();
    let text = (!column.is_empty() && column.is_valid(0)).then(|| column.value(0).to_owned())?;
    Some(text.trim_start().chars().take(CHARACTERS).collect())
}
