//! Byte pair encoding of one piece of text: symbols are merged, the pair that was learned first before others.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// A vocabulary and what merges into what.
#[derive(Debug, Default)]
pub(super) struct Bpe {
    pub(super) vocabulary: HashMap<Box<str>, u32>,
    /// The rank and the result of each pair that merges.
    pub(super) merges: HashMap<(u32, u32), (u32, u32)>,
    /// What a character that is no token becomes.
    pub(super) unknown: Option<u32>,
    /// Whether several unknown characters in a row become one token.
    pub(super) fuse_unknown: bool,
    /// The tokens of bytes, which stand in for a character that is no token.
    pub(super) bytes: Option<Box<[u32; 256]>>,
    /// Whether a piece that is a token as a whole is not merged to it, but taken.
    pub(super) whole: bool,
}

/// A symbol of a piece, linked with its neighbours as long as it lives.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    before: Option<usize>,
    after: Option<usize>,
    lives: bool,
}

impl Bpe {
    /// Appends the tokens of a piece.
    ///
    /// # Errors
    /// When a character has no token and there is none for unknown ones.
    pub(super) fn encode(&self, piece: &str, tokens: &mut Vec<u32>) -> Result<(), String> {
        if self.whole
            && let Some(id) = self.vocabulary.get(piece)
        {
            tokens.push(*id);
            return Ok(());
        }
        let mut symbols = Symbols::new(self.characters(piece)?);
        let mut candidates = BinaryHeap::new();
        for at in 0..symbols.0.len() {
            candidates.extend(self.candidate(&symbols, at));
        }
        while let Some(Reverse((_, at, pair, merged))) = candidates.pop() {
            // Since it was found, one of the two may have become part of another.
            if symbols.pair(at) != Some(pair) {
                continue;
            }
            let before = symbols.merge(at, merged);
            candidates.extend(before.and_then(|before| self.candidate(&symbols, before)));
            candidates.extend(self.candidate(&symbols, at));
        }
        tokens.extend(symbols.0.iter().filter(|symbol| symbol.lives).map(|symbol| symbol.id));
        Ok(())
    }

    /// The merge of the symbol at a place and the one after it; those of lower rank, then those further left
    /// come first.
    fn candidate(&self, symbols: &Symbols, at: usize) -> Option<Reverse<Candidate>> {
        let pair = symbols.pair(at)?;
        let (rank, merged) = self.merges.get(&pair)?;
        Some(Reverse((*rank, at, pair, *merged)))
    }

    /// The tokens of single characters.
    fn characters(&self, piece: &str) -> Result<Vec<u32>, String> {
        let mut ids = Vec::with_capacity(piece.len());
        let mut last_unknown = false;
        let mut buffer = [0; 4];
        for c in piece.chars() {
            let known = self.vocabulary.get(&*c.encode_utf8(&mut buffer));
            match (known, &self.bytes, self.unknown) {
                (Some(id), ..) => ids.push(*id),
                (None, Some(bytes), _) => {
                    let of = c.encode_utf8(&mut buffer).bytes();
                    ids.extend(of.filter_map(|byte| bytes.get(usize::from(byte))));
                }
                (None, None, Some(_)) if last_unknown && self.fuse_unknown => {}
                (None, None, Some(unknown)) => ids.push(unknown),
                (None, None, None) => {
                    return Err(format!("it holds {c:?}, for which the tokenizer has no token"));
                }
            }
            last_unknown = known.is_none() && self.bytes.is_none();
        }
        Ok(ids)
    }
}

/// Rank, place, pair and result of a merge.
type Candidate = (u32, usize, (u32, u32), u32);

struct Symbols(Vec<Symbol>);

impl Symbols {
    fn new(ids: Vec<u32>) -> Self {
        let last = ids.len().saturating_sub(1);
        let symbols = ids.into_iter().enumerate().map(|(at, id)| Symbol {
            id,
            before: at.checked_sub(1),
            after: (at < last).then_some(at + 1),
            lives: true,
        });
        Self(symbols.collect())
    }

    /// The symbol at a place and the one after it.
    fn pair(&self, at: usize) -> Option<(u32, u32)> {
        let symbol = self.0.get(at).filter(|symbol| symbol.lives)?;
        Some((symbol.id, self.0.get(symbol.after?)?.id))
    }

    /// Makes one of the symbol at a place and the one after it, and tells which is before them.
    fn merge(&mut self, at: usize, merged: u32) -> Option<usize> {
        let next = self.0.get(at)?.after?;
        let after = self.0.get(next)?.after;
        self.0.get_mut(next)?.lives = false;
        if let Some(after) = after.and_then(|after| self.0.get_mut(after)) {
            after.before = Some(at);
        }
        let symbol = self.0.get_mut(at)?;
        (symbol.id, symbol.after) = (merged, after);
        symbol.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letters(merges: &[(&str, &str)]) -> Bpe {
        let mut bpe = Bpe::default();
        for token in ["a", "b", "c"] {
            bpe.vocabulary.insert(token.into(), bpe.vocabulary.len() as u32);
        }
        for (rank, (left, right)) in merges.iter().enumerate() {
            let merged = bpe.vocabulary.len() as u32;
            let pair = (bpe.vocabulary[*left], bpe.vocabulary[*right]);
            bpe.vocabulary.insert([*left, *right].concat().into(), merged);
            bpe.merges.insert(pair, (rank as u32, merged));
        }
        bpe
    }

    fn tokens(bpe: &Bpe, piece: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        bpe.encode(piece, &mut tokens).unwrap();
        tokens
    }

    #[test]
    fn earlier_merges_come_first_and_equal_ones_from_the_left() {
        let bpe = letters(&[("b", "c"), ("a", "b"), ("ab", "c")]);
        assert_eq!(tokens(&bpe, "abc"), [0, 3]);
        assert_eq!(tokens(&bpe, "abab"), [4, 4]);
        let bpe = letters(&[("a", "a"), ("aa", "aa")]);
        assert_eq!(tokens(&bpe, "aaa"), [3, 0]);
        assert_eq!(tokens(&bpe, "aaaaa"), [4, 0]);
        assert_eq!(tokens(&bpe, ""), [0; 0]);
    }

    #[test]
    fn unknown_characters_become_what_the_model_says() {
        let mut bpe = letters(&[("a", "b"), ("ab", "c")]);
        let tokens_of = |bpe: &Bpe| tokens(bpe, "aéüb");
        bpe.unknown = Some(9);
        assert_eq!(tokens_of(&bpe), [0, 9, 9, 1]);
        bpe.fuse_unknown = true;
        assert_eq!(tokens_of(&bpe), [0, 9, 1]);
        bpe.bytes = Some(Box::new(std::array::from_fn(|byte| 100 + byte as u32)));
        assert_eq!(tokens_of(&bpe), [0, 100 + 0xc3, 100 + 0xa9, 100 + 0xc3, 100 + 0xbc, 1]);
        (bpe.bytes, bpe.unknown) = (None, None);
        let error = bpe.encode("aé", &mut Vec::new()).unwrap_err();
        assert_eq!(error, "it holds 'é', for which the tokenizer has no token");
    }

    #[test]
    fn whole_pieces_are_taken_where_the_model_says_so() {
        let mut bpe = letters(&[("b", "c"), ("a", "b"), ("ab", "c")]);
        bpe.whole = true;
        assert_eq!(tokens(&bpe, "abc"), [5]);
    }

    /// The same by the definition: look for the best pair, merge its first place, again.
    fn slowly(bpe: &Bpe, piece: &str) -> Vec<u32> {
        let mut ids = bpe.characters(piece).unwrap();
        loop {
            let pairs = ids.windows(2).enumerate();
            let best = pairs.filter_map(|(at, pair)| {
                bpe.merges.get(&(pair[0], pair[1])).map(|(rank, id)| (*rank, at, *id))
            });
            let Some((_, at, id)) = best.min() else { return ids };
            ids[at] = id;
            ids.remove(at + 1);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            order in Just(vec![
                ("a", "b"), ("b", "c"), ("a", "a"), ("c", "a"), ("b", "b"), ("c", "c"),
            ]).prop_shuffle(),
            more in Just(vec![("aa", "aa"), ("ab", "ab"), ("ab", "c"), ("a", "bc"), ("bb", "b")]).prop_shuffle(),
            piece in "[abc]{0,40}",
        ) {
            let mut seen = std::collections::HashSet::new();
            let merges: Vec<_> = order.into_iter().chain(more)
                .filter(|(left, right)| seen.insert([*left, *right].concat()))
                .collect();
            let bpe = letters(&merges);
            prop_assert_eq!(tokens(&bpe, &piece), slowly(&bpe, &piece));
        }
    }
}
