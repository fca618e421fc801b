//! Whole records: a picture, or any subset of picture, spectrum and text.

use super::embedding::{Projection, Vocabulary};
use super::feed_forward::FeedForward;
use super::kernels::attention::Sight;
use super::load::{Tensors, lanes};
use super::transformer::{Caches, Look, Room, Span, Transformer};
use super::{EngineError, Options};
use crate::artifact::Artifact;
use crate::artifact::architecture::{
    Architecture, AudioTokens, Head, ImageTokens, Inputs, TextTokens,
};

/// What is given of a record. What is missing is not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input<'a> {
    /// Values of a picture by row, column, channel, as the model was trained on them.
    pub image: Option<&'a [f32]>,
    /// Values of a spectrogram by frame, band.
    pub audio: Option<&'a [f32]>,
    /// Tokens of a text.
    pub text: Option<&'a [u32]>,
}

/// What the blocks of a model make of a record: how a network sees it, layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Numbers of a token.
    pub width: usize,
    /// What each block leaves behind: token after token, the class token first, then those of the picture row by
    /// row, of the spectrum and of the text. They are sums of all that came before, which no norm was applied to.
    pub blocks: Vec<Vec<f32>>,
    /// The logits.
    pub logits: Vec<f32>,
}

/// A model of whole records: its tokens see each other.
#[derive(Debug)]
pub struct Encoder {
    class: Vec<f32>,
    image: Option<(ImageTokens, Projection, Vec<f32>)>,
    audio: Option<(AudioTokens, Projection, Vec<f32>)>,
    text: Option<(TextTokens, Vocabulary, Vocabulary, Vec<f32>)>,
    transformer: Transformer,
}

impl Encoder {
    /// The model of an artifact.
    ///
    /// # Errors
    ///
    /// The artifact is of another kind.
    pub fn load(artifact: &Artifact) -> Result<Self, EngineError> {
        Self::load_with(artifact, Options::default())
    }

    /// The model of an artifact, run in a way.
    ///
    /// # Errors
    ///
    /// As [`Encoder::load`].
    pub fn load_with(artifact: &Artifact, options: Options) -> Result<Self, EngineError> {
        if let Inputs::Tokens { .. } = artifact.architecture().inputs {
            let (found, wanted) = ("tokens", "whole records");
            return Err(EngineError::Inputs { found, wanted });
        }
        let width = artifact.architecture().width;
        let tensors = Tensors::new(artifact).under("embedding");
        let positions = |tensors: &Tensors<'_>| Vocabulary::load(tensors, "position", width);
        let transformer = Transformer::load(artifact, options)?;
        let mut class = tensors.lanes("class")?;
        let (mut image, mut audio, mut text) = (None, None, None);
        match &artifact.architecture().inputs {
            Inputs::Tokens { .. } => (),
            Inputs::Image(sizes) => {
                // The class token has a position of its own, and there is nothing to tell pictures from.
                positions(&tensors)?.add(0, &mut class);
                let patch = tensors.under("patch");
                let positions = positions(&tensors)?;
                let projection = Projection::load(&patch, sizes.values(), width, positions, 1)?;
                image = Some((*sizes, projection, vec![0.0; transformer.stride()]));
            }
            Inputs::Modalities { image: images, audio: audios, text: texts } => {
                if let Some(sizes) = images {
                    let tensors = tensors.under("image");
                    let positions = positions(&tensors)?;
                    let values = sizes.values();
                    let projection = Projection::load(&tensors, values, width, positions, 0)?;
                    image = Some((*sizes, projection, lanes(tensors.get("type")?)));
                }
                if let Some(sizes) = audios {
                    let tensors = tensors.under("audio");
                    let positions = positions(&tensors)?;
                    let values = sizes.values();
                    let projection = Projection::load(&tensors, values, width, positions, 0)?;
                    audio = Some((*sizes, projection, lanes(tensors.get("type")?)));
                }
                if let Some(sizes) = texts {
                    let tensors = tensors.under("text");
                    let tokens = Vocabulary::load(&tensors, "token", width)?;
                    let kind = lanes(tensors.get("type")?);
                    text = Some((*sizes, tokens, positions(&tensors)?, kind));
                }
            }
        }
        Ok(Self { class, image, audio, text, transformer })
    }

    /// The sizes of the model.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.transformer.architecture
    }

    /// The logits of each record, one after the other; with a head of masks those of each of its tokens, in the order
    /// of patches or frames.
    ///
    /// # Errors
    ///
    /// No record, one with nothing in it, of another size, of a modality that the model does not take, with an
    /// unknown token or a value that is no number; logits that are no numbers.
    pub fn predict(&self, records: &[Input<'_>]) -> Result<Vec<f32>, EngineError> {
        let mut room = Room::default();
        let (x, spans) = self.read(records, &mut room, Look::Away)?;
        self.logits(&x, &spans, &mut room)
    }

    /// What each block makes of a record, and its logits.
    ///
    /// # Errors
    ///
    /// As [`Encoder::predict`].
    pub fn features(&self, record: Input<'_>) -> Result<Features, EngineError> {
        let (mut room, mut blocks) = (Room::default(), Vec::new());
        let (x, spans) = self.read(&[record], &mut room, Look::Blocks(&mut blocks))?;
        let logits = self.logits(&x, &spans, &mut room)?;
        let (width, stride) = (self.architecture().width, self.transformer.stride());
        if width < stride {
            for block in &mut blocks {
                let tokens = block.chunks_exact(stride);
                *block = tokens.flat_map(|token| token.iter().take(width)).copied().collect();
            }
        }
        Ok(Features { width, blocks, logits })
    }

    /// The logits of records whose tokens went through the blocks.
    fn logits(&self, x: &[f32], spans: &[Span], room: &mut Room) -> Result<Vec<f32>, EngineError> {
        let stride = self.transformer.stride();
        let architecture = self.architecture();
        let mut read = Vec::with_capacity(spans.len() * architecture.answers() * stride);
        let mut rest = x;
        for span in spans {
            let (tokens, others) = rest.split_at_checked(span.tokens * stride).unwrap_or_default();
            rest = others;
            let (class, places) = tokens.split_at_checked(stride).unwrap_or_default();
            read.extend_from_slice(match architecture.head {
                Head::Masks(_) => places,
                Head::Classes(_) | Head::NextToken => class,
            });
        }
        let logits = self.transformer.logits(&read, room);
        if let Some(at) = logits.iter().position(|logit| !logit.is_finite()) {
            let outputs = (architecture.outputs() * architecture.answers()).max(1);
            let found = logits.get(at).copied().unwrap_or(f32::NAN);
            let (index, output) = (at / outputs, at % outputs);
            return Err(EngineError::NotFinite { subject: "record", index, output, found });
        }
        Ok(logits)
    }

    /// What the tables of each block see: a byte for each feature of each token of each record.
    ///
    /// # Errors
    ///
    /// As [`Encoder::predict`].
    pub fn grids(&self, records: &[Input<'_>]) -> Result<Vec<Vec<u8>>, EngineError> {
        let mut grids = Vec::new();
        self.read(records, &mut Room::default(), Look::Grids(&mut grids))?;
        Ok(grids)
    }

    /// The second half of a block.
    #[must_use]
    pub fn feed_forward(&self, block: usize) -> Option<&FeedForward> {
        self.transformer.feed_forward(block)
    }

    fn read(
        &self,
        records: &[Input<'_>],
        room: &mut Room,
        look: Look<'_>,
    ) -> Result<(Vec<f32>, Vec<Span>), EngineError> {
        if records.is_empty() {
            return Err(EngineError::Empty("record"));
        }
        let (mut x, mut spans) = (Vec::new(), Vec::new());
        for (record, input) in records.iter().enumerate() {
            let before = x.len();
            x.extend_from_slice(&self.class);
            self.embed(record, input, &mut x)?;
            let tokens = (x.len() - before) / self.transformer.stride();
            if tokens == 1 {
                return Err(EngineError::Empty("modality of each record"));
            }
            spans.push(Span { tokens, before: 0 });
        }
        let longest = spans.iter().map(|span| span.tokens).max().unwrap_or_default();
        let mut cache = self.transformer.cache(longest);
        let mut caches = Caches::Dropped(&mut cache);
        self.transformer.forward(&mut x, &spans, &mut caches, Sight::All, room, look);
        Ok((x, spans))
    }

    /// Appends the tokens of a record.
    fn embed(&self, record: usize, input: &Input<'_>, x: &mut Vec<f32>) -> Result<(), EngineError> {
        let level = self.transformer.level;
        let unknown = |modality| EngineError::UnknownModality { record, modality };
        if let Some(values) = input.image {
            let (sizes, projection, kind) = self.image.as_ref().ok_or(unknown("image"))?;
            let ImageTokens { height, width, channels, .. } = sizes;
            let shape = || format!("{height} x {width} pixels of {channels} channels");
            check(record, "image", values, height * width * channels, shape)?;
            projection.append(level, &patches(sizes, values), kind, x);
        }
        if let Some(values) = input.audio {
            let (sizes, projection, kind) = self.audio.as_ref().ok_or(unknown("audio"))?;
            let AudioTokens { bands, frames, .. } = sizes;
            let shape = || format!("{frames} frames of {bands} bands");
            check(record, "audio", values, frames * bands, shape)?;
            projection.append(level, values, kind, x);
        }
        if let Some(tokens) = input.text {
            let (sizes, vocabulary, positions, kind) = self.text.as_ref().ok_or(unknown("text"))?;
            if tokens.len() > sizes.length {
                let (tokens, context) = (tokens.len(), sizes.length);
                return Err(EngineError::TooLong { tokens, before: 0, context });
            }
            for (position, token) in tokens.iter().enumerate() {
                let (row, vocabulary_size) = (*token as usize, vocabulary.len());
                if row >= vocabulary_size {
                    let (token, vocabulary) = (*token, vocabulary_size);
                    return Err(EngineError::UnknownToken { token, position, vocabulary });
                }
                let before = x.len();
                x.extend_from_slice(kind);
                let x = x.get_mut(before..).unwrap_or_default();
                vocabulary.add(row, x);
                positions.add(position, x);
            }
        }
        Ok(())
    }
}

/// Whether values are numbers, and as many as the model takes.
fn check(
    record: usize,
    modality: &'static str,
    values: &[f32],
    expected: usize,
    shape: impl Fn() -> String,
) -> Result<(), EngineError> {
    if values.len() != expected {
        let (found, shape) = (values.len(), shape());
        return Err(EngineError::Size { record, modality, found, expected, shape });
    }
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((value, found)) => {
            let found = *found;
            Err(EngineError::InputNotFinite { record, modality, value, found })
        }
        None => Ok(()),
    }
}

/// The values of each patch, patches row by row.
fn patches(sizes: &ImageTokens, values: &[f32]) -> Vec<f32> {
    let ImageTokens { width, channels, patch, .. } = *sizes;
    let mut patches = Vec::with_capacity(values.len());
    for rows in values.chunks_exact(patch * width * channels) {
        for column in 0..width / patch {
            for row in rows.chunks_exact(width * channels) {
                patches.extend(row.iter().skip(column * patch * channels).take(patch * channels));
            }
        }
    }
    patches
}
