//! The kernel of one layer of [`Bits`](super::Bits): addresses, then one centred bit per node.

use std::collections::HashMap;

use rayon::prelude::*;

use super::address::{Wires, difference};
use super::transform::smooth;
use crate::kernel::{Kernel, Output, View, add};

/// `x [rows, values]`, `thresholds [..]`, `table [nodes, 2^n]` give `[rows, nodes]`: 1/2 where the
/// addressed entry is positive, else -1/2.
///
/// The step over the entry has derivative 1 (DWN). Forward saves the addresses only.
#[derive(Clone, Debug)]
pub(crate) struct BitTable {
    wires: Wires,
    terminals: Terminals,
}

/// What wires compare, each pair of value and threshold once: many more wires than thermometer bits
/// lead to the nodes of a layer.
#[derive(Clone, Debug)]
struct Terminals {
    features: Vec<u32>,
    limits: Vec<u32>,
    /// The terminal of every wire.
    of_wires: Vec<u32>,
}

/// Rows of one task.
const ROWS: usize = 32;
/// Nodes of one task of the backward pass.
const NODES: usize = 32;

impl Terminals {
    fn new(wires: &Wires) -> Self {
        let mut known = HashMap::new();
        let mut terminals = Self { features: Vec::new(), limits: Vec::new(), of_wires: Vec::new() };
        for (feature, limit) in wires.features.iter().zip(wires.thresholds.iter()) {
            let next = known.len() as u32;
            let terminal = *known.entry((*feature, *limit)).or_insert(next);
            if terminal == next {
                terminals.features.push(*feature);
                terminals.limits.push(*limit);
            }
            terminals.of_wires.push(terminal);
        }
        terminals
    }

    fn count(&self) -> usize {
        self.features.len()
    }

    /// Value and threshold of every terminal.
    fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.features.iter().copied().zip(self.limits.iter().copied())
    }
}

impl BitTable {
    pub(crate) fn new(wires: Wires) -> Self {
        Self { terminals: Terminals::new(&wires), wires }
    }

    /// Writes the address of every node for one row of values; `bits` has room for all terminals.
    fn addresses(&self, x: &[f32], thresholds: &[f32], bits: &mut [u8], out: &mut [u8]) {
        for (bit, (feature, limit)) in bits.iter_mut().zip(self.terminals.pairs()) {
            *bit = u8::from(difference(x, thresholds, feature, limit) > 0.0);
        }
        let nodes = self.terminals.of_wires.chunks_exact(self.wires.inputs);
        for (wires, out) in nodes.zip(out) {
            let mut address = 0;
            for (k, wire) in wires.iter().enumerate() {
                address |= bits.get(*wire as usize).copied().unwrap_or(0) << k;
            }
            *out = address;
        }
    }

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
                let mut sums = vec![0.0; self.terminals.count()];
                let rows = by_x.chunks_exact_mut(x.width()).zip(values.chunks_exact(x.width()));
                let read = addresses.chunks_exact(nodes).zip(gradient.chunks_exact(nodes));
                for ((by_x, x), (addresses, gradient)) in rows.zip(read) {
                    self.by_terminals(addresses, gradient, &smoothed, &mut sums);
                    for (sum, (feature, limit)) in sums.iter().zip(self.terminals.pairs()) {
                        let z = difference(x, thresholds.values, feature, limit);
                        let change = sum * self.wires.surrogate.slope(z);
                        if let Some(sum) = by_x.get_mut(feature as usize) {
                            *sum += change;
                        }
                        if let Some(sum) = by_threshold.get_mut(limit as usize) {
                            *sum -= change;
                        }
                    }
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

    /// The gradient by the bits of all terminals, for one row: the extended finite differences of
    /// the nodes that they lead to.
    fn by_terminals(&self, addresses: &[u8], gradient: &[f32], smoothed: &[f32], sums: &mut [f32]) {
        let n = self.wires.inputs;
        sums.fill(0.0);
        let nodes = self.terminals.of_wires.chunks_exact(n).zip(smoothed.chunks_exact(1 << n));
        for ((address, g), (wires, v)) in addresses.iter().zip(gradient).zip(nodes) {
            for (k, wire) in wires.iter().enumerate() {
                let (high, low) = (*address as usize | 1 << k, *address as usize & !(1 << k));
                if let (Some(high), Some(low), Some(sum)) =
                    (v.get(high), v.get(low), sums.get_mut(*wire as usize))
                {
                    *sum += g * (high - low);
                }
            }
        }
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
                let mut bits = vec![0; self.terminals.count()];
                let rows = out.chunks_exact_mut(nodes).zip(addresses.chunks_exact_mut(nodes));
                for ((out, addresses), x) in rows.zip(values.chunks_exact(x.width())) {
                    self.addresses(x, thresholds.values, &mut bits, addresses);
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
