//! The feed-forward block of a transformer as one operation: `gelu(x U^T + a) D^T + b`, GELU in its
//! tanh form (Hendrycks and Gimpel, arXiv 1606.08415, section 2).

use rayon::prelude::*;

use super::linear::{add_to_rows, column_sums};
use super::{
    Kernel, Matrix, Output, View, lanes, multiply, multiply_in_parallel, rows_of_task, tanh,
};

/// `x [.., width]`, `up [hidden, width]`, `up_bias [hidden]`, `down [width, hidden]`,
/// `down_bias [width]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mlp;

/// What backward reads of the hidden layer.
#[derive(Debug)]
pub(crate) struct Hidden {
    /// GELU of the hidden values, rows by hidden.
    activation: Vec<f32>,
    /// Its derivative.
    slope: Vec<f32>,
}

lanes! {
    /// GELU in place; the derivative goes to `slope`.
    fn gelu(hidden: &mut [f32], slope: &mut [f32]) {
        /// sqrt(2 / pi).
        const C: f32 = 0.797_884_6;
        const CUBE: f32 = 0.044_715;
        for (h, s) in hidden.iter_mut().zip(slope) {
            let x = *h;
            let t = tanh(C * (x + CUBE * x * x * x));
            *h = 0.5 * x * (1.0 + t);
            *s = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * C * (1.0 + 3.0 * CUBE * x * x);
        }
    }
}

lanes! {
    fn scale(values: &mut [f32], by: &[f32]) {
        for (value, by) in values.iter_mut().zip(by) {
            *value *= by;
        }
    }
}

impl Kernel<5> for Mlp {
    type Saved = Hidden;

    fn forward(&self, inputs: [View<'_>; 5], _tracked: bool) -> Output<Hidden> {
        let [x, up, up_bias, down, down_bias] = inputs;
        let (rows, width, hidden) = (x.rows(), x.width(), up_bias.values.len());
        let mut out = vec![0.0; rows * width];
        let mut saved =
            Hidden { activation: vec![0.0; rows * hidden], slope: vec![0.0; rows * hidden] };
        let step = rows_of_task(rows).max(1);
        out.par_chunks_mut(step * width)
            .zip(saved.activation.par_chunks_mut(step * hidden))
            .zip(saved.slope.par_chunks_mut(step * hidden))
            .zip(x.values.par_chunks(step * width))
            .for_each(|(((out, activation), slope), x)| {
                let rows = x.len() / width;
                let up = Matrix::new(up.values, hidden, width).transposed();
                multiply(activation, hidden, Matrix::new(x, rows, width), up, 1.0, false);
                add_to_rows(activation, up_bias.values);
                gelu(activation, slope);
                let down = Matrix::new(down.values, width, hidden).transposed();
                multiply(out, width, Matrix::new(activation, rows, hidden), down, 1.0, false);
                add_to_rows(out, down_bias.values);
            });
        Output::new(out, x.shape, saved)
    }

    fn backward(
        &self,
        inputs: [View<'_>; 5],
        saved: &Hidden,
        gradient: View<'_>,
        _wanted: [bool; 5],
    ) -> [Option<Vec<f32>>; 5] {
        let [x, up, up_bias, down, _] = inputs;
        let (rows, width, hidden) = (x.rows(), x.width(), up_bias.values.len());
        let mut by_x = vec![0.0; rows * width];
        let mut by_hidden = vec![0.0; rows * hidden];
        let step = rows_of_task(rows).max(1);
        by_x.par_chunks_mut(step * width)
            .zip(by_hidden.par_chunks_mut(step * hidden))
            .zip(saved.slope.par_chunks(step * hidden))
            .zip(gradient.values.par_chunks(step * width))
            .for_each(|(((by_x, by_hidden), slope), gradient)| {
                let rows = gradient.len() / width;
                let down = Matrix::new(down.values, width, hidden);
                multiply(by_hidden, hidden, Matrix::new(gradient, rows, width), down, 1.0, false);
                scale(by_hidden, slope);
                let up = Matrix::new(up.values, hidden, width);
                multiply(by_x, width, Matrix::new(by_hidden, rows, hidden), up, 1.0, false);
            });
        let (output, inner) =
            (Matrix::new(gradient.values, rows, width), Matrix::new(&by_hidden, rows, hidden));
        let by_down =
            multiply_in_parallel(output.transposed(), Matrix::new(&saved.activation, rows, hidden));
        let by_up = multiply_in_parallel(inner.transposed(), Matrix::new(x.values, rows, width));
        [
            Some(by_x),
            Some(by_up),
            Some(column_sums(&by_hidden, hidden)),
            Some(by_down),
            Some(column_sums(gradient.values, width)),
        ]
    }
}
