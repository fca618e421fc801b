//! Records that a source could not read, to be read again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::{self, StreamExt};

use crate::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatches, SourceError, Split, SplitRange,
};

/// A source of which only some ranges are read.
pub(super) struct Refused {
    inner: Arc<dyn Source>,
    run: String,
    ranges: BTreeMap<String, Vec<Range<u64>>>,
}

impl Refused {
    pub(super) fn new(
        inner: Arc<dyn Source>,
        run: &str,
        ranges: BTreeMap<String, BTreeSet<(u64, u64)>>,
    ) -> Self {
        let ranges = ranges.iter().map(|(split, ranges)| (split.clone(), super::disjoint(ranges)));
        Self { inner, run: run.to_owned(), ranges: ranges.collect() }
    }
}

#[async_trait]
impl Source for Refused {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({ "source": self.inner.options(), "refused_by": self.run })
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: false, grows: false, ..self.inner.abilities() }
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        self.inner.schema().await
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let mut splits = match self.inner.splits().await {
            Err(SourceError::Nothing { .. }) => Vec::new(),
            splits => splits?,
        };
        splits.retain(|split| self.ranges.contains_key(&split.name));
        // What is still not there is refused again by whoever opens it.
        let there: BTreeSet<&String> = splits.iter().map(|split| &split.name).collect();
        let missing: Vec<Split> = self
            .ranges
            .keys()
            .filter(|name| !there.contains(name))
            .map(|name| Split { name: name.clone(), bytes: 0, version: "missing".to_owned() })
            .collect();
        splits.extend(missing);
        Ok(splits)
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let ranges = self.ranges.get(&split.name).cloned().unwrap_or_default();
        // The size of a record that could not be read is not known; the split's is the most it can be.
        let bytes = split.bytes / (ranges.len() as u64).max(1);
        let ahead = ranges.into_iter().filter(move |range| range.start >= from);
        stream::iter(ahead.map(move |range| Ok(Mark { range, records: 1, bytes }))).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        self.inner.open(ranges, size)
    }
}
