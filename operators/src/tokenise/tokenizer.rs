//! A tokenizer: added tokens, normal form, pieces, merges, and what is put around it all.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::Regex;

use super::bpe::Bpe;
use super::normal::Normal;
use super::pieces::Cut;

/// From texts to tokens.
#[derive(Debug, Default)]
pub(super) struct Tokenizer {
    /// Tokens that are found in texts as they come.
    pub(super) raw: Added,
    pub(super) normal: Vec<Normal>,
    /// Tokens that are found in texts in normal form.
    pub(super) normalised: Added,
    pub(super) cuts: Vec<Cut>,
    pub(super) bpe: Bpe,
    /// Tokens before and after every text.
    pub(super) around: [Vec<u32>; 2],
}

/// Pieces that were encoded, which come again and again.
pub(super) type Known = HashMap<Box<str>, Box<[u32]>>;

/// Pieces that are kept, and how long they may be.
const KNOWN: usize = 1 << 16;
const KNOWN_PIECE: usize = 64;

impl Tokenizer {
    /// Appends the tokens of a text, with those around it if asked.
    ///
    /// # Errors
    /// When a character has no token.
    pub(super) fn encode(
        &self,
        text: &str,
        around: bool,
        known: &mut Known,
        tokens: &mut Vec<u32>,
    ) -> Result<(), String> {
        let [before, after] = &self.around;
        if around {
            tokens.extend(before);
        }
        for part in self.raw.split(text) {
            match part {
                Part::Token(id) => tokens.push(id),
                Part::Text(text) => {
                    let text = self.normal.iter().fold(Cow::Borrowed(text), |t, n| n.apply(t));
                    self.encode_normal(&text, known, tokens)?;
                }
            }
        }
        if around {
            tokens.extend(after);
        }
        Ok(())
    }

    fn encode_normal(
        &self,
        text: &str,
        known: &mut Known,
        tokens: &mut Vec<u32>,
    ) -> Result<(), String> {
        for part in self.normalised.split(text) {
            let text = match part {
                Part::Token(id) => {
                    tokens.push(id);
                    continue;
                }
                Part::Text(text) => text,
            };
            let pieces = vec![Cow::Borrowed(text)];
            for piece in self.cuts.iter().fold(pieces, |pieces, cut| cut.apply(pieces)) {
                if let Some(ids) = known.get(&*piece) {
                    tokens.extend(ids);
                    continue;
                }
                let start = tokens.len();
                self.bpe.encode(&piece, tokens)?;
                if known.len() < KNOWN && piece.len() <= KNOWN_PIECE {
                    known.insert((*piece).into(), tokens.get(start..).unwrap_or_default().into());
                }
            }
        }
        Ok(())
    }
}

/// Tokens that are found in texts before anything else is done.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// Any of them, the longest first; none when there are none.
    pattern: Option<Regex>,
    tokens: HashMap<String, AddedToken>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    /// Whether it takes the whitespace before it along.
    pub(super) left: bool,
    /// Whether it takes the whitespace behind it along.
    pub(super) right: bool,
}

enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl Added {
    pub(super) fn new(tokens: HashMap<String, AddedToken>) -> Result<Self, String> {
        let mut contents: Vec<&String> = tokens.keys().filter(|token| !token.is_empty()).collect();
        contents.sort_by_key(|token| (std::cmp::Reverse(token.len()), *token));
        let any: Vec<String> = contents.into_iter().map(|token| regex::escape(token)).collect();
        let pattern = match any.is_empty() {
            true => None,
            false => {
                Some(Regex::new(&any.join("|")).map_err(|e| format!("its added tokens: {e}"))?)
            }
        };
        Ok(Self { pattern, tokens })
    }

    fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let (mut parts, mut at) = (Vec::new(), 0);
        let matches = self.pattern.iter().flat_map(|pattern| pattern.find_iter(text));
        for found in matches {
            let Some(token) = self.tokens.get(found.as_str()) else { continue };
            let mut before = text.get(at..found.start()).unwrap_or_default();
            let behind = text.get(found.end()..).unwrap_or_default();
            if token.left {
                before = before.trim_end();
            }
            if !before.is_empty() {
                parts.push(Part::Text(before));
            }
            parts.push(Part::Token(token.id));
            let space = if token.right { behind.len() - behind.trim_start().len() } else { 0 };
            at = found.end() + space;
        }
        let rest = text.get(at..).unwrap_or_default();
        if !rest.is_empty() {
            parts.push(Part::Text(rest));
        }
        parts
    }
}
