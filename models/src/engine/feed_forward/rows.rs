//! Tables that hold rows: put onto the grid, pick a row of each table, add the rows.

use super::Scratch;
use crate::artifact::architecture::{Rows, Wires as Kind};
use crate::engine::kernels::addresses::{Projections, Wires, feature_stride, pick, pick_projected};
use crate::engine::kernels::norm::{Norm, norm_to_grid};
use crate::engine::kernels::rows::{Table, add_rows};
use crate::engine::load::Tensors;
use crate::engine::{EngineError, Level};

/// Tokens at once: a multiple of every tile, whose bytes and addresses stay in the first cache.
const TOKENS: usize = 48;

#[derive(Debug)]
pub(in crate::engine) struct RowsBlock {
    wires: Picked,
    table: Table,
}

#[derive(Debug)]
enum Picked {
    Axis(Wires),
    Projected(Projections),
}

impl RowsBlock {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        width: usize,
        rows: &Rows,
    ) -> Result<Self, EngineError> {
        let shift = u32::try_from(rows.inputs).unwrap_or_default();
        let wires = match rows.wires {
            Kind::Axis => {
                let wires = tensors.get::<u16>("wires")?.iter().map(|wire| usize::from(*wire));
                let thresholds = tensors.get::<u8>("thresholds")?.iter().copied();
                Picked::Axis(Wires::pack(wires.zip(thresholds), rows.inputs, width, shift))
            }
            Kind::Projected => {
                let weights = tensors.get("projection")?;
                let thresholds = tensors.get("thresholds")?;
                Picked::Projected(Projections::pack(weights, thresholds, rows.inputs, shift))
            }
        };
        let table = Table::pack(tensors.get("table")?, tensors.get("scale")?, tensors.get("bias")?);
        Ok(Self { wires, table })
    }

    pub(super) fn add(&self, level: Level, before: &Norm, x: &mut [f32], scratch: &mut Scratch) {
        let stride = before.gain.len().max(1);
        let grid_stride = feature_stride(before.width);
        for x in x.chunks_mut(TOKENS * stride) {
            let tokens = x.len() / stride;
            scratch.grid.resize(tokens * grid_stride, 0);
            norm_to_grid(level, before, x, &mut scratch.grid, grid_stride);
            let (per_token, nodes) = self.pick(level, grid_stride, scratch);
            for (x, rows) in x.chunks_exact_mut(stride).zip(scratch.rows.chunks_exact(per_token)) {
                add_rows(level, &self.table, rows.get(..nodes).unwrap_or_default(), x);
            }
        }
    }

    /// Fills `scratch.rows` from `scratch.grid`; how far tokens are apart, and how many rows each has.
    fn pick(&self, level: Level, stride: usize, scratch: &mut Scratch) -> (usize, usize) {
        let Scratch { grid, rows, sums, .. } = scratch;
        let tokens = grid.len() / stride.max(1);
        match &self.wires {
            Picked::Axis(wires) => {
                rows.resize(tokens * wires.stride(), 0);
                let each = grid.chunks_exact(stride).zip(rows.chunks_exact_mut(wires.stride()));
                each.for_each(|(grid, rows)| pick(level, wires, grid, rows));
                (wires.stride(), wires.nodes())
            }
            Picked::Projected(projections) => {
                rows.resize(tokens * projections.stride(), 0);
                pick_projected(level, projections, grid, stride, sums, rows);
                (projections.stride(), projections.nodes())
            }
        }
    }

    /// The address of each node for a token on the grid.
    pub(super) fn addresses(&self, level: Level, grid: &[u8]) -> Vec<u8> {
        let stride = feature_stride(grid.len());
        let mut scratch = Scratch::default();
        scratch.grid.extend_from_slice(grid);
        scratch.grid.resize(stride, 0);
        let (_, nodes) = self.pick(level, stride, &mut scratch);
        let address = |(node, row): (u32, &u32)| (row - (node << self.shift())) as u8;
        (0..).zip(scratch.rows.iter().take(nodes)).map(address).collect()
    }

    fn shift(&self) -> u32 {
        match &self.wires {
            Picked::Axis(wires) => wires.shift(),
            Picked::Projected(projections) => projections.shift(),
        }
    }
}
