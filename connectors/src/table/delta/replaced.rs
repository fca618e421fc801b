//! A version of a table with other columns than the one before.
//!
//! The library evolves schemas, but has no word for replacing one. The protocol has: a `metaData` action beside
//! the `remove` and `add` actions of the same version.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use delta_kernel::committer::PublishMetadata;
use delta_kernel::committer::{CommitMetadata, CommitResponse, Committer, FileSystemCommitter};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::schema::StructType;
use delta_kernel::{Engine, FilteredEngineData, KernelError, KernelResult, KernelResultIterator};
use serde_json::Value;

/// Commits a version whose columns are these.
pub(super) struct WithColumns {
    pub(super) columns: Arc<StructType>,
}

impl Committer for WithColumns {
    fn commit(
        &self,
        engine: &dyn Engine,
        actions: KernelResultIterator<'_, FilteredEngineData>,
        commit: CommitMetadata,
    ) -> KernelResult<CommitResponse> {
        let old = commit.protocol_metadata().read_metadata();
        let mut metadata = serde_json::to_value(old)?;
        if let Some(reason) = kept(&metadata) {
            let message =
                format!("its columns cannot be replaced: {reason}; write to another path");
            return Err(KernelError::Unsupported(message));
        }
        if let Some(metadata) = metadata.as_object_mut() {
            let columns = serde_json::to_string(self.columns.as_ref())?;
            metadata.insert("schemaString".to_owned(), columns.into());
        }
        let action = ArrowEngineData::new(action(metadata)?);
        let action = FilteredEngineData::with_all_rows_selected(Box::new(action));
        let actions = actions.chain(std::iter::once(Ok(action)));
        FileSystemCommitter::new().commit(engine, Box::new(actions), commit)
    }

    fn is_catalog_committer(&self) -> bool {
        false
    }

    fn publish(&self, engine: &dyn Engine, metadata: PublishMetadata) -> KernelResult<()> {
        FileSystemCommitter::new().publish(engine, metadata)
    }
}

/// What of the old table's metadata speaks of its columns, which only other programs write.
fn kept(metadata: &Value) -> Option<&'static str> {
    if metadata["partitionColumns"].as_array().is_none_or(|columns| !columns.is_empty()) {
        return Some("the table is partitioned");
    }
    let configuration = metadata["configuration"].as_object()?;
    let mapped = configuration.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none");
    let constrained = configuration.keys().any(|key| key.starts_with("delta.constraints."));
    match (mapped, constrained) {
        (true, _) => Some("the table maps column names"),
        (_, true) => Some("the table has constraints on them"),
        _ => None,
    }
}

fn action(metadata: Value) -> Result<arrow::array::RecordBatch, ArrowError> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let texts = |name: &str| {
        Field::new_map(
            name,
            "key_value",
            Field::new("key", DataType::Utf8, false),
            text("value"),
            false,
            true,
        )
    };
    let format = Field::new_struct("format", vec![text("provider"), texts("options")], true);
    let fields = vec![
        text("id"),
        text("name"),
        text("description"),
        format,
        text("schemaString"),
        Field::new_list("partitionColumns", text("element"), true),
        Field::new("createdTime", DataType::Int64, true),
        texts("configuration"),
    ];
    let schema = Schema::new(vec![Field::new_struct("metaData", fields, true)]);
    let mut decoder = ReaderBuilder::new(Arc::new(schema)).build_decoder()?;
    decoder.serialize(&[serde_json::json!({ "metaData": metadata })])?;
    decoder.flush()?.ok_or_else(|| ArrowError::JsonError("no row".to_owned()))
}
