//! Dead letters in a table, for a replay.

use anabranch_pipelines::replay::ReadLetters;
use anabranch_pipelines::sink::Shard;
use anabranch_pipelines::source::SourceError;
use anabranch_pipelines::store::Location;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Reads the shards of dead letters that a sink of `kind = "table"` wrote.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableLetters;

#[async_trait]
impl ReadLetters for TableLetters {
    async fn read(&self, location: &str, shard: &Shard) -> Result<Vec<RecordBatch>, SourceError> {
        let folder = Location::parse(location).map_err(|e| SourceError::Options(e.to_string()))?;
        let place = folder.join(&shard.path);
        let read = async { place.store.get(&place.path).await?.bytes().await };
        let bytes = read.await;
        let bytes =
            bytes.map_err(|source| SourceError::Store { location: place.url.clone(), source })?;
        let format = |message: String| SourceError::Format { location: place.url.clone(), message };
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(|e| format(e.to_string()))?;
        reader.collect::<Result<_, _>>().map_err(|e| format(e.to_string()))
    }
}
