//! What is wrong with a job file: where, why, and what to write instead.

use std::fmt;
use std::ops::Range;

use anabranch_pipelines::graph::nearest;

use super::text::Text;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as offsets of a `Text`.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at `span`.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With the name among `valid` that was probably meant, or else all of them.
    #[must_use]
    pub fn suggest<'a>(
        self,
        name: &str,
        valid: impl IntoIterator<Item = &'a str>,
        what: &str,
    ) -> Self {
        let valid: Vec<&str> = valid.into_iter().collect();
        match nearest(name, valid.iter().copied()) {
            Some(meant) => self.help(format!("did you mean `{meant}`?")),
            None if valid.is_empty() => self,
            None => self.help(format!("{what}: {}", valid.join(", "))),
        }
    }
}

/// All that is wrong with a job file, in its order. Displays as a text for people.
#[derive(Debug, Clone)]
pub struct Problems {
    text: Text,
    found: Vec<Problem>,
}

impl Problems {
    /// Problems of `text`, sorted by where they stand.
    pub fn new(text: Text, mut found: Vec<Problem>) -> Self {
        found.sort_by_key(|problem| (problem.span.start, problem.span.end));
        found.dedup();
        Self { text, found }
    }

    /// The problems, in the file's order.
    pub fn found(&self) -> &[Problem] {
        &self.found
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.found.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            one(f, &self.text, problem)?;
        }
        if self.found.len() > 1 {
            write!(f, "\n\n{} problems; nothing was run", self.found.len())?;
        }
        Ok(())
    }
}

fn one(f: &mut fmt::Formatter<'_>, text: &Text, problem: &Problem) -> fmt::Result {
    write!(f, "error: {}", problem.message)?;
    let Some(place) = text.place(&problem.span) else { return Ok(()) };
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    // Tabs before the caret are repeated, so that it stands below its character however wide they are.
    let indent: String = place
        .text
        .chars()
        .take(place.column - 1)
        .map(|c| if c == '\t' { c } else { ' ' })
        .collect();
    write!(f, "\n{gutter}--> {}:{}:{}", place.label, place.line, place.column)?;
    write!(f, "\n{gutter} |\n{number} | {}", place.text)?;
    write!(f, "\n{gutter} | {indent}{}", "^".repeat(place.width))?;
    match &problem.help {
        Some(help) => write!(f, "\n{gutter} = {help}"),
        None => Ok(()),
    }
}
