//! One record on a sheet.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// Pixels of a tile's sides.
pub const SIDE: usize = 160;

/// A square of RGB pixels with a record's picture in its middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    pub(super) pixels: Vec<u8>,
}

impl Tile {
    /// What stands where there is nothing to see.
    pub(super) const GROUND: u8 = 32;

    /// A tile without a picture, for a record that has none or whose bytes do not decode.
    pub fn empty() -> Self {
        Self { pixels: vec![Self::GROUND; SIDE * SIDE * 3] }
    }

    /// A picture of 1 (grey), 3 (RGB) or 4 (RGBA) channels, made to fit with its sides in proportion.
    /// `None` when it has no pixels or too few samples.
    pub fn image(width: u32, height: u32, channels: u8, samples: &[u8]) -> Option<Self> {
        let rgb = rgb(channels, samples)?;
        let longer = width.max(height);
        if width == 0 || height == 0 {
            return None;
        }
        // A small picture is enlarged as it is, pixel by pixel, so that its pixels can be seen.
        let filter = match longer < SIDE as u32 {
            true => ResizeAlg::Nearest,
            false => ResizeAlg::Convolution(FilterType::Bilinear),
        };
        let fit = |side: u32| {
            let side = u64::from(side) * SIDE as u64 / u64::from(longer);
            u32::try_from(side.max(1)).unwrap_or(1)
        };
        let source = ImageRef::new(width, height, &rgb, PixelType::U8x3).ok()?;
        let mut small = Image::new(fit(width), fit(height), PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(filter);
        Resizer::new().resize(&source, &mut small, &options).ok()?;
        let mut tile = Self::empty();
        let (columns, rows) = (small.width() as usize, small.height() as usize);
        let (left, top) = ((SIDE - columns) / 2, (SIDE - rows) / 2);
        let lines = small.buffer().chunks_exact(columns * 3);
        for (line, at) in lines.zip(tile.pixels.chunks_exact_mut(SIDE * 3).skip(top)) {
            if let Some(place) = at.get_mut(left * 3..(left + columns) * 3) {
                place.copy_from_slice(line);
            }
        }
        Some(tile)
    }
}

/// Pixels as RGB, those that shine through above a dark ground.
fn rgb(channels: u8, samples: &[u8]) -> Option<Vec<u8>> {
    match channels {
        1 => Some(samples.iter().flat_map(|grey| [*grey; 3]).collect()),
        3 => Some(samples.to_vec()),
        4 => Some(
            samples
                .as_chunks::<4>()
                .0
                .iter()
                .flat_map(|[r, g, b, a]| {
                    [r, g, b].map(|colour| {
                        let (colour, alpha) = (u32::from(*colour), u32::from(*a));
                        let mixed = colour * alpha + u32::from(Tile::GROUND) * (255 - alpha);
                        u8::try_from(mixed / 255).unwrap_or(u8::MAX)
                    })
                })
                .collect(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_picture_stands_in_the_middle_in_proportion() {
        let tile = Tile::image(4, 2, 3, &[200; 4 * 2 * 3]).unwrap();
        let row = |at: usize| &tile.pixels[at * SIDE * 3..(at + 1) * SIDE * 3];
        assert!(row(0).iter().chain(row(SIDE - 1)).all(|sample| *sample == Tile::GROUND));
        assert!(row(SIDE / 2).iter().all(|sample| *sample == 200));
        let filled = (0..SIDE).filter(|at| row(*at)[0] == 200).count();
        assert_eq!(filled, SIDE / 2);
    }

    #[test]
    fn what_is_no_picture_makes_no_tile() {
        assert!(Tile::image(0, 2, 3, &[]).is_none());
        assert!(Tile::image(2, 2, 3, &[1, 2]).is_none());
        assert!(Tile::image(2, 2, 2, &[0; 8]).is_none());
    }
}
