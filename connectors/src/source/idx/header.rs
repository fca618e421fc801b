//! The header of an IDX file.

use std::io::Read;

use crate::source::fixed::Layout;
use crate::source::object::{Failure, Object};
use crate::source::pixels::Shape;

/// Unsigned bytes, the element type of images and labels.
const BYTES: u8 = 0x08;

/// What an IDX file declares.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) layout: Layout,
    /// Of images; `None` for labels.
    pub(super) shape: Option<Shape>,
}

impl Header {
    /// Reads the header; the object stands at the first item behind it.
    pub(super) fn read(object: &mut Object) -> Result<Self, Failure> {
        let read = read(object);
        match read {
            Err(error) => Err(object.failure(error)),
            Ok((element, sizes)) => parse(element, &sizes).map_err(Failure::Damaged),
        }
    }
}

fn read(object: &mut Object) -> std::io::Result<(u8, Vec<u32>)> {
    let mut magic = [0; 4];
    object.read_exact(&mut magic)?;
    let [0, 0, element, dimensions @ 1..=4] = magic else {
        let message =
            format!("it begins with {magic:02x?}, which no IDX file of 1 to 4 dimensions does");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
    };
    let mut sizes = Vec::new();
    for _ in 0..dimensions {
        let mut size = [0; 4];
        object.read_exact(&mut size)?;
        sizes.push(u32::from_be_bytes(size));
    }
    Ok((element, sizes))
}

fn parse(element: u8, sizes: &[u32]) -> Result<Header, String> {
    if element != BYTES {
        return Err(format!("its elements are of type {element:#04x}; only bytes (0x08) are read"));
    }
    let (count, shape) = match *sizes {
        [count] => (count, None),
        [count, height, width] => (count, Some(Shape { width, height, channels: 1 })),
        [count, height, width, channels @ (1 | 3 | 4)] => {
            (count, Some(Shape { width, height, channels }))
        }
        _ => return Err(format!("its shape {sizes:?} is neither images nor labels")),
    };
    let record = shape.map_or(1, |shape| {
        [shape.width, shape.height, shape.channels].iter().map(|size| u64::from(*size)).product()
    });
    if record == 0 || record > i32::MAX as u64 {
        return Err(format!("its shape {sizes:?} gives items of {record} bytes"));
    }
    let header = 4 + 4 * sizes.len() as u64;
    Ok(Header { layout: Layout { header, record, count: Some(u64::from(count)) }, shape })
}

/// The items in words.
pub(super) fn describe(shape: Option<Shape>) -> String {
    match shape {
        None => "labels".to_owned(),
        Some(Shape { width, height, channels }) => {
            format!("images of {width}x{height}x{channels}")
        }
    }
}
