//! Rows from many arrays into one: what a shuffled batch is made of.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, GenericByteViewArray, GenericStringArray, StructArray,
};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{
    BinaryViewType, ByteViewType, DataType, Field, FieldRef, Fields, StringViewType,
};
use arrow::error::ArrowError;

/// Bytes of a value, in the mean, from which on it is worth to be left where it is.
const LARGE: usize = 1024;

/// The longest value that stands in its view.
const SHORT: usize = 12;

/// Values of a gathered column that stay where they were read, for whoever writes the column next.
#[derive(Debug)]
pub struct Left {
    /// What stands for all of them in the column: memory of their length and of no content.
    pub place: Buffer,
    /// The values, one behind the other.
    pub values: Vec<Buffer>,
}

/// What becomes of the values of binary columns.
pub(super) enum Values<'a> {
    /// They are copied into the column.
    Copied,
    /// Large ones are left.
    Left {
        /// Memory of no content, of which the columns get parts.
        places: &'a Buffer,
        left: Vec<Left>,
    },
}

impl Values<'_> {
    /// The place of so many bytes of so many values, if they are to be left.
    fn place(&self, bytes: usize, values: usize) -> Option<Buffer> {
        let Self::Left { places, left } = self else { return None };
        let taken = left.iter().map(|left| left.place.len()).sum::<usize>();
        let fits = bytes >= LARGE * values.max(1) && taken.checked_add(bytes)? <= places.len();
        fits.then(|| places.slice_with_length(taken, bytes))
    }
}

/// The row at each of `picks`, an (array, row in it); arrays are of one type. Views come out as plain binary and
/// text, copied once (from the page that was read into the batch that is written) or, where values are to be
/// [left](Values), not at all.
pub(super) fn gather(
    arrays: &[&dyn Array],
    picks: &[(usize, usize)],
    values: &mut Values<'_>,
) -> Result<ArrayRef, ArrowError> {
    let Some(first) = arrays.first() else {
        return Err(ArrowError::InvalidArgumentError("rows of no array".to_owned()));
    };
    match first.data_type() {
        DataType::BinaryView => {
            let (offsets, values, nulls) = views::<BinaryViewType>(arrays, picks, values)?;
            Ok(Arc::new(BinaryArray::try_new(offsets, values, nulls)?))
        }
        DataType::Utf8View => {
            let copied = &mut Values::Copied;
            let (offsets, values, nulls) = views::<StringViewType>(arrays, picks, copied)?;
            Ok(Arc::new(GenericStringArray::<i32>::try_new(offsets, values, nulls)?))
        }
        DataType::Struct(fields) => structs(arrays, picks, fields, values),
        _ => interleave(arrays, picks),
    }
}

fn structs(
    arrays: &[&dyn Array],
    picks: &[(usize, usize)],
    fields: &Fields,
    values: &mut Values<'_>,
) -> Result<ArrayRef, ArrowError> {
    let structs: Vec<&StructArray> =
        arrays.iter().filter_map(|array| array.as_struct_opt()).collect();
    let children = (0..fields.len()).map(|child| {
        let of = structs.iter().filter_map(|array| array.columns().get(child));
        gather(&of.map(AsRef::as_ref).collect::<Vec<_>>(), picks, values)
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
    values: &mut Values<'_>,
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
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    if let (Some(place), Values::Left { left, .. }) = (values.place(end, picks.len()), values) {
        let of = |(array, row): (usize, usize)| views.get(array).map(|array| shared(array, row));
        let large = picks.iter().enumerate().filter(|(at, pick)| !value(*at, **pick).is_empty());
        let values = large.filter_map(|(_, pick)| of(*pick)).collect();
        left.push(Left { place: place.clone(), values });
        return Ok((offsets, place, nulls));
    }
    let mut copied = MutableBuffer::with_capacity(end);
    for (at, pick) in picks.iter().enumerate() {
        copied.extend_from_slice(value(at, *pick));
    }
    Ok((offsets, copied.into(), nulls))
}

/// A value of an array, in the memory that the array has it in. One that is so short that it stands in its view is
/// copied.
fn shared<T: ByteViewType>(array: &GenericByteViewArray<T>, row: usize) -> Buffer {
    // Arrow's layout of views: length, the first four bytes, number of the buffer, offset in it.
    let view = array.views().get(row).copied().unwrap_or_default();
    let [length, buffer, offset] = [0, 64, 96].map(|bits| (view >> bits) as u32 as usize);
    match array.data_buffers().get(buffer) {
        Some(buffer) if length > SHORT => buffer.slice_with_length(offset, length),
        _ => Buffer::from(AsRef::<[u8]>::as_ref(array.value(row))),
    }
}

/// The type in which [`gather`] gives arrays of a type.
pub(super) fn plain(stored: &DataType) -> DataType {
    match stored {
        DataType::BinaryView => DataType::Binary,
        DataType::Utf8View => DataType::Utf8,
        DataType::Struct(fields) => {
            let plain = |field: &FieldRef| Field::new(field.name(), plain(field.data_type()), true);
            DataType::Struct(fields.iter().map(plain).collect())
        }
        other => other.clone(),
    }
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
        let found = gather(&[&one, &other], &picks, &mut Values::Copied).unwrap();
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
    #[test]
    fn large_values_are_left_where_they_are() {
        let value = |n: u8| (n != 2).then(|| vec![n; 3000 * usize::from(n)]);
        let one: BinaryViewArray = (0..4).map(value).collect();
        let other: BinaryViewArray = (4..6).map(value).collect();
        let picks = [(1, 1), (0, 2), (0, 0), (1, 0), (0, 3)];
        let places = Buffer::from(vec![0; 1 << 16]);
        let mut values = Values::Left { places: &places, left: Vec::new() };
        let found = gather(&[&one, &other], &picks, &mut values).unwrap();
        let Values::Left { left, .. } = values else { panic!("they are to be left") };
        let found = found.as_binary::<i32>();
        let [Left { place, values }] = left.as_slice() else { panic!("{left:?}") };
        assert_eq!(place.as_ptr(), found.values().as_ptr());
        assert_eq!(place.len(), 36_000);
        // What is written in that place is the column.
        let written: Vec<u8> = values.iter().flat_map(|value| value.iter().copied()).collect();
        let written =
            BinaryArray::new(found.offsets().clone(), written.into(), found.nulls().cloned());
        let copied = gather(&[&one, &other], &picks, &mut Values::Copied).unwrap();
        assert_eq!(&written, copied.as_binary::<i32>());
        // Nothing was copied.
        assert_eq!(values[0].as_ptr(), other.value(1).as_ptr());

        // Small ones are copied, and so are those for which there is no room.
        let small: BinaryViewArray = (0..9_u8).map(|n| Some(vec![n; 500])).collect();
        let none = Buffer::from(vec![0; 8]);
        for (array, places) in [(&small, &places), (&one, &none)] {
            let mut values = Values::Left { places, left: Vec::new() };
            let found = gather(&[array], &[(0, 3), (0, 1)], &mut values).unwrap();
            assert!(matches!(values, Values::Left { left, .. } if left.is_empty()));
            assert_eq!(found.as_binary::<i32>().value(0), array.value(3));
        }
    }
}
