//! `anabranch inspect`: a table's columns, its size, the runs that wrote it, and its first rows.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anabranch_operators::DecodeOptions;
use anabranch_pipelines::log::{DEAD_LETTERS, Existing, LogError, Registry as Runs, told};
use anabranch_pipelines::operator::{Allocation, Context};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Modality, bytes_of, media};
use anabranch_pipelines::source::{BatchSize, Source, SourceBatch, SourceError, SplitRange};
use anabranch_pipelines::store::{Location, StoreFetcher};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Field;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use serde::Serialize;
use tokio::runtime::Handle;

use super::scan::Lost;
use super::{Exit, Failure, plan, print, show};
use crate::components::{Registry, make, with_path};
use crate::terminal;

/// Characters of a value that are shown.
const WIDTH: usize = 60;
/// The column of dead letters that says why, and how many of its characters are shown.
const REASON: &str = "error";
const MOST: usize = 1000;

/// What there is to see of a table.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    pub(crate) location: String,
    pub(crate) rows: u64,
    pub(crate) shards: u64,
    pub(crate) bytes: u64,
    pub(crate) columns: Vec<Column>,
    /// The runs whose logs stand at the table, oldest first.
    pub(crate) runs: Vec<RunSeen>,
    /// Column names and values of the first rows, as text.
    pub(crate) first: Vec<Vec<(String, String)>>,
}

/// One column.
#[derive(Debug, Serialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The modality where it has one, else Arrow's type.
    pub(crate) kind: String,
    pub(crate) nullable: bool,
}

/// One run, as its log tells it.
#[derive(Debug, Serialize)]
pub(crate) struct RunSeen {
    pub(crate) run: String,
    pub(crate) job: String,
    pub(crate) complete: bool,
    /// Whether it is unfinished and a newer run came after it, so that no start goes on with it.
    pub(crate) superseded: bool,
    pub(crate) overwrite: bool,
    pub(crate) commits: u64,
    /// Rows by sink, dead letters aside.
    pub(crate) rows: BTreeMap<String, u64>,
    /// What journaled operators decided, as far as they tell.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) decisions: BTreeMap<String, String>,
    pub(crate) dead_letters: u64,
}

/// Shows the table at `location`.
pub(super) fn inspect(
    registry: &Registry,
    location: &str,
    rows: usize,
    show: Option<(usize, &Path)>,
    as_json: bool,
) -> Result<Exit, Failure> {
    let failed = |message: String| {
        Failure::new(Exit::Failed, format!("error: cannot inspect {location}: {message}"))
    };
    let source =
        make(registry, &registry.sources, "table", &with_path(location)).map_err(failed)?;
    let place = Location::parse(location).map_err(|error| failed(error.to_string()))?;
    let found = plan::with_io(async {
        let runs = runs(&place).await.map_err(|error| error.to_string())?;
        look(source.as_ref(), &place.url, runs, rows).await.map_err(|error| error.to_string())
    })?;
    let (found, lost) = found.map_err(failed)?;
    let text = if as_json {
        serde_json::to_string_pretty(&found).map_err(|error| failed(error.to_string()))? + "\n"
    } else {
        terminal::inspection(&found)
    };
    print(&text)?;
    let mut lost = lost.told();
    if let Some((records, folder)) = show {
        lost = show::show(source.as_ref(), records, folder)?.told().or(lost);
    }
    // What there is was shown; that not all is there must not go unseen.
    match lost {
        Some(lost) => Err(failed(format!("not all of it: {lost}"))),
        None => Ok(Exit::Done),
    }
}

async fn look(
    source: &dyn Source,
    location: &str,
    runs: Vec<RunSeen>,
    rows: usize,
) -> Result<(Inspection, Lost), SourceError> {
    let schema = source.schema().await?;
    let splits = source.splits().await?;
    let (shards, bytes) = (splits.len() as u64, splits.iter().map(|split| split.bytes).sum());
    let mut ranges = Vec::new();
    let mut records = 0;
    for split in splits {
        let split = Arc::new(split);
        let mut marks = source.measure(Arc::clone(&split), 0);
        while let Some(mark) = marks.next().await {
            let mark = mark?;
            if records < rows as u64 {
                ranges.push(SplitRange { split: Arc::clone(&split), range: mark.range });
            }
            records += mark.records;
        }
    }
    let column = |field: &Arc<Field>| Column {
        name: field.name().clone(),
        kind: kind(field),
        nullable: field.is_nullable(),
    };
    let (mut first, mut lost) = (Vec::new(), Lost::default());
    let mut batches = source.open(ranges, BatchSize { records: rows.max(1), bytes: 64 << 20 });
    while let (true, Some(batch)) = (first.len() < rows, batches.next().await) {
        let SourceBatch { records: batch, refused } = batch?;
        lost.add(&refused);
        let batch = batch.slice(0, batch.num_rows().min(rows - first.len()));
        let texts = texts(&batch).await;
        first.extend((0..batch.num_rows()).map(|row| values(&batch, &texts, row)));
    }
    let inspection = Inspection {
        location: location.to_owned(),
        rows: records,
        shards,
        bytes,
        columns: schema.fields().iter().map(column).collect(),
        runs,
        first,
    };
    Ok((inspection, lost))
}

/// Whether some start may go on with a run, or it is complete: only the newest can, or the newest that has
/// committed something; replays change nothing in that.
fn can_go_on(run: &Existing, runs: &[Existing]) -> bool {
    let mut newer = runs.iter().rev().filter(|run| run.record.replays.is_none());
    let is_it = |other: Option<&Existing>| other.is_some_and(|o| o.record.run == run.record.run);
    run.complete()
        || run.record.replays.is_some()
        || is_it(newer.clone().next())
        || is_it(newer.find(|run| !run.commits.is_empty()))
}

async fn runs(place: &Location) -> Result<Vec<RunSeen>, LogError> {
    let mut seen = Vec::new();
    let runs = Runs::new(place).runs().await?;
    for run in &runs {
        let mut decisions = BTreeMap::new();
        for operator in run.commits.first().into_iter().flat_map(|commit| commit.decisions.keys()) {
            let decision = run.log.decision(operator).await?;
            let told = decision.and_then(|decision| told(&decision));
            decisions.extend(told.map(|told| (operator.clone(), told)));
        }
        seen.push(self::seen(run, &runs, decisions));
    }
    Ok(seen)
}

fn seen(run: &Existing, runs: &[Existing], decisions: BTreeMap<String, String>) -> RunSeen {
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for (sink, shards) in run.commits.iter().flat_map(|commit| &commit.shards) {
        *rows.entry(sink.clone()).or_default() += shards.iter().map(|s| s.rows).sum::<u64>();
    }
    RunSeen {
        run: run.record.run.clone(),
        job: run.record.job.clone(),
        complete: run.complete(),
        superseded: !can_go_on(run, runs),
        overwrite: run.record.overwrite,
        commits: run.commits.len() as u64,
        dead_letters: rows.remove(DEAD_LETTERS).unwrap_or(0),
        rows,
        decisions,
    }
}

fn kind(field: &Field) -> String {
    Modality::of(field)
        .map_or_else(|| field.data_type().to_string(), |modality| modality.to_string())
}

/// The compressed texts of rows, by column; those of a column that does not decode stay as they are.
async fn texts(batch: &RecordBatch) -> HashMap<String, ArrayRef> {
    let mut texts = HashMap::new();
    for field in batch.schema().fields() {
        let compressed = Modality::of(field) == Some(Modality::Text)
            && media::State::of(field) == Some(media::State::Encoded);
        let options = serde_json::json!({ "column": field.name() });
        let decode = serde_json::from_value::<DecodeOptions>(options).map(DecodeOptions::build);
        let (true, Ok(Ok(decode))) = (compressed, decode) else { continue };
        let (batch, fetcher) = (batch.clone(), StoreFetcher::new(Handle::current()));
        let context = Context::new(Arc::new(fetcher), Arc::default());
        let decoded = move || decode.invoke(batch, &Allocation::PLAIN, &context);
        if let Ok(Ok(outcome)) = tokio::task::spawn_blocking(decoded).await
            && outcome.refused.is_empty()
            && let Some(column) = outcome.records.column_by_name(field.name())
        {
            texts.insert(field.name().clone(), Arc::clone(column));
        }
    }
    texts
}

/// Names and values of one row.
fn values(
    batch: &RecordBatch,
    texts: &HashMap<String, ArrayRef>,
    row: usize,
) -> Vec<(String, String)> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    columns
        .map(|(field, column)| {
            let value = match texts.get(field.name()) {
                Some(texts) => plain(texts, row),
                // Why a dead letter was refused is what it is looked at for.
                None if field.name() == REASON => match column.as_string_opt::<i32>() {
                    Some(reasons) if reasons.is_valid(row) => beginning(reasons.value(row), MOST),
                    _ => value(batch, field, column, row),
                },
                None => value(batch, field, column, row),
            };
            (field.name().clone(), value)
        })
        .collect()
}

fn value(batch: &RecordBatch, field: &Field, column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "null".to_owned();
    }
    if let Some(media) = media::of(batch, field.name()) {
        let size = media::bytes(media, row).map(|bytes| ByteSize(bytes.len() as u64).to_string());
        let path = media::path(media, row).map(|path| format!("from {}", short(path)));
        let size = size.unwrap_or_else(|| "not read yet".to_owned());
        return path.into_iter().fold(size, |size, path| format!("{size} {path}"));
    }
    if Modality::of(field) == Some(Modality::Tensor) {
        let index = batch.schema().index_of(field.name()).unwrap_or(0);
        let one = batch.slice(row, 1).project(&[index]);
        return ByteSize(one.map_or(0, |one| bytes_of(&one)) as u64).to_string();
    }
    plain(column, row)
}

fn plain(column: &dyn Array, row: usize) -> String {
    let options = FormatOptions::default().with_null("null").with_display_error(true);
    match ArrayFormatter::try_new(column, &options) {
        Ok(formatter) => short(&formatter.value(row).to_string()),
        Err(error) => error.to_string(),
    }
}

/// The beginning of a value, on one line, without control characters.
fn short(text: &str) -> String {
    beginning(text, WIDTH)
}

fn beginning(text: &str, width: usize) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(width + 1).collect();
    match line.char_indices().nth(width) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or(&line)),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run with so many commits, none of them the last.
    fn unfinished(name: &str, commits: u64) -> Existing {
        let record = serde_json::json!({
            "version": 1, "run": name, "job": "photos", "plan": "", "listing": "", "cpu": "",
            "overwrite": false, "created": 0,
        });
        let commit = |number| anabranch_pipelines::log::Commit {
            run: name.to_owned(),
            number,
            generation: 1,
            epochs: number..number + 1,
            cuts: Vec::new(),
            decisions: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            shards: BTreeMap::new(),
            last: false,
            written: 0,
        };
        Existing {
            record: serde_json::from_value(record).unwrap(),
            log: Runs::new(&Location::parse("memory://inspect/runs").unwrap()).log(name),
            commits: (0..commits).map(commit).collect(),
        }
    }

    #[test]
    fn an_unfinished_run_behind_a_newer_one_is_not_said_to_go_on() {
        let stay = |runs: &[Existing]| -> Vec<bool> {
            runs.iter().map(|run| seen(run, runs, BTreeMap::new()).superseded).collect()
        };
        assert_eq!(stay(&[unfinished("r1", 1)]), [false]);
        assert_eq!(stay(&[unfinished("r1", 1), unfinished("r2", 1)]), [true, false]);
        // One that has committed nothing has replaced nothing yet.
        assert_eq!(stay(&[unfinished("r1", 1), unfinished("r2", 0)]), [false, false]);
    }

    #[test]
    fn the_reason_of_a_dead_letter_is_shown_whole() {
        let reason =
            "its columns are (app, func, end_timestamp, duration), those of the first file (a, b)";
        let column: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![reason]));
        let field = |name| Field::new(name, arrow::datatypes::DataType::Utf8, true);
        let batch = |name| {
            let schema = arrow::datatypes::Schema::new(vec![field(name)]);
            RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(&column)]).unwrap()
        };
        let shown = |name| values(&batch(name), &HashMap::new(), 0).remove(0).1;
        assert_eq!(shown("error"), reason);
        assert!(shown("other").ends_with("..."));
    }
}
