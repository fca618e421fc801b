//! URLs that stand in a job file.

use std::collections::HashSet;
use std::sync::Arc;

use anabranch_pipelines::record::KEY;
use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange,
};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

/// One record per URL, which is its key.
pub(super) struct List {
    urls: Arc<[String]>,
    schema: SchemaRef,
}

impl List {
    /// These URLs, in a column of this name.
    pub(super) fn build(urls: Vec<String>, column: &str) -> Result<Arc<dyn Source>, SourceError> {
        let mut seen = HashSet::new();
        if let Some(twice) = urls.iter().find(|url| !seen.insert(url.as_str())) {
            return Err(SourceError::Options(format!("`urls` holds `{twice}` twice")));
        }
        let fields =
            vec![Field::new(KEY, DataType::Utf8, false), Field::new(column, DataType::Utf8, true)];
        Ok(Arc::new(Self { urls: urls.into(), schema: Arc::new(Schema::new(fields)) }))
    }
}

#[async_trait]
impl Source for List {
    fn kind(&self) -> &'static str {
        "list"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, stable_offsets: true, ..Abilities::default() }
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(Arc::clone(&self.schema))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let mut hash = Sha256::new();
        for url in self.urls.iter() {
            hash.update(url.as_bytes());
            hash.update(b"\n");
        }
        let version = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let bytes = self.urls.iter().map(|url| url.len() as u64).sum();
        Ok(vec![Split { name: "urls".to_owned(), bytes, version }])
    }

    fn measure(&self, _: Arc<Split>, from: u64) -> Marks {
        let marks = (from..).zip(self.urls.iter().skip(from as usize));
        let mark = |(at, url): (u64, &String)| {
            Ok(Mark { range: at..at + 1, records: 1, bytes: url.len() as u64 })
        };
        stream::iter(marks.map(mark).collect::<Vec<_>>()).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let (urls, schema) = (Arc::clone(&self.urls), Arc::clone(&self.schema));
        let all = urls.len() as u64;
        let numbers: Vec<u64> = ranges
            .into_iter()
            .flat_map(|range| range.range.start.min(all)..range.range.end.min(all))
            .collect();
        let batches: Vec<Vec<u64>> =
            numbers.chunks(size.records.max(1)).map(<[u64]>::to_vec).collect();
        let batch = move |numbers: Vec<u64>| {
            let urls = numbers.iter().map(|at| urls.get(*at as usize).map(String::as_str));
            let urls: ArrayRef = Arc::new(urls.collect::<StringArray>());
            let records = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(&urls), urls]);
            let records = records.map_err(|e| SourceError::Options(e.to_string()))?;
            Ok(SourceBatch { records, refused: Vec::new() })
        };
        stream::iter(batches.into_iter().map(batch)).boxed()
    }
}
