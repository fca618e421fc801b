//! A classifier of LUT layers alone: thermometer, 1-bit tables, group sum.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use thiserror::Error;

use super::{BitsOptions, FEWEST_INPUTS, LutLayers, MOST_INPUTS};
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

/// Why there is no such classifier.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClassifierError {
    /// Tables of too few or too many inputs.
    #[error("tables have {0} inputs; they must have {FEWEST_INPUTS} to {MOST_INPUTS}")]
    Inputs(usize),
    /// A last layer that classes cannot share.
    #[error(
        "the last layer's {nodes} nodes do not split into {classes} equal groups, one per class"
    )]
    Groups {
        /// Nodes of the last layer; 0 without layers.
        nodes: usize,
        /// The number of classes.
        classes: usize,
    },
    /// Thresholds that are not so many per feature.
    #[error("{found} thresholds for {expected} bits (features times levels)")]
    Thresholds {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
}

impl Classifier {
    /// A new classifier over these thresholds ([`super::thresholds`]).
    ///
    /// # Errors
    ///
    /// When the sizes do not fit each other.
    pub fn new(
        options: &ClassifierOptions,
        thresholds: Vec<f32>,
        random: &mut Random,
        device: &Device,
    ) -> Result<Self, ClassifierError> {
        let ClassifierOptions { features, levels, inputs, classes, .. } = *options;
        if !(FEWEST_INPUTS..=MOST_INPUTS).contains(&inputs) {
            return Err(ClassifierError::Inputs(inputs));
        }
        let nodes = options.nodes.last().copied().unwrap_or(0);
        if nodes == 0 || !nodes.is_multiple_of(classes) {
            return Err(ClassifierError::Groups { nodes, classes });
        }
        let (found, expected) = (thresholds.len(), features * levels);
        if found != expected {
            return Err(ClassifierError::Thresholds { found, expected });
        }
        let bits = BitsOptions {
            width: options.features,
            levels: options.levels,
            nodes: options.nodes.clone(),
            inputs: options.inputs,
            choices: options.choices,
        };
        Ok(Self {
            luts: LutLayers::new(&bits, Some(thresholds), random, device),
            classes,
            temperature: options.temperature,
        })
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
    fn sizes_that_do_not_fit_are_named() {
        let options = ClassifierOptions {
            features: 4,
            classes: 3,
            levels: 2,
            nodes: vec![8, 6],
            inputs: 2,
            choices: 1,
            temperature: 1.0,
        };
        let new = |options: &ClassifierOptions, thresholds: usize| {
            let random = &mut Random::new(1);
            Classifier::new(options, vec![0.0; thresholds], random, &Device::flex()).map(|_| ())
        };
        assert_eq!(new(&options, 8), Ok(()));
        let expected = ClassifierError::Thresholds { found: 7, expected: 8 };
        assert_eq!(new(&options, 7), Err(expected));
        let wide = ClassifierOptions { inputs: 9, ..options.clone() };
        assert_eq!(new(&wide, 8), Err(ClassifierError::Inputs(9)));
        for nodes in [vec![], vec![7]] {
            let uneven = ClassifierOptions { nodes, ..options.clone() };
            assert!(matches!(new(&uneven, 8), Err(ClassifierError::Groups { classes: 3, .. })));
        }
    }

    #[test]
    fn bytes_and_numbers_agree() {
        let options = ClassifierOptions {
            features: 4,
            classes: 2,
            levels: 2,
            nodes: vec![6, 4],
            inputs: 3,
            choices: 3,
            temperature: 1.0,
        };
        let random = &mut Random::new(5);
        let thresholds: Vec<f32> = (0..8).map(|_| random.below(2000) as f32 / 8.0).collect();
        let model = Classifier::new(&options, thresholds, random, &Device::flex()).unwrap();
        let network = model.on_bytes().unwrap();
        for _ in 0..50 {
            let bytes: Vec<u8> = (0..4).map(|_| random.below(256) as u8).collect();
            let levels = bytes.iter().zip(network.thresholds.chunks(2));
            let mut bits: Vec<bool> = levels.flat_map(|(b, t)| [*b > t[0], *b > t[1]]).collect();
            for (wires, tables) in &network.layers {
                let nodes = wires.chunks(3).zip(tables);
                let next = nodes.map(|(wires, table)| {
                    let bit = |k: usize| usize::from(bits[wires[k] as usize]) << k;
                    table >> (bit(0) + bit(1) + bit(2)) & 1 == 1
                });
                bits = next.collect();
            }
            let x: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte)).collect();
            let x = Tensor::<1>::from_floats(x.as_slice(), &Device::flex()).reshape([1, 4]);
            let found = model.luts.forward(x).into_data().try_to_vec::<f32>().unwrap();
            assert_eq!(found.iter().map(|v| *v > 0.0).collect::<Vec<_>>(), bits);
        }
    }

    #[test]
    fn groups_are_counted_in_order() {
        let bits = Tensor::<2>::from_floats([[0.5, 0.5, -0.5, 0.5]], &Device::flex());
        let sums = group_sum(bits, 2, 0.5).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(sums, [2.0, 0.0]);
    }
}
