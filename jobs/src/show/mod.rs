//! Pictures of what a table holds: thumbnails of images, spectrograms of sounds, on one sheet.
//!
//! ```
//! use anabranch::show::{Sheet, Tile};
//!
//! let mut sheet = Sheet::of(4);
//! sheet.add(&Tile::image(2, 1, 3, &[255, 0, 0, 0, 0, 255]).unwrap());
//! assert!(sheet.png().unwrap().starts_with(b"\x89PNG"));
//! ```

mod sheet;
mod spectrogram;
mod tile;

pub use sheet::Sheet;
pub use spectrogram::spectrogram;
pub use tile::{SIDE, Tile};
