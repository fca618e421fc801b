//! A trained model on the integer grid of the engine.
//!
//! Training is in `f32`. What is exported is what runs: the output of a block's second norm becomes
//! `q = clamp(round_half_even(32 x) + 128, 0, 255)`, a wire is `q > t`, tables are integers with a
//! scale per column. [`forward_on_grid`] runs the exported numbers through Burn's forward pass, so
//! that the engine's bits can be compared with it one by one, and so that the loss after export is
//! known before anything is served.
//!
//! ```
//! use anabranch_models::artifact::architecture::{
//!     Architecture, FeedForward, Head, Inputs, Rows, Wires,
//! };
//! use anabranch_models::train::export::{Precision, export, forward_on_grid};
//! use anabranch_models::transformer::{Input, Start, Transformer};
//! use burn::tensor::Device;
//!
//! let architecture = Architecture {
//!     width: 16,
//!     heads: 2,
//!     layers: 1,
//!     inputs: Inputs::Tokens { vocabulary: 5, context: 8 },
//!     head: Head::NextToken,
//!     feed_forward: FeedForward::Rows(Rows { nodes: 4, inputs: 3, wires: Wires::Axis }),
//! };
//! let model = Transformer::new(&architecture, &Start::default(), 1, &Device::flex())?;
//! let tensors = export(&model, Precision::Int8);
//! assert_eq!(tensors.iter().map(|t| t.shape.clone()).collect::<Vec<_>>(), architecture.tensors());
//! let pass = forward_on_grid(&model, &tensors, &Input::Tokens { ids: vec![1, 2], length: 2 })?;
//! assert_eq!(pass.addresses[0][0].len(), 2 * 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod grid;
mod quantise;

use std::collections::BTreeMap;

use burn::module::Module;

pub use grid::{GridPass, forward_on_grid};

use super::parameters::{Parameter, parameters};
use crate::artifact::architecture::{Dtype, TensorShape};
use crate::transformer::Transformer;

/// How many bits the integers of tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// -127 to 127.
    Int8,
    /// -7 to 7, in the same layout.
    Int4,
}

impl Precision {
    /// How many they are, as [`Card::table_bits`](crate::artifact::Card::table_bits) says.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Int8 => 8,
            Self::Int4 => 4,
        }
    }

    fn largest(self) -> f32 {
        match self {
            Self::Int8 => 127.0,
            Self::Int4 => 7.0,
        }
    }
}

/// One tensor of an artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Name, dtype and shape.
    pub shape: TensorShape,
    /// The values, little-endian.
    pub bytes: Vec<u8>,
}

/// The tensors of a model's artifact, in the order of
/// [`Architecture::tensors`](crate::artifact::architecture::Architecture::tensors).
pub fn export(model: &Transformer, precision: Precision) -> Vec<Exported> {
    let source = Source { found: model_parameters(model), model, precision };
    let tensors = model.architecture().tensors().into_iter();
    tensors.map(|shape| Exported { bytes: source.bytes(&shape), shape }).collect()
}

/// A model's parameters under the names of artifacts, tables of rows as rows.
struct Source<'a> {
    found: BTreeMap<String, Parameter>,
    model: &'a Transformer,
    precision: Precision,
}

fn model_parameters<M: Module>(model: &M) -> BTreeMap<String, Parameter> {
    parameters(model).into_iter().map(|(path, value)| (artifact_name(&path), value)).collect()
}

/// The name that an artifact uses for the parameter at this path.
fn artifact_name(path: &str) -> String {
    let path = match path.strip_suffix(".kind") {
        Some(embedding) => format!("{embedding}.type"),
        None => path.to_owned(),
    };
    path.replace(".luts.layers.", ".").replace(".luts.", ".")
}

impl Source<'_> {
    fn floats(&self, name: &str) -> &[f32] {
        self.found.get(name).map_or(&[], |parameter| &parameter.values)
    }

    fn bytes(&self, shape: &TensorShape) -> Vec<u8> {
        let name = shape.name.as_str();
        match self.feed_forward(name) {
            Some(bytes) => bytes,
            None => le(self.floats(name).iter().map(|v| v.to_le_bytes())),
        }
    }

    /// Tensors of look-up tables, which are not what training holds.
    fn feed_forward(&self, name: &str) -> Option<Vec<u8>> {
        let rest = name.strip_prefix("blocks.")?;
        let (layer, rest) = rest.split_once('.')?;
        let block = self.model.blocks.get(layer.parse::<usize>().ok()?)?;
        if let (Some(rows), Some(what)) = (&block.rows, rest.strip_prefix("rows.")) {
            return quantise::rows(rows, what, self.precision);
        }
        if let (Some(bits), Some(what)) = (&block.bits, rest.strip_prefix("bits.")) {
            return quantise::bits(bits, what, self.precision);
        }
        None
    }
}

/// Numbers as little-endian bytes.
fn le<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    values.flatten().collect()
}

impl Exported {
    /// The values of an `f32` tensor.
    fn floats(&self) -> Vec<f32> {
        let (chunks, _) = self.bytes.as_chunks::<4>();
        chunks.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// The values of a tensor of integers.
    fn integers(&self) -> Vec<i64> {
        fn read<const N: usize>(bytes: &[u8], convert: fn([u8; N]) -> i64) -> Vec<i64> {
            let (chunks, _) = bytes.as_chunks::<N>();
            chunks.iter().map(|chunk| convert(*chunk)).collect()
        }
        match self.shape.dtype {
            Dtype::F32 => Vec::new(),
            Dtype::U8 => read::<1>(&self.bytes, |b| i64::from(u8::from_le_bytes(b))),
            Dtype::I8 => read::<1>(&self.bytes, |b| i64::from(i8::from_le_bytes(b))),
            Dtype::U16 => read::<2>(&self.bytes, |b| i64::from(u16::from_le_bytes(b))),
            Dtype::U32 => read::<4>(&self.bytes, |b| i64::from(u32::from_le_bytes(b))),
            Dtype::I32 => read::<4>(&self.bytes, |b| i64::from(i32::from_le_bytes(b))),
            // Words of bits: the sign bit is one of them.
            Dtype::U64 => read::<8>(&self.bytes, |b| u64::from_le_bytes(b).cast_signed()),
        }
    }
}
