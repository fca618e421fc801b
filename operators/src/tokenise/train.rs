//! Learns a vocabulary from texts, and writes it as a `tokenizer.json`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use serde_json::{Value as Json, json};

use super::pieces::{Cut, Split, printable};

/// The least number of times that a pair must stand in the sample to become a token.
const LEAST: u64 = 2;
/// The token of characters that the sample does not have.
pub(super) const UNKNOWN: &str = "<unk>";

/// Byte pair encoding over bytes: every text has tokens, and is got back from them exactly.
///
/// # Errors
/// When GPT-2's pattern cannot be compiled.
pub(super) fn bytes<'a>(
    texts: impl Iterator<Item = &'a str>,
    size: usize,
    special: &[String],
) -> Result<Vec<u8>, String> {
    let cut = Cut::Bytes { prefix_space: false, split: Some(Split::gpt_2()?) };
    let mut counts: HashMap<String, u64> = HashMap::new();
    for text in texts {
        for piece in cut.apply(vec![text.into()]) {
            match counts.get_mut(&*piece) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(piece.into_owned(), 1);
                }
            }
        }
    }
    // In an order that does not depend on hashes.
    let pieces: BTreeMap<String, u64> = counts.into_iter().collect();
    let mut alphabet: Vec<char> = (0..=u8::MAX).map(printable).collect();
    alphabet.sort_unstable();
    let mut tokens: Vec<String> = special.to_vec();
    let first = tokens.len();
    tokens.extend(alphabet.iter().map(char::to_string));
    let ids: HashMap<char, u32> = (first as u32..).zip(&alphabet).map(|(id, c)| (*c, id)).collect();
    let words = pieces.into_iter().map(|(piece, count)| {
        (piece.chars().filter_map(|c| ids.get(&c).copied()).collect(), count)
    });
    let merges = Training::new(words.collect()).merges(&mut tokens, first, size);
    let level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let (pre_tokenizer, decoder) = (level.clone(), level);
    Ok(file(&tokens, first, &merges, None, &pre_tokenizer, &decoder))
}

/// The most frequent characters, each a token; another is unknown.
pub(super) fn characters<'a>(
    texts: impl Iterator<Item = &'a str>,
    size: usize,
    special: &[String],
) -> Vec<u8> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for c in texts.flat_map(str::chars) {
        *counts.entry(c).or_default() += 1;
    }
    let mut characters: Vec<(char, u64)> = counts.into_iter().collect();
    characters.sort_by_key(|(c, count)| (Reverse(*count), *c));
    let mut tokens = vec![UNKNOWN.to_owned()];
    tokens.extend_from_slice(special);
    let first = tokens.len();
    let room = size.saturating_sub(tokens.len());
    tokens.extend(characters.into_iter().take(room).map(|(c, _)| c.to_string()));
    file(&tokens, first, &[], Some(UNKNOWN), &Json::Null, &json!({ "type": "Fuse" }))
}

/// A `tokenizer.json`; the first tokens are special.
fn file(
    tokens: &[String],
    special: usize,
    merges: &[[String; 2]],
    unknown: Option<&str>,
    pre_tokenizer: &Json,
    decoder: &Json,
) -> Vec<u8> {
    let added = tokens.iter().take(special).enumerate().map(|(id, content)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let vocabulary = tokens.iter().enumerate().map(|(id, token)| (token.clone(), Json::from(id)));
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary.collect::<serde_json::Map<_, _>>(),
            "merges": merges,
        },
    });
    file.to_string().into_bytes()
}

type Pair = (u32, u32);

/// Words as they are merged, and how often each pair stands in them.
struct Training {
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// The words that a pair stands in, or stood in.
    places: HashMap<Pair, HashSet<usize>>,
    /// Pairs by count; among equals, those of earlier tokens. What is out of date is found out when it comes up.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Training {
    fn new(words: Vec<(Vec<u32>, u64)>) -> Self {
        let mut training = Self {
            words: Vec::new(),
            counts: HashMap::new(),
            places: HashMap::new(),
            queue: BinaryHeap::new(),
        };
        for (at, (word, count)) in words.iter().enumerate() {
            for pair in pairs(word) {
                training.add(pair, at, *count);
            }
        }
        training.words = words;
        training.queue = training.counts.iter().map(|(pair, n)| (*n, Reverse(*pair))).collect();
        training
    }

    fn add(&mut self, pair: Pair, word: usize, count: u64) {
        *self.counts.entry(pair).or_default() += count;
        self.places.entry(pair).or_default().insert(word);
    }

    /// Merges the most frequent pair until there are `size` tokens or no pair is frequent.
    fn merges(mut self, tokens: &mut Vec<String>, special: usize, size: usize) -> Vec<[String; 2]> {
        let mut merges = Vec::new();
        let ids = tokens.iter().zip(0_u32..);
        let mut ids: HashMap<String, u32> = ids.map(|(token, id)| (token.clone(), id)).collect();
        while tokens.len() < size
            && let Some((count, Reverse(pair))) = self.queue.pop()
        {
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if count != now || now < LEAST {
                if now >= LEAST && now < count {
                    self.queue.push((now, Reverse(pair)));
                }
                continue;
            }
            let token = |id: u32| tokens.get(id as usize).cloned().unwrap_or_default();
            let (left, right) = (token(pair.0), token(pair.1));
            let merged = [left.as_str(), right.as_str()].concat();
            let id = match ids.get(&merged) {
                // A special token is never part of a text.
                Some(id) if (*id as usize) < special => {
                    self.counts.remove(&pair);
                    continue;
                }
                // Another pair makes the same token.
                Some(id) => *id,
                None => {
                    let id = tokens.len() as u32;
                    ids.insert(merged.clone(), id);
                    tokens.push(merged);
                    id
                }
            };
            merges.push([left, right]);
            self.merge(pair, id);
        }
        merges
    }

    fn merge(&mut self, pair: Pair, id: u32) {
        let mut changed: HashSet<Pair> = HashSet::new();
        for at in self.places.remove(&pair).unwrap_or_default() {
            let Some((word, count)) = self.words.get_mut(at) else { continue };
            let (before, count) = (std::mem::take(word), *count);
            let after = merged(&before, pair, id);
            for old in pairs(&before) {
                if let Some(total) = self.counts.get_mut(&old) {
                    *total = total.saturating_sub(count);
                }
            }
            for new in pairs(&after) {
                self.add(new, at, count);
                changed.insert(new);
            }
            if let Some((word, _)) = self.words.get_mut(at) {
                *word = after;
            }
        }
        self.counts.remove(&pair);
        let queued = changed
            .into_iter()
            .filter_map(|pair| self.counts.get(&pair).map(|count| (*count, Reverse(pair))));
        self.queue.extend(queued.collect::<Vec<_>>());
    }
}

fn pairs(word: &[u32]) -> impl Iterator<Item = Pair> {
    word.iter().copied().zip(word.iter().skip(1).copied())
}

fn merged(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        match after.split_first() {
            Some((second, behind)) if (*first, *second) == pair => {
                merged.push(id);
                rest = behind;
            }
            _ => {
                merged.push(*first);
                rest = after;
            }
        }
    }
    merged
}
