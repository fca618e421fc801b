//! Models of random content, for tests, examples and measurements: what runs costs the same whatever it was taught.

use std::collections::BTreeMap;

use crate::artifact::architecture::{
    Architecture, ArchitectureError, Dtype, FeedForward, TensorShape,
};
use crate::artifact::{Artifact, ArtifactError, Card, Tensor, Values};

/// An artifact of these sizes whose tensors are random. Equal sizes give equal tensors.
///
/// # Errors
///
/// Sizes that do not fit together.
pub fn random(architecture: &Architecture) -> Result<Artifact, ArtifactError> {
    random_of_bits(architecture, 8)
}

/// As [`random`], with so many bits for the values of tables.
///
/// # Errors
///
/// Sizes that do not fit together, and bits other than 4 to 8.
pub fn random_of_bits(
    architecture: &Architecture,
    table_bits: u8,
) -> Result<Artifact, ArtifactError> {
    architecture.check().map_err(|e: ArchitectureError| ArtifactError::from(e))?;
    let mut state = 1;
    let tensors = architecture.tensors().into_iter();
    let tensors: BTreeMap<_, _> = tensors
        .map(|shape| {
            let values = values(architecture, &shape, table_bits, &mut state);
            (shape.name.clone(), Tensor::new(&shape.shape, values))
        })
        .collect();
    Artifact::new(Card { table_bits, ..Card::new("random", architecture.clone()) }, tensors)
}

fn values(
    architecture: &Architecture,
    shape: &TensorShape,
    table_bits: u8,
    state: &mut u64,
) -> Values {
    let count = 0..shape.elements();
    let mut next = || {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    let name = shape.name.as_str();
    match shape.dtype {
        Dtype::F32 => {
            // Gains around 1, scales positive and small, the rest around 0 with the deviation of its fan-in.
            let fan_in = if shape.shape.len() > 1 { shape.shape.last() } else { None };
            let spread = fan_in.map_or(0.1, |inputs| (3.0 / *inputs as f32).sqrt());
            let scale = name.ends_with("scale");
            let middle = if name.ends_with("gain") { 1.0 } else { 0.0 };
            let mut value = || {
                let uniform = (next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
                if scale { 1e-3 * (1.5 + uniform) } else { middle + spread * uniform }
            };
            count.map(|_| value()).collect::<Vec<_>>().into()
        }
        // Thresholds near the middle of the grid: a norm's output has a deviation of 32.
        Dtype::U8 => {
            let mut value = || 128 - 32 + (next() % 64) as u8;
            count.map(|_| value()).collect::<Vec<_>>().into()
        }
        Dtype::I8 => {
            let bits = if name.ends_with("projection") { 8 } else { table_bits.clamp(1, 8) };
            let most = i8::MAX >> (8 - bits);
            let values = 2 * u64::from(most.unsigned_abs()) + 1;
            let mut value = || (next() % values) as i64 - i64::from(most);
            count.map(|_| value() as i8).collect::<Vec<_>>().into()
        }
        Dtype::U16 => {
            let width = architecture.width as u64;
            count.map(|_| (next() % width) as u16).collect::<Vec<_>>().into()
        }
        Dtype::U32 => {
            let ends = ends(architecture, name) as u64;
            count.map(|_| (next() % ends) as u32).collect::<Vec<_>>().into()
        }
        Dtype::I32 => {
            let mut value = || (next() % 40_000) as i32 - 20_000;
            count.map(|_| value()).collect::<Vec<_>>().into()
        }
        Dtype::U64 => {
            let bits = match &architecture.feed_forward {
                FeedForward::Bits(bits) => 1_u32 << bits.inputs.min(6),
                _ => 64,
            };
            count.map(|_| next() >> (64 - bits)).collect::<Vec<_>>().into()
        }
    }
}

/// How many bits the wires of a LUT layer choose from.
fn ends(architecture: &Architecture, name: &str) -> usize {
    let FeedForward::Bits(bits) = &architecture.feed_forward else { return 1 };
    let layer = name.strip_suffix(".wires").and_then(|name| name.rsplit('.').next());
    let layer = layer.and_then(|layer| layer.parse::<usize>().ok()).unwrap_or_default();
    let before = layer.checked_sub(1).and_then(|layer| bits.nodes.get(layer));
    before.copied().unwrap_or(architecture.width * bits.levels).max(1)
}
