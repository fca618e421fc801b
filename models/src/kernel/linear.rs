//! `y = x W^T`, or `y = x W` for a matrix that is stored input by output.

use rayon::prelude::*;

use super::{Kernel, Matrix, Output, View, add, lanes, multiply_in_parallel};

/// A product of rows with one matrix: `x [.., in]`, `weight [out, in]`, or `[in, out]` when
/// `transposed`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    /// Whether the weight is stored as `[in, out]`.
    pub(crate) transposed: bool,
}

impl Linear {
    fn weight<'a>(self, view: View<'a>) -> Matrix<'a> {
        let (rows, columns) = (view.rows(), view.width());
        let weight = Matrix::new(view.values, rows, columns);
        if self.transposed { weight } else { weight.transposed() }
    }
}

impl Kernel<2> for Linear {
    type Saved = ();

    fn forward(&self, [x, weight]: [View<'_>; 2], _tracked: bool) -> Output<()> {
        let out = if self.transposed { weight.width() } else { weight.rows() };
        let input = Matrix::new(x.values, x.rows(), x.width());
        let mut shape = x.shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = out;
        }
        Output::new(multiply_in_parallel(input, self.weight(weight)), &shape, ())
    }

    fn backward(
        &self,
        [x, weight]: [View<'_>; 2],
        (): &(),
        gradient: View<'_>,
        [by_x, by_weight]: [bool; 2],
    ) -> [Option<Vec<f32>>; 2] {
        let input = Matrix::new(x.values, x.rows(), x.width());
        let output = Matrix::new(gradient.values, gradient.rows(), gradient.width());
        [
            by_x.then(|| multiply_in_parallel(output, self.weight(weight).transposed())),
            by_weight.then(|| {
                if self.transposed {
                    multiply_in_parallel(input.transposed(), output)
                } else {
                    multiply_in_parallel(output.transposed(), input)
                }
            }),
        ]
    }
}

/// `x + bias`, the bias repeated over rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bias;

impl Kernel<2> for Bias {
    type Saved = ();

    fn forward(&self, [x, bias]: [View<'_>; 2], _tracked: bool) -> Output<()> {
        let mut out = x.values.to_vec();
        out.par_chunks_mut(bias.values.len().max(1) * 64).for_each(|rows| {
            add_to_rows(rows, bias.values);
        });
        Output::new(out, x.shape, ())
    }

    fn backward(
        &self,
        [_, bias]: [View<'_>; 2],
        (): &(),
        gradient: View<'_>,
        [by_x, by_bias]: [bool; 2],
    ) -> [Option<Vec<f32>>; 2] {
        [
            by_x.then(|| gradient.values.to_vec()),
            by_bias.then(|| column_sums(gradient.values, bias.values.len())),
        ]
    }
}

lanes! {
    /// Adds one row to every row.
    pub(crate) fn add_to_rows(rows: &mut [f32], row: &[f32]) {
        for out in rows.chunks_exact_mut(row.len().max(1)) {
            add(out, row);
        }
    }
}

/// The sum of all rows, first row first.
pub(crate) fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    lanes! {
        fn accumulate(rows: &[f32], sums: &mut [f32]) {
            for row in rows.chunks_exact(sums.len().max(1)) {
                add(sums, row);
            }
        }
    }
    let mut sums = vec![0.0; width];
    accumulate(rows, &mut sums);
    sums
}
