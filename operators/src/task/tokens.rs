//! Texts, by a model of the next token.
//!
//! The score is what the model saves of a text's bytes: `1 - bits / 8`, where `bits` is its loss per byte, in bits. 1 is
//! a text that it knows by heart, and 0 one that it foretells no better than chance foretells bytes; what is worse is 0
//! too, since losses are bounded by 1 ([`choose`](crate::choose)). Bytes and not tokens are counted, so that models with
//! other vocabularies can be compared. The first token of a text is foretold by nothing and costs its 8 bits a byte: a
//! text of one byte has score 0.

use std::sync::{Mutex, PoisonError};

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::{Head, Inputs};
use anabranch_models::engine::Gpt;
use anabranch_pipelines::record::Modality;

use super::{Outcome, Right, Task};
use crate::TextTokens;
use crate::codec::Media;
use crate::infer;

pub(super) struct Tokens {
    model: Gpt,
    vocabulary: usize,
    tokens: Mutex<TextTokens>,
}

/// Bits of a byte.
const BYTE: f64 = 8.0;

impl Tokens {
    /// `tokenizer` is the content of a `tokenizer.json`; without it every byte is a token.
    pub(super) fn new(artifact: &Artifact, tokenizer: Option<&[u8]>) -> Result<Self, String> {
        let architecture = artifact.architecture();
        let (Inputs::Tokens { vocabulary, .. }, Head::NextToken) =
            (&architecture.inputs, architecture.head)
        else {
            return Err("it does not foretell tokens of a text".to_owned());
        };
        let tokens = tokenizer.map_or_else(|| Ok(TextTokens::bytes()), TextTokens::read)?;
        let model = Gpt::load(artifact).map_err(|e| e.to_string())?;
        Ok(Self { model, vocabulary: *vocabulary, tokens: Mutex::new(tokens) })
    }

    fn read(&self, text: &str) -> Result<Vec<u32>, String> {
        if text.is_empty() {
            return Err("it is empty, so that there is nothing to foretell".to_owned());
        }
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = tokens.encode(text)?;
        match tokens.iter().find(|token| **token as usize >= self.vocabulary) {
            Some(token) => Err(format!(
                "token {token} is not one of the {} that the model knows; give the `tokenizer` that it was \
                 trained with",
                self.vocabulary
            )),
            None => Ok(tokens),
        }
    }

    fn score(&self, text: &str) -> Result<Outcome, String> {
        let tokens = self.read(text)?;
        let nats = infer::nats(&self.model, &[&tokens]).map_err(|e| e.to_string())?;
        let foretold = nats.first().copied().unwrap_or_default() / std::f64::consts::LN_2;
        let bytes = text.len() as f64;
        // Nothing stands before the first token.
        let first = BYTE * bytes / tokens.len().max(1) as f64;
        let saved: f64 = 1.0 - (foretold + first) / (BYTE * bytes);
        let score = saved.clamp(0.0, 1.0);
        Ok(Outcome { score, answer: None })
    }
}

impl Task for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    fn modality(&self) -> Modality {
        Modality::Text
    }

    fn outcomes(
        &self,
        media: &[Media<'_>],
        _: &[Option<Right<'_>>],
    ) -> Vec<Result<Outcome, String>> {
        media.iter().map(|_| Err("the task is about texts".to_owned())).collect()
    }

    fn texts(&self, texts: &[&str]) -> Vec<Result<Outcome, String>> {
        texts.iter().map(|text| self.score(text)).collect()
    }
}
