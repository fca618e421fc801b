//! Layers of look-up tables that learn.
//!
//! A **node** has `n` binary inputs (wires) and a table of `2^n` entries. A wire is one value against
//! a threshold, the bits form an address, the entry is the node's output. Two kinds stand side by
//! side:
//!
//! - [`Bits`]: an entry is one number whose sign is the output bit, and the bits of the last layer
//!   choose which rows of a matrix are summed (weightless networks with differentiable tables: DWN,
//!   Bacellar et al., arXiv 2410.11112; as the feed-forward of a transformer: QuWeiT, arXiv
//!   2411.01818);
//! - [`Rows`]: an entry is a whole row of the model's width, and the rows of all nodes are added.
//!
//! Neither has a useful derivative by its inputs, so both use extended finite differences (EFD, DWN
//! section 3.2). In the form of DWN's code EFD is the difference of a smoothed table: with
//! `v = (K x .. x K) table` and `K = [[3/4, 1/4], [1/4, 3/4]]`, the derivative by bit `k` at address
//! `a` is `v[a | 2^k] - v[a & !2^k]`. One transform per table and step, then `n` look-ups per sample.
//! The step of a wire's threshold passes its gradient through a [`Surrogate`].
//!
//! ```
//! use anabranch_models::lut::{Rows, RowsOptions, Wiring};
//! use anabranch_models::random::Random;
//! use burn::tensor::{Device, Distribution, Tensor};
//!
//! let device = Device::flex();
//! let mut random = Random::new(7);
//! // 4 nodes of 3 inputs each: 12 wires over 8 features, in place of an 8 -> 8 feed-forward block.
//! let options = RowsOptions { width: 8, nodes: 4, inputs: 3, ..RowsOptions::default() };
//! let block = Rows::new(&options, &Wiring::permutations(8, 12, &mut random), &mut random, &device);
//! let x = Tensor::<2>::random([5, 8], Distribution::Default, &device);
//! assert_eq!(block.forward(x).dims(), [5, 8]);
//! ```

mod address;
mod bits;
mod choose;
mod classifier;
mod penalty;
mod plain;
#[cfg(test)]
mod reference;
mod rows;
mod spectrum;
mod sum;
mod table;
mod thermometer;
mod transform;
mod wiring;

pub use address::Surrogate;
pub use bits::{BitLayer, Bits, BitsOptions, LutLayers};
pub use classifier::{ByteNetwork, Classifier, ClassifierError, ClassifierOptions};
pub use penalty::spectral_penalty;
pub use rows::{Rows, RowsOptions};
pub use thermometer::{Spacing, thresholds};
pub use wiring::Wiring;

/// The fewest inputs of a node.
pub const FEWEST_INPUTS: usize = 2;
/// The most inputs of a node: its address is one byte.
pub const MOST_INPUTS: usize = 8;
