//! The beginning of a source.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_pipelines::source::{
    Abilities, BatchSize, Marks, Source, SourceBatches, SourceError, Split, SplitRange,
};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::{StreamExt, future};

/// Reads the first records of another source, and nothing after them.
pub(super) struct Limited {
    inner: Arc<dyn Source>,
    records: u64,
    /// Where each split ends, once the source was listed.
    ends: Mutex<HashMap<String, u64>>,
}

impl Limited {
    /// The first `records` records of `inner`, or a few more where they cannot be told apart.
    pub(super) fn new(inner: Arc<dyn Source>, records: u64) -> Self {
        Self { inner, records, ends: Mutex::default() }
    }

    /// Offset at which split `name` ends here.
    fn end(&self, name: &str) -> u64 {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.get(name).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Source for Limited {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!([self.inner.options(), self.records])
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        self.inner.schema().await
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let mut splits = Vec::new();
        let mut left = self.records;
        for split in self.inner.splits().await? {
            if left == 0 {
                break;
            }
            let mut end = 0;
            let mut marks = self.inner.measure(Arc::new(split.clone()), 0);
            while let (true, Some(mark)) = (left > 0, marks.next().await) {
                let mark = mark?;
                left = left.saturating_sub(mark.records);
                end = mark.range.end;
            }
            let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            ends.insert(split.name.clone(), end);
            splits.push(split);
        }
        Ok(splits)
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let end = self.end(&split.name);
        let within = move |mark: &Result<_, _>| {
            let mark: Result<&anabranch_pipelines::source::Mark, &SourceError> = mark.as_ref();
            future::ready(mark.map_or(true, |mark| mark.range.start < end))
        };
        self.inner.measure(split, from).take_while(within).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        self.inner.open(ranges, size)
    }
}
