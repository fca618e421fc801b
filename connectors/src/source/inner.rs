//! Sources inside a source: which record of the inner one each row, or refusal, is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::source::{Mark, Source, SourceBatch, SourceError, Split, Unreadable};

/// A record of the inner source, by place.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) split: Arc<Split>,
    pub(super) mark: Mark,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Record {
    /// The row of a batch: the batch's number and the row's.
    Row(usize, usize),
    Refused(Unreadable),
}

/// Records of batches in order, each with the number of its place among `places`.
///
/// Batches hold rows and refusals apart; a refusal says where it stood, and rows fill the other places.
///
/// # Errors
/// When there are not as many as places count.
pub(super) fn in_order(
    source: &Arc<dyn Source>,
    places: &[Place],
    batches: &mut [SourceBatch],
) -> Result<Vec<(usize, Record)>, SourceError> {
    let mut refused: VecDeque<Unreadable> =
        batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.refused)).collect();
    let counts = batches.iter().map(|batch| batch.records.num_rows()).enumerate();
    let mut rows = counts.flat_map(|(batch, rows)| (0..rows).map(move |row| (batch, row)));
    let mut records = Vec::with_capacity(places.len());
    for (at, Place { split, mark }) in places.iter().enumerate() {
        for _ in 0..mark.records {
            let here = |refusal: &&Unreadable| {
                refusal.split == split.name && begins_in(&mark.range, &refusal.range)
            };
            let record = match refused.front().filter(here) {
                Some(_) => refused.pop_front().map(Record::Refused),
                None => rows.next().map(|(batch, row)| Record::Row(batch, row)),
            };
            records.push((at, record.ok_or_else(|| differs(source, places.get(at)))?));
        }
    }
    match (rows.next(), refused.front()) {
        (None, None) => Ok(records),
        _ => Err(differs(source, places.last())),
    }
}

fn begins_in(mark: &Range<u64>, record: &Range<u64>) -> bool {
    mark.contains(&record.start)
}

fn differs(source: &Arc<dyn Source>, at: Option<&Place>) -> SourceError {
    let kind = source.kind();
    SourceError::Format {
        location: at.map_or_else(|| kind.to_owned(), |place| place.split.name.clone()),
        message: format!(
            "the source `{kind}` gave other records than it measured; was the data changed while it was read?"
        ),
    }
}
