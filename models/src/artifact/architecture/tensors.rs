//! The tensors that an artifact of an architecture holds, by name.
//!
//! Weights of linear layers are stored `[out, in]`. Integers are on the grid of the exported model: a norm's output
//! is `q = clamp(round_half_even(32 x) + 128, 0, 255)`, thresholds are on the same grid, and a bit is `q > t`. The
//! address of a table is the sum of `bit k << k`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Bits, FeedForward, Head, Inputs, Rows, Wires};

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Dtype {
    F32,
    U8,
    I8,
    U16,
    U32,
    I32,
    U64,
}

/// A tensor of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorShape {
    /// Its name.
    pub name: String,
    /// What its elements are.
    pub dtype: Dtype,
    /// Its sizes.
    pub shape: Vec<usize>,
}

impl Dtype {
    /// Bytes of an element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 => 2,
            Self::F32 | Self::U32 | Self::I32 => 4,
            Self::U64 => 8,
        }
    }
}

impl TensorShape {
    /// How many elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of all elements.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.bytes()
    }
}

impl Bits {
    /// Words of the 1-bit table of a node: bit `a % 64` of word `a / 64` is its output at address `a`. Unused bits
    /// are 0.
    #[must_use]
    pub fn words(&self) -> usize {
        (1_usize << self.inputs).div_ceil(64)
    }
}

impl Architecture {
    /// The tensors of an artifact, in the order of the model. Sizes need not be checked before; shapes are.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorShape> {
        let mut list = List(Vec::new());
        let width = self.width;
        match &self.inputs {
            Inputs::Tokens { vocabulary, context } => {
                list.float("embedding.token", &[*vocabulary, width]);
                list.float("embedding.position", &[*context, width]);
            }
            Inputs::Image(image) => {
                list.float("embedding.class", &[width]);
                list.float("embedding.position", &[self.tokens(), width]);
                list.float("embedding.patch.weight", &[width, image.values()]);
                list.float("embedding.patch.bias", &[width]);
            }
            Inputs::Modalities { image, audio, text } => {
                list.float("embedding.class", &[width]);
                if let Some(image) = image {
                    list.modality("image", width, image.values(), image.tokens());
                }
                if let Some(audio) = audio {
                    list.modality("audio", width, audio.values(), audio.tokens());
                }
                if let Some(text) = text {
                    list.float("embedding.text.token", &[text.vocabulary, width]);
                    list.float("embedding.text.position", &[text.length, width]);
                    list.float("embedding.text.type", &[width]);
                }
            }
        }
        for layer in 0..self.layers {
            list.block(layer, width, &self.feed_forward);
        }
        list.norm("norm", width);
        list.float("head.weight", &[self.outputs(), width]);
        if let Head::Classes(outputs) | Head::Masks(outputs) = self.head {
            list.float("head.bias", &[outputs]);
        }
        list.0
    }
}

struct List(Vec<TensorShape>);

impl List {
    fn push(&mut self, name: impl Into<String>, dtype: Dtype, shape: &[usize]) {
        self.0.push(TensorShape { name: name.into(), dtype, shape: shape.to_vec() });
    }

    fn float(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.push(name, Dtype::F32, shape);
    }

    fn norm(&mut self, name: impl std::fmt::Display, width: usize) {
        self.float(format!("{name}.gain"), &[width]);
        self.float(format!("{name}.bias"), &[width]);
    }

    fn modality(&mut self, name: &str, width: usize, values: usize, tokens: usize) {
        self.float(format!("embedding.{name}.weight"), &[width, values]);
        self.float(format!("embedding.{name}.bias"), &[width]);
        self.float(format!("embedding.{name}.position"), &[tokens, width]);
        self.float(format!("embedding.{name}.type"), &[width]);
    }

    fn block(&mut self, layer: usize, width: usize, feed_forward: &FeedForward) {
        let block = format!("blocks.{layer}");
        self.norm(format_args!("{block}.norm1"), width);
        self.float(format!("{block}.attention.qkv"), &[3 * width, width]);
        self.float(format!("{block}.attention.out"), &[width, width]);
        if *feed_forward == FeedForward::None {
            return;
        }
        self.norm(format_args!("{block}.norm2"), width);
        match feed_forward {
            FeedForward::None => (),
            FeedForward::Mlp { hidden } => {
                self.float(format!("{block}.mlp.up.weight"), &[*hidden, width]);
                self.float(format!("{block}.mlp.up.bias"), &[*hidden]);
                self.float(format!("{block}.mlp.down.weight"), &[width, *hidden]);
                self.float(format!("{block}.mlp.down.bias"), &[width]);
            }
            FeedForward::Bits(bits) => self.bits(&format!("{block}.bits"), width, bits),
            FeedForward::Rows(rows) => self.rows(&format!("{block}.rows"), width, rows),
        }
    }

    fn bits(&mut self, name: &str, width: usize, bits: &Bits) {
        self.push(format!("{name}.thresholds"), Dtype::U8, &[width * bits.levels]);
        for (layer, nodes) in bits.nodes.iter().enumerate() {
            self.push(format!("{name}.{layer}.wires"), Dtype::U32, &[nodes * bits.inputs]);
            self.push(format!("{name}.{layer}.table"), Dtype::U64, &[*nodes, bits.words()]);
        }
        let last = bits.nodes.last().copied().unwrap_or_default();
        self.push(format!("{name}.output"), Dtype::I8, &[last, width]);
        self.float(format!("{name}.scale"), &[width]);
        self.float(format!("{name}.bias"), &[width]);
    }

    fn rows(&mut self, name: &str, width: usize, rows: &Rows) {
        let wires = rows.nodes * rows.inputs;
        match rows.wires {
            Wires::Axis => {
                self.push(format!("{name}.wires"), Dtype::U16, &[wires]);
                self.push(format!("{name}.thresholds"), Dtype::U8, &[wires]);
            }
            Wires::Projected => {
                self.push(format!("{name}.projection"), Dtype::I8, &[wires, width]);
                self.float(format!("{name}.projection_scale"), &[wires]);
                self.push(format!("{name}.thresholds"), Dtype::I32, &[wires]);
            }
        }
        self.push(format!("{name}.table"), Dtype::I8, &[rows.nodes, 1 << rows.inputs, width]);
        self.float(format!("{name}.scale"), &[width]);
        self.float(format!("{name}.bias"), &[width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_of_rows_holds_these_tensors() {
        let architecture = Architecture {
            width: 8,
            heads: 2,
            layers: 1,
            inputs: Inputs::Tokens { vocabulary: 5, context: 4 },
            head: Head::NextToken,
            feed_forward: FeedForward::Rows(Rows { nodes: 3, inputs: 2, wires: Wires::Projected }),
        };
        let lines = architecture
            .tensors()
            .iter()
            .map(|tensor| format!("{} {:?} {:?}", tensor.name, tensor.dtype, tensor.shape))
            .collect::<Vec<_>>();
        let expected = [
            "embedding.token F32 [5, 8]",
            "embedding.position F32 [4, 8]",
            "blocks.0.norm1.gain F32 [8]",
            "blocks.0.norm1.bias F32 [8]",
            "blocks.0.attention.qkv F32 [24, 8]",
            "blocks.0.attention.out F32 [8, 8]",
            "blocks.0.norm2.gain F32 [8]",
            "blocks.0.norm2.bias F32 [8]",
            "blocks.0.rows.projection I8 [6, 8]",
            "blocks.0.rows.projection_scale F32 [6]",
            "blocks.0.rows.thresholds I32 [6]",
            "blocks.0.rows.table I8 [3, 4, 8]",
            "blocks.0.rows.scale F32 [8]",
            "blocks.0.rows.bias F32 [8]",
            "norm.gain F32 [8]",
            "norm.bias F32 [8]",
            "head.weight F32 [5, 8]",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn no_name_stands_twice() {
        let architecture = Architecture {
            width: 8,
            heads: 2,
            layers: 3,
            inputs: Inputs::Tokens { vocabulary: 5, context: 4 },
            head: Head::Classes(3),
            feed_forward: FeedForward::Bits(Bits { levels: 3, nodes: vec![6, 7], inputs: 8 }),
        };
        let tensors = architecture.tensors();
        let names =
            tensors.iter().map(|tensor| &tensor.name).collect::<std::collections::HashSet<_>>();
        assert_eq!(names.len(), tensors.len());
        let table = tensors.iter().find(|tensor| tensor.name == "blocks.2.bits.1.table").unwrap();
        assert_eq!((table.dtype, table.shape.as_slice()), (Dtype::U64, [7, 4].as_slice()));
        assert_eq!(table.bytes(), 7 * 32);
    }
}
