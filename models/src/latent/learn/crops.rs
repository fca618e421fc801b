//! Pieces of records, all of one size.

use burn::tensor::{Device, Tensor};

use super::super::compand::value;
use super::{POSITIONS, tensor};
use crate::random::Random;

/// Rows and positions of a row of a piece, at most: in pictures, and along a sound.
const SIDE: usize = 16;
const LONG: usize = 256;

/// A record as training reads it. Positions of a sound are rows of one.
#[derive(Debug)]
pub(crate) struct Example {
    pub(crate) rows: usize,
    pub(crate) across: usize,
    /// Coefficients, `[rows, across, bands]`.
    pub(crate) vectors: Vec<i16>,
    /// `[channels, rows, across]`, once the analysis is fixed.
    pub(crate) latents: Vec<i8>,
}

/// Where a piece begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    example: &'a Example,
    row: usize,
    column: usize,
}

/// Draws pieces.
#[derive(Debug)]
pub(super) struct Crops<'a> {
    fitting: Vec<&'a Example>,
    pub(super) rows: usize,
    pub(super) across: usize,
    pub(super) count: usize,
}

impl<'a> Crops<'a> {
    /// Pieces as large as half of the records are, within bounds.
    pub(super) fn of(examples: &'a [Example]) -> Self {
        let mut sorted: Vec<&Example> = examples.iter().collect();
        sorted.sort_by_key(|example| example.rows * example.across);
        let middle = sorted.get(sorted.len() / 2).map_or((1, 1), |e| (e.rows, e.across));
        let rows = middle.0.min(if middle.1 == 1 { LONG } else { SIDE });
        let across = middle.1.min(SIDE);
        sorted.retain(|example| example.rows >= rows && example.across >= across);
        Self { fitting: sorted, rows, across, count: (POSITIONS / (rows * across).max(1)).max(1) }
    }

    /// Places of the pieces of one step.
    pub(super) fn draw(&self, random: &mut Random) -> Vec<Place<'a>> {
        let draw = |_| {
            let example = *self.fitting.get(random.below(self.fitting.len()))?;
            let row = random.below(example.rows - self.rows + 1);
            let column = random.below(example.across - self.across + 1);
            Some(Place { example, row, column })
        };
        (0..self.count).filter_map(draw).collect()
    }

    /// The coefficients of pieces, each less an offset and times a factor of its band: `[pieces, rows, across, bands]`.
    pub(super) fn vectors(
        &self,
        places: &[Place<'_>],
        (offsets, factors): (&[f32], &[f32]),
        device: &Device,
    ) -> Tensor<4> {
        let bands = factors.len();
        let mut values = Vec::with_capacity(places.len() * self.rows * self.across * bands);
        for Place { example, row, column } in places {
            for row in *row..row + self.rows {
                let start = (row * example.across + column) * bands;
                let line = example.vectors.get(start..start + self.across * bands);
                for vector in line.unwrap_or_default().chunks_exact(bands) {
                    let scaled = vector.iter().zip(offsets).zip(factors);
                    values.extend(scaled.map(|((x, offset), by)| f32::from(*x) * by - offset));
                }
            }
        }
        tensor(values, [places.len(), self.rows, self.across, bands], device)
    }

    /// What the latents of pieces stand for, in steps: `[pieces, rows, across, channels]`.
    pub(super) fn latents(&self, places: &[Place<'_>], device: &Device) -> Tensor<4> {
        let (mut values, mut channels) = (Vec::new(), 1);
        for Place { example, row, column } in places {
            let plane = example.rows * example.across;
            channels = example.latents.len() / plane.max(1);
            for row in *row..row + self.rows {
                for column in *column..column + self.across {
                    let position = row * example.across + column;
                    let of = example.latents.iter().skip(position).step_by(plane);
                    values.extend(of.map(|latent| value(*latent) as f32));
                }
            }
        }
        tensor(values, [places.len(), self.rows, self.across, channels], device)
    }
}
