//! A classifier of LUT layers alone: thermometer, 1-bit tables, group sum.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{BitsOptions, LutLayers};
use crate::random::Random;

/// The sizes of a classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierOptions {
    /// Features in.
    pub features: usize,
    /// Classes: they divide the nodes of the last layer.
    pub classes: usize,
    /// Thresholds per feature.
    pub levels: usize,
    /// Nodes of every LUT layer.
    pub nodes: Vec<usize>,
    /// Wires per node, 2 to 8.
    pub inputs: usize,
    /// Candidates per wire of the first layer; 1 fixes the wiring.
    pub choices: usize,
    /// What the count of set bits is divided by before the softmax. DWN: crucial; about the square
    /// root of the nodes per class.
    pub temperature: f32,
}

/// LUT layers whose last bits are counted per class (DWN's group sum). No multiplication remains when
/// it runs: the class is the group with the most set bits.
#[derive(Module, Debug)]
pub struct Classifier {
    /// Thermometer and LUT layers.
    pub luts: LutLayers,
    #[module(skip)]
    classes: usize,
    #[module(skip)]
    temperature: f32,
}

impl Classifier {
    /// A new classifier over these thresholds ([`super::thresholds`]).
    pub fn new(
        options: &ClassifierOptions,
        thresholds: Vec<f32>,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let bits = BitsOptions {
            width: options.features,
            levels: options.levels,
            nodes: options.nodes.clone(),
            inputs: options.inputs,
            choices: options.choices,
        };
        Self {
            luts: LutLayers::new(&bits, Some(thresholds), random, device),
            classes: options.classes,
            temperature: options.temperature,
        }
    }

    /// Logits `[rows, classes]` of features `[rows, features]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        group_sum(self.luts.forward(x), self.classes, self.temperature)
    }
}

/// A trained classifier over bytes, as integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteNetwork {
    /// `[features * levels]`, level by level within a feature: a bit is `byte > threshold`.
    pub thresholds: Vec<u8>,
    /// Wires (`feature * levels + level`, then nodes of the layer before) and tables (bit `a` is the
    /// output at address `a`) of every layer.
    pub layers: Vec<(Vec<u32>, Vec<u64>)>,
}

impl Classifier {
    /// The classifier as integers, when its features are bytes as numbers from 0 to 255. `None` for
    /// tables of more than 6 inputs, which do not fit a word.
    pub fn on_bytes(&self) -> Option<ByteNetwork> {
        let values =
            |data: burn::tensor::TensorData| data.convert::<f32>().try_into_vec::<f32>().ok();
        let thresholds = values(self.luts.thresholds.val().inner().into_data())?;
        let mut layers = Vec::new();
        for layer in &self.luts.layers {
            let table = layer.table.val().inner();
            let [_, entries] = table.dims();
            if entries > 64 {
                return None;
            }
            let tables = values(table.into_data())?;
            let tables = tables.chunks(entries).map(|table| {
                let set = table.iter().enumerate().filter(|(_, value)| **value > 0.0);
                set.fold(0, |word, (address, _)| word | 1 << address)
            });
            layers.push((layer.wires(), tables.collect()));
        }
        // A byte is above a number where it is above the number's whole part.
        let thresholds = thresholds.iter().map(|t| t.floor().clamp(0.0, 255.0) as u8).collect();
        Some(ByteNetwork { thresholds, layers })
    }
}

/// Sums each of `classes` equal groups of columns and divides by `temperature`.
fn group_sum(bits: Tensor<2>, classes: usize, temperature: f32) -> Tensor<2> {
    let [rows, nodes] = bits.dims();
    let groups = bits.reshape([rows, classes, nodes / classes.max(1)]);
    groups.sum_dim(2).reshape([rows, classes]) / temperature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_counted_in_order() {
        let bits = Tensor::<2>::from_floats([[0.5, 0.5, -0.5, 0.5]], &Device::flex());
        let sums = group_sum(bits, 2, 0.5).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(sums, [2.0, 0.0]);
    }
}
