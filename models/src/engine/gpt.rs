//! Text, token by token.

use super::embedding::Vocabulary;
use super::feed_forward::FeedForward;
use super::kernels::attention::{Cache, Sight};
use super::load::Tensors;
use super::transformer::{Caches, Look, Room, Span, Transformer};
use super::{Continuation, EngineError, Options, Sampling};
use crate::artifact::Artifact;
use crate::artifact::architecture::{Architecture, Inputs};

/// A model of text: its tokens see what stands before them.
#[derive(Debug)]
pub struct Gpt {
    tokens: Vocabulary,
    positions: Vocabulary,
    transformer: Transformer,
}

/// A text that a [`Gpt`] has read: keys and values of all layers.
#[derive(Debug)]
pub struct State {
    caches: Vec<Cache>,
    tokens: usize,
    room: Room,
}

impl State {
    /// Tokens that were read.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        self.tokens = 0;
    }
}

impl Gpt {
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
    /// As [`Gpt::load`].
    pub fn load_with(artifact: &Artifact, options: Options) -> Result<Self, EngineError> {
        let found = match artifact.architecture().inputs {
            Inputs::Tokens { .. } => None,
            Inputs::Image(_) => Some("a picture"),
            Inputs::Modalities { .. } => Some("records of several modalities"),
        };
        if let Some(found) = found {
            return Err(EngineError::Inputs { found, wanted: "tokens" });
        }
        let (tensors, width) = (Tensors::new(artifact), artifact.architecture().width);
        Ok(Self {
            tokens: Vocabulary::load(&tensors, "embedding.token", width)?,
            positions: Vocabulary::load(&tensors, "embedding.position", width)?,
            transformer: Transformer::load(artifact, options)?,
        })
    }

    /// The sizes of the model.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.transformer.architecture
    }

    /// Tokens that the model sees at most.
    #[must_use]
    pub fn context(&self) -> usize {
        self.positions.len()
    }

    /// An empty text.
    #[must_use]
    pub fn start(&self) -> State {
        let layers = 0..self.architecture().layers;
        let caches = layers.map(|_| self.transformer.cache(self.context())).collect();
        State { caches, tokens: 0, room: Room::default() }
    }

    /// Reads tokens on; the logits behind the last one.
    ///
    /// # Errors
    ///
    /// No token, an unknown one, more than the context has room for (nothing is read then), or logits that are no
    /// numbers.
    pub fn prefill(&self, state: &mut State, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let mut x = self.embed(tokens, state.tokens)?;
        let span = Span { tokens: tokens.len(), before: state.tokens };
        let mut caches = Caches::Kept(&mut state.caches);
        let room = &mut state.room;
        self.transformer.forward(&mut x, &[span], &mut caches, Sight::Past, room, Look::Away);
        let last = x.len() - self.transformer.stride();
        let logits = self.transformer.logits(x.get(last..).unwrap_or_default(), room);
        finite(&logits, logits.len(), state.tokens + tokens.len() - 1)?;
        state.tokens += tokens.len();
        Ok(logits)
    }

    /// Reads one token on; the logits behind it.
    ///
    /// # Errors
    ///
    /// As [`Gpt::prefill`].
    pub fn step(&self, state: &mut State, token: u32) -> Result<Vec<f32>, EngineError> {
        self.prefill(state, &[token])
    }

    /// The logits behind each token of each sequence, one after the other.
    ///
    /// # Errors
    ///
    /// As [`Gpt::prefill`].
    pub fn logits(&self, sequences: &[&[u32]]) -> Result<Vec<f32>, EngineError> {
        let mut room = Room::default();
        let x = self.read(sequences, &mut room, Look::Away)?;
        let logits = self.transformer.logits(&x, &mut room);
        finite(&logits, self.architecture().outputs(), 0)?;
        Ok(logits)
    }

    /// The logits behind the last token of each sequence, one after the other.
    ///
    /// # Errors
    ///
    /// As [`Gpt::prefill`].
    pub fn last_logits(&self, sequences: &[&[u32]]) -> Result<Vec<f32>, EngineError> {
        let mut room = Room::default();
        let x = self.read(sequences, &mut room, Look::Away)?;
        let stride = self.transformer.stride();
        let mut last = Vec::with_capacity(sequences.len() * stride);
        let mut end = 0;
        for tokens in sequences {
            end += tokens.len() * stride;
            last.extend_from_slice(x.get(end - stride..end).unwrap_or_default());
        }
        let logits = self.transformer.logits(&last, &mut room);
        finite(&logits, self.architecture().outputs(), 0)?;
        Ok(logits)
    }

    /// What the tables of each block see: a byte for each feature of each token. A block without feed-forward has
    /// none.
    ///
    /// # Errors
    ///
    /// As [`Gpt::prefill`].
    pub fn grids(&self, sequences: &[&[u32]]) -> Result<Vec<Vec<u8>>, EngineError> {
        let mut grids = Vec::new();
        self.read(sequences, &mut Room::default(), Look::Grids(&mut grids))?;
        Ok(grids)
    }

    /// The second half of a block.
    #[must_use]
    pub fn feed_forward(&self, block: usize) -> Option<&FeedForward> {
        self.transformer.feed_forward(block)
    }

    /// So many tokens that go on from a prompt. Where the context is full, its later half is read again.
    ///
    /// # Errors
    ///
    /// An empty prompt, an unknown token, a setting out of its range, logits that are no numbers.
    pub fn generate(
        &self,
        prompt: &[u32],
        count: usize,
        sampling: &Sampling,
    ) -> Result<Vec<u32>, EngineError> {
        self.continuation(prompt, sampling)?.take(count).collect()
    }

    /// The tokens that go on from a prompt, as they are asked for. Where the context is full, its later half is
    /// read again.
    ///
    /// # Errors
    ///
    /// A setting out of its range; all else comes with the first token.
    pub fn continuation(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
    ) -> Result<Continuation<'_>, EngineError> {
        Continuation::new(self, prompt, sampling)
    }

    fn read(
        &self,
        sequences: &[&[u32]],
        room: &mut Room,
        look: Look<'_>,
    ) -> Result<Vec<f32>, EngineError> {
        let mut x = Vec::new();
        for tokens in sequences {
            x.extend(self.embed(tokens, 0)?);
        }
        if x.is_empty() {
            return Err(EngineError::Empty("sequence"));
        }
        let spans = sequences.iter().map(|tokens| Span { tokens: tokens.len(), before: 0 });
        let spans = spans.collect::<Vec<_>>();
        let longest = spans.iter().map(|span| span.tokens).max().unwrap_or_default();
        let mut cache = self.transformer.cache(longest);
        let mut caches = Caches::Dropped(&mut cache);
        self.transformer.forward(&mut x, &spans, &mut caches, Sight::Past, room, look);
        Ok(x)
    }

    fn embed(&self, tokens: &[u32], before: usize) -> Result<Vec<f32>, EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::Empty("token"));
        }
        let context = self.context();
        if before + tokens.len() > context {
            return Err(EngineError::TooLong { tokens: tokens.len(), before, context });
        }
        let vocabulary = self.tokens.len();
        let stride = self.transformer.stride();
        let mut x = vec![0.0; tokens.len() * stride];
        for ((position, token), x) in tokens.iter().enumerate().zip(x.chunks_exact_mut(stride)) {
            let row = *token as usize;
            if row >= vocabulary {
                return Err(EngineError::UnknownToken { token: *token, position, vocabulary });
            }
            self.tokens.add(row, x);
            self.positions.add(before + position, x);
        }
        Ok(x)
    }
}

/// Whether all logits are numbers, so many for each token.
fn finite(logits: &[f32], outputs: usize, first: usize) -> Result<(), EngineError> {
    let Some(at) = logits.iter().position(|logit| !logit.is_finite()) else { return Ok(()) };
    let found = logits.get(at).copied().unwrap_or(f32::NAN);
    let (index, output) = (first + at / outputs.max(1), at % outputs.max(1));
    Err(EngineError::NotFinite { subject: "token", index, output, found })
}
