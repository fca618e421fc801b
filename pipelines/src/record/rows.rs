//! Sizes and bytes of rows.

use arrow::array::{Array, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

/// Bytes that the rows of a batch take, counting only what the slice covers.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|column| {
            let data = column.to_data();
            data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size())
        })
        .sum()
}

/// Copies a batch whose columns are small slices of large buffers, so that it keeps only its own rows.
///
/// State that outlives its batch calls this, lest one row pin a whole batch.
///
/// # Errors
/// When Arrow cannot copy one of the column types.
pub fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let rows = UInt64Array::from_iter_values(0..batch.num_rows() as u64);
    take_record_batch(batch, &rows)
}

/// The batch as one Arrow IPC stream.
///
/// # Errors
/// When Arrow cannot write one of the column types.
pub fn to_ipc(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer =
        StreamWriter::try_new(Vec::with_capacity(bytes_of(batch) + 1024), &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()
}

/// The first batch of an Arrow IPC stream.
///
/// # Errors
/// When the bytes are no such stream, or it is empty.
pub fn from_ipc(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    StreamReader::try_new(bytes, None)?
        .next()
        .unwrap_or_else(|| Err(ArrowError::IpcError("the stream holds no batch".into())))
}
