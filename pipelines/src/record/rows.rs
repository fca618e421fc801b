//! Sizes and bytes of rows.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::{Reference, media};

/// Bytes that the rows of a batch take, counting only what the slice covers.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| bytes_of_array(column)).sum()
}

/// [`bytes_of`], and what the references among the rows stand for: what they take once somebody reads them.
pub fn weight_of(batch: &RecordBatch) -> usize {
    let referred = |column: &Arc<dyn Array>| {
        let media = column.as_struct_opt().filter(|_| media::is_media(column.data_type()))?;
        let length = |row| {
            let path = media::path(media, row).filter(|_| media::bytes(media, row).is_none())?;
            let range = path.parse::<Reference>().ok()?.range?;
            usize::try_from(range.end - range.start).ok()
        };
        Some((0..media.len()).filter_map(length).fold(0, usize::saturating_add))
    };
    let referred = batch.columns().iter().filter_map(referred);
    referred.fold(bytes_of(batch), usize::saturating_add)
}

/// What `get_slice_memory_size` says but for lists, without taking the array apart for the types that rows
/// mostly consist of: the run asks for every slice.
fn bytes_of_array(array: &dyn Array) -> usize {
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    let nulls = nulls.map_or(0, |_| array.len().div_ceil(8));
    let offsets = (array.len() + 1) * size_of::<i32>();
    let between = |offsets: &[i32]| match offsets {
        [first, .., last] => usize::try_from(last - first).unwrap_or(0),
        _ => 0,
    };
    if let Some(width) = array.data_type().primitive_width() {
        return nulls + array.len() * width;
    }
    if let Some(texts) = array.as_string_opt::<i32>() {
        return nulls + offsets + between(texts.value_offsets());
    }
    if let Some(bytes) = array.as_binary_opt::<i32>() {
        return nulls + offsets + between(bytes.value_offsets());
    }
    if let Some(media) = array.as_struct_opt() {
        return nulls + media.columns().iter().map(|column| bytes_of_array(column)).sum::<usize>();
    }
    if let Some(lists) = array.as_list_opt::<i32>() {
        // Arrow counts the elements of all lists, also of those that the slice leaves out.
        let bounds = lists.value_offsets().first().zip(lists.value_offsets().last());
        let (from, to) = bounds.map_or((0, 0), |(from, to)| (*from as usize, *to as usize));
        return nulls + offsets + bytes_of_array(&lists.values().slice(from, to - from));
    }
    let data = array.to_data();
    data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Modality;
    use arrow::array::{ArrayRef, BinaryArray, Int32Array, ListArray, StringArray};
    use arrow::datatypes::{Int64Type, Schema};

    #[test]
    fn sizes_are_those_that_arrow_tells_of_a_slice() {
        let texts = StringArray::from(vec![Some("one"), None, Some("three"), Some("")]);
        let bytes = vec![Some(b"first".as_slice()), None, Some(b""), Some(b"last one")];
        let media = media::column(bytes.clone(), vec![None, Some("path"), None, None]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(texts),
            Arc::new(BinaryArray::from(bytes)),
            Arc::new(media),
            Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4)])),
        ];
        let arrow = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap();
        for (from, rows) in [(0, 4), (1, 2), (3, 1), (2, 0)] {
            for column in &columns {
                let slice = column.slice(from, rows);
                assert_eq!(bytes_of_array(&slice), arrow(&slice), "{from} {rows} {column:?}");
            }
        }
        let field = media::field("m", Modality::Image, media::State::Encoded);
        let columns = vec![Arc::clone(&columns[2])];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), columns).unwrap();
        assert_eq!(bytes_of(&batch), arrow(batch.column(0)));
    }

    #[test]
    fn a_slice_of_lists_has_only_their_elements() {
        let list = |at: i64| (at != 1).then(|| (0..at).map(Some));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..4).map(list));
        // A bitmap where a list is missing, the offsets, and the elements.
        assert_eq!(bytes_of_array(&lists), 1 + 5 * 4 + 5 * 8);
        assert_eq!(bytes_of_array(&lists.slice(1, 2)), 1 + 3 * 4 + 2 * 8);
        assert_eq!(bytes_of_array(&lists.slice(3, 1)), 2 * 4 + 3 * 8);
        assert_eq!(bytes_of_array(&lists.slice(2, 0)), 4);
    }

    #[test]
    fn references_weigh_what_they_stand_for() {
        let field = media::field("m", Modality::Image, media::State::Encoded);
        let paths = vec![
            Some("file:///a#10+1000"),
            Some("file:///b#0+5"),
            Some("file:///whole"),
            Some("name.png"),
        ];
        let column = media::column(vec![None, Some(b"read".as_slice()), None, None], paths);
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
        assert_eq!(weight_of(&batch), bytes_of(&batch) + 1000);
        let half = batch.slice(1, 3);
        assert_eq!(weight_of(&half), bytes_of(&half));
    }
}
