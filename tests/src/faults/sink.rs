//! A table whose store is slow: `kind = "slow_table"`.

use std::sync::Arc;
use std::time::Duration;

use anabranch_connectors::sink::TableOptions;
use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::log::Commit;
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::bytes_of;
use anabranch_pipelines::sink::{Compute, PartName, PartWriter, RunStart, Shard, Sink, SinkError};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Options of `kind = "slow_table"`: a `table` that takes so many bytes of rows per second.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowTableOptions {
    /// Folder of the table.
    pub path: String,
    /// Bytes of rows per second, over all parts.
    #[schemars(with = "String")]
    pub rate: ByteSize,
    /// As of a `table`.
    #[schemars(with = "Option<String>")]
    pub row_group: Option<ByteSize>,
}

impl SlowTableOptions {
    /// The sink.
    ///
    /// # Errors
    /// As a `table` at this path.
    pub fn build(self) -> Result<Arc<dyn Sink>, SinkError> {
        let pace = Arc::new(Pace { rate: self.rate.0.max(1), door: tokio::sync::Mutex::new(()) });
        let mut table = TableOptions::at(self.path);
        table.row_group = self.row_group.unwrap_or(table.row_group);
        Ok(Arc::new(SlowTable { table: table.build()?, pace }))
    }
}

/// One door for all parts, so that two open shards are not twice as fast.
struct Pace {
    rate: u64,
    door: tokio::sync::Mutex<()>,
}

impl Pace {
    async fn pass(&self, bytes: usize) {
        let _open = self.door.lock().await;
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / self.rate as f64)).await;
    }
}

struct SlowTable {
    table: Arc<dyn Sink>,
    pace: Arc<Pace>,
}

#[async_trait]
impl Sink for SlowTable {
    fn kind(&self) -> &'static str {
        "slow_table"
    }

    fn options(&self) -> serde_json::Value {
        self.table.options()
    }

    fn location(&self) -> String {
        self.table.location()
    }

    fn check(&self, input: &SchemaRef) -> Result<(), SchemaError> {
        self.table.check(input)
    }

    fn reserve(&self) -> usize {
        self.table.reserve()
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        self.table.exists().await
    }

    async fn start(&self, run: &RunStart, schema: &SchemaRef) -> Result<(), SinkError> {
        self.table.start(run, schema).await
    }

    fn writer(
        &self,
        part: &PartName,
        schema: &SchemaRef,
        compute: &Compute,
    ) -> Result<Box<dyn PartWriter>, SinkError> {
        let writer = self.table.writer(part, schema, compute)?;
        Ok(Box::new(SlowWriter { writer, pace: Arc::clone(&self.pace) }))
    }

    async fn commit(&self, run: &RunStart, commit: &Commit) -> Result<(), SinkError> {
        self.table.commit(run, commit).await
    }

    async fn recover(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        self.table.recover(run, committed).await
    }

    async fn clean(&self, run: &RunStart, committed: &[Commit]) -> Result<(), SinkError> {
        self.table.clean(run, committed).await
    }
}

struct SlowWriter {
    writer: Box<dyn PartWriter>,
    pace: Arc<Pace>,
}

#[async_trait]
impl PartWriter for SlowWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.pace.pass(bytes_of(&batch)).await;
        self.writer.write(batch).await
    }

    async fn finish(self: Box<Self>) -> Result<Option<Shard>, SinkError> {
        self.writer.finish().await
    }
}
