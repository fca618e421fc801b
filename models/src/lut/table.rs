//! The kernel of one layer of [`Bits`](super::Bits): addresses, then one centred bit per node.

use rayon::prelude::*;

use super::Surrogate;
use super::address::{Wires, difference};
use super::transform::smooth;
use crate::kernel::{Kernel, Output, View, add};

/// `x [rows, values]`, `thresholds [..]`, `table [nodes, 2^n]` give `[rows, nodes]`: 1/2 where the
/// addressed entry is positive, else -1/2.
///
/// The step over the entry has derivative 1 (DWN). Forward saves the addresses only.
#[derive(Clone, Debug)]
pub(crate) struct BitTable {
    /// The wires of all nodes.
    pub(crate) wires: Wires,
}

/// Rows of one task.
const ROWS: usize = 32;
/// Nodes of one task of the backward pass.
const NODES: usize = 32;

impl BitTable {
    /// All tables smoothed.
    fn smoothed(&self, table: View<'_>) -> Vec<f32> {
        let mut smoothed = table.values.to_vec();
        smoothed.par_chunks_mut(NODES << self.wires.inputs).for_each(|tables| {
            for table in tables.chunks_exact_mut(1 << self.wires.inputs) {
                smooth(table, 1);
            }
        });
        smoothed
    }

    /// The gradient by tables: every task owns a range of nodes and passes over all rows.
    fn by_tables(&self, table: View<'_>, addresses: &[u8], gradient: View<'_>) -> Vec<f32> {
        let (nodes, n) = (self.wires.nodes(), self.wires.inputs);
        let mut by_table = vec![0.0; table.values.len()];
        by_table.par_chunks_mut(NODES << n).enumerate().for_each(|(task, by_table)| {
            let from = task * NODES;
            let rows = addresses.chunks_exact(nodes).zip(gradient.values.chunks_exact(nodes));
            for (addresses, gradient) in rows {
                let read = addresses.iter().zip(gradient).skip(from);
                for ((address, g), by_table) in read.zip(by_table.chunks_exact_mut(1 << n)) {
                    if let Some(entry) = by_table.get_mut(*address as usize) {
                        *entry += g;
                    }
                }
            }
        });
        by_table
    }

    /// The gradients by values and thresholds: every task owns a range of rows, and the thresholds'
    /// sums over ranges are added in order.
    fn by_values(
        &self,
        [x, thresholds, table]: [View<'_>; 3],
        addresses: &[u8],
        gradient: View<'_>,
    ) -> (Vec<f32>, Vec<f32>) {
        let nodes = self.wires.nodes();
        let smoothed = self.smoothed(table);
        let mut by_x = vec![0.0; x.values.len()];
        let parts: Vec<Vec<f32>> = by_x
            .par_chunks_mut(ROWS * x.width())
            .zip(x.values.par_chunks(ROWS * x.width()))
            .zip(addresses.par_chunks(ROWS * nodes))
            .zip(gradient.values.par_chunks(ROWS * nodes))
            .map(|(((by_x, values), addresses), gradient)| {
                let mut by_threshold = vec![0.0; thresholds.values.len()];
                let rows = by_x.chunks_exact_mut(x.width()).zip(values.chunks_exact(x.width()));
                let read = addresses.chunks_exact(nodes).zip(gradient.chunks_exact(nodes));
                for ((by_x, x), (addresses, gradient)) in rows.zip(read) {
                    let read = (x, thresholds.values, addresses, gradient);
                    self.by_row(read, &smoothed, by_x, &mut by_threshold);
                }
                by_threshold
            })
            .collect();
        let mut by_threshold = vec![0.0; thresholds.values.len()];
        for part in &parts {
            add(&mut by_threshold, part);
        }
        (by_x, by_threshold)
    }

    /// Adds the gradients of one row: of its values, thresholds, addresses and gradient.
    fn by_row(
        &self,
        (x, thresholds, addresses, gradient): (&[f32], &[f32], &[u8], &[f32]),
        smoothed: &[f32],
        by_x: &mut [f32],
        by_threshold: &mut [f32],
    ) {
        let tables = smoothed.chunks_exact(1 << self.wires.inputs);
        for (((address, g), v), (features, limits)) in
            addresses.iter().zip(gradient).zip(tables).zip(self.wires.by_node())
        {
            for (k, (feature, limit)) in features.iter().zip(limits).enumerate() {
                let slope = match self.wires.surrogate {
                    Surrogate::Identity => 1.0,
                    Surrogate::Triangle => {
                        Surrogate::Triangle.slope(difference(x, thresholds, *feature, *limit))
                    }
                };
                let change = g * step(v, *address, k) * slope;
                if let Some(sum) = by_x.get_mut(*feature as usize) {
                    *sum += change;
                }
                if let Some(sum) = by_threshold.get_mut(*limit as usize) {
                    *sum -= change;
                }
            }
        }
    }
}

/// The extended finite difference across bit `k`.
#[inline(always)]
fn step(smoothed: &[f32], address: u8, k: usize) -> f32 {
    let (high, low) = (address as usize | 1 << k, address as usize & !(1 << k));
    match (smoothed.get(high), smoothed.get(low)) {
        (Some(high), Some(low)) => high - low,
        _ => 0.0,
    }
}

impl Kernel<3> for BitTable {
    /// The address of every node, `[rows, nodes]`.
    type Saved = Vec<u8>;

    fn forward(&self, [x, thresholds, table]: [View<'_>; 3], _tracked: bool) -> Output<Vec<u8>> {
        let nodes = self.wires.nodes();
        let mut out = vec![0.0; x.rows() * nodes];
        let mut addresses = vec![0; x.rows() * nodes];
        out.par_chunks_mut(ROWS * nodes)
            .zip(addresses.par_chunks_mut(ROWS * nodes))
            .zip(x.values.par_chunks(ROWS * x.width()))
            .for_each(|((out, addresses), values)| {
                let rows = out.chunks_exact_mut(nodes).zip(addresses.chunks_exact_mut(nodes));
                for ((out, addresses), x) in rows.zip(values.chunks_exact(x.width())) {
                    self.wires.addresses(x, thresholds.values, addresses);
                    let tables = table.values.chunks_exact(1 << self.wires.inputs);
                    for ((out, address), table) in out.iter_mut().zip(addresses).zip(tables) {
                        let positive = table.get(*address as usize).is_some_and(|v| *v > 0.0);
                        *out = if positive { 0.5 } else { -0.5 };
                    }
                }
            });
        Output::new(out, &[x.rows(), nodes], addresses)
    }

    fn backward(
        &self,
        inputs: [View<'_>; 3],
        addresses: &Self::Saved,
        gradient: View<'_>,
        _wanted: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let [_, _, table] = inputs;
        let (by_x, by_threshold) = self.by_values(inputs, addresses, gradient);
        [Some(by_x), Some(by_threshold), Some(self.by_tables(table, addresses, gradient))]
    }
}
