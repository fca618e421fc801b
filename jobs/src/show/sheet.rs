//! Tiles beside and below one another.

use anabranch_operators::codec::{self, CodecError, Facts, Media};

use super::tile::{SIDE, Tile};

/// Pixels between tiles.
const GAP: usize = 4;
/// Tiles in a row at most.
const COLUMNS: usize = 8;

/// A contact sheet: tiles in rows from left to right, in the order in which they were added.
#[derive(Debug)]
pub struct Sheet {
    columns: usize,
    tiles: usize,
    /// Its pixels so far, in whole rows of tiles.
    samples: Vec<u8>,
}

/// Where a tile begins, in pixels from the sheet's edge; and behind the last one, how long the side is.
const fn side(tiles: usize) -> usize {
    tiles * (SIDE + GAP) + GAP
}

impl Sheet {
    /// A sheet for about so many tiles, nearly square.
    pub fn of(tiles: usize) -> Self {
        let columns = (1..=COLUMNS).find(|columns| columns * columns >= tiles).unwrap_or(COLUMNS);
        Self { columns, tiles: 0, samples: Vec::new() }
    }

    /// Adds a tile.
    pub fn add(&mut self, tile: &Tile) {
        let (column, row) = (self.tiles % self.columns, self.tiles / self.columns);
        self.tiles += 1;
        let width = side(self.columns) * 3;
        self.samples.resize(width * side(self.tiles.div_ceil(self.columns)), 0);
        let (left, top) = (side(column), side(row));
        let lines = self.samples.chunks_exact_mut(width).skip(top);
        for (line, pixels) in lines.zip(tile.pixels.chunks_exact(SIDE * 3)) {
            if let Some(place) = line.get_mut(left * 3..(left + SIDE) * 3) {
                place.copy_from_slice(pixels);
            }
        }
    }

    /// Tiles in a row.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// The sheet as a PNG file.
    ///
    /// # Errors
    /// When there are too many tiles for one picture.
    pub fn png(&self) -> Result<Vec<u8>, CodecError> {
        let (width, height) = (side(self.columns), side(self.tiles.div_ceil(self.columns).max(1)));
        let empty = vec![0; if self.tiles == 0 { width * height * 3 } else { 0 }];
        let samples = if self.tiles == 0 { &empty } else { &self.samples };
        let size = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let facts = Facts::Image { width: size(width), height: size(height), channels: 3 };
        let png = codec::named("png").ok_or_else(|| CodecError("there is no PNG codec".into()))?;
        let mut bytes = Vec::new();
        png.encode(&Media { samples, facts }, None, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_operators::codec::Limits;

    #[test]
    fn tiles_fill_rows_from_left_to_right() {
        let mut sheet = Sheet::of(3);
        assert_eq!(sheet.columns(), 2);
        for grey in [50, 100, 150] {
            sheet.add(&Tile::image(1, 1, 1, &[grey]).unwrap());
        }
        let mut samples = Vec::new();
        let png = codec::named("png").unwrap();
        let facts = png.decode(&sheet.png().unwrap(), &Limits::default(), &mut samples).unwrap();
        let side = 2 * SIDE + 3 * GAP;
        assert_eq!(facts, Facts::Image { width: side as u32, height: side as u32, channels: 3 });
        let at = |column: usize, row: usize| {
            let middle = |tile: usize| GAP + tile * (SIDE + GAP) + SIDE / 2;
            samples[(middle(row) * side + middle(column)) * 3]
        };
        assert_eq!([at(0, 0), at(1, 0), at(0, 1), at(1, 1)], [50, 100, 150, 0]);
    }
}
