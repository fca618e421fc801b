//! The paper's block: 1-bit tables, then the sum of the output rows of set bits.
//!
//! Many tokens go through the tables as planes of bits, and the sum is a product of bytes. Few tokens go one by one:
//! look-ups, and only the rows of set bits are added. Both give the same integers.

use super::Scratch;
use crate::artifact::architecture::Bits;
use crate::engine::kernels::addresses::{Wires, feature_stride, pick};
use crate::engine::kernels::bitslice::{self, Above, Layer, TOKENS, evaluate, spread, thermometer};
use crate::engine::kernels::dot::{Bytes, dot};
use crate::engine::kernels::lookup::{look_up, set};
use crate::engine::kernels::norm::{Norm, norm_to_grid};
use crate::engine::kernels::rows::{Table, add_rows};
use crate::engine::kernels::sums::add_scaled;
use crate::engine::load::{Tensors, lanes};
use crate::engine::{EngineError, Level};

/// From so many tokens on planes are quicker.
const MANY: usize = 32;

#[derive(Debug)]
pub(in crate::engine) struct BitsBlock {
    /// Bits of the thermometer that some wire looks at, by feature.
    above: Vec<Above>,
    layers: Vec<Layer>,
    /// The same layers for tokens one by one: wires of the first look at features, of the others at bits.
    single: Vec<Wires>,
    /// The output, as rows and as a matrix.
    rows: Table,
    output: Bytes,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl BitsBlock {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        width: usize,
        bits: &Bits,
    ) -> Result<Self, EngineError> {
        let thresholds = tensors.get::<u8>("thresholds")?;
        let levels = bits.levels.max(1);
        let above = |wire: &u32| Above {
            feature: wire / u32::try_from(levels).unwrap_or(u32::MAX),
            threshold: thresholds.get(*wire as usize).copied().unwrap_or(u8::MAX),
        };
        // A node's number stands left of at least six bits: those of a word of its table.
        let shift = u32::try_from(bits.inputs).unwrap_or_default().max(6);
        let (mut layers, mut single, mut used) = (Vec::new(), Vec::new(), Vec::new());
        for (number, _) in bits.nodes.iter().enumerate() {
            let tensors = tensors.under(number);
            let wires = tensors.get::<u32>("wires")?;
            let tables = tensors.get::<u64>("table")?.to_vec();
            let mut layer =
                Layer { inputs: bits.inputs, wires: wires.to_vec(), tables, words: bits.words() };
            if number == 0 {
                used = wires.iter().map(above).collect::<Vec<_>>();
                used.sort_unstable();
                used.dedup();
                layer.wires = wires
                    .iter()
                    .filter_map(|wire| used.binary_search(&above(wire)).ok())
                    .map(|plane| u32::try_from(plane).unwrap_or(u32::MAX))
                    .collect();
                let features = wires.iter().map(above).map(|a| (a.feature as usize, a.threshold));
                single.push(Wires::pack(features, bits.inputs, width, shift));
            } else {
                let before = bits.nodes.get(number - 1).copied().unwrap_or_default();
                let features = wires.iter().map(|wire| (*wire as usize, 0));
                single.push(Wires::pack(features, bits.inputs, before, shift));
            }
            layers.push(layer);
        }
        let output = tensors.get::<i8>("output")?;
        let last = output.len() / width.max(1);
        let column = |column: usize| output.iter().skip(column).step_by(width).copied();
        let transposed = (0..width).flat_map(column).collect::<Vec<_>>();
        let (scale, bias) = (tensors.get("scale")?, tensors.get("bias")?);
        Ok(Self {
            above: used,
            layers,
            single,
            rows: Table::pack(output, scale, bias),
            output: Bytes::pack(&transposed, last),
            scale: lanes(scale),
            bias: lanes(bias),
        })
    }

    pub(super) fn add(&self, level: Level, before: &Norm, x: &mut [f32], scratch: &mut Scratch) {
        let stride = before.gain.len().max(1);
        let grid_stride = feature_stride(before.width);
        for x in x.chunks_mut(TOKENS * stride) {
            let tokens = x.len() / stride;
            scratch.grid.resize(tokens * grid_stride, 0);
            norm_to_grid(level, before, x, &mut scratch.grid, grid_stride);
            if tokens < MANY {
                for (token, x) in x.chunks_exact_mut(stride).enumerate() {
                    self.one(level, token, grid_stride, scratch);
                    add_rows(level, &self.rows, &scratch.active, x);
                }
            } else {
                self.many(level, tokens, grid_stride, scratch);
                add_scaled(level, x, &scratch.sums, &self.scale, &self.bias);
            }
        }
    }

    /// Sums of output rows for all tokens of `scratch.grid`, to `scratch.sums`.
    fn many(&self, level: Level, tokens: usize, grid_stride: usize, scratch: &mut Scratch) {
        let Scratch { grid, planes, columns, bytes, sums, .. } = scratch;
        planes.resize(self.layers.len() + 1, Vec::new());
        if let Some(planes) = planes.first_mut() {
            planes.resize(self.above.len(), bitslice::Plane::default());
            thermometer(level, &self.above, grid, grid_stride, columns, planes);
        }
        for (number, layer) in self.layers.iter().enumerate() {
            let (before, after) = planes.split_at_mut(number + 1);
            let (Some(from), Some(to)) = (before.last(), after.first_mut()) else { continue };
            to.resize(layer.tables.len() / layer.words.max(1), bitslice::Plane::default());
            evaluate(level, layer, from, to);
        }
        let last = planes.last().map(Vec::as_slice).unwrap_or_default();
        let stride = last.len().next_multiple_of(64);
        bytes.resize(TOKENS * stride, 0);
        spread(level, last, bytes, stride);
        sums.resize(tokens * self.output.stride(), 0);
        dot(level, &self.output, bytes.get(..tokens * stride).unwrap_or_default(), stride, sums);
    }

    /// The output rows of set bits of a token, to `scratch.active`.
    fn one(&self, level: Level, token: usize, grid_stride: usize, scratch: &mut Scratch) {
        let Scratch { grid, rows, bytes, active, .. } = scratch;
        let mut features = grid.get(token * grid_stride..).unwrap_or_default();
        for (layer, wires) in self.layers.iter().zip(&self.single) {
            rows.resize(wires.stride(), 0);
            pick(level, wires, features, rows);
            let nodes = wires.nodes();
            bytes.clear();
            bytes.resize(feature_stride(nodes), 0);
            let picked = rows.get(..nodes).unwrap_or_default();
            look_up(level, layer, picked, bytes.get_mut(..nodes).unwrap_or_default());
            features = bytes;
        }
        set(level, features, active);
    }

    /// The address of each node of each layer, for a token on the grid.
    pub(super) fn addresses(&self, level: Level, grid: &[u8]) -> Vec<Vec<u8>> {
        let mut features = grid.to_vec();
        features.resize(feature_stride(grid.len()), 0);
        let mut addresses = Vec::new();
        for (layer, wires) in self.layers.iter().zip(&self.single) {
            let mut rows = vec![0; wires.stride()];
            pick(level, wires, &features, &mut rows);
            rows.truncate(wires.nodes());
            let shift = wires.shift();
            let address = |(node, row): (u32, &u32)| (row - (node << shift)) as u8;
            addresses.push((0..).zip(&rows).map(address).collect());
            features = vec![0; feature_stride(wires.nodes())];
            look_up(level, layer, &rows, &mut features);
        }
        addresses
    }
}
