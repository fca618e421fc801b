//! Texts to tokens and back, outside of a run: for whoever asks a model to go on with a text.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::json;
use super::pieces::printable;
use super::tokenizer::{Known, Tokenizer};

/// A tokenizer that reads and writes: that of a `tokenizer.json`, or a token per byte.
///
/// ```
/// use anabranch_operators::TextTokens;
///
/// let mut bytes = TextTokens::bytes();
/// assert_eq!(bytes.encode("hé")?, [104, 0xc3, 0xa9]);
/// assert_eq!(bytes.text(&[0xc3, 0xa9]), "é".as_bytes());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug)]
pub struct TextTokens {
    /// None for bytes.
    tokenizer: Option<Tokenizer>,
    /// What each token stands for.
    pieces: HashMap<u32, Vec<u8>>,
    known: Known,
}

/// How tokens are written.
struct Spelling {
    /// Characters stand for bytes, as in GPT-2.
    byte_level: bool,
    /// Tokens like `<0x0A>` stand for bytes.
    byte_fallback: bool,
    /// What is written in the place of what.
    replaced: Vec<(String, String)>,
}

impl TextTokens {
    /// A token per byte of UTF-8.
    pub fn bytes() -> Self {
        let pieces = (0..=u8::MAX).map(|byte| (u32::from(byte), vec![byte]));
        Self { tokenizer: None, pieces: pieces.collect(), known: Known::default() }
    }

    /// What a `tokenizer.json` describes, as `tokenise` reads and writes it.
    ///
    /// # Errors
    /// What the file has that is not supported, or lacks.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let tokenizer = json::read(file)?;
        let parsed: Json =
            serde_json::from_slice(file).map_err(|e| format!("it is no JSON: {e}"))?;
        let mut spelling =
            Spelling { byte_level: false, byte_fallback: false, replaced: Vec::new() };
        spelling.read(parsed.get("decoder").unwrap_or(&Json::Null))?;
        let vocabulary = &tokenizer.bpe.vocabulary;
        let mut pieces: HashMap<u32, Vec<u8>> =
            vocabulary.iter().map(|(token, id)| (*id, spelling.spell(token))).collect();
        // Added tokens are what they say.
        for token in parsed.get("added_tokens").and_then(Json::as_array).into_iter().flatten() {
            let id = token.get("id").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
            let content = token.get("content").and_then(Json::as_str);
            pieces.extend(id.zip(content).map(|(id, content)| (id, content.into())));
        }
        Ok(Self { tokenizer: Some(tokenizer), pieces, known: Known::default() })
    }

    /// The tokens of a text, without those that a file puts around it.
    ///
    /// # Errors
    /// When a character has no token.
    pub fn encode(&mut self, text: &str) -> Result<Vec<u32>, String> {
        let mut tokens = Vec::new();
        match &self.tokenizer {
            None => tokens.extend(text.bytes().map(u32::from)),
            Some(tokenizer) => {
                tokenizer.encode(text, false, &mut self.known, &mut tokens)?;
            }
        }
        Ok(tokens)
    }

    /// What tokens stand for. A character may be cut at either end; an unknown token is U+FFFD.
    pub fn text(&self, tokens: &[u32]) -> Vec<u8> {
        let unknown = "\u{fffd}".as_bytes();
        let piece = |token| self.pieces.get(token).map_or(unknown, Vec::as_slice);
        tokens.iter().flat_map(piece).copied().collect()
    }
}

impl Spelling {
    fn read(&mut self, decoder: &Json) -> Result<(), String> {
        let text = |field: &str| decoder.get(field).and_then(Json::as_str);
        match text("type") {
            None if decoder.is_null() => Ok(()),
            Some("Sequence") => {
                let members = decoder.get("decoders").and_then(Json::as_array);
                members.into_iter().flatten().try_for_each(|member| self.read(member))
            }
            Some("ByteLevel") => {
                self.byte_level = true;
                Ok(())
            }
            Some("ByteFallback") => {
                self.byte_fallback = true;
                Ok(())
            }
            // What stands at the ends of a whole text is no matter of its tokens.
            Some("Fuse" | "Strip") => Ok(()),
            Some("Replace") => {
                let from = decoder.get("pattern").and_then(|pattern| pattern.get("String"));
                let both = from.and_then(Json::as_str).zip(text("content"));
                let both = both.ok_or("the `Replace` of its decoder has no `String`")?;
                self.replaced.push((both.0.to_owned(), both.1.to_owned()));
                Ok(())
            }
            other => {
                let kind = other.unwrap_or("without a type");
                Err(format!("its decoder `{kind}` is not supported"))
            }
        }
    }

    fn spell(&self, token: &str) -> Vec<u8> {
        if self.byte_level {
            let byte = |c: char| (0..=u8::MAX).find(|byte| printable(*byte) == c);
            let spelled: Option<Vec<u8>> = token.chars().map(byte).collect();
            return spelled.unwrap_or_else(|| token.into());
        }
        let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        if let (true, Some(hex)) = (self.byte_fallback, hex)
            && let Ok(byte) = u8::from_str_radix(hex, 16)
        {
            return vec![byte];
        }
        let replace = |token: String, (from, to): &(String, String)| token.replace(from, to);
        self.replaced.iter().fold(token.to_owned(), replace).into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::train;
    use super::*;
    use proptest::prelude::*;

    const TEXTS: [&str; 3] = ["to be or not to be", "naïve — ok?\n", "the the then"];

    #[test]
    fn characters_come_back_and_unknown_ones_as_their_token() {
        let file = train::characters(TEXTS.into_iter(), 100, &["<|end|>".to_owned()]);
        let mut tokens = TextTokens::read(&file).unwrap();
        let text = "be naïve<|end|>";
        let encoded = tokens.encode(text).unwrap();
        assert_eq!((encoded.len(), tokens.text(&encoded)), (9, text.into()));
        let encoded = tokens.encode("bZ").unwrap();
        assert_eq!(tokens.text(&encoded), b"b<unk>");
        assert_eq!(tokens.text(&[1_000]), "\u{fffd}".as_bytes());
    }

    #[test]
    fn pieces_of_other_programs_are_spelled_as_their_decoder_says() {
        let decoder = serde_json::json!({ "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
        ]});
        let mut spelling =
            Spelling { byte_level: false, byte_fallback: false, replaced: Vec::new() };
        spelling.read(&decoder).unwrap();
        assert_eq!(
            ["▁the", "<0x0A>", "<0xZZ>"].map(|token| spelling.spell(token)),
            [b" the".to_vec(), b"\n".to_vec(), b"<0xZZ>".to_vec()]
        );
        let error = spelling.read(&serde_json::json!({ "type": "WordPiece" })).unwrap_err();
        assert_eq!(error, "its decoder `WordPiece` is not supported");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_bytes(text in "\\PC{0,40}") {
            let file = train::bytes(TEXTS.into_iter(), 300, &[]).unwrap();
            for mut tokens in [TextTokens::read(&file).unwrap(), TextTokens::bytes()] {
                let encoded = tokens.encode(&text).unwrap();
                prop_assert_eq!(tokens.text(&encoded), text.as_bytes());
            }
        }
    }
}
