//! Tables written in the Walsh-Hadamard basis, high orders damped.
//!
//! A table is the sum over subsets `s` of its inputs of `coefficient[s] * damping^|s| * (-1)^(bits of
//! the address in s)`. With damping below 1 an optimiser step changes entries that share many
//! address bits together, so that entries which no sample visited follow their neighbours.

use rayon::prelude::*;

use super::transform::walsh;
use crate::kernel::{Kernel, Output, View};

/// `coefficients [nodes, 2^n, width]` give tables of the same shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spectrum {
    /// The factor per input of a subset.
    pub(crate) damping: f32,
}

impl Spectrum {
    fn damp(self, table: &mut [f32], width: usize) {
        for (subset, row) in table.chunks_exact_mut(width).enumerate() {
            let factor = self.damping.powi(subset.count_ones() as i32);
            for value in row {
                *value *= factor;
            }
        }
    }

    fn each(
        self,
        values: &[f32],
        shape: &[usize],
        work: impl Fn(&mut [f32], usize) + Sync,
    ) -> Vec<f32> {
        let mut out = values.to_vec();
        if let [_, entries, width] = *shape {
            out.par_chunks_mut((entries * width).max(1)).for_each(|table| work(table, width));
        }
        out
    }
}

impl Kernel<1> for Spectrum {
    type Saved = ();

    fn forward(&self, [x]: [View<'_>; 1], _tracked: bool) -> Output<()> {
        let tables = self.each(x.values, x.shape, |table, width| {
            self.damp(table, width);
            walsh(table, width);
        });
        Output::new(tables, x.shape, ())
    }

    fn backward(
        &self,
        [x]: [View<'_>; 1],
        (): &(),
        gradient: View<'_>,
        _wanted: [bool; 1],
    ) -> [Option<Vec<f32>>; 1] {
        // The transform is symmetric, so its transpose is the same two steps in the other order.
        [Some(self.each(gradient.values, x.shape, |table, width| {
            walsh(table, width);
            self.damp(table, width);
        }))]
    }
}
