//! The whole model.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::block::Block;
use super::embedding::Embedding;
use super::input::{Input, InputError};
use super::layer::{self, DEVIATION, Norm};
use crate::artifact::architecture::{Architecture, ArchitectureError, FeedForward, Head};
use crate::random::Random;

/// How look-up tables start and learn: what an architecture does not say because only training
/// knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Start {
    /// Learn tables of rows in the Walsh-Hadamard basis with this damping per order.
    pub damping: Option<f32>,
    /// Candidates per wire; 0 and 1 fix the wiring.
    pub choices: usize,
    /// The deviation of the rows of tables; `None` is [`RowsOptions::default`](crate::lut::RowsOptions)'s.
    pub deviation: Option<f32>,
}

/// A transformer of any architecture: embedding, blocks, norm, head.
#[derive(Module, Debug)]
pub struct Transformer {
    /// Tokens and positions.
    pub embedding: Embedding,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The last norm.
    pub norm: Norm,
    /// The head.
    pub head: Outputs,
    #[module(skip)]
    architecture: Architecture,
}

/// The head: logits of tokens, classes or bits.
#[derive(Module, Debug)]
pub struct Outputs {
    /// `[vocabulary, classes or bits, width]`.
    pub weight: Param<Tensor<2>>,
    /// `[classes or bits]`; heads of tokens have none.
    pub bias: Option<Param<Tensor<1>>>,
}

/// What went into and came out of the feed-forward half of one block, `[rows, width]` each.
#[derive(Debug, Clone)]
pub struct FeedForwardPass {
    /// The output of the block's second norm.
    pub input: Tensor<2>,
    /// What the half added.
    pub output: Tensor<2>,
}

impl Transformer {
    /// A model with nanoGPT's initialisation: weights of deviation 0.02, those that write into the
    /// residual stream divided by the root of twice the number of layers, norms 1, biases 0.
    ///
    /// The device decides whether it can be trained: `Device::flex().autodiff()`.
    ///
    /// # Errors
    ///
    /// When the sizes do not fit each other.
    pub fn new(
        architecture: &Architecture,
        start: &Start,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ArchitectureError> {
        architecture.check()?;
        let random = &mut Random::new(seed);
        let width = architecture.width;
        let positions = architecture.tokens();
        let embedding = Embedding::new(&architecture.inputs, width, positions, random, device);
        let head = layer::normal([architecture.outputs(), width], DEVIATION, random, device);
        let bias = match architecture.head {
            Head::NextToken => None,
            Head::Classes(outputs) | Head::Masks(outputs) => {
                Some(layer::constant(0.0, outputs, device))
            }
        };
        // Last, so that models which differ in their feed-forward half alone start from the same
        // embedding, head and (block by block below) attention.
        let blocks = (0..architecture.layers)
            .map(|i| {
                let mut random = Random::new(random.state() ^ (i as u64 + 1).rotate_right(8));
                Block::new(architecture, start, &mut random, device)
            })
            .collect();
        Ok(Self {
            embedding,
            blocks,
            norm: Norm::new(width, device),
            head: Outputs { weight: head, bias },
            architecture: architecture.clone(),
        })
    }

    /// [`Transformer::new`] on processors, to be trained.
    ///
    /// # Errors
    ///
    /// When the sizes do not fit each other.
    pub fn to_train(
        architecture: &Architecture,
        start: &Start,
        seed: u64,
    ) -> Result<Self, ArchitectureError> {
        Self::new(architecture, start, seed, &Device::flex().autodiff())
    }

    /// The sizes of this model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.norm.gain.val().device()
    }

    /// Logits: `[batch * length, vocabulary]` of next tokens, `[batch, classes]` of classes,
    /// `[batch * (tokens - 1), bits]` of masks.
    ///
    /// # Errors
    ///
    /// When the input does not fit the architecture.
    pub fn forward(&self, input: &Input) -> Result<Tensor<2>, InputError> {
        self.forward_with(input, |_, block, normal| block.feed_forward(normal))
    }

    /// The model with other feed-forward halves: a function of the block's index, the block, and the
    /// output of its second norm.
    pub(crate) fn forward_with(
        &self,
        input: &Input,
        mut feed_forward: impl FnMut(usize, &Block, Tensor<2>) -> Tensor<2>,
    ) -> Result<Tensor<2>, InputError> {
        let mut x = self.embedding.forward(input, &self.device())?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward_with(x, |block, normal| feed_forward(i, block, normal));
        }
        let [batch, tokens, width] = x.dims();
        let x = match (self.architecture.head, input) {
            (Head::NextToken, _) => x.reshape([batch * tokens, width]),
            (Head::Classes(_), Input::Tokens { .. }) => {
                x.narrow(1, tokens - 1, 1).reshape([batch, width])
            }
            (Head::Classes(_), _) => x.narrow(1, 0, 1).reshape([batch, width]),
            (Head::Masks(_), _) => {
                x.narrow(1, 1, tokens - 1).reshape([batch * (tokens - 1), width])
            }
        };
        let logits = layer::linear(self.norm.forward(x), self.head.weight.val());
        Ok(match &self.head.bias {
            Some(bias) => layer::add_bias(logits, bias.val()),
            None => logits,
        })
    }

    /// The mean cross entropy of the model's predictions, in nats: of a class for each row of
    /// logits, or with [`Head::Masks`] of a bit for each logit.
    ///
    /// # Errors
    ///
    /// When input or targets do not fit the architecture.
    pub fn loss(&self, input: &Input, targets: &[u32]) -> Result<Tensor<1>, InputError> {
        let logits = self.forward(input)?;
        self.check_targets(&logits, targets)?;
        Ok(match self.architecture.head {
            Head::Masks(_) => layer::binary_cross_entropy(logits, targets),
            Head::NextToken | Head::Classes(_) => layer::cross_entropy(logits, targets),
        })
    }

    /// Whether there is a right answer to each prediction.
    pub(crate) fn check_targets(
        &self,
        logits: &Tensor<2>,
        targets: &[u32],
    ) -> Result<(), InputError> {
        let [rows, outputs] = logits.dims();
        let (expected, classes) = match self.architecture.head {
            Head::Masks(_) => (rows * outputs, 2),
            Head::NextToken | Head::Classes(_) => (rows, outputs),
        };
        if targets.len() != expected {
            return Err(InputError::Targets { found: targets.len(), expected });
        }
        match targets.iter().enumerate().find(|(_, target)| **target as usize >= classes) {
            Some((row, target)) => Err(InputError::Target { target: *target, row, classes }),
            None => Ok(()),
        }
    }

    /// What every block's feed-forward half reads and adds, layer by layer.
    ///
    /// # Errors
    ///
    /// When the input does not fit the architecture.
    pub fn feed_forward_passes(&self, input: &Input) -> Result<Vec<FeedForwardPass>, InputError> {
        let mut passes = Vec::new();
        self.forward_with(input, |_, block, normal| {
            let output = block.feed_forward(normal.clone());
            passes.push(FeedForwardPass { input: normal, output: output.clone() });
            output
        })?;
        Ok(passes)
    }

    /// The same model with new feed-forward halves; everything else keeps its weights.
    ///
    /// # Errors
    ///
    /// When the sizes do not fit each other.
    pub fn with_feed_forward(
        mut self,
        feed_forward: FeedForward,
        start: &Start,
        seed: u64,
    ) -> Result<Self, ArchitectureError> {
        let architecture = self.architecture.with_feed_forward(feed_forward);
        architecture.check()?;
        let device = self.device();
        let random = &mut Random::new(seed);
        for block in &mut self.blocks {
            block.set_feed_forward(&architecture, start, random, &device);
        }
        self.architecture = architecture;
        Ok(self)
    }
}
