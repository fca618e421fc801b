//! Records that an operator refused, as they were when they reached it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{ReadLetters, letters_of};
use crate::dead_letter::DeadLetter;
use crate::record::{bytes_of, from_ipc};
use crate::sink::Shard;
use crate::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange, Unreadable,
};

/// A source whose splits are shards of dead letters, and whose offsets are numbers of rows in them.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) run: String,
    pub(super) operator: String,
    /// Of what reaches the operator now.
    pub(super) schema: SchemaRef,
    pub(super) location: String,
    pub(super) shards: Vec<Shard>,
    pub(super) letters: Arc<dyn ReadLetters>,
}

impl Stored {
    /// The letters of one shard that are this operator's, with their numbers.
    async fn letters(&self, split: &Split) -> Result<Vec<(u64, DeadLetter)>, SourceError> {
        let Some(shard) = self.shards.iter().find(|shard| shard.path == split.name) else {
            return Ok(Vec::new());
        };
        let letters = letters_of(&self.location, shard, self.letters.as_ref()).await?;
        let mine = |(_, letter): &(u64, DeadLetter)| {
            letter.operator == self.operator && letter.record.is_some()
        };
        Ok((0..).zip(letters).filter(mine).collect())
    }

    /// The row of a letter, if it still is what reaches the operator.
    fn row(&self, letter: &DeadLetter) -> Result<RecordBatch, String> {
        let row = from_ipc(letter.record.as_deref().unwrap_or_default())
            .map_err(|e| format!("the stored record is damaged: {e}"))?;
        if row.schema().fields() != self.schema.fields() {
            let names: Vec<&str> =
                row.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
            return Err(format!(
                "other columns reach `{}` now than those of this record ({})",
                self.operator,
                names.join(", ")
            ));
        }
        RecordBatch::try_new(Arc::clone(&self.schema), row.columns().to_vec())
            .map_err(|e| e.to_string())
    }

    async fn read(
        &self,
        range: SplitRange,
        size: BatchSize,
    ) -> Result<Vec<SourceBatch>, SourceError> {
        let empty = || SourceBatch {
            records: RecordBatch::new_empty(Arc::clone(&self.schema)),
            refused: Vec::new(),
        };
        let format = |message: String| SourceError::Format {
            location: format!("{}/{}", self.location, range.split.name),
            message,
        };
        let (mut batches, mut last) = (Vec::new(), empty());
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for (at, letter) in self.letters(&range.split).await? {
            if !range.range.contains(&at) {
                continue;
            }
            match self.row(&letter) {
                Ok(row) => {
                    bytes += bytes_of(&row);
                    rows.push(row);
                }
                Err(error) => last.refused.push(Unreadable {
                    key: letter.key,
                    split: range.split.name.clone(),
                    range: at..at + 1,
                    error,
                    bytes: None,
                }),
            }
            if rows.len() >= size.records || bytes >= size.bytes {
                let records = concat_batches(&self.schema, &std::mem::take(&mut rows));
                last.records = records.map_err(|e| format(e.to_string()))?;
                batches.push(std::mem::replace(&mut last, empty()));
                bytes = 0;
            }
        }
        last.records = concat_batches(&self.schema, &rows).map_err(|e| format(e.to_string()))?;
        batches.push(last);
        Ok(batches)
    }
}

#[async_trait]
impl Source for Stored {
    fn kind(&self) -> &'static str {
        "dead letters"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::json!({ "operator": self.operator, "refused_by": self.run })
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(Arc::clone(&self.schema))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let split = |shard: &Shard| Split {
            name: shard.path.clone(),
            bytes: shard.bytes,
            version: shard.sha256.clone(),
        };
        Ok(self.shards.iter().map(split).collect())
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let this = self.clone();
        let marks = async move {
            let letters = this.letters(&split).await?;
            let marks =
                letters.into_iter().filter(move |(at, _)| *at >= from).map(|(at, letter)| {
                    let bytes = letter.record.map_or(0, |record| record.len() as u64);
                    Ok(Mark { range: at..at + 1, records: 1, bytes })
                });
            Ok(stream::iter(marks.collect::<Vec<_>>()))
        };
        stream::once(marks).try_flatten().boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let this = self.clone();
        stream::iter(ranges)
            .then(move |range| {
                let this = this.clone();
                async move { this.read(range, size).await }
            })
            .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}
