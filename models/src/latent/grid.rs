//! Pictures and sounds as wavelet packets on a grid of positions, and back.
//!
//! A block is `2^levels` samples of a sound, or as many rows and columns of a picture; it becomes one position of the
//! grid, whose vector holds the coefficients of all bands and planes. What is cut off at the right, at the bottom or at
//! the end is filled with the last sample, row or frame before it is transformed.
//!
//! Element `(y * planes + plane) * 2^levels + x` of a vector belongs to row `y` and column `x` of the blocks of a
//! plane; sounds have the row 0 only. Which band that is, the bits of `x` and `y` say: bit 0 is set for the high
//! band of the first level, bit 1 for that of the second, and so on.

use super::lifting::{columns16, rows16, rows32};
use super::matrix::{Packed, STEP};
use super::{Extent, Kind};
use crate::engine::Level;

/// Bits behind the point of a picture's samples.
const FRACTION: i16 = 3;
/// Bits that the coefficients of a sound lose: they have 32 bits and vectors 16.
const GAIN: u32 = 3;
/// Positions that are multiplied at once.
const POSITIONS: usize = 256;

/// How many units of a coefficient are one of a sample.
pub(crate) fn unit(kind: Kind) -> f64 {
    match kind {
        Kind::Picture => f64::from(1 << FRACTION),
        Kind::Sound => 1.0 / f64::from(1 << GAIN),
    }
}

/// Coefficients of one record: `rows` rows of blocks of `across` positions.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    planes: usize,
    levels: usize,
    /// Rows of a block.
    tall: usize,
    rows: usize,
    across: usize,
    /// `[rows * tall, planes, 2^levels, across]`.
    values: Vec<i16>,
    wide: Vec<i32>,
}

/// How many rows and columns of positions a record has.
pub(crate) fn positions(extent: Extent, levels: usize) -> (usize, usize) {
    match extent {
        Extent::Picture { width, height } => {
            let blocks = |samples: u32| (samples as usize).div_ceil(1 << levels);
            (blocks(height), blocks(width))
        }
        Extent::Sound { frames, .. } => (1, (frames as usize).div_ceil(1 << levels)),
    }
}

/// A range of positions: some rows of blocks, or some columns of one row.
struct Tile {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

impl Grid {
    /// Makes room for a record.
    fn shape(&mut self, extent: Extent, planes: usize, levels: usize) {
        let kind = extent.kind();
        (self.rows, self.across) = positions(extent, levels);
        (self.planes, self.levels) = (planes, levels);
        self.tall = if kind == Kind::Picture { 1 << levels } else { 1 };
        // Whoever fills it, fills all of it.
        self.values.resize(self.rows * self.tall * self.stride(), 0);
    }

    /// Coefficients of a row of samples.
    fn stride(&self) -> usize {
        (self.planes * self.across) << self.levels
    }

    /// Positions, all of them.
    pub(crate) fn len(&self) -> usize {
        self.rows * self.across
    }

    /// The coefficients of a picture of 8-bit samples, interleaved. One of one channel gives it to all planes.
    pub(crate) fn analyse_picture(
        &mut self,
        samples: &[u8],
        (width, height, channels): (u32, u32, usize),
        planes: usize,
        levels: usize,
    ) {
        self.shape(Extent::Picture { width, height }, planes, levels);
        let (across, stride) = (self.across, self.stride());
        let lines = samples.chunks_exact((width as usize * channels).max(1));
        let mut last: &[u8] = &[];
        let mut lines = lines.fuse();
        for to in self.values.chunks_exact_mut(stride.max(1)) {
            last = lines.next().unwrap_or(last);
            for (plane, to) in to.chunks_exact_mut((across << levels).max(1)).enumerate() {
                let channel = if channels == planes { plane } else { 0 };
                split(last, channels, channel, across, levels, to);
            }
        }
        rows16(&mut self.values, across, levels, false);
        columns16(&mut self.values, stride, levels, false);
    }

    /// The samples of a picture, interleaved, from its coefficients; all planes, or only the first.
    fn synthesise_picture(
        &mut self,
        (width, height, channels): (u32, u32, usize),
        to: &mut Vec<u8>,
    ) {
        let (across, stride, levels) = (self.across, self.stride(), self.levels);
        columns16(&mut self.values, stride, levels, true);
        rows16(&mut self.values, across, levels, true);
        let line = width as usize * channels;
        let start = to.len();
        to.resize(start + line * height as usize, 0);
        let lines = to.get_mut(start..).unwrap_or_default().chunks_exact_mut(line.max(1));
        for (values, line) in self.values.chunks_exact(stride.max(1)).zip(lines) {
            let planes = values.chunks_exact((across << levels).max(1));
            for (channel, values) in planes.take(channels).enumerate() {
                for (phase, values) in values.chunks_exact(across.max(1)).enumerate() {
                    let places = line.iter_mut().skip(phase * channels + channel);
                    for (place, value) in places.step_by(channels << levels).zip(values) {
                        let rounded = (value.saturating_add(1 << (FRACTION - 1)) >> FRACTION) + 128;
                        *place = rounded.clamp(0, 255) as u8;
                    }
                }
            }
        }
    }

    /// The coefficients of a sound of 16-bit samples, interleaved. One of one channel gives it to all planes.
    pub(crate) fn analyse_sound(
        &mut self,
        samples: &[i16],
        channels: usize,
        planes: usize,
        levels: usize,
    ) {
        let frames = (samples.len() / channels.max(1)) as u64;
        self.shape(Extent::Sound { rate: 0, frames }, planes, levels);
        let across = self.across;
        self.wide.resize(self.values.len(), 0);
        for (plane, to) in self.wide.chunks_exact_mut((across << levels).max(1)).enumerate() {
            let channel = if channels == planes { plane } else { 0 };
            let last = samples.len().saturating_sub(channels - channel);
            let last = samples.get(last).copied().unwrap_or_default();
            for (phase, to) in to.chunks_exact_mut(across.max(1)).enumerate() {
                let from = samples.iter().skip(phase * channels + channel);
                let mut from = from.step_by(channels << levels);
                to.fill_with(|| i32::from(from.next().copied().unwrap_or(last)));
            }
        }
        rows32(&mut self.wide, across, levels, false);
        for (to, wide) in self.values.iter_mut().zip(&self.wide) {
            *to = ((wide + (1 << (GAIN - 1))) >> GAIN).clamp(-32_768, 32_767) as i16;
        }
    }

    /// The samples of a sound, interleaved, little-endian, from its coefficients.
    fn synthesise_sound(&mut self, frames: u64, channels: usize, to: &mut Vec<u8>) {
        let (across, levels) = (self.across, self.levels);
        self.wide.clear();
        self.wide.extend(self.values.iter().map(|value| i32::from(*value) << GAIN));
        rows32(&mut self.wide, across, levels, true);
        let start = to.len();
        to.resize(start + frames as usize * channels * 2, 0);
        let (places, _) = to.get_mut(start..).unwrap_or_default().as_chunks_mut::<2>();
        let planes = self.wide.chunks_exact((across << levels).max(1));
        for (channel, values) in planes.take(channels).enumerate() {
            for (phase, values) in values.chunks_exact(across.max(1)).enumerate() {
                let places = places.iter_mut().skip(phase * channels + channel);
                for (place, value) in places.step_by(channels << levels).zip(values) {
                    *place = ((*value).clamp(-32_768, 32_767) as i16).to_le_bytes();
                }
            }
        }
    }

    /// The samples of a record, from its coefficients; appended to `to`.
    pub(crate) fn synthesise(&mut self, extent: Extent, channels: usize, to: &mut Vec<u8>) {
        match extent {
            Extent::Picture { width, height } => {
                self.synthesise_picture((width, height, channels), to);
            }
            Extent::Sound { frames, .. } => self.synthesise_sound(frames, channels, to),
        }
    }

    fn tiles(&self) -> impl Iterator<Item = Tile> + use<> {
        let (rows, across) = (self.rows, self.across);
        let columns = across.clamp(1, POSITIONS);
        let tall = (POSITIONS / columns).max(1);
        (0..rows).step_by(tall).flat_map(move |row| {
            (0..across).step_by(columns).map(move |column| Tile {
                row,
                rows: tall.min(rows - row),
                column,
                columns: columns.min(across - column),
            })
        })
    }

    /// The first `rows` rows of a map times the vector of every position: `each` gets the first position of a tile, and how far apart and how
    /// many the numbers of each row of the result are.
    pub(crate) fn map(
        &self,
        (map, rows): (&Packed, usize),
        level: Level,
        scratch: &mut Scratch,
        mut each: impl FnMut(usize, usize, usize, &[i16]),
    ) {
        let bands = self.planes << self.levels;
        for tile in self.tiles() {
            let count = tile.rows * tile.columns;
            let n = count.next_multiple_of(STEP);
            scratch.pairs.resize(map.pairs() * n, [0; 2]);
            for y in 0..self.tall {
                for band in (0..bands).step_by(2) {
                    let to = (y * bands + band) / 2 * n;
                    let Some(to) = scratch.pairs.get_mut(to..to + count) else { continue };
                    for (row, to) in to.chunks_exact_mut(tile.columns).enumerate() {
                        let line = (tile.row + row) * self.tall + y;
                        let (a, b) =
                            (self.part(line, band, &tile), self.part(line, band + 1, &tile));
                        for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                            *to = [*a, *b];
                        }
                    }
                }
            }
            scratch.out.resize(rows.min(map.rows()) * n, 0);
            map.apply(level, &scratch.pairs, n, &mut scratch.out);
            each(tile.row * self.across + tile.column, count, n, &scratch.out);
        }
    }

    /// Fills the grid of a record with a map of the vectors that `each` gives: it gets the first position of a tile,
    /// their count, how far apart rows of pairs are, and where the pairs go.
    pub(crate) fn fill(
        &mut self,
        (extent, planes, levels): (Extent, usize, usize),
        map: &Packed,
        level: Level,
        scratch: &mut Scratch,
        mut each: impl FnMut(usize, usize, usize, &mut [[i16; 2]]),
    ) {
        self.shape(extent, planes, levels);
        let bands = self.planes << self.levels;
        for tile in self.tiles() {
            let count = tile.rows * tile.columns;
            let n = count.next_multiple_of(STEP);
            scratch.pairs.resize(map.pairs() * n, [0; 2]);
            each(tile.row * self.across + tile.column, count, n, &mut scratch.pairs);
            scratch.out.resize(map.rows() * n, 0);
            map.apply(level, &scratch.pairs, n, &mut scratch.out);
            for (element, from) in scratch.out.chunks_exact(n).enumerate() {
                let (y, band) = (element / bands, element % bands);
                for (row, from) in from.chunks_exact(tile.columns).take(tile.rows).enumerate() {
                    let line = (tile.row + row) * self.tall + y;
                    let start = line * self.stride() + band * self.across + tile.column;
                    if let Some(to) = self.values.get_mut(start..start + tile.columns) {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
    }

    /// Adds to every coefficient, rounded: for each, as a vector has them, its lines of positions.
    pub(crate) fn correct<'a, L>(&mut self, corrections: impl Iterator<Item = L>)
    where
        L: Iterator<Item = &'a [f32]>,
    {
        let (bands, across, stride) = (self.planes << self.levels, self.across, self.stride());
        let single = self.tall == 1;
        for (element, lines) in corrections.enumerate() {
            let (y, band) = (element / bands, element % bands);
            let mut values = self.values.iter_mut().skip(y * stride + band * across);
            // Positions of a sound are lines of one.
            let gap = if single { 0 } else { self.tall * stride - across };
            for (at, line) in lines.enumerate() {
                if at > 0 && gap > 0 {
                    values.nth(gap - 1);
                }
                // The line first: a zip takes from its first side once more than there are pairs.
                for (correction, value) in line.iter().zip(values.by_ref()) {
                    *value = value.saturating_add(correction.round() as i16);
                }
            }
        }
    }

    /// The coefficients of a band in a row of samples, at the columns of a tile.
    fn part(&self, line: usize, band: usize, tile: &Tile) -> &[i16] {
        let start = line * self.stride() + band * self.across + tile.column;
        self.values.get(start..start + tile.columns).unwrap_or_default()
    }

    /// The vector of a position.
    pub(crate) fn vector(&self, position: usize, to: &mut Vec<i16>) {
        let (row, column) = (position / self.across.max(1), position % self.across.max(1));
        let bands = self.planes << self.levels;
        to.clear();
        for y in 0..self.tall {
            let start = (row * self.tall + y) * self.stride() + column;
            let band = |band: usize| self.values.get(start + band * self.across);
            to.extend((0..bands).map(|at| band(at).copied().unwrap_or_default()));
        }
    }
}

/// Room that is used again from record to record.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pairs: Vec<[i16; 2]>,
    out: Vec<i16>,
}

/// A channel of a line of pixels by phase. What the line lacks is its last pixel.
fn split(
    line: &[u8],
    channels: usize,
    channel: usize,
    across: usize,
    levels: usize,
    to: &mut [i16],
) {
    let sample = |byte: u8| (i16::from(byte) - 128) << FRACTION;
    let last = line.len().saturating_sub(channels - channel);
    let last = sample(line.get(last).copied().unwrap_or_default());
    for (phase, to) in to.chunks_exact_mut(across.max(1)).enumerate() {
        let mut from = line.iter().skip(phase * channels + channel).step_by(channels << levels);
        for to in to {
            *to = from.next().map_or(last, |byte| sample(*byte));
        }
    }
}
