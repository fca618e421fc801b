//! How much a source holds: counted where that is quick, else estimated from the listing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_pipelines::source::{Source, SourceError};
use futures::StreamExt;

/// How long a source may be counted before its listing has to do.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a source holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    pub(super) records: f64,
    /// Whether every record was counted.
    pub(super) counted: bool,
}

/// Counts a source for a few seconds at most.
///
/// # Errors
/// When the source cannot be listed or measured.
pub(super) async fn of(source: &dyn Source) -> Result<Size, SourceError> {
    let splits = source.splits().await?;
    let listed: u64 = splits.iter().map(|split| split.bytes).sum();
    let begun = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    for split in splits {
        let mut marks = source.measure(Arc::new(split), 0);
        while let Some(mark) = marks.next().await {
            let mark = mark?;
            records += mark.records;
            bytes += mark.bytes;
            if begun.elapsed() > PATIENCE {
                // What was counted is taken to be like the rest.
                let times = (listed as f64 / bytes.max(1) as f64).max(1.0);
                return Ok(Size { records: records as f64 * times, counted: false });
            }
        }
    }
    Ok(Size { records: records as f64, counted: true })
}
