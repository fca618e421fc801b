//! Every row of a table, for commands that look at all of it.

use std::sync::Arc;

use anabranch_pipelines::source::{BatchSize, Source, SourceBatches, SourceError, SplitRange};
use futures::StreamExt;

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
