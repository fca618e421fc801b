//! Tokens of a vocabulary, patches and spectra as rows of floats.

use super::EngineError;
use super::kernels::Level;
use super::kernels::linear::{Matrix, linear};
use super::kernels::sums::{add, add_with_bias};
use super::load::{Tensors, lanes};

/// Learned rows for numbers.
#[derive(Debug)]
pub(super) struct Vocabulary {
    tokens: Vec<f32>,
    width: usize,
}

impl Vocabulary {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        name: &str,
        width: usize,
    ) -> Result<Self, EngineError> {
        Ok(Self { tokens: tensors.get::<f32>(name)?.to_vec(), width })
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.tokens.len() / self.width.max(1)
    }

    /// `to += row`; the row must exist, else nothing is added.
    pub(super) fn add(&self, row: usize, to: &mut [f32]) {
        let row = self.tokens.chunks_exact(self.width.max(1)).nth(row).unwrap_or_default();
        to.iter_mut().zip(row).for_each(|(to, value)| *to += value);
    }
}

/// A linear layer from values to rows, with a position for each.
#[derive(Debug)]
pub(super) struct Projection {
    weight: Matrix,
    bias: Vec<f32>,
    positions: Vocabulary,
    first_position: usize,
}

impl Projection {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        values: usize,
        width: usize,
        positions: Vocabulary,
        first_position: usize,
    ) -> Result<Self, EngineError> {
        let (weight, bias) = (tensors.matrix("weight", values)?, lanes(tensors.get("bias")?));
        debug_assert_eq!(bias.len(), width.next_multiple_of(16));
        Ok(Self { weight, bias, positions, first_position })
    }

    /// Appends a row for each token of `values`, plus the type of the modality.
    pub(super) fn append(&self, level: Level, values: &[f32], kind: &[f32], x: &mut Vec<f32>) {
        let stride = self.weight.stride();
        let tokens = values.len() / self.weight.inputs.max(1);
        let mut projected = vec![0.0; tokens * stride];
        linear(level, &self.weight, values, self.weight.inputs, &mut projected);
        let start = x.len();
        x.resize(start + tokens * stride, 0.0);
        let x = x.get_mut(start..).unwrap_or_default();
        add_with_bias(level, x, &projected, &self.bias);
        for (position, x) in (self.first_position..).zip(x.chunks_exact_mut(stride.max(1))) {
            self.positions.add(position, x);
            add(level, x, kind);
        }
    }
}
