//! From inputs to tokens of the model's width.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::input::{Input, InputError, patches};
use super::layer::{self, Affine, DEVIATION};
use crate::artifact::architecture::{Inputs, TextTokens};
use crate::random::Random;

/// Tokens and positions. Which fields are there depends on the architecture's inputs.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[vocabulary, width]`, for text alone.
    pub token: Option<Param<Tensor<2>>>,
    /// `[positions, width]`, for text or an image alone.
    pub position: Option<Param<Tensor<2>>>,
    /// `[width]`: the class token of encoders.
    pub class: Option<Param<Tensor<1>>>,
    /// The patches of an image alone.
    pub patch: Option<Affine>,
    /// Images among other modalities.
    pub image: Option<Projected>,
    /// Audio among other modalities.
    pub audio: Option<Projected>,
    /// Text among other modalities.
    pub text: Option<Tokens>,
    #[module(skip)]
    inputs: Inputs,
}

/// A modality whose tokens are projected values.
#[derive(Module, Debug)]
pub struct Projected {
    /// `[width, values of a token]`.
    pub weight: Param<Tensor<2>>,
    /// `[width]`.
    pub bias: Param<Tensor<1>>,
    /// `[tokens, width]`.
    pub position: Param<Tensor<2>>,
    /// `[width]`, added to every token: the type embedding.
    pub kind: Param<Tensor<1>>,
}

/// A modality whose tokens are ids.
#[derive(Module, Debug)]
pub struct Tokens {
    /// `[vocabulary, width]`.
    pub token: Param<Tensor<2>>,
    /// `[length, width]`.
    pub position: Param<Tensor<2>>,
    /// `[width]`, added to every token: the type embedding.
    pub kind: Param<Tensor<1>>,
}

impl Embedding {
    pub(super) fn new(
        inputs: &Inputs,
        width: usize,
        positions: usize,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let mut embedding = Self {
            token: None,
            position: None,
            class: None,
            patch: None,
            image: None,
            audio: None,
            text: None,
            inputs: inputs.clone(),
        };
        let class = |random: &mut Random| Some(layer::normal([width], DEVIATION, random, device));
        let place = |random: &mut Random| {
            Some(layer::normal([positions, width], DEVIATION, random, device))
        };
        match inputs {
            Inputs::Tokens { vocabulary, .. } => {
                embedding.token =
                    Some(layer::normal([*vocabulary, width], DEVIATION, random, device));
                embedding.position = place(random);
            }
            Inputs::Image(image) => {
                embedding.class = class(random);
                embedding.position = place(random);
                let deviation = 1.0 / (image.values() as f32).sqrt();
                embedding.patch =
                    Some(Affine::new([image.values(), width], deviation, random, device));
            }
            Inputs::Modalities { image, audio, text } => {
                embedding.class = class(random);
                embedding.image =
                    image.map(|i| Projected::new(i.tokens(), i.values(), width, random, device));
                embedding.audio =
                    audio.map(|a| Projected::new(a.tokens(), a.values(), width, random, device));
                embedding.text = text.map(|t| Tokens::new(&t, width, random, device));
            }
        }
        embedding
    }

    /// `[batch, tokens, width]`.
    ///
    /// # Errors
    ///
    /// When the input is not one that the architecture takes.
    pub fn forward(&self, input: &Input, device: &Device) -> Result<Tensor<3>, InputError> {
        let batch = input.batch(&self.inputs)?;
        match (input, &self.inputs) {
            (Input::Tokens { ids, length }, Inputs::Tokens { .. }) => {
                let (Some(token), Some(position)) = (&self.token, &self.position) else {
                    return Err(InputError::Empty);
                };
                let token = layer::gather(token.val(), ids);
                let [_, width] = token.dims();
                let position = position.val().narrow(0, 0, *length).unsqueeze::<3>();
                Ok(token.reshape([batch, *length, width]) + position)
            }
            (Input::Images(pixels), Inputs::Image(image)) => {
                let (Some(class), Some(position), Some(patch)) =
                    (&self.class, &self.position, &self.patch)
                else {
                    return Err(InputError::Empty);
                };
                let values = TensorData::new(
                    patches(pixels, image),
                    [batch, image.tokens(), image.values()],
                );
                let tokens = patch.forward(Tensor::<3>::from_data(values, device));
                Ok(behind(class.val(), batch, vec![tokens]) + position.val().unsqueeze::<3>())
            }
            (Input::Modalities { image, audio, text, .. }, Inputs::Modalities { .. }) => {
                let mut parts = Vec::new();
                if let (Some(pixels), Some(layer), Inputs::Modalities { image: Some(sizes), .. }) =
                    (image, &self.image, &self.inputs)
                {
                    let tokens = [batch, sizes.tokens(), sizes.values()];
                    parts.push(layer.forward(patches(pixels, sizes), tokens, device));
                }
                if let (Some(frames), Some(layer), Inputs::Modalities { audio: Some(sizes), .. }) =
                    (audio, &self.audio, &self.inputs)
                {
                    let tokens = [batch, sizes.tokens(), sizes.values()];
                    parts.push(layer.forward(frames.clone(), tokens, device));
                }
                if let (Some(ids), Some(layer)) = (text, &self.text) {
                    parts.push(layer.forward(ids, batch));
                }
                let class = self.class.as_ref().ok_or(InputError::Empty)?;
                Ok(behind(class.val(), batch, parts))
            }
            _ => Err(InputError::Empty),
        }
    }
}

/// Tokens behind a class token.
fn behind(class: Tensor<1>, batch: usize, parts: Vec<Tensor<3>>) -> Tensor<3> {
    let [width] = class.dims();
    let class = class.reshape([1, 1, width]).repeat_dim(0, batch);
    Tensor::cat(std::iter::once(class).chain(parts).collect(), 1)
}

impl Projected {
    fn new(
        tokens: usize,
        values: usize,
        width: usize,
        random: &mut Random,
        device: &Device,
    ) -> Self {
        let Affine { weight, bias } =
            Affine::new([values, width], 1.0 / (values as f32).sqrt(), random, device);
        let position = layer::normal([tokens, width], DEVIATION, random, device);
        Self { weight, bias, position, kind: layer::normal([width], DEVIATION, random, device) }
    }

    fn forward(&self, values: Vec<f32>, shape: [usize; 3], device: &Device) -> Tensor<3> {
        let values = Tensor::<3>::from_data(TensorData::new(values, shape), device);
        let tokens = layer::add_bias(layer::linear(values, self.weight.val()), self.bias.val());
        tokens + self.position.val().unsqueeze::<3>() + self.kind.val().unsqueeze::<3>()
    }
}

impl Tokens {
    fn new(sizes: &TextTokens, width: usize, random: &mut Random, device: &Device) -> Self {
        Self {
            token: layer::normal([sizes.vocabulary, width], DEVIATION, random, device),
            position: layer::normal([sizes.length, width], DEVIATION, random, device),
            kind: layer::normal([width], DEVIATION, random, device),
        }
    }

    fn forward(&self, ids: &[u32], batch: usize) -> Tensor<3> {
        let token = layer::gather(self.token.val(), ids);
        let [rows, width] = token.dims();
        token.reshape([batch, rows / batch, width])
            + self.position.val().unsqueeze::<3>()
            + self.kind.val().unsqueeze::<3>()
    }
}
