//! From values to addresses: which value every wire compares with which threshold.

use std::sync::Arc;

/// The derivative that stands in for the one of a step at `value - threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surrogate {
    /// `max(0, 1 - |z|)`: only what is near its threshold learns.
    Triangle,
    /// 1: for values that are bits already.
    Identity,
}

impl Surrogate {
    /// The derivative at `z = value - threshold`.
    #[inline(always)]
    pub(crate) fn slope(self, z: f32) -> f32 {
        match self {
            Self::Triangle => (1.0 - z.abs()).max(0.0),
            Self::Identity => 1.0,
        }
    }
}

/// The wires of all nodes, node by node.
#[derive(Clone, Debug)]
pub(crate) struct Wires {
    /// The value that a wire reads.
    pub(crate) features: Arc<[u32]>,
    /// The threshold that it compares with.
    pub(crate) thresholds: Arc<[u32]>,
    /// Wires per node.
    pub(crate) inputs: usize,
    /// How gradients pass the comparison.
    pub(crate) surrogate: Surrogate,
}

impl Wires {
    /// The number of nodes.
    pub(crate) fn nodes(&self) -> usize {
        self.features.len() / self.inputs
    }

    /// Features and thresholds of every node.
    pub(crate) fn by_node(&self) -> impl Iterator<Item = (&[u32], &[u32])> {
        self.features.chunks_exact(self.inputs).zip(self.thresholds.chunks_exact(self.inputs))
    }

    /// Writes the address of every node for one row of values: bit `k` is wire `k`.
    pub(crate) fn addresses(&self, x: &[f32], thresholds: &[f32], out: &mut [u8]) {
        for ((features, limits), out) in self.by_node().zip(out) {
            let mut address = 0;
            for (k, (feature, limit)) in features.iter().zip(limits).enumerate() {
                address |= u8::from(difference(x, thresholds, *feature, *limit) > 0.0) << k;
            }
            *out = address;
        }
    }
}

/// What a wire compares with zero; NaN when it reads past the end.
#[inline(always)]
pub(crate) fn difference(x: &[f32], thresholds: &[f32], feature: u32, limit: u32) -> f32 {
    match (x.get(feature as usize), thresholds.get(limit as usize)) {
        (Some(x), Some(limit)) => x - limit,
        _ => f32::NAN,
    }
}
