//! The LUT layers in plain tensor operations: what runs on every Burn backend that has no kernel of
//! its own. Ten to twenty-five times slower than the kernels on a CPU, and the same mathematics.

use burn::tensor::{Int, Tensor, TensorData};

use super::Surrogate;
use super::address::Wires;

/// Which half of the smoothed differences an address needs, and the wires' values with gradients.
struct Addressed {
    /// `[rows * nodes]`, counted through the tables of all nodes.
    entries: Tensor<1, Int>,
    /// `[rows * nodes, n]`: zero, with the surrogate's derivative by values and thresholds.
    zero: Tensor<2>,
}

fn addressed(x: Tensor<2>, thresholds: Tensor<1>, wires: &Wires) -> Addressed {
    let device = x.device();
    let [rows, _] = x.dims();
    let (nodes, n) = (wires.nodes(), wires.inputs);
    let index = |values: &[u32]| {
        let values: Vec<i64> = values.iter().map(|v| i64::from(*v)).collect();
        Tensor::<1, Int>::from_data(TensorData::from(values.as_slice()), &device)
    };
    let limits = thresholds.select(0, index(&wires.thresholds)).unsqueeze::<2>();
    let z = x.select(1, index(&wires.features)) - limits;
    let slope = match wires.surrogate {
        Surrogate::Triangle => (z.clone().detach().abs().neg() + 1.0).clamp_min(0.0),
        Surrogate::Identity => z.clone().detach().ones_like(),
    };
    let powers: Vec<i64> = (0..n).map(|k| 1 << k).collect();
    let powers = Tensor::<1, Int>::from_data(TensorData::from(powers.as_slice()), &device);
    let bits = z.clone().detach().greater_elem(0.0).int().reshape([rows, nodes, n]);
    let address = (bits * powers.reshape([1, 1, n])).sum_dim(2).reshape([rows, nodes]);
    let first: Vec<i64> = (0..nodes as i64).map(|node| node << n).collect();
    let first = Tensor::<1, Int>::from_data(TensorData::from(first.as_slice()), &device);
    let entries = (address + first.reshape([1, nodes])).reshape([rows * nodes]);
    let soft = z * slope;
    let zero = (soft.clone() - soft.detach()).reshape([rows * nodes, n]);
    Addressed { entries, zero }
}

/// The finite differences of all smoothed tables across bit `k`, one per address:
/// `table [nodes, 2^n, width]` gives `[nodes * 2^n, width]`.
fn differences(table: &Tensor<3>, n: usize, k: usize) -> Tensor<2> {
    let [nodes, entries, width] = table.dims();
    let smoothed = (0..n).fold(table.clone().detach(), |table, bit| {
        let pairs = table.reshape([nodes * (entries >> (bit + 1)), 2, (1 << bit) * width]);
        (pairs.clone() * 0.75 + pairs.flip([1]) * 0.25).reshape([nodes, entries, width])
    });
    let pairs = smoothed.reshape([nodes * (entries >> (k + 1)), 2, (1 << k) * width]);
    let low = pairs.clone().narrow(1, 0, 1);
    let high = pairs.narrow(1, 1, 1);
    (high - low).repeat_dim(1, 2).reshape([nodes * entries, width])
}

/// Adds zero with the gradient by the wires: `[rows * nodes, width]`.
fn by_wires(addressed: &Addressed, table: &Tensor<3>, n: usize) -> Tensor<2> {
    let parts = (0..n).map(|k| {
        let difference = differences(table, n, k).select(0, addressed.entries.clone());
        addressed.zero.clone().narrow(1, k, 1) * difference
    });
    parts.reduce(|a, b| a + b).unwrap_or_else(|| addressed.zero.clone().narrow(1, 0, 1))
}

/// [`RowSum`](super::sum::RowSum) in plain operations.
pub(crate) fn row_sum(
    x: Tensor<2>,
    thresholds: Tensor<1>,
    table: Tensor<3>,
    bias: Tensor<1>,
    wires: &Wires,
) -> Tensor<2> {
    let [rows, _] = x.dims();
    let [nodes, entries, width] = table.dims();
    let addressed = addressed(x, thresholds, wires);
    let change = by_wires(&addressed, &table, wires.inputs);
    let chosen = table.reshape([nodes * entries, width]).select(0, addressed.entries);
    let sum = (chosen + change).reshape([rows, nodes, width]).sum_dim(1).reshape([rows, width]);
    sum + bias.unsqueeze::<2>()
}

/// [`BitTable`](super::table::BitTable) in plain operations.
pub(crate) fn bit_table(
    x: Tensor<2>,
    thresholds: Tensor<1>,
    table: Tensor<2>,
    wires: &Wires,
) -> Tensor<2> {
    let [rows, _] = x.dims();
    let [nodes, entries] = table.dims();
    let table = table.reshape([nodes, entries, 1]);
    let addressed = addressed(x, thresholds, wires);
    let change = by_wires(&addressed, &table, wires.inputs);
    let chosen = table.reshape([nodes * entries, 1]).select(0, addressed.entries);
    let bit = chosen.clone().detach().greater_elem(0.0).float() - 0.5;
    let passed = chosen.clone() - chosen.detach();
    (bit + passed + change).reshape([rows, nodes])
}

/// [`Spectrum`](super::spectrum::Spectrum) in plain operations.
pub(crate) fn spectrum(coefficients: Tensor<3>, damping: f32) -> Tensor<3> {
    let device = coefficients.device();
    let [nodes, entries, width] = coefficients.dims();
    let factors: Vec<f32> =
        (0..entries).map(|subset| damping.powi(subset.count_ones() as i32)).collect();
    let factors = Tensor::<1>::from_data(TensorData::from(factors.as_slice()), &device);
    let damped = coefficients * factors.reshape([1, entries, 1]);
    (0..entries.trailing_zeros()).fold(damped, |table, bit| {
        let pairs = table.reshape([nodes * (entries >> (bit + 1)), 2, (1 << bit) * width]);
        let (low, high) = (pairs.clone().narrow(1, 0, 1), pairs.narrow(1, 1, 1));
        Tensor::cat(vec![low.clone() + high.clone(), low - high], 1)
            .reshape([nodes, entries, width])
    })
}
