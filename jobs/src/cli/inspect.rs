//! `anabranch inspect`: a table's columns, size and first rows.

use std::fmt::Write;
use std::sync::Arc;

use anabranch_pipelines::record::{Modality, bytes_of};
use anabranch_pipelines::source::{BatchSize, Source, SourceError, SplitRange};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Field;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;

use super::{Exit, Failure, print};
use crate::components::{SOURCES, make, with_path};
use crate::terminal;

/// Characters of a value that are shown.
const WIDTH: usize = 60;

/// Shows the table at `location`.
pub(super) fn inspect(location: &str, rows: usize) -> Result<Exit, Failure> {
    let failed = |message: String| {
        Failure::new(Exit::Failed, format!("error: cannot inspect {location}: {message}"))
    };
    let source = make(SOURCES, "table", &with_path(location)).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    let text = runtime
        .block_on(describe(source.as_ref(), location, rows))
        .map_err(|e| failed(e.to_string()))?;
    print(&text)?;
    Ok(Exit::Done)
}

async fn describe(source: &dyn Source, location: &str, rows: usize) -> Result<String, SourceError> {
    let schema = source.schema().await?;
    let splits = source.splits().await?;
    let bytes: u64 = splits.iter().map(|split| split.bytes).sum();
    let mut ranges = Vec::new();
    let mut records = 0;
    for split in splits {
        let split = Arc::new(split);
        let mut marks = source.measure(Arc::clone(&split), 0);
        while let Some(mark) = marks.next().await {
            let mark = mark?;
            records += mark.records;
            ranges.push(SplitRange { split: Arc::clone(&split), range: mark.range });
        }
    }
    let mut out = format!(
        "{location}\n  {}\n\ncolumns\n",
        terminal::table_size(records, ranges.len(), bytes)
    );
    for field in schema.fields() {
        let _ = writeln!(out, "  {}: {}", field.name(), kind(field));
    }
    if rows == 0 {
        return Ok(out);
    }
    let mut left = rows;
    let mut batches = source.open(ranges, BatchSize { records: rows, bytes: usize::MAX });
    while let (true, Some(batch)) = (left > 0, batches.next().await) {
        let batch = batch?.records;
        for row in 0..batch.num_rows().min(left) {
            let _ = writeln!(out, "\nrow {}", rows - left + row + 1);
            show(&mut out, &batch, row);
        }
        left -= batch.num_rows().min(left);
    }
    Ok(out)
}

fn kind(field: &Field) -> String {
    Modality::of(field)
        .map_or_else(|| field.data_type().to_string(), |modality| modality.to_string())
}

fn show(out: &mut String, batch: &RecordBatch, row: usize) {
    let options = FormatOptions::default().with_null("null").with_display_error(true);
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let value = if column.is_null(row) {
            "null".to_owned()
        } else if Modality::of(field).is_some() {
            let one =
                batch.slice(row, 1).project(&[batch.schema().index_of(field.name()).unwrap_or(0)]);
            format!(
                "{}, {}",
                kind(field),
                terminal::size(one.map_or(0, |one| bytes_of(&one)) as u64)
            )
        } else {
            match ArrayFormatter::try_new(column.as_ref(), &options) {
                Ok(formatter) => short(&formatter.value(row).to_string()),
                Err(error) => error.to_string(),
            }
        };
        let _ = writeln!(out, "  {}: {value}", field.name());
    }
}

/// The beginning of a value, on one line, without control characters.
fn short(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WIDTH + 1).collect();
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or(&line)),
        None => line,
    }
}
