//! The kernel of [`Rows`](super::Rows): addresses, then a sum of table rows.

use rayon::prelude::*;

use super::address::{Wires, difference};
use super::transform::smooth;
use super::{FEWEST_INPUTS, MOST_INPUTS};
use crate::kernel::{Kernel, Output, View, add, lanes};

/// `x [rows, values]`, `thresholds [..]`, `table [nodes, 2^n, width]`, `bias [width]` give
/// `bias + sum over nodes of table[node][address]`, shape `[rows, width]`.
///
/// Forward saves the addresses only, a byte per node and row.
#[derive(Clone, Debug)]
pub(crate) struct RowSum {
    /// The wires of all nodes.
    pub(crate) wires: Wires,
}

/// Rows of one task.
const ROWS: usize = 32;
/// Columns that one pass over the nodes sums in registers.
const COLUMNS: usize = 64;

lanes! {
    /// `out = bias + sum of the addressed rows`, for one row of addresses.
    fn sum_rows(addresses: &[u8], table: &[f32], node: usize, bias: &[f32], out: &mut [f32]) {
        let width = bias.len();
        let mut from = 0;
        for (out, bias) in out.chunks_mut(COLUMNS).zip(bias.chunks(COLUMNS)) {
            if let (Ok(fixed), Ok(bias)) =
                (<&mut [f32; COLUMNS]>::try_from(&mut *out), <&[f32; COLUMNS]>::try_from(bias))
            {
                let mut sums = *bias;
                for (address, table) in addresses.iter().zip(table.chunks_exact(node)) {
                    let at = *address as usize * width + from;
                    let row = table.get(at..).and_then(|row| row.first_chunk::<COLUMNS>());
                    if let Some(row) = row {
                        for (sum, value) in sums.iter_mut().zip(row) {
                            *sum += value;
                        }
                    }
                }
                *fixed = sums;
            } else {
                out.copy_from_slice(bias);
                for (address, table) in addresses.iter().zip(table.chunks_exact(node)) {
                    let at = *address as usize * width + from;
                    add(out, table.get(at..at + out.len()).unwrap_or_default());
                }
            }
            from += COLUMNS;
        }
    }
}

/// What the backward pass of one node reads and writes.
struct Node<'a> {
    /// Values `[rows, values]`, and how many a row has.
    x: &'a [f32],
    values: usize,
    thresholds: &'a [f32],
    features: &'a [u32],
    limits: &'a [u32],
    /// Addresses `[rows, nodes]`, and this node's place.
    addresses: &'a [u8],
    nodes: usize,
    node: usize,
    /// The gradient `[rows, width]`.
    gradient: &'a [f32],
    width: usize,
    surrogate: super::Surrogate,
    /// The node's smoothed table.
    smoothed: &'a [f32],
    /// The gradient by its table.
    by_table: &'a mut [f32],
    /// The gradient by the value of every wire, `[rows, n]`.
    by_wire: &'a mut [f32],
    /// The gradient by the threshold of every wire.
    by_limit: &'a mut [f32],
}

/// One node of `N` inputs. A row costs `N + 1` scalar products with the gradient, because
/// `<v[a | k] - v[a & !k], g>` needs the addressed row and its `N` neighbours only.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "arrays of fixed size by constant loops")]
fn node_backward<const N: usize>(task: &mut Node<'_>) {
    const LANES: usize = 16;
    let width = task.width;
    let addresses = task.addresses.iter().skip(task.node).step_by(task.nodes);
    let rows = task.x.chunks_exact(task.values).zip(task.gradient.chunks_exact(width));
    for (((x, gradient), address), by_wire) in
        rows.zip(addresses).zip(task.by_wire.chunks_exact_mut(N))
    {
        let address = *address as usize;
        if let Some(row) = task.by_table.get_mut(address * width..(address + 1) * width) {
            add(row, gradient);
        }
        // Row 0 is the addressed one, row 1 + k the neighbour across bit k.
        let mut whole: [&[[f32; LANES]]; MOST_INPUTS + 1] = [&[]; MOST_INPUTS + 1];
        let mut products = [0.0_f32; MOST_INPUTS + 1];
        let (gradient, gradient_tail) = gradient.as_chunks::<LANES>();
        for i in 0..=N {
            let at = if i == 0 { address } else { address ^ (1 << (i - 1)) };
            let row = task.smoothed.get(at * width..(at + 1) * width).unwrap_or_default();
            let (chunks, tail) = row.as_chunks::<LANES>();
            whole[i] = chunks.get(..gradient.len()).unwrap_or_default();
            products[i] = tail.iter().zip(gradient_tail).map(|(v, g)| v * g).sum();
        }
        let mut lanes = [[0.0_f32; LANES]; MOST_INPUTS + 1];
        for (c, gradient) in gradient.iter().enumerate() {
            for i in 0..=N {
                for l in 0..LANES {
                    lanes[i][l] += whole[i][c][l] * gradient[l];
                }
            }
        }
        for i in 0..=N {
            let mut half = LANES / 2;
            while half > 0 {
                for l in 0..half {
                    lanes[i][l] += lanes[i][l + half];
                }
                half /= 2;
            }
            products[i] += lanes[i][0];
        }
        for (k, by_wire) in by_wire.iter_mut().enumerate() {
            let (Some(feature), Some(limit)) = (task.features.get(k), task.limits.get(k)) else {
                continue;
            };
            let step = products[0] - products[k + 1];
            let step = if address >> k & 1 == 1 { step } else { -step };
            let z = difference(x, task.thresholds, *feature, *limit);
            *by_wire = step * task.surrogate.slope(z);
        }
        for (by_limit, by_wire) in task.by_limit.iter_mut().zip(by_wire) {
            *by_limit -= *by_wire;
        }
    }
}

lanes! {
    fn backward_of_node(task: &mut Node<'_>) {
        match task.features.len() {
            2 => node_backward::<2>(task),
            3 => node_backward::<3>(task),
            4 => node_backward::<4>(task),
            5 => node_backward::<5>(task),
            6 => node_backward::<6>(task),
            7 => node_backward::<7>(task),
            8 => node_backward::<8>(task),
            other => unreachable!("{FEWEST_INPUTS} to {MOST_INPUTS} inputs, not {other}"),
        }
    }
}

impl Kernel<4> for RowSum {
    /// The address of every node, `[rows, nodes]`.
    type Saved = Vec<u8>;

    fn forward(&self, inputs: [View<'_>; 4], _tracked: bool) -> Output<Self::Saved> {
        let [x, thresholds, table, bias] = inputs;
        let (nodes, width) = (self.wires.nodes(), bias.values.len());
        let node = width << self.wires.inputs;
        let mut out = vec![0.0; x.rows() * width];
        let mut addresses = vec![0; x.rows() * nodes];
        out.par_chunks_mut(ROWS * width)
            .zip(addresses.par_chunks_mut(ROWS * nodes))
            .zip(x.values.par_chunks(ROWS * x.width()))
            .for_each(|((out, addresses), values)| {
                let rows = out.chunks_exact_mut(width).zip(addresses.chunks_exact_mut(nodes));
                for ((out, addresses), x) in rows.zip(values.chunks_exact(x.width())) {
                    self.wires.addresses(x, thresholds.values, addresses);
                    sum_rows(addresses, table.values, node, bias.values, out);
                }
            });
        Output::new(out, &[x.rows(), width], addresses)
    }

    fn backward(
        &self,
        inputs: [View<'_>; 4],
        addresses: &Self::Saved,
        gradient: View<'_>,
        [by_x, ..]: [bool; 4],
    ) -> [Option<Vec<f32>>; 4] {
        let [x, thresholds, table, bias] = inputs;
        let (nodes, width, n) = (self.wires.nodes(), bias.values.len(), self.wires.inputs);
        let (rows, node) = (x.rows(), width << n);
        let mut by_table = vec![0.0; table.values.len()];
        let mut by_wire = vec![0.0; nodes * rows * n];
        let mut by_limit = vec![0.0; nodes * n];
        by_table
            .par_chunks_mut(node)
            .zip(by_wire.par_chunks_mut((rows * n).max(1)))
            .zip(by_limit.par_chunks_mut(n))
            .zip(table.values.par_chunks(node))
            .zip(self.wires.features.par_chunks(n).zip(self.wires.thresholds.par_chunks(n)))
            .enumerate()
            .for_each(|(node, ((((by_table, by_wire), by_limit), table), (features, limits)))| {
                let mut smoothed = table.to_vec();
                smooth(&mut smoothed, width);
                backward_of_node(&mut Node {
                    x: x.values,
                    values: x.width(),
                    thresholds: thresholds.values,
                    features,
                    limits,
                    addresses,
                    nodes,
                    node,
                    gradient: gradient.values,
                    width,
                    surrogate: self.wires.surrogate,
                    smoothed: &smoothed,
                    by_table,
                    by_wire,
                    by_limit,
                });
            });
        let mut by_threshold = vec![0.0; thresholds.values.len()];
        for (limit, gradient) in self.wires.thresholds.iter().zip(&by_limit) {
            if let Some(sum) = by_threshold.get_mut(*limit as usize) {
                *sum += gradient;
            }
        }
        [
            by_x.then(|| self.to_values(x, &by_wire)),
            Some(by_threshold),
            Some(by_table),
            Some(crate::kernel::linear::column_sums(gradient.values, width)),
        ]
    }
}

impl RowSum {
    /// Adds the gradients of the wires, `[nodes, rows, n]`, to the values that they read.
    fn to_values(&self, x: View<'_>, by_wire: &[f32]) -> Vec<f32> {
        let (n, rows) = (self.wires.inputs, x.rows());
        let mut by_x = vec![0.0; x.values.len()];
        by_x.par_chunks_mut(ROWS * x.width()).enumerate().for_each(|(task, by_x)| {
            for (row, by_x) in by_x.chunks_exact_mut(x.width()).enumerate() {
                let row = task * ROWS + row;
                for ((features, _), by_node) in
                    self.wires.by_node().zip(by_wire.chunks_exact(rows * n))
                {
                    let by_node = by_node.get(row * n..).unwrap_or_default();
                    for (feature, gradient) in features.iter().zip(by_node) {
                        if let Some(sum) = by_x.get_mut(*feature as usize) {
                            *sum += gradient;
                        }
                    }
                }
            }
        });
        by_x
    }
}
