//! Every row of a table, for commands that look at all of it.

use std::sync::Arc;

use anabranch_pipelines::source::{
    BatchSize, Source, SourceBatch, SourceBatches, SourceError, SplitRange, Unreadable,
};
use arrow::array::RecordBatch;
use futures::StreamExt;

use crate::terminal::plural;

/// Records and bytes that are read at once.
const SIZE: BatchSize = BatchSize { records: 1024, bytes: 32 << 20 };

/// Opens everything that `source` holds, in its order.
pub(super) async fn open(source: &dyn Source) -> Result<SourceBatches, SourceError> {
    let mut ranges = Vec::new();
    for split in source.splits().await? {
        let split = Arc::new(split);
        let mut marks = source.measure(Arc::clone(&split), 0);
        let mut end = 0;
        while let Some(mark) = marks.next().await {
            end = mark?.range.end;
        }
        if end > 0 {
            ranges.push(SplitRange { split, range: 0..end });
        }
    }
    Ok(source.open(ranges, SIZE))
}

/// The records of a batch, all of which must be readable.
pub(super) fn whole(batch: SourceBatch) -> Result<RecordBatch, SourceError> {
    let mut lost = Lost::default();
    lost.add(&batch.refused);
    match lost.told() {
        None => Ok(batch.records),
        Some(told) => Err(SourceError::Options(told)),
    }
}

/// Counts records that cannot be read, or whole shards, and keeps the first reason.
#[derive(Debug, Default)]
pub(super) struct Lost {
    places: u64,
    first: Option<String>,
}

impl Lost {
    pub(super) fn add(&mut self, refused: &[Unreadable]) {
        self.places += refused.len() as u64;
        if let (None, Some(first)) = (&self.first, refused.first()) {
            self.first = Some(format!("`{}` in `{}`: {}", first.key, first.split, first.error));
        }
    }

    /// What a person should know, if anything is lost.
    pub(super) fn told(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        // Of a shard that is gone nobody knows how many records it had.
        let many = plural(self.places, "record or shard");
        Some(format!("{many} cannot be read: {first}"))
    }
}
