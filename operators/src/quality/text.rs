//! What can be measured of a text without knowing its language.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Words of a run that counts as repeated; shorter ones are the stuff of any language.
const RUN: usize = 5;

/// Measures of a text. Shares are of its characters, whitespace aside, and 0 for an empty text.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Measures {
    /// Characters that are not whitespace.
    pub(super) characters: u64,
    /// The share of letters and digits.
    pub(super) alphanumeric: f64,
    /// The share that stands in lines that stood there before.
    pub(super) repeated_lines: f64,
    /// The share that stands in runs of five words that stood there before.
    pub(super) repeated_words: f64,
    /// The mean length of words, in characters.
    pub(super) word_length: f64,
}

/// The same hash in every run and on every machine.
type Hasher = BuildHasherDefault<DefaultHasher>;

impl Measures {
    pub(super) fn of(text: &str) -> Self {
        let (mut characters, mut alphanumeric) = (0, 0_u64);
        for c in text.chars().filter(|c| !c.is_whitespace()) {
            characters += 1;
            alphanumeric += u64::from(c.is_alphanumeric());
        }
        let words: Vec<&str> = words(text).collect();
        let share = |part: u64| part as f64 / (characters as f64).max(1.0);
        Self {
            characters,
            alphanumeric: share(alphanumeric),
            repeated_lines: share(in_repeated_lines(text)),
            repeated_words: share(in_repeated_words(&words)),
            word_length: characters as f64 / (words.len() as f64).max(1.0),
        }
    }
}

/// Characters that are not whitespace.
fn length(text: &str) -> u64 {
    text.chars().filter(|c| !c.is_whitespace()).count() as u64
}

fn in_repeated_lines(text: &str) -> u64 {
    let mut seen: HashSet<&str, Hasher> = HashSet::default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.filter(|line| !seen.insert(line)).map(length).sum()
}

/// As in Gopher's rules: a run that was seen counts and is stepped over, so that nothing counts twice.
fn in_repeated_words(words: &[&str]) -> u64 {
    let hasher = Hasher::default();
    let mut seen: HashSet<u64, Hasher> = HashSet::default();
    let (mut rest, mut repeated) = (words, 0);
    while let Some(run) = rest.get(..RUN) {
        let step = match seen.insert(hasher.hash_one(run)) {
            true => 1,
            false => {
                repeated += run.iter().map(|word| length(word)).sum::<u64>();
                RUN
            }
        };
        rest = rest.get(step..).unwrap_or_default();
    }
    repeated
}

/// What stands between spaces. Where a script writes none, every character is a word, so that runs of words
/// are about as telling in every language.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(|mut rest| {
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let end = match without_spaces(first) {
                true => first.len_utf8(),
                false => rest.find(without_spaces).unwrap_or(rest.len()),
            };
            let (word, after) = rest.split_at_checked(end)?;
            rest = after;
            Some(word)
        })
    })
}

/// Characters of scripts that are written without spaces between words.
fn without_spaces(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{eff}' // Thai, Lao
        | '\u{f00}'..='\u{fff}' // Tibetan
        | '\u{1000}'..='\u{109f}' // Myanmar
        | '\u{1780}'..='\u{17ff}' // Khmer
        | '\u{3040}'..='\u{30ff}' // Hiragana, Katakana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' // Han
        | '\u{20000}'..='\u{323af}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_of_scripts_with_and_without_spaces() {
        let split = |text| words(text).collect::<Vec<_>>();
        assert_eq!(split(" one  two\nthree "), ["one", "two", "three"]);
        assert_eq!(split("GPUの性能 ok"), ["GPU", "の", "性", "能", "ok"]);
        assert_eq!(split(" \n"), [""; 0]);
    }

    #[test]
    fn measures_of_known_texts() {
        let measures = Measures::of("ab c1\n--\n");
        assert_eq!((measures.characters, measures.alphanumeric), (6, 4.0 / 6.0));
        assert_eq!(measures.word_length, 2.0);
        assert_eq!(Measures::of(" \n\t"), Measures::default());

        let lines = Measures::of("abcd\n  abcd\nxy\n\n\nabcd");
        assert_eq!(lines.repeated_lines, 8.0 / 14.0);

        // Seven words, then the first six of them again: one run of five, and one word that is left.
        let run = Measures::of("a b c d e f g a b c d e f");
        assert_eq!(run.repeated_words, 5.0 / 13.0);
        let han = Measures::of("我喜欢喝茶我喜欢喝茶");
        assert_eq!(han.repeated_words, 0.5);
        let prose =
            "The harbour lay quiet under a thin fog, and only the gulls were awake to see it.";
        assert_eq!(Measures::of(prose).repeated_words, 0.0);
    }

    proptest! {
        #[test]
        fn shares_are_shares(text in "([a-c ]{0,8}|\\PC{0,8}|[\n我喜]{0,4}){0,8}") {
            let measures = Measures::of(&text);
            for share in [
                measures.alphanumeric, measures.repeated_lines, measures.repeated_words,
            ] {
                prop_assert!((0.0..=1.0).contains(&share), "{:?} of {:?}", measures, text);
            }
            prop_assert_eq!(words(&text).map(length).sum::<u64>(), measures.characters);
            // Said twice, at least half is repeated lines.
            let twice = Measures::of(&format!("{text}\n{text}"));
            prop_assert!(measures.characters == 0 || twice.repeated_lines >= 0.5);
        }
    }
}
