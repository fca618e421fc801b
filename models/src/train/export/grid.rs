//! The exported integers, run through Burn's forward pass.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::Exported;
use super::quantise::{ZERO, grid};
use crate::artifact::architecture::{Bits, FeedForward, Rows, Wires};
use crate::transformer::{Input, InputError, Transformer};

/// What the exported model computes.
#[derive(Debug, Clone)]
pub struct GridPass {
    /// Logits, as [`Transformer::forward`] gives them.
    pub logits: Tensor<2>,
    /// The addresses of every block and LUT layer, `[tokens * nodes]`, node by node within a token:
    /// for 1-bit tables every layer's, for tables of rows one layer's, otherwise none.
    pub addresses: Vec<Vec<Vec<u8>>>,
    /// What the tables of every block see, `[tokens * width]`; empty where a block has none.
    pub grids: Vec<Vec<u8>>,
}

/// The forward pass of a model whose feed-forward halves are the exported integers; MLPs and
/// everything else are computed as trained.
///
/// Integer sums are exact, so every address and bit is what the engine must find when its norm
/// rounds alike; the last multiplication by the scale is `f32`.
///
/// # Errors
///
/// When the input does not fit the model.
pub fn forward_on_grid(
    model: &Transformer,
    tensors: &[Exported],
    input: &Input,
) -> Result<GridPass, InputError> {
    let model = model.valid();
    let tensors: BTreeMap<&str, &Exported> =
        tensors.iter().map(|tensor| (tensor.shape.name.as_str(), tensor)).collect();
    let mut addresses = vec![Vec::new(); model.blocks.len()];
    let mut grids = vec![Vec::new(); model.blocks.len()];
    let width = model.architecture().width;
    let feed_forward = &model.architecture().feed_forward;
    let logits = model.forward_with(input, |layer, block, x| {
        let (device, shape) = (x.device(), x.dims());
        let part =
            |what: &str| Part { tensors: &tensors, prefix: format!("blocks.{layer}.{what}") };
        let (out, found, seen) = match feed_forward {
            FeedForward::Rows(rows) => {
                let seen = on_grid(x);
                let (out, found) = rows_on_grid(rows, width, &part("rows"), &seen);
                (out, found, seen)
            }
            FeedForward::Bits(bits) => {
                let seen = on_grid(x);
                let (out, found) = bits_on_grid(bits, width, &part("bits"), &seen);
                (out, found, seen)
            }
            FeedForward::None | FeedForward::Mlp { .. } => return block.feed_forward(x),
        };
        if let (Some(addresses), Some(grid)) = (addresses.get_mut(layer), grids.get_mut(layer)) {
            (*addresses, *grid) = (found, seen);
        }
        Tensor::from_data(TensorData::new(out, shape), &device)
    })?;
    Ok(GridPass { logits, addresses, grids })
}

fn on_grid(x: Tensor<2>) -> Vec<u8> {
    let x = x.into_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default();
    x.into_iter().map(grid).collect()
}

/// The exported tensors of one feed-forward half.
struct Part<'a> {
    tensors: &'a BTreeMap<&'a str, &'a Exported>,
    prefix: String,
}

impl Part<'_> {
    fn integers(&self, what: &str) -> Vec<i64> {
        let name = format!("{}.{what}", self.prefix);
        self.tensors.get(name.as_str()).map(|tensor| tensor.integers()).unwrap_or_default()
    }

    /// Integers of at most 32 bits.
    fn small(&self, what: &str) -> Vec<i32> {
        self.integers(what).iter().map(|value| *value as i32).collect()
    }

    fn floats(&self, what: &str) -> Vec<f32> {
        let name = format!("{}.{what}", self.prefix);
        self.tensors.get(name.as_str()).map(|tensor| tensor.floats()).unwrap_or_default()
    }
}

type Found = (Vec<f32>, Vec<Vec<u8>>);

/// `bit k << k` over the wires of each node.
fn pack(bits: impl Iterator<Item = bool>, inputs: usize) -> Vec<u8> {
    let bits: Vec<bool> = bits.collect();
    let nodes = bits.chunks_exact(inputs);
    nodes
        .map(|node| node.iter().enumerate().fold(0, |a, (k, bit)| a | u8::from(*bit) << k))
        .collect()
}

/// `bias + scale * sum`.
fn scaled<'a>(
    sums: &'a [i32],
    scale: &'a [f32],
    bias: &'a [f32],
) -> impl Iterator<Item = f32> + 'a {
    sums.iter().zip(scale).zip(bias).map(|((sum, scale), bias)| bias + *sum as f32 * scale)
}

fn add_row(sums: &mut [i32], table: &[i32], row: usize) {
    let width = sums.len();
    let row = table.get(row * width..(row + 1) * width).unwrap_or_default();
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += value;
    }
}

fn rows_on_grid(rows: &Rows, width: usize, part: &Part<'_>, x: &[u8]) -> Found {
    let (thresholds, table) = (part.small("thresholds"), part.small("table"));
    let (scale, bias) = (part.floats("scale"), part.floats("bias"));
    let (wires, projection) = (part.small("wires"), part.small("projection"));
    let tokens = x.par_chunks_exact(width).map(|x| {
        let centred: Vec<i32> = x.iter().map(|x| i32::from(*x) - ZERO as i32).collect();
        let values: Vec<i32> = match rows.wires {
            Wires::Axis => {
                let read = wires.iter().map(|wire| x.get(*wire as usize).copied());
                read.map(|x| x.map_or(0, i32::from)).collect()
            }
            Wires::Projected => projection
                .chunks_exact(width)
                .map(|weights| weights.iter().zip(&centred).map(|(w, x)| w * x).sum())
                .collect(),
        };
        let addresses = pack(values.iter().zip(&thresholds).map(|(v, t)| v > t), rows.inputs);
        let mut sums = vec![0; width];
        for (node, address) in addresses.iter().enumerate() {
            add_row(&mut sums, &table, (node << rows.inputs) + *address as usize);
        }
        (scaled(&sums, &scale, &bias).collect::<Vec<_>>(), addresses)
    });
    let (out, found): (Vec<_>, Vec<_>) = tokens.unzip();
    (out.concat(), vec![found.concat()])
}

fn bits_on_grid(bits: &Bits, width: usize, part: &Part<'_>, x: &[u8]) -> Found {
    let (thresholds, output) = (part.small("thresholds"), part.small("output"));
    let (scale, bias) = (part.floats("scale"), part.floats("bias"));
    let layers: Vec<(Vec<i64>, Vec<i64>)> = (0..bits.nodes.len())
        .map(|j| (part.integers(&format!("{j}.wires")), part.integers(&format!("{j}.table"))))
        .collect();
    let mut out = Vec::new();
    let mut found = vec![Vec::new(); layers.len()];
    for x in x.chunks_exact(width) {
        let levels = thresholds.chunks_exact(bits.levels);
        let mut values: Vec<bool> = levels
            .zip(x)
            .flat_map(|(levels, x)| levels.iter().map(|t| i32::from(*x) > *t))
            .collect();
        for ((wires, table), found) in layers.iter().zip(&mut found) {
            let read = wires.iter().map(|w| values.get(*w as usize).copied().unwrap_or(false));
            let addresses = pack(read, bits.inputs);
            let words = table.chunks_exact(bits.words());
            let next = addresses.iter().zip(words).map(|(address, words)| {
                let word = words.get(*address as usize / 64).copied().unwrap_or(0);
                word >> (address % 64) & 1 == 1
            });
            values = next.collect();
            found.extend(addresses);
        }
        let mut sums = vec![0; width];
        for (j, _) in values.iter().enumerate().filter(|(_, set)| **set) {
            add_row(&mut sums, &output, j);
        }
        out.extend(scaled(&sums, &scale, &bias));
    }
    (out, found)
}
