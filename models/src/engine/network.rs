//! A classifier of nothing but 1-bit tables (DWN, ICML 2024): thermometers of bytes, layers of tables, and a group
//! of the last layer's bits that votes for each class.
//!
//! ```
//! use anabranch_models::engine::{Level, Network, NetworkLayer};
//!
//! // Two bytes with a threshold each, and a table for each class: is the first the only high one, or the second?
//! let layer = NetworkLayer { wires: vec![0, 1, 0, 1], tables: vec![0b0010, 0b0100] };
//! let network = Network::new(2, 2, &[100, 100], vec![layer], 2)?;
//! assert_eq!(network.votes(Level::detect(), &[200, 0, 0, 200])?, [1, 0, 0, 1]);
//! # Ok::<(), anabranch_models::engine::NetworkError>(())
//! ```

use thiserror::Error;

use super::Level;
use super::kernels::bitslice::{self, Above, Layer, TOKENS, evaluate, spread, thermometer};
use super::kernels::dot::{Bytes, dot};

/// A classifier of nothing but 1-bit tables.
#[derive(Debug)]
pub struct Network {
    features: usize,
    classes: usize,
    above: Vec<Above>,
    layers: Vec<Layer>,
    /// Which class each bit of the last layer votes for.
    votes: Bytes,
}

/// A layer of 1-bit tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkLayer {
    /// Of each table, its inputs: `feature * levels + level` in the first layer, tables of the layer before after.
    pub wires: Vec<u32>,
    /// Of each table, its words: bit `a % 64` of word `a / 64` is its output at address `a`.
    pub tables: Vec<u64>,
}

/// Why there is no such network, or no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// Tables of too many or too few inputs.
    #[error("tables have {0} inputs; they must have 2 to 8")]
    Inputs(usize),
    /// Sizes that do not fit together.
    #[error("{what}: {found} is not a multiple of {of}, or there is nothing")]
    Size {
        /// What has that size.
        what: &'static str,
        /// The size.
        found: usize,
        /// Of what it must be a multiple.
        of: usize,
    },
    /// Not as many wires as tables have inputs.
    #[error("layer {layer} has {tables} tables and {wires} wires")]
    Wires {
        /// Which layer.
        layer: usize,
        /// Its tables.
        tables: usize,
        /// Its wires.
        wires: usize,
    },
    /// A wire that leads nowhere.
    #[error("layer {layer} has a wire to bit {wire}; there are {bits}")]
    Wire {
        /// Which layer.
        layer: usize,
        /// The wire.
        wire: u32,
        /// How many bits there are.
        bits: usize,
    },
}

impl Network {
    /// A network over records of so many bytes. Thresholds are those of the first byte, of the second and so on; a
    /// bit is whether the byte is above. The last layer's tables vote for the classes in equal groups, in order.
    ///
    /// # Errors
    ///
    /// Sizes that do not fit together, or a wire that leads nowhere.
    pub fn new(
        features: usize,
        inputs: usize,
        thresholds: &[u8],
        layers: Vec<NetworkLayer>,
        classes: usize,
    ) -> Result<Self, NetworkError> {
        if !(2..=8).contains(&inputs) {
            return Err(NetworkError::Inputs(inputs));
        }
        multiple("thresholds", thresholds.len(), features)?;
        let levels = thresholds.len() / features;
        let words = (1_usize << inputs).div_ceil(64);
        let mut bits = thresholds.len();
        for (layer, NetworkLayer { wires, tables }) in layers.iter().enumerate() {
            multiple("words of tables", tables.len(), words)?;
            let nodes = tables.len() / words;
            if wires.len() != nodes * inputs {
                let (tables, wires) = (nodes, wires.len());
                return Err(NetworkError::Wires { layer, tables, wires });
            }
            if let Some(wire) = wires.iter().find(|wire| **wire as usize >= bits).copied() {
                return Err(NetworkError::Wire { layer, wire, bits });
            }
            bits = nodes;
        }
        let last = if layers.is_empty() { 0 } else { bits };
        multiple("tables of the last layer", last, classes)?;
        let above = |wire: &u32| Above {
            feature: u32::try_from(*wire as usize / levels).unwrap_or(u32::MAX),
            threshold: thresholds.get(*wire as usize).copied().unwrap_or(u8::MAX),
        };
        let first = layers.first().map(|layer| layer.wires.iter().map(above));
        let first = first.into_iter().flatten().collect::<Vec<_>>();
        let mut used = first.clone();
        used.sort_unstable();
        used.dedup();
        let mut planes = first.iter().filter_map(|above| used.binary_search(above).ok());
        let layers = layers.into_iter().enumerate().map(|(number, layer)| {
            let wires = if number == 0 {
                planes.by_ref().map(|plane| u32::try_from(plane).unwrap_or(u32::MAX)).collect()
            } else {
                layer.wires
            };
            Layer { inputs, wires, tables: layer.tables, words }
        });
        let layers = layers.collect();
        let group = last / classes;
        let vote = |class: usize| (0..last).map(move |bit| i8::from(bit / group == class));
        let votes = Bytes::pack(&(0..classes).flat_map(vote).collect::<Vec<_>>(), last);
        Ok(Self { features, classes, above: used, layers, votes })
    }

    /// How many bits vote for each class, record by record.
    ///
    /// # Errors
    ///
    /// Bytes that are not whole records.
    pub fn votes(&self, level: Level, records: &[u8]) -> Result<Vec<u32>, NetworkError> {
        multiple("bytes of records", records.len(), self.features)?;
        let mut planes = vec![Vec::new(); self.layers.len() + 1];
        let (mut columns, mut bytes, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        let mut votes = Vec::new();
        for records in records.chunks(TOKENS * self.features) {
            if let Some(planes) = planes.first_mut() {
                planes.resize(self.above.len(), bitslice::Plane::default());
                thermometer(level, &self.above, records, self.features, &mut columns, planes);
            }
            for (number, layer) in self.layers.iter().enumerate() {
                let (before, after) = planes.split_at_mut(number + 1);
                let (Some(from), Some(to)) = (before.last(), after.first_mut()) else { continue };
                to.resize(layer.tables.len() / layer.words, bitslice::Plane::default());
                evaluate(level, layer, from, to);
            }
            let last = planes.last().map(Vec::as_slice).unwrap_or_default();
            let (count, stride) = (records.len() / self.features, last.len().next_multiple_of(64));
            bytes.resize(TOKENS * stride, 0);
            spread(level, last, &mut bytes, stride);
            sums.resize(count * self.votes.stride(), 0);
            let bytes = bytes.get(..count * stride).unwrap_or_default();
            dot(level, &self.votes, bytes, stride, &mut sums);
            for sums in sums.chunks_exact(self.votes.stride()) {
                votes.extend(sums.iter().take(self.classes).map(|sum| sum.unsigned_abs()));
            }
        }
        Ok(votes)
    }
}

fn multiple(what: &'static str, found: usize, of: usize) -> Result<(), NetworkError> {
    if of == 0 || found == 0 || !found.is_multiple_of(of) {
        return Err(NetworkError::Size { what, found, of });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::kernels::each_level;
    use super::*;

    #[test]
    fn votes_are_those_of_the_tables() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 29) as usize
        };
        let mut layer = |nodes: usize, before: usize| NetworkLayer {
            wires: (0..5 * nodes).map(|_| (random() % before) as u32).collect(),
            tables: (0..nodes).map(|_| (random() as u64) & 0xffff_ffff).collect(),
        };
        let layers = vec![layer(90, 200), layer(70, 90)];
        let thresholds = (0..200).map(|_| random() as u8).collect::<Vec<_>>();
        let records = (0..100 * 600).map(|_| random() as u8).collect::<Vec<_>>();
        let network = Network::new(100, 5, &thresholds, layers.clone(), 7).unwrap();
        let mut expected = Vec::new();
        for record in records.chunks(100) {
            let above = |(at, threshold): (usize, &u8)| record[at / 2] > *threshold;
            let mut bits = thresholds.iter().enumerate().map(above).collect::<Vec<_>>();
            for NetworkLayer { wires, tables } in &layers {
                let address = |wires: &[u32]| {
                    let bit = |(k, wire): (usize, &u32)| usize::from(bits[*wire as usize]) << k;
                    wires.iter().enumerate().map(bit).sum::<usize>()
                };
                let nodes = wires.chunks(5).zip(tables);
                bits = nodes.map(|(wires, table)| table >> address(wires) & 1 == 1).collect();
            }
            let count = |bits: &[bool]| bits.iter().map(|bit| u32::from(*bit)).sum::<u32>();
            expected.extend(bits.chunks(10).map(count));
        }
        each_level(|level| {
            assert_eq!(network.votes(level, &records).unwrap(), expected, "{level}");
        });
    }

    #[test]
    fn sizes_that_do_not_fit_say_so() {
        let layer = |wires: &[u32]| NetworkLayer { wires: wires.to_vec(), tables: vec![1; 2] };
        let error = |inputs, layer, classes| {
            Network::new(2, inputs, &[9; 4], vec![layer], classes).unwrap_err().to_string()
        };
        assert_eq!(error(9, layer(&[0; 4]), 2), "tables have 9 inputs; they must have 2 to 8");
        assert_eq!(error(2, layer(&[0; 3]), 2), "layer 0 has 2 tables and 3 wires");
        assert_eq!(error(2, layer(&[0, 1, 2, 4]), 2), "layer 0 has a wire to bit 4; there are 4");
        assert!(error(2, layer(&[0; 4]), 3).contains("not a multiple of 3"));
        let network = Network::new(2, 2, &[9; 4], vec![layer(&[0; 4])], 2).unwrap();
        assert!(network.votes(Level::detect(), &[0; 3]).is_err());
    }
}
