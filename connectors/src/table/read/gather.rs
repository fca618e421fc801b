//! Rows from many arrays into one: what a shuffled batch is made of.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, GenericByteViewArray, GenericStringArray, StructArray,
};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, Field, Fields, StringViewType};
use arrow::error::ArrowError;

/// The row at each of `picks`, an (array, row in it); arrays are of one type. Views come out as plain binary and
/// text, copied once: from the page that was read into the batch that is written.
pub(super) fn gather(
    arrays: &[&dyn Array],
    picks: &[(usize, usize)],
) -> Result<ArrayRef, ArrowError> {
    let Some(first) = arrays.first() else {
        return Err(ArrowError::InvalidArgumentError("rows of no array".to_owned()));
    };
    match first.data_type() {
        DataType::BinaryView => {
            let (offsets, values, nulls) = views::<BinaryViewType>(arrays, picks)?;
            Ok(Arc::new(BinaryArray::try_new(offsets, values, nulls)?))
        }
        DataType::Utf8View => {
            let (offsets, values, nulls) = views::<StringViewType>(arrays, picks)?;
            Ok(Arc::new(GenericStringArray::<i32>::try_new(offsets, values, nulls)?))
        }
        DataType::Struct(fields) => structs(arrays, picks, fields),
        _ => interleave(arrays, picks),
    }
}

fn structs(
    arrays: &[&dyn Array],
    picks: &[(usize, usize)],
    fields: &Fields,
) -> Result<ArrayRef, ArrowError> {
    let structs: Vec<&StructArray> =
        arrays.iter().filter_map(|array| array.as_struct_opt()).collect();
    let children = (0..fields.len()).map(|child| {
        let of = structs.iter().filter_map(|array| array.columns().get(child));
        gather(&of.map(AsRef::as_ref).collect::<Vec<_>>(), picks)
    });
    let children = children.collect::<Result<Vec<_>, _>>()?;
    let named = fields.iter().zip(&children);
    let fields: Fields = named
        .map(|(field, child)| Field::new(field.name(), child.data_type().clone(), true))
        .collect();
    Ok(Arc::new(StructArray::try_new(fields, children, nulls(arrays, picks))?))
}

fn nulls(arrays: &[&dyn Array], picks: &[(usize, usize)]) -> Option<NullBuffer> {
    if arrays.iter().all(|array| array.null_count() == 0) {
        return None;
    }
    let valid =
        picks.iter().map(|(array, row)| arrays.get(*array).is_some_and(|a| a.is_valid(*row)));
    Some(valid.collect::<NullBuffer>()).filter(|nulls| nulls.null_count() > 0)
}

type Bytes = (OffsetBuffer<i32>, Buffer, Option<NullBuffer>);

fn views<T: ByteViewType>(
    arrays: &[&dyn Array],
    picks: &[(usize, usize)],
) -> Result<Bytes, ArrowError> {
    let views: Vec<&GenericByteViewArray<T>> =
        arrays.iter().filter_map(|array| array.as_byte_view_opt::<T>()).collect();
    let nulls = nulls(arrays, picks);
    let value = |at: usize, (array, row): (usize, usize)| -> &[u8] {
        let valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at));
        match views.get(array) {
            Some(array) if valid && row < array.len() => array.value(row).as_ref(),
            _ => &[],
        }
    };
    let mut offsets: Vec<i32> = Vec::with_capacity(picks.len() + 1);
    let mut end = 0_usize;
    offsets.push(0);
    for (at, pick) in picks.iter().enumerate() {
        end = end.saturating_add(value(at, *pick).len());
        offsets.push(i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end))?);
    }
    let mut values = MutableBuffer::with_capacity(end);
    for (at, pick) in picks.iter().enumerate() {
        values.extend_from_slice(value(at, *pick));
    }
    Ok((OffsetBuffer::new(ScalarBuffer::from(offsets)), values.into(), nulls))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryViewArray, Int32Array, StringViewArray};

    #[test]
    fn rows_of_views_and_structs_come_out_plain() {
        let texts = |from: i32| -> ArrayRef {
            let text =
                |n: i32| (n % 3 != 0).then(|| format!("text number {n}, too long for a view"));
            Arc::new((from..from + 4).map(text).collect::<StringViewArray>())
        };
        let bytes = |from: i32| -> ArrayRef {
            Arc::new(
                (from..from + 4)
                    .map(|n| (n != 5).then(|| vec![n as u8; n as usize * 3]))
                    .collect::<BinaryViewArray>(),
            )
        };
        let rows = |from: i32| {
            let columns = vec![
                texts(from),
                bytes(from),
                Arc::new(Int32Array::from_iter_values(from..from + 4)) as ArrayRef,
            ];
            let fields: Fields = columns
                .iter()
                .zip(["t", "b", "n"])
                .map(|(c, n)| Field::new(n, c.data_type().clone(), true))
                .collect();
            let nulls: NullBuffer = (from..from + 4).map(|n| n != 2).collect();
            StructArray::new(fields, columns, Some(nulls))
        };
        let (one, other) = (rows(0), rows(4));
        let picks: Vec<(usize, usize)> = (0..8).rev().map(|n| (n / 4, n % 4)).collect();
        let found = gather(&[&one, &other], &picks).unwrap();
        let found = found.as_struct();
        assert_eq!(
            found.nulls().unwrap().iter().collect::<Vec<_>>(),
            [true, true, true, true, true, false, true, true]
        );
        let numbers = found.column(2).as_primitive::<arrow::datatypes::Int32Type>();
        assert_eq!(numbers.values(), &[7, 6, 5, 4, 3, 2, 1, 0]);
        let (texts, bytes) =
            (found.column(0).as_string::<i32>(), found.column(1).as_binary::<i32>());
        for (at, n) in (0..8).rev().enumerate() {
            let text = (n % 3 != 0).then(|| format!("text number {n}, too long for a view"));
            assert_eq!(texts.is_valid(at).then(|| texts.value(at).to_owned()), text);
            assert_eq!(bytes.is_valid(at), n != 5);
            assert!(n == 5 || bytes.value(at) == vec![n as u8; n * 3]);
        }
    }
}
