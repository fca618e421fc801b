//! Sizes that fit together, small enough that no count of them overflows.

use thiserror::Error;

use super::{Architecture, AudioTokens, Bits, FeedForward, Head, ImageTokens, Inputs, Rows};

/// No tensor holds more elements: 2^36, 64 GiB of bytes.
const MOST_ELEMENTS: u64 = 1 << 36;

/// Why no model has these sizes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArchitectureError {
    /// A size out of its range.
    #[error("{what} is {found}; it must be from {least} to {most}")]
    Range {
        /// Which size.
        what: &'static str,
        /// What it is.
        found: usize,
        /// The smallest that is allowed.
        least: usize,
        /// The largest that is allowed.
        most: usize,
    },
    /// A size that does not divide another.
    #[error("{what} ({found}) is not divisible by {divisor_what} ({divisor})")]
    Indivisible {
        /// Which size.
        what: &'static str,
        /// What it is.
        found: usize,
        /// By what it should be divisible.
        divisor_what: &'static str,
        /// How much that is.
        divisor: usize,
    },
    /// Next tokens of something that has no vocabulary.
    #[error("a head for next tokens stands behind inputs of tokens only; use a head of classes")]
    NextOfNothing,
    /// Masks of something that has no places, or of several things at once.
    #[error(
        "a head of masks stands behind one picture or one spectrum, whose places its bits are about; use a head of classes"
    )]
    MasksOfNothing,
    /// An encoder of no modality.
    #[error("inputs of modalities name none; give at least one of image, audio and text")]
    NoModality,
    /// LUT layers that are missing.
    #[error("feed_forward.nodes names no layer; give the number of tables of at least one")]
    NoLayer,
    /// A tensor larger than any memory.
    #[error("tensor {name} would have {elements} elements, more than {MOST_ELEMENTS}")]
    TooLarge {
        /// Which tensor.
        name: String,
        /// How many elements.
        elements: u64,
    },
}

impl Architecture {
    /// Whether the sizes fit together.
    ///
    /// # Errors
    ///
    /// The first size that does not.
    pub fn check(&self) -> Result<(), ArchitectureError> {
        range("width", self.width, 1, 1 << 14)?;
        range("heads", self.heads, 1, self.width)?;
        divides("width", self.width, "heads", self.heads)?;
        range("layers", self.layers, 1, 1 << 10)?;
        self.inputs.check()?;
        match (self.head, &self.inputs) {
            (Head::NextToken, Inputs::Tokens { .. }) => (),
            (Head::NextToken, _) => return Err(ArchitectureError::NextOfNothing),
            (Head::Classes(classes), _) => range("head.classes", classes, 1, 1 << 20)?,
            (
                Head::Masks(bits),
                Inputs::Image(_)
                | Inputs::Modalities { image: Some(_), audio: None, text: None }
                | Inputs::Modalities { image: None, audio: Some(_), text: None },
            ) => range("head.masks", bits, 1, 1 << 20)?,
            (Head::Masks(_), _) => return Err(ArchitectureError::MasksOfNothing),
        }
        match &self.feed_forward {
            FeedForward::None => (),
            FeedForward::Mlp { hidden } => range("feed_forward.hidden", *hidden, 1, 1 << 18)?,
            FeedForward::Bits(bits) => bits.check()?,
            FeedForward::Rows(rows) => rows.check()?,
        }
        self.tensors().into_iter().try_for_each(|tensor| {
            let elements = tensor.shape.iter().fold(1_u64, |product, size| {
                product.saturating_mul(u64::try_from(*size).unwrap_or(u64::MAX))
            });
            if elements > MOST_ELEMENTS {
                return Err(ArchitectureError::TooLarge { name: tensor.name, elements });
            }
            Ok(())
        })
    }
}

impl Inputs {
    fn check(&self) -> Result<(), ArchitectureError> {
        match self {
            Self::Tokens { vocabulary, context } => {
                range("inputs.vocabulary", *vocabulary, 1, 1 << 22)?;
                range("inputs.context", *context, 1, 1 << 16)
            }
            Self::Image(image) => image.check(),
            Self::Modalities { image: None, audio: None, text: None } => {
                Err(ArchitectureError::NoModality)
            }
            Self::Modalities { image, audio, text } => {
                image.as_ref().map_or(Ok(()), ImageTokens::check)?;
                audio.as_ref().map_or(Ok(()), AudioTokens::check)?;
                let Some(text) = text else { return Ok(()) };
                range("inputs.text.vocabulary", text.vocabulary, 1, 1 << 22)?;
                range("inputs.text.length", text.length, 1, 1 << 16)
            }
        }
    }
}

impl ImageTokens {
    fn check(&self) -> Result<(), ArchitectureError> {
        range("inputs.image.height", self.height, 1, 1 << 14)?;
        range("inputs.image.width", self.width, 1, 1 << 14)?;
        range("inputs.image.channels", self.channels, 1, 64)?;
        range("inputs.image.patch", self.patch, 1, self.height.min(self.width))?;
        divides("inputs.image.height", self.height, "inputs.image.patch", self.patch)?;
        divides("inputs.image.width", self.width, "inputs.image.patch", self.patch)?;
        range("patches of inputs.image", self.tokens(), 1, 1 << 16)
    }
}

impl AudioTokens {
    fn check(&self) -> Result<(), ArchitectureError> {
        range("inputs.audio.bands", self.bands, 1, 1 << 14)?;
        range("inputs.audio.frames", self.frames, 1, 1 << 20)?;
        range("inputs.audio.frames_per_token", self.frames_per_token, 1, self.frames)?;
        let divisor = ("inputs.audio.frames_per_token", self.frames_per_token);
        divides("inputs.audio.frames", self.frames, divisor.0, divisor.1)?;
        range("tokens of inputs.audio", self.tokens(), 1, 1 << 16)
    }
}

impl Bits {
    fn check(&self) -> Result<(), ArchitectureError> {
        range("feed_forward.inputs", self.inputs, 2, 8)?;
        range("feed_forward.levels", self.levels, 1, 255)?;
        if self.nodes.is_empty() {
            return Err(ArchitectureError::NoLayer);
        }
        range("layers of feed_forward.nodes", self.nodes.len(), 1, 64)?;
        self.nodes.iter().try_for_each(|nodes| range("feed_forward.nodes", *nodes, 1, 1 << 20))
    }
}

impl Rows {
    fn check(&self) -> Result<(), ArchitectureError> {
        range("feed_forward.inputs", self.inputs, 2, 8)?;
        range("feed_forward.nodes", self.nodes, 1, 1 << 20)
    }
}

fn range(
    what: &'static str,
    found: usize,
    least: usize,
    most: usize,
) -> Result<(), ArchitectureError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(ArchitectureError::Range { what, found, least, most })
}

fn divides(
    what: &'static str,
    found: usize,
    divisor_what: &'static str,
    divisor: usize,
) -> Result<(), ArchitectureError> {
    if found.is_multiple_of(divisor) {
        return Ok(());
    }
    Err(ArchitectureError::Indivisible { what, found, divisor_what, divisor })
}

#[cfg(test)]
mod tests {
    use super::super::{Architecture, TextTokens, Wires};
    use super::*;

    fn gpt(feed_forward: FeedForward) -> Architecture {
        let inputs = Inputs::Tokens { vocabulary: 65, context: 64 };
        Architecture {
            width: 128,
            heads: 4,
            layers: 4,
            inputs,
            head: Head::NextToken,
            feed_forward,
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let message = |architecture: Architecture| architecture.check().unwrap_err().to_string();
        let base = gpt(FeedForward::None);
        assert_eq!(base.check(), Ok(()));
        assert_eq!(
            message(Architecture { heads: 3, ..base.clone() }),
            "width (128) is not divisible by heads (3)"
        );
        assert_eq!(
            message(Architecture { layers: 0, ..base.clone() }),
            "layers is 0; it must be from 1 to 1024"
        );
        let rows = |inputs| FeedForward::Rows(Rows { nodes: 64, inputs, wires: Wires::Axis });
        assert_eq!(message(gpt(rows(9))), "feed_forward.inputs is 9; it must be from 2 to 8");
        assert_eq!(message(gpt(rows(1))), "feed_forward.inputs is 1; it must be from 2 to 8");
        let huge = Rows { nodes: 1 << 20, inputs: 8, wires: Wires::Axis };
        let huge = Architecture { width: 1 << 14, ..gpt(FeedForward::Rows(huge)) };
        assert_eq!(
            message(huge),
            "tensor blocks.0.rows.table would have 4398046511104 elements, more than 68719476736"
        );
        let nothing = Inputs::Modalities { image: None, audio: None, text: None };
        let nothing = Architecture { inputs: nothing, head: Head::Classes(2), ..base.clone() };
        assert!(message(nothing).contains("name none"));
        let text = Some(TextTokens { vocabulary: 9, length: 9 });
        let text = Inputs::Modalities { image: None, audio: None, text };
        let text = Architecture { inputs: text, ..base.clone() };
        assert!(message(text.clone()).contains("next tokens"));
        for places in [text, base] {
            let masks = Architecture { head: Head::Masks(4), ..places };
            assert!(message(masks).contains("one picture or one spectrum"));
        }
        let bits = Bits { levels: 8, nodes: vec![], inputs: 6 };
        assert!(message(gpt(FeedForward::Bits(bits))).contains("names no layer"));
        let image = ImageTokens { height: 28, width: 28, channels: 1, patch: 5 };
        let image = Architecture {
            inputs: Inputs::Image(image),
            head: Head::Classes(10),
            ..gpt(FeedForward::None)
        };
        assert!(message(image.clone()).contains("inputs.image.height (28) is not divisible"));
        let whole = ImageTokens { height: 28, width: 28, channels: 1, patch: 7 };
        let masks = |bits| Architecture {
            inputs: Inputs::Image(whole),
            head: Head::Masks(bits),
            ..image.clone()
        };
        assert_eq!(masks(49).check(), Ok(()));
        assert_eq!(message(masks(0)), "head.masks is 0; it must be from 1 to 1048576");
    }

    #[test]
    fn the_largest_sizes_are_counted_without_overflow() {
        let largest = Architecture {
            width: 1 << 14,
            heads: 1,
            layers: 1 << 10,
            inputs: Inputs::Tokens { vocabulary: 1 << 22, context: 1 << 16 },
            head: Head::NextToken,
            feed_forward: FeedForward::Mlp { hidden: 1 << 18 },
        };
        assert_eq!(largest.check(), Ok(()));
        assert!(largest.operations().multiplications > 1 << 56);
        assert!(largest.parameters() > 1 << 40);
    }
}
