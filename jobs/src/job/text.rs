//! Where things stand in what a person wrote: the job file and each `--set`.
//!
//! All pieces share one line of byte offsets, one piece after the other, so that a span of the parsed
//! tree names its place alone, wherever the value came from.

use std::ops::Range;

/// The texts that a job is read from.
#[derive(Debug, Clone, Default)]
pub struct Text {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
struct Piece {
    label: String,
    base: usize,
    text: String,
}

/// A span as people find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// The file's name, or `--set`.
    pub label: &'a str,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The whole line.
    pub text: &'a str,
    /// How many characters of the line the span takes, at least 1.
    pub width: usize,
}

impl Text {
    /// Adds a piece and gives the offset at which it begins.
    pub fn add(&mut self, label: &str, text: &str) -> usize {
        // One offset stays free after each piece, so that an error at its very end still belongs to it.
        let base = self.pieces.last().map_or(0, |last| last.base + last.text.len() + 1);
        self.pieces.push(Piece { label: label.to_owned(), base, text: text.to_owned() });
        base
    }

    /// The place of `span`; `None` only when there is no piece at all.
    pub fn place(&self, span: &Range<usize>) -> Option<Place<'_>> {
        let piece = self.pieces.iter().rfind(|piece| piece.base <= span.start)?;
        let at = floor(&piece.text, span.start - piece.base);
        let end = floor(&piece.text, span.end.saturating_sub(piece.base)).max(at);
        let before = piece.text.get(..at)?;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let text = piece.text.get(start..)?.lines().next().unwrap_or("");
        let in_line = piece.text.get(at..end.min(start + text.len()).max(at))?;
        Some(Place {
            label: &piece.label,
            line: before.matches('\n').count() + 1,
            column: before.get(start..)?.chars().count() + 1,
            text,
            width: in_line.chars().count().max(1),
        })
    }
}

/// The last character boundary of `text` at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let mut text = Text::default();
        text.add("job.toml", "a = 1\nnäme = 2\n");
        let second = text.add("--set", "x=3");
        let place = text.place(&(13..14)).unwrap();
        assert_eq!((place.label, place.line, place.column, place.width), ("job.toml", 2, 7, 1));
        assert_eq!(place.text, "näme = 2");
        let place = text.place(&(second + 2..second + 3)).unwrap();
        assert_eq!((place.label, place.line, place.column), ("--set", 1, 3));
    }

    #[test]
    fn an_offset_past_the_end_is_the_end() {
        let mut text = Text::default();
        text.add("job.toml", "ab");
        assert_eq!(text.place(&(900..901)).unwrap().column, 3);
    }
}
