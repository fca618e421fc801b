//! The second half of a block, in each of its kinds: `x += feed_forward(norm(x))`.
//!
//! ```
//! use anabranch_models::artifact::architecture::{
//!     Architecture, FeedForward, Head, Inputs, Rows, Wires,
//! };
//! use anabranch_models::engine::feed_forward::Scratch;
//! use anabranch_models::engine::{Gpt, Level, example};
//!
//! let gpt = Gpt::load(&example::random(&Architecture {
//!     width: 32,
//!     heads: 2,
//!     layers: 1,
//!     inputs: Inputs::Tokens { vocabulary: 50, context: 16 },
//!     head: Head::NextToken,
//!     feed_forward: FeedForward::Rows(Rows { nodes: 16, inputs: 4, wires: Wires::Axis }),
//! })?)?;
//! let block = gpt.feed_forward(0).expect("its blocks have tables");
//! let mut token: Vec<f32> = (0..32).map(|i| i as f32 / 16.0 - 1.0).collect();
//! let grid = block.grid(Level::detect(), &token);
//! assert!(block.addresses(Level::detect(), &grid)[0].iter().all(|address| *address < 16));
//! block.add(Level::detect(), &mut token, &mut Scratch::default());
//! # Ok::<(), anabranch_models::engine::EngineError>(())
//! ```

mod bits;
mod int8;
mod mlp;
mod rows;

pub(super) use bits::BitsBlock;
pub(super) use int8::Int8;
pub(super) use mlp::Mlp;
pub(super) use rows::RowsBlock;

use super::kernels::bitslice::Plane;
use super::kernels::norm::Norm;
use super::load::Tensors;
use super::{EngineError, Level, Options};
use crate::artifact::architecture::{Architecture, FeedForward as Kind};

/// Room that a feed-forward works in, kept between calls.
#[derive(Debug, Default)]
pub struct Scratch {
    floats: Vec<f32>,
    hidden: Vec<f32>,
    grid: Vec<u8>,
    bytes: Vec<u8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    rows: Vec<u32>,
    active: Vec<u32>,
    planes: Vec<Vec<Plane>>,
    columns: Vec<[u8; 64]>,
}

/// The second half of a block.
#[derive(Debug)]
pub struct FeedForward {
    norm: Norm,
    kind: Loaded,
}

#[derive(Debug)]
enum Loaded {
    Mlp(Mlp),
    Int8(Int8),
    Rows(RowsBlock),
    Bits(BitsBlock),
}

impl FeedForward {
    /// That of a block, or nothing where the architecture has none.
    pub(super) fn load(
        block: &Tensors<'_>,
        architecture: &Architecture,
        options: Options,
    ) -> Result<Option<Self>, EngineError> {
        let width = architecture.width;
        let kind = match &architecture.feed_forward {
            Kind::None => return Ok(None),
            Kind::Mlp { hidden } => {
                let tensors = block.under("mlp");
                if options.int8 {
                    Loaded::Int8(Int8::load(&tensors, width, *hidden)?)
                } else {
                    Loaded::Mlp(Mlp::load(&tensors, width, *hidden)?)
                }
            }
            Kind::Rows(rows) => Loaded::Rows(RowsBlock::load(&block.under("rows"), width, rows)?),
            Kind::Bits(bits) => Loaded::Bits(BitsBlock::load(&block.under("bits"), width, bits)?),
        };
        Ok(Some(Self { norm: block.norm("norm2")?, kind }))
    }

    /// Floats between a token of `x` and the next one: the width up to whole lanes.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.norm.gain.len()
    }

    /// `x += feed_forward(norm(x))` for each token of `x`, which are [`FeedForward::stride`] floats apart and have
    /// zeros behind the width.
    pub fn add(&self, level: Level, x: &mut [f32], scratch: &mut Scratch) {
        match &self.kind {
            Loaded::Mlp(mlp) => mlp.add(level, &self.norm, x, scratch),
            Loaded::Int8(mlp) => mlp.add(level, &self.norm, x, scratch),
            Loaded::Rows(rows) => rows.add(level, &self.norm, x, scratch),
            Loaded::Bits(bits) => bits.add(level, &self.norm, x, scratch),
        }
    }

    /// The integer grid that tables see: a byte for each feature of each token of `x`.
    #[must_use]
    pub fn grid(&self, level: Level, x: &[f32]) -> Vec<u8> {
        let stride = self.stride().max(1);
        let mut grid = vec![0; x.len()];
        super::kernels::norm::norm_to_grid(level, &self.norm, x, &mut grid, stride);
        grid.chunks(stride).flat_map(|token| token.iter().take(self.norm.width)).copied().collect()
    }

    /// The address of each table, layer by layer, for a token on the grid; nothing for an MLP. A block of rows is
    /// one layer.
    #[must_use]
    pub fn addresses(&self, level: Level, grid: &[u8]) -> Vec<Vec<u8>> {
        match &self.kind {
            Loaded::Mlp(_) | Loaded::Int8(_) => Vec::new(),
            Loaded::Rows(rows) => vec![rows.addresses(level, grid)],
            Loaded::Bits(bits) => bits.addresses(level, grid),
        }
    }
}
