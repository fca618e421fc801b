//! Cuts a text into the pieces that are encoded one by one.

use std::borrow::Cow;

use regex::Regex;

/// A step from pieces to smaller ones.
#[derive(Debug)]
pub(super) enum Cut {
    Split(Split),
    /// Bytes become the printable characters that byte-level vocabularies are written in.
    Bytes {
        /// Whether a piece that begins without a space gets one.
        prefix_space: bool,
        /// The cut that comes before, if any.
        split: Option<Split>,
    },
}

/// How the pieces between the matches of a pattern, and the matches, are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(super) enum Behaviour {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// A pattern that cuts.
#[derive(Debug)]
pub(super) struct Split {
    pattern: Regex,
    /// Whether a match of whitespace alone gives its last character to what follows it: the pattern ended in
    /// `\s+(?!\S)|\s+`, which is the only use of look-ahead there is, and this does the same without.
    yields: bool,
    behaviour: Behaviour,
    /// Whether the matches are the pieces, and what is between them the separators.
    invert: bool,
}

/// The end of the pattern of GPT-2 and of its followers.
const LOOK_AHEAD: &str = r"|\s+(?!\S)|\s+";
/// GPT-2's.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

impl Split {
    pub(super) fn new(pattern: &str, behaviour: Behaviour, invert: bool) -> Result<Self, String> {
        let (compiled, yields) = match pattern.strip_suffix(LOOK_AHEAD) {
            Some(rest) => (Regex::new(&format!(r"(?:{rest})|(?P<spaces>\s+)")), true),
            None => (Regex::new(pattern), false),
        };
        let unfit = |_| {
            format!(
                "its pattern `{pattern}` is not supported; look-around, back references and possessive \
                 repetition are not, but for `{LOOK_AHEAD}` at the end"
            )
        };
        Ok(Self { pattern: compiled.map_err(unfit)?, yields, behaviour, invert })
    }

    pub(super) fn gpt_2() -> Result<Self, String> {
        Self::new(GPT_2, Behaviour::Isolated, false)
    }

    /// Ends of matches and of what is between them, and whether they are matches.
    fn marks(&self, text: &str) -> Vec<(usize, bool)> {
        let (mut marks, mut done, mut from) = (Vec::new(), 0, 0);
        while from < text.len()
            && let Some((start, end)) = self.find(text, from)
        {
            from = end;
            if start == end {
                // Nothing cuts nothing: look on behind the next character.
                let next = text.get(end..).and_then(|rest| rest.chars().next());
                from += next.map_or(1, char::len_utf8);
                continue;
            }
            if start > done {
                marks.push((start, false));
            }
            marks.push((end, true));
            done = end;
        }
        if done < text.len() {
            marks.push((text.len(), false));
        }
        marks
    }

    fn find(&self, text: &str, at: usize) -> Option<(usize, usize)> {
        if !self.yields {
            return self.pattern.find_at(text, at).map(|found| (found.start(), found.end()));
        }
        let found = self.pattern.captures_at(text, at)?;
        let whole = found.get(0)?;
        let (start, end) = (whole.start(), whole.end());
        let last = found.name("spaces").filter(|_| end < text.len());
        let last = last.and_then(|spaces| spaces.as_str().char_indices().next_back());
        Some(match last {
            Some((within, _)) if within > 0 => (start, start + within),
            _ => (start, end),
        })
    }

    fn cut<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let (mut start, mut last) = (0, None);
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for (end, found) in self.marks(text) {
            let separates = found != self.invert;
            let joins = match self.behaviour {
                Behaviour::Removed | Behaviour::Isolated => false,
                Behaviour::MergedWithPrevious => separates && last == Some(false),
                Behaviour::MergedWithNext => !separates && last == Some(true),
                Behaviour::Contiguous => last == Some(separates),
            };
            match ranges.last_mut() {
                Some(range) if joins => range.1 = end,
                _ if separates && self.behaviour == Behaviour::Removed => {}
                _ => ranges.push((start, end)),
            }
            (start, last) = (end, Some(separates));
        }
        ranges.into_iter().filter_map(|(start, end)| text.get(start..end)).collect()
    }
}

impl Cut {
    pub(super) fn apply<'a>(&self, pieces: Vec<Cow<'a, str>>) -> Vec<Cow<'a, str>> {
        match self {
            Self::Split(split) => pieces.into_iter().flat_map(|piece| cut(split, piece)).collect(),
            Self::Bytes { prefix_space, split } => {
                let pieces = pieces.into_iter().map(|piece| {
                    match *prefix_space && !piece.starts_with(' ') {
                        true => Cow::Owned(format!(" {piece}")),
                        false => piece,
                    }
                });
                let pieces = pieces.flat_map(|piece| match split {
                    Some(split) => cut(split, piece),
                    None => vec![piece],
                });
                pieces.map(|piece| Cow::Owned(piece.bytes().map(printable).collect())).collect()
            }
        }
    }
}

fn cut<'a>(split: &Split, piece: Cow<'a, str>) -> Vec<Cow<'a, str>> {
    match piece {
        Cow::Borrowed(piece) => split.cut(piece).into_iter().map(Cow::Borrowed).collect(),
        Cow::Owned(piece) => {
            split.cut(&piece).into_iter().map(|piece| Cow::Owned(piece.to_owned())).collect()
        }
    }
}

/// The printable character that stands for a byte in byte-level vocabularies: itself where it has one in
/// Latin-1, and else one of those from U+0100 on.
pub(super) fn printable(byte: u8) -> char {
    let shifted = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => return char::from(byte),
        0..=b' ' => u16::from(byte),
        0x7f..=0xa0 => u16::from(byte) - 0x7f + 0x21,
        0xad => 0x43,
    };
    char::from_u32(0x100 + u32::from(shifted)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let characters: std::collections::HashSet<char> = (0..=255).map(printable).collect();
        assert_eq!(characters.len(), 256);
        assert_eq!(
            [b' ', b'\n', b'a', 0x7f, 0xa0, 0xad].map(printable),
            ['Ġ', 'Ċ', 'a', 'ġ', 'ł', 'Ń']
        );
    }

    #[test]
    fn gpt_2_cuts_spaces_as_with_look_ahead() {
        let gpt_2 = Split::gpt_2().unwrap();
        assert_eq!(
            gpt_2.cut("I'll say 42!!  Yes\n\n now  "),
            ["I", "'ll", " say", " 42", "!!", " ", " Yes", "\n\n", " now", "  "]
        );
        assert_eq!(gpt_2.cut("a\u{a0}\tb"), ["a", "\u{a0}", "\t", "b"]);
        assert_eq!(gpt_2.cut(""), [""; 0]);
    }

    #[test]
    fn behaviours_are_those_of_their_names() {
        for (behaviour, expected) in [
            (Behaviour::Removed, vec!["the", "final", "countdown"]),
            (Behaviour::Isolated, vec!["the", "-", "final", "-", "-", "countdown"]),
            (Behaviour::MergedWithPrevious, vec!["the-", "final-", "-", "countdown"]),
            (Behaviour::MergedWithNext, vec!["the", "-final", "-", "-countdown"]),
            (Behaviour::Contiguous, vec!["the", "-", "final", "--", "countdown"]),
        ] {
            let split = Split::new("-", behaviour, false).unwrap();
            assert_eq!(split.cut("the-final--countdown"), expected, "{behaviour:?}");
        }
        let words = Split::new(r"\w+|[^\w\s]+", Behaviour::Removed, true).unwrap();
        assert_eq!(words.cut("Hello, you  there"), ["Hello", ",", "you", "there"]);
    }

    #[test]
    fn patterns_that_need_more_are_refused() {
        let error = Split::new(r"a(?=b)", Behaviour::Isolated, false).unwrap_err();
        assert!(error.contains("look-around"), "{error}");
    }
}
