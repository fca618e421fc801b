//! The block of 1-bit tables: thermometer, LUT layers, conditional summation.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::address::Wires;
use super::choose::{self, Candidates};
use super::table::BitTable;
use super::thermometer::normal_quantile;
use super::{FEWEST_INPUTS, MOST_INPUTS, Surrogate, Wiring, plain};
use crate::kernel::{self, linear::Bias, linear::Linear};
use crate::random::Random;

/// The sizes of a block and how it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct BitsOptions {
    /// Features in.
    pub width: usize,
    /// Thresholds per feature.
    pub levels: usize,
    /// Nodes of every LUT layer.
    pub nodes: Vec<usize>,
    /// Wires per node, 2 to 8.
    pub inputs: usize,
    /// Candidates per wire of the first layer; 1 fixes the wiring.
    pub choices: usize,
}

/// 1-bit tables and conditional summation (QuWeiT). Thermometer bits of the input address the first
/// LUT layer, its bits the next, and the bits of the last choose which rows of a matrix are added.
///
/// Three departures from the papers, each needed for it to learn at all in our trials: outputs are
/// centred (`-1/2` and `1/2`, so that the matrix sees inputs of mean zero), tables start as
/// pass-through of their first wire, and thresholds learn within a window of width 1.
#[derive(Module, Debug)]
pub struct Bits {
    /// Thermometer and LUT layers.
    pub luts: LutLayers,
    /// `[nodes of the last layer, outputs]`.
    pub output: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

/// A thermometer and layers of 1-bit tables.
#[derive(Module, Debug)]
pub struct LutLayers {
    /// `[width * levels]`, level by level within a feature.
    pub thresholds: Param<Tensor<1>>,
    /// The layers.
    pub layers: Vec<BitLayer>,
    #[module(skip)]
    levels: usize,
}

/// One layer of 1-bit tables.
#[derive(Module, Debug)]
pub struct BitLayer {
    /// `[wires, choices]`, when the wiring is learned.
    pub scores: Option<Param<Tensor<2>>>,
    /// `[nodes, 2^inputs]`, kept in `[-1, 1]`: the sign is the bit.
    pub table: Param<Tensor<2>>,
    #[module(skip)]
    wiring: Wiring,
}

impl BitLayer {
    fn new(
        values: usize,
        nodes: usize,
        inputs: usize,
        choices: usize,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let wiring = match choices {
            0 | 1 => Wiring::permutations(values, nodes * inputs, random),
            choices => Wiring::learned(values, nodes * inputs, choices, random),
        };
        let scores = (wiring.choices() > 1).then(|| {
            let scores = choose::scores(&wiring, random);
            Param::from_data(TensorData::new(scores, [nodes * inputs, wiring.choices()]), device)
        });
        // Pass-through: an entry is positive where bit 0 of its address is set.
        let table: Vec<f32> = (0..nodes << inputs)
            .map(|entry| random.uniform() * if entry & 1 == 1 { 1.0 } else { -1.0 })
            .collect();
        let table = Param::from_data(TensorData::new(table, [nodes, 1 << inputs]), device);
        Self { scores, table, wiring }
    }

    /// Which value (a thermometer bit `feature * levels + level`, or a node of the layer before)
    /// each wire reads now.
    pub fn wires(&self) -> Vec<u32> {
        let scores =
            self.scores.as_ref().and_then(|s| s.val().into_data().try_to_vec::<f32>().ok());
        match scores {
            Some(scores) => choose::chosen(&self.wiring, &scores),
            None => self.wiring.candidates().to_vec(),
        }
    }

    fn inputs(&self) -> usize {
        let [_, entries] = self.table.lazy_shape().dims::<2>();
        entries.trailing_zeros() as usize
    }
}

impl Bits {
    /// A new block with random wiring, its sum `outputs` wide. Thresholds as for [`LutLayers::new`].
    pub fn new(
        options: &BitsOptions,
        outputs: usize,
        fitted: Option<Vec<f32>>,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let luts = LutLayers::new(options, fitted, random, device);
        let last = options.nodes.last().copied().unwrap_or(options.width * options.levels);
        let output = random.normals(last * outputs, 0.02);
        Self {
            luts,
            output: Param::from_data(TensorData::new(output, [last, outputs]), device),
            bias: Param::from_data(TensorData::new(vec![0.0; outputs], [outputs]), device),
        }
    }

    /// `[rows, width]` to `[rows, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let bits = self.luts.forward(x);
        let (output, bias) = (self.output.val(), self.bias.val());
        if kernel::native(&bits) {
            let linear = Linear { transposed: true };
            let sum: Tensor<2> =
                kernel::apply(linear, [bits.into_dispatch(), output.into_dispatch()]);
            return kernel::apply(Bias, [sum.into_dispatch(), bias.into_dispatch()]);
        }
        bits.matmul(output) + bias.unsqueeze::<2>()
    }
}

impl LutLayers {
    /// New layers with random wiring. Thresholds start at the quantiles of the normal distribution:
    /// in a transformer layer normalisation stands before the block. `fitted` replaces them
    /// ([`super::thresholds`]).
    ///
    /// # Panics
    ///
    /// When a node has not 2 to 8 inputs, or thresholds are not so many per feature.
    pub fn new(
        options: &BitsOptions,
        fitted: Option<Vec<f32>>,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let BitsOptions { width, levels, inputs, choices, .. } = *options;
        assert!((FEWEST_INPUTS..=MOST_INPUTS).contains(&inputs), "{inputs} inputs of a node");
        let quantiles =
            (1..=levels).map(|i| normal_quantile(i as f64 / (levels + 1) as f64) as f32);
        let thresholds = match fitted {
            Some(fitted) => fitted,
            None => std::iter::repeat_n(quantiles.collect::<Vec<_>>(), width).flatten().collect(),
        };
        assert!(thresholds.len() == width * levels, "{} thresholds", thresholds.len());
        let mut layers = Vec::new();
        let mut values = width * levels;
        for (i, nodes) in options.nodes.iter().enumerate() {
            let choices = if i == 0 { choices } else { 1 };
            layers.push(BitLayer::new(values, *nodes, inputs, choices, random, device));
            values = *nodes;
        }
        let thresholds = Param::from_data(TensorData::new(thresholds, [width * levels]), device);
        Self { thresholds, layers, levels }
    }

    /// The centred bits of the last layer, `[rows, nodes]`, of features `[rows, width]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mut x = x;
        for (i, layer) in self.layers.iter().enumerate() {
            let first = (i == 0).then_some(self.levels);
            x = layer.forward(x, self.thresholds.val(), first);
        }
        x
    }
}

impl BitLayer {
    /// `levels` of the first layer, whose wires compare features with thresholds; the bits of later
    /// layers are centred, so they compare with zero.
    fn forward(&self, x: Tensor<2>, thresholds: Tensor<1>, levels: Option<usize>) -> Tensor<2> {
        let device = x.device();
        let inputs = self.inputs();
        let zero = || Tensor::<1>::zeros([1], &device);
        let Some(levels) = levels else {
            let features = Arc::clone(self.wiring.candidates());
            let none = vec![0; features.len()].into();
            let wires =
                Wires { features, thresholds: none, inputs, surrogate: Surrogate::Identity };
            return bit_table(x, zero(), self.table.val(), wires);
        };
        let Some(scores) = &self.scores else {
            let bits = self.wiring.candidates();
            let features = bits.iter().map(|bit| bit / levels as u32).collect();
            let wires = Wires {
                features,
                thresholds: Arc::clone(bits),
                inputs,
                surrogate: Surrogate::Triangle,
            };
            return bit_table(x, thresholds, self.table.val(), wires);
        };
        let bits = self.wiring.candidates();
        let candidates = Candidates {
            features: bits.iter().map(|bit| bit / levels as u32).collect(),
            thresholds: Arc::clone(bits),
            choices: self.wiring.choices(),
        };
        let z = choose::choose(x, thresholds, scores.val(), candidates);
        let features = Arc::clone(Wiring::straight(self.wiring.wires()).candidates());
        let none = vec![0; features.len()].into();
        let wires = Wires { features, thresholds: none, inputs, surrogate: Surrogate::Identity };
        bit_table(z, zero(), self.table.val(), wires)
    }
}

fn bit_table(x: Tensor<2>, thresholds: Tensor<1>, table: Tensor<2>, wires: Wires) -> Tensor<2> {
    if kernel::native(&x) {
        let inputs = [x.into_dispatch(), thresholds.into_dispatch(), table.into_dispatch()];
        return kernel::apply(BitTable::new(wires), inputs);
    }
    plain::bit_table(x, thresholds, table, &wires)
}
