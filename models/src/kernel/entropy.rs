//! Mean cross entropy of rows of logits against one class each.

use rayon::prelude::*;

use super::{Kernel, Output, View, exp, lanes, sum};

/// `logits [.., classes]` gives the mean of `-log softmax(logits)[target]`, shape `[1]`.
#[derive(Clone, Debug)]
pub(crate) struct Entropy {
    /// The class of every row, below the number of classes.
    pub(crate) targets: Vec<u32>,
}

/// Rows of one task.
const ROWS: usize = 64;

lanes! {
    /// Softmax of one row into `out`; the logarithm of its target's share.
    fn row_loss(logits: &[f32], out: &mut [f32], target: usize) -> f32 {
        let mut largest = f32::NEG_INFINITY;
        for x in logits {
            largest = largest.max(*x);
        }
        for (out, x) in out.iter_mut().zip(logits) {
            *out = exp(x - largest);
        }
        let total = sum(out);
        for out in out.iter_mut() {
            *out /= total;
        }
        // A NaN anywhere in the row reaches the loss through the total.
        logits.get(target).map_or(f32::NAN, |x| x - largest - total.ln())
    }
}

impl Kernel<1> for Entropy {
    /// The softmax of every row.
    type Saved = Vec<f32>;

    fn forward(&self, [logits]: [View<'_>; 1], _tracked: bool) -> Output<Self::Saved> {
        let classes = logits.width();
        let mut shares = vec![0.0; logits.values.len()];
        let parts: Vec<f64> = shares
            .par_chunks_mut(ROWS * classes)
            .zip(logits.values.par_chunks(ROWS * classes))
            .zip(self.targets.par_chunks(ROWS))
            .map(|((shares, logits), targets)| {
                let rows = shares.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
                rows.zip(targets)
                    .map(|((out, row), target)| f64::from(row_loss(row, out, *target as usize)))
                    .sum()
            })
            .collect();
        let total: f64 = parts.iter().sum();
        Output::new(vec![(-total / logits.rows() as f64) as f32], &[1], shares)
    }

    fn backward(
        &self,
        [logits]: [View<'_>; 1],
        shares: &Self::Saved,
        gradient: View<'_>,
        _wanted: [bool; 1],
    ) -> [Option<Vec<f32>>; 1] {
        let scale = gradient.values.first().copied().unwrap_or(0.0) / logits.rows() as f32;
        let mut out: Vec<f32> = shares.iter().map(|p| p * scale).collect();
        for (row, target) in out.chunks_exact_mut(logits.width()).zip(&self.targets) {
            if let Some(g) = row.get_mut(*target as usize) {
                *g -= scale;
            }
        }
        [Some(out)]
    }
}
