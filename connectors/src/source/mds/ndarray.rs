//! Arrays of numbers, whose type and shape are written with each of them or once for all.

use anabranch_pipelines::record::Modality;
use arrow::datatypes::{DataType, Field};
use std::sync::Arc;

/// Field metadata key of the shape that all arrays of a column have.
const SHAPE_KEY: &str = "anabranch:shape";

/// The types of numbers by name, and how each array says its own.
const NUMBERS: [(&str, u8, DataType); 11] = [
    ("uint8", 8, DataType::UInt8),
    ("int8", 9, DataType::Int8),
    ("uint16", 16, DataType::UInt16),
    ("int16", 17, DataType::Int16),
    ("float16", 18, DataType::Float16),
    ("uint32", 32, DataType::UInt32),
    ("int32", 33, DataType::Int32),
    ("float32", 34, DataType::Float32),
    ("uint64", 64, DataType::UInt64),
    ("int64", 65, DataType::Int64),
    ("float64", 66, DataType::Float64),
];

/// The type of numbers called so.
pub(super) fn number(name: &str) -> Option<DataType> {
    NUMBERS.into_iter().find(|(other, ..)| *other == name).map(|(.., number)| number)
}

/// What is known of all arrays of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// The type of their numbers, learnt from the first array if need be.
    pub(super) number: Option<DataType>,
    /// Whether each array says its type.
    written: bool,
    pub(super) shape: Option<Vec<i64>>,
}

/// One array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Array<'a> {
    pub(super) shape: Vec<i64>,
    pub(super) values: &'a [u8],
    width: usize,
}

impl Array<'_> {
    pub(super) fn count(&self) -> usize {
        self.values.len() / self.width.max(1)
    }
}

impl Layout {
    /// Understands `float32:3,224,224`, `float32`, or nothing.
    pub(super) fn parse(arguments: &str) -> Result<Self, String> {
        let (name, shape) = match arguments.split_once(':') {
            Some((name, shape)) => (name, Some(shape)),
            None => (arguments, None),
        };
        let error = || format!("the encoding `ndarray:{arguments}` is not known");
        let number = match name {
            "" => None,
            name => Some(number(name).ok_or_else(error)?),
        };
        let side = |side: &str| side.trim().parse::<i64>().ok().filter(|side| *side > 0);
        let shape = shape.map(|shape| shape.split(',').map(side).collect::<Option<Vec<i64>>>());
        let shape = shape.map(|shape| shape.ok_or_else(error)).transpose()?;
        let layout = Self { written: number.is_none(), number, shape };
        match layout.count() {
            Some(None) => Err(error()),
            _ => Ok(layout),
        }
    }

    /// How many numbers each array has; `Some(None)` if more than there can be.
    fn count(&self) -> Option<Option<u64>> {
        let shape = self.shape.as_ref()?;
        Some(numbers(shape).filter(|count| *count <= u64::from(u32::MAX)))
    }

    /// Bytes of an array, where all have as many.
    pub(super) fn size(&self) -> Option<u64> {
        let width = self.number.as_ref().filter(|_| !self.written)?.primitive_width()?;
        self.count()?.map(|count| count * width as u64)
    }

    /// The numbers in a list, and the shape beside it unless it is always the same.
    pub(super) fn fields(&self, name: &str) -> Vec<Field> {
        let list = |name: &str, number| {
            let element = Arc::new(Field::new("element", number, true));
            Field::new(name, DataType::List(element), true)
        };
        let number = self.number.clone().unwrap_or(DataType::UInt8);
        let mut numbers = Modality::Tensor.mark(list(name, number));
        match &self.shape {
            None => vec![numbers, list(&format!("{name}_shape"), DataType::Int64)],
            Some(shape) => {
                let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
                let mut metadata = numbers.metadata().clone();
                metadata.insert(SHAPE_KEY.to_owned(), sides.join(","));
                numbers.set_metadata(metadata);
                vec![numbers]
            }
        }
    }

    /// Learns the type of numbers from a value, if values say it.
    pub(super) fn learn(&mut self, value: &[u8]) {
        if self.written && self.number.is_none() {
            self.number = value.first().and_then(|code| named(*code));
        }
    }

    /// An array of this type and shape.
    pub(super) fn read<'a>(&self, value: &'a [u8]) -> Result<Array<'a>, String> {
        let short = || "it ends inside its own description".to_owned();
        let (mut rest, mut of) = (value, self.number.clone());
        if self.written {
            let (code, behind) = rest.split_first().ok_or_else(short)?;
            let here = named(*code).ok_or_else(|| format!("its type {code} is not known"))?;
            if of.as_ref().is_some_and(|of| *of != here) {
                let of = of.unwrap_or(DataType::Null);
                return Err(format!("its numbers are {here}, those of the first array {of}"));
            }
            (rest, of) = (behind, Some(here));
        }
        let shape = match &self.shape {
            Some(shape) => shape.clone(),
            None => {
                let (head, behind) = rest.split_first().ok_or_else(short)?;
                let (sides, width) = (usize::from(head >> 2), 1 << (head & 3));
                let (sides, behind) = behind.split_at_checked(sides * width).ok_or_else(short)?;
                rest = behind;
                let side = |side: &[u8]| {
                    let side =
                        side.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
                    i64::try_from(side).map_err(|_| format!("a side of it is {side}"))
                };
                sides.chunks_exact(width).map(side).collect::<Result<_, _>>()?
            }
        };
        let width = of.as_ref().and_then(DataType::primitive_width).unwrap_or(1);
        let bytes = numbers(&shape).and_then(|count| count.checked_mul(width as u64));
        if bytes != Some(rest.len() as u64) {
            let here = rest.len();
            return Err(format!("it has {here} bytes, which are no array of shape {shape:?}"));
        }
        Ok(Array { shape, values: rest, width })
    }
}

fn numbers(shape: &[i64]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |all, side| all.checked_mul(u64::try_from(*side).ok()?))
}

fn named(code: u8) -> Option<DataType> {
    NUMBERS.into_iter().find(|(_, other, _)| *other == code).map(|(.., number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_say_their_type_and_shape_or_their_column_does() {
        let read = |layout: &str, value: &[u8]| {
            let mut layout = Layout::parse(layout).unwrap();
            layout.learn(value);
            layout.read(value).map(|array| (array.shape.clone(), array.count()))
        };
        let values = [7_u8; 12];
        assert_eq!(read("uint16:2,3", &values), Ok((vec![2, 3], 6)));
        let shaped = [&[2 << 2, 3, 1][..], &values].concat();
        assert_eq!(read("int32", &shaped), Ok((vec![3, 1], 3)));
        let wide = [&[1 << 2 | 1, 6, 0][..], &values].concat();
        assert_eq!(read("uint16", &wide), Ok((vec![6], 6)));
        let typed = [&[66, 1 << 2, 2][..], &[0; 16]].concat();
        assert_eq!(read("", &typed), Ok((vec![2], 2)));
        for (layout, value) in [("uint16:2,3", &values[..11]), ("int32", &[9 << 2]), ("", &[1, 2])]
        {
            assert!(read(layout, value).is_err(), "{layout}");
        }
        for layout in ["complex64", "int8:", "int8:0", "int8:-1,2", "int8:99999,99999,99999"] {
            assert!(Layout::parse(layout).is_err(), "{layout}");
        }
        assert_eq!(Layout::parse("float16:2,5").unwrap().size(), Some(20));
        assert_eq!(Layout::parse("float16").unwrap().size(), None);
    }
}
