//! Batches of examples.

use crate::random::Random;
use crate::transformer::{Input, Modality};

/// Inputs and what a model should answer: the next token of every token, the class of every
/// record, or the bits of every token but the class token, in the order of the logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// What goes in.
    pub input: Input,
    /// What should come out.
    pub targets: Vec<u32>,
}

impl Batch {
    /// The batch without the modalities that chance drops, each with this probability.
    pub(super) fn drop_modalities(&self, share: f32, random: &mut Random) -> Input {
        let mut input = self.input.clone();
        if share > 0.0 {
            for modality in [Modality::Image, Modality::Audio, Modality::Text] {
                if random.uniform() < share {
                    input = input.without(modality);
                }
            }
        }
        input
    }
}

/// Windows over one long text: so many tokens in, the same shifted by one out.
///
/// ```
/// use anabranch_models::random::Random;
/// use anabranch_models::train::Windows;
///
/// let text: Vec<u32> = (0..100).collect();
/// let windows = Windows { text: &text, length: 8 };
/// let batch = windows.draw(4, &mut Random::new(1)).unwrap();
/// assert_eq!(batch.targets.len(), 32);
/// assert_eq!(windows.evenly(3).unwrap().targets[..2], [1, 2]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    /// The tokens of the text.
    pub text: &'a [u32],
    /// Tokens of a window.
    pub length: usize,
}

impl Windows<'_> {
    /// Windows at random places; `None` when the text is not longer than one.
    pub fn draw(&self, count: usize, random: &mut Random) -> Option<Batch> {
        let places = self.text.len().checked_sub(self.length).filter(|places| *places > 0)?;
        let starts: Vec<usize> = (0..count).map(|_| random.below(places)).collect();
        self.at(&starts)
    }

    /// Windows at evenly spaced places, the same every time: for evaluation.
    pub fn evenly(&self, count: usize) -> Option<Batch> {
        let places = self.text.len().checked_sub(self.length).filter(|places| *places > 0)?;
        let starts: Vec<usize> = (0..count).map(|i| i * places / count.max(1)).collect();
        self.at(&starts)
    }

    fn at(&self, starts: &[usize]) -> Option<Batch> {
        let (mut ids, mut targets) = (Vec::new(), Vec::new());
        for start in starts {
            let window = self.text.get(*start..*start + self.length + 1)?;
            ids.extend_from_slice(window.get(..self.length)?);
            targets.extend_from_slice(window.get(1..)?);
        }
        Some(Batch { input: Input::Tokens { ids, length: self.length }, targets })
    }
}
