//! Where a piece of rows ends, judged row by row.
//!
//! Sinks work on pieces that are bounded in rows and bytes. Both are counted over the values themselves, so that
//! the same rows fall into the same pieces however they were batched: shards then have the same bytes.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;

/// A piece that rows are put into until it is full.
#[derive(Debug)]
pub(super) struct Piece {
    most_rows: usize,
    most_bytes: usize,
    rows: usize,
    bytes: usize,
}

impl Piece {
    /// An empty piece that is full with so many rows, or with the row that reaches so many bytes.
    pub(super) fn new(most_rows: usize, most_bytes: usize) -> Self {
        Self { most_rows, most_bytes, rows: 0, bytes: 0 }
    }

    /// Puts rows in, from row `from` of the batch on, until the piece is full or the batch is at its end.
    /// Gives the row behind the last one.
    pub(super) fn fill(&mut self, batch: &RecordBatch, from: usize) -> usize {
        let mut at = from;
        while at < batch.num_rows() && !self.is_full() {
            let bytes = batch.columns().iter().map(|column| bytes_of_row(column, at));
            self.bytes = bytes.fold(self.bytes, usize::saturating_add);
            self.rows += 1;
            at += 1;
        }
        at
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= self.most_rows || self.bytes >= self.most_bytes
    }

    pub(super) fn clear(&mut self) {
        (self.rows, self.bytes) = (0, 0);
    }
}

/// Bytes of one value. What lies under a null counts nothing: it depends on who made the array.
fn bytes_of_row(array: &dyn Array, row: usize) -> usize {
    if array.is_null(row) {
        return 0;
    }
    let many = |values: &dyn Array| match values.data_type().primitive_width() {
        Some(width) => values.len() * width,
        None => (0..values.len()).map(|row| bytes_of_row(values, row)).sum(),
    };
    let data_type = array.data_type();
    if let Some(width) = data_type.primitive_width() {
        return width;
    }
    match data_type {
        DataType::Utf8 => array.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
        DataType::Utf8View => array.as_string_view().value(row).len(),
        DataType::Binary => array.as_binary::<i32>().value(row).len(),
        DataType::LargeBinary => array.as_binary::<i64>().value(row).len(),
        DataType::BinaryView => array.as_binary_view().value(row).len(),
        DataType::FixedSizeBinary(width) => usize::try_from(*width).unwrap_or(0),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|child| bytes_of_row(child, row)).sum()
        }
        DataType::List(_) => many(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => many(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(_, _) => many(&array.as_fixed_size_list().value(row)),
        DataType::Dictionary(_, _) => {
            let one = array.slice(row, 1);
            let dictionary = one.as_any_dictionary();
            let key = dictionary.normalized_keys().first().copied();
            key.map_or(0, |key| bytes_of_row(dictionary.values(), key))
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use anabranch_pipelines::record::media;
    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, ListArray, StringArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    #[test]
    fn rows_count_what_they_hold() {
        let words: DictionaryArray<Int32Type> =
            vec![Some("twelve bytes"), None, Some("three"), Some("three")].into_iter().collect();
        let lists = [Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(1)])];
        let columns: [(ArrayRef, [usize; 4]); 5] = [
            (Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4)])), [4, 0, 4, 4]),
            (
                Arc::new(StringArray::from(vec![Some("one"), None, Some(""), Some("four")])),
                [3, 0, 0, 4],
            ),
            (Arc::new(words), [12, 0, 5, 5]),
            (Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)), [16, 0, 0, 8]),
            (
                Arc::new(media::column(
                    vec![Some(b"bytes".as_slice()), None, None, Some(b"b")],
                    vec![None, Some("path"), None, Some("p")],
                )),
                [5, 4, 0, 2],
            ),
        ];
        for (column, expected) in columns {
            let found: Vec<_> = (0..4).map(|row| bytes_of_row(&column, row)).collect();
            assert_eq!(found, expected, "{column:?}");
            assert_eq!(bytes_of_row(&column.slice(2, 2), 1), expected[3]);
        }
    }

    #[test]
    fn the_row_that_reaches_the_size_is_the_last_one() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["1234", "123456", "1", "2", "3"]));
        let batch = RecordBatch::try_from_iter([("text", texts)]).unwrap();
        let mut piece = Piece::new(2, 10);
        assert_eq!((piece.fill(&batch, 0), piece.is_full()), (2, true));
        piece.clear();
        assert_eq!((piece.fill(&batch, 2), piece.is_full()), (4, true));
        piece.clear();
        assert_eq!((piece.fill(&batch, 4), piece.is_full()), (5, false));
    }
}
