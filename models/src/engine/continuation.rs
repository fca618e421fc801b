//! A text that goes on, one token at a time.

use super::sampling::Sampler;
use super::{EngineError, Gpt, Sampling, State};

/// The tokens that go on from a prompt, drawn as they are asked for; see [`Gpt::continuation`]. It ends after an
/// error only.
#[derive(Debug)]
pub struct Continuation<'a> {
    gpt: &'a Gpt,
    sampler: Sampler,
    state: State,
    /// The prompt and what was drawn.
    text: Vec<u32>,
    /// Of these, so many have not been read.
    unread: usize,
    failed: bool,
}

impl<'a> Continuation<'a> {
    pub(super) fn new(
        gpt: &'a Gpt,
        prompt: &[u32],
        sampling: &Sampling,
    ) -> Result<Self, EngineError> {
        let sampler = Sampler::new(*sampling)?;
        let (text, unread) = (prompt.to_vec(), prompt.len().min(gpt.context()));
        Ok(Self { gpt, sampler, state: gpt.start(), text, unread, failed: false })
    }

    fn draw(&mut self) -> Result<u32, EngineError> {
        if self.state.tokens() + self.unread > self.gpt.context() {
            // The context is full: its later half is read again.
            self.state.clear();
            self.unread = self.gpt.context().div_ceil(2);
        }
        let from = self.text.len().saturating_sub(self.unread);
        let unread = self.text.get(from..).unwrap_or_default();
        let logits = self.gpt.prefill(&mut self.state, unread)?;
        let token = self.sampler.draw(&logits);
        self.text.push(token);
        self.unread = 1;
        Ok(token)
    }
}

impl Iterator for Continuation<'_> {
    type Item = Result<u32, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let token = self.draw();
        self.failed = token.is_err();
        Some(token)
    }
}
