//! What goes into a model, checked against its architecture.

use thiserror::Error;

use crate::artifact::architecture::{AudioTokens, ImageTokens, Inputs, TextTokens};

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Token ids, row by row, every row of one length.
    Tokens {
        /// `[batch * length]`.
        ids: Vec<u32>,
        /// Tokens of a row, at most the context.
        length: usize,
    },
    /// Pixels `[batch, height, width, channels]`.
    Images(Vec<f32>),
    /// Records of several modalities. A modality that is absent here is not seen: a model takes any
    /// subset of its modalities, for a whole batch at once.
    Modalities {
        /// Records.
        batch: usize,
        /// Pixels `[batch, height, width, channels]`.
        image: Option<Vec<f32>>,
        /// Spectra `[batch, frames, bands]`.
        audio: Option<Vec<f32>>,
        /// Token ids `[batch, length]`.
        text: Option<Vec<u32>>,
    },
}

/// A modality of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Modality {
    Image,
    Audio,
    Text,
}

/// What a model cannot take.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InputError {
    /// A token that is not in the vocabulary.
    #[error(
        "token {token} at position {position} of row {row} is not below the vocabulary's {vocabulary}"
    )]
    Token {
        /// The token.
        token: u32,
        /// Its row in the batch.
        row: usize,
        /// Its place in the row.
        position: usize,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// Rows of another length than the model's.
    #[error("rows of {found} tokens do not fit a model of {expected}; cut or pad them")]
    Length {
        /// Tokens of a row.
        found: usize,
        /// What the model takes.
        expected: usize,
    },
    /// Values that are no whole number of records.
    #[error("{found} values of {what} are no whole batch; the model takes {expected} per record")]
    Size {
        /// Which input.
        what: &'static str,
        /// How many values there are.
        found: usize,
        /// How many one record has.
        expected: usize,
    },
    /// Another kind of input than the model's.
    #[error("the model takes {expected}, not {found}")]
    Foreign {
        /// What was given.
        found: &'static str,
        /// What the model takes.
        expected: &'static str,
    },
    /// A batch without a record.
    #[error("the batch has no record; give at least one")]
    Empty,
    /// Records without a modality.
    #[error("the batch names no modality; give at least one of those of the model")]
    Nothing,
    /// A class that the head does not know; masks know 0 and 1.
    #[error("target {target} of row {row} is no class of the {classes} that the model knows")]
    Target {
        /// The class.
        target: u32,
        /// Its row.
        row: usize,
        /// The number of classes.
        classes: usize,
    },
    /// Another number of targets than of predictions.
    #[error("{found} targets for {expected} predictions")]
    Targets {
        /// Targets.
        found: usize,
        /// Predictions.
        expected: usize,
    },
}

impl Input {
    /// The number of records.
    pub(super) fn batch(&self, inputs: &Inputs) -> Result<usize, InputError> {
        let batch = match (self, inputs) {
            (Self::Tokens { ids, length }, Inputs::Tokens { vocabulary, context }) => {
                if *length == 0 || length > context {
                    return Err(InputError::Length { found: *length, expected: *context });
                }
                tokens(ids, *length, *vocabulary)?
            }
            (Self::Images(pixels), Inputs::Image(image)) => {
                records("images", pixels.len(), image.tokens() * image.values())?
            }
            (Self::Modalities { .. }, Inputs::Modalities { image, audio, text }) => {
                self.modalities(image.as_ref(), audio.as_ref(), text.as_ref())?
            }
            (found, expected) => {
                let expected = match expected {
                    Inputs::Tokens { .. } => "tokens",
                    Inputs::Image(_) => "images",
                    Inputs::Modalities { .. } => "modalities",
                };
                return Err(InputError::Foreign { found: found.name(), expected });
            }
        };
        if batch == 0 { Err(InputError::Empty) } else { Ok(batch) }
    }

    fn modalities(
        &self,
        image_sizes: Option<&ImageTokens>,
        audio_sizes: Option<&AudioTokens>,
        text_sizes: Option<&TextTokens>,
    ) -> Result<usize, InputError> {
        let Self::Modalities { batch, image, audio, text } = self else { return Ok(0) };
        if image.is_none() && audio.is_none() && text.is_none() {
            return Err(InputError::Nothing);
        }
        let foreign = |found| InputError::Foreign { found, expected: "other modalities" };
        if let Some(image) = image {
            let sizes = image_sizes.ok_or_else(|| foreign("images"))?;
            exactly(*batch, "images", image.len(), sizes.tokens() * sizes.values())?;
        }
        if let Some(audio) = audio {
            let sizes = audio_sizes.ok_or_else(|| foreign("audio"))?;
            exactly(*batch, "audio", audio.len(), sizes.frames * sizes.bands)?;
        }
        if let Some(text) = text {
            let sizes = text_sizes.ok_or_else(|| foreign("text"))?;
            exactly(*batch, "text", text.len(), sizes.length)?;
            tokens(text, sizes.length, sizes.vocabulary)?;
        }
        Ok(*batch)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Tokens { .. } => "tokens",
            Self::Images(_) => "images",
            Self::Modalities { .. } => "modalities",
        }
    }

    /// The same records without one modality, unless it is the only one that they have.
    #[must_use]
    pub fn without(self, modality: Modality) -> Self {
        let Self::Modalities { batch, image, audio, text } = self else { return self };
        match modality {
            Modality::Image if audio.is_some() || text.is_some() => {
                Self::Modalities { batch, image: None, audio, text }
            }
            Modality::Audio if image.is_some() || text.is_some() => {
                Self::Modalities { batch, image, audio: None, text }
            }
            Modality::Text if image.is_some() || audio.is_some() => {
                Self::Modalities { batch, image, audio, text: None }
            }
            _ => Self::Modalities { batch, image, audio, text },
        }
    }
}

fn tokens(ids: &[u32], length: usize, vocabulary: usize) -> Result<usize, InputError> {
    for (place, token) in ids.iter().enumerate() {
        if *token as usize >= vocabulary {
            let (row, position) = (place / length, place % length);
            return Err(InputError::Token { token: *token, row, position, vocabulary });
        }
    }
    records("tokens", ids.len(), length)
}

fn records(what: &'static str, found: usize, expected: usize) -> Result<usize, InputError> {
    if expected == 0 || !found.is_multiple_of(expected) {
        return Err(InputError::Size { what, found, expected });
    }
    Ok(found / expected)
}

fn exactly(
    batch: usize,
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), InputError> {
    if found == batch * expected {
        return Ok(());
    }
    Err(InputError::Size { what, found, expected })
}

/// Pixels `[batch, height, width, channels]` as patches `[batch * tokens, values]`, patches row by
/// row, the values of one by row, column, channel.
pub(super) fn patches(pixels: &[f32], sizes: &ImageTokens) -> Vec<f32> {
    let ImageTokens { height, width, channels, patch } = *sizes;
    let mut out = Vec::with_capacity(pixels.len());
    for image in pixels.chunks_exact(height * width * channels) {
        for top in (0..height).step_by(patch) {
            for left in (0..width).step_by(patch) {
                for row in top..top + patch {
                    let from = (row * width + left) * channels;
                    let values = image.get(from..from + patch * channels);
                    out.extend_from_slice(values.unwrap_or_default());
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn patches_are_cut_row_by_row() {
        let sizes = ImageTokens { height: 2, width: 4, channels: 1, patch: 2 };
        let pixels: Vec<f32> = (0..8).map(|i| i as f32).collect();
        assert_eq!(patches(&pixels, &sizes), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }

    #[test]
    fn the_last_modality_stays() {
        let input = Input::Modalities {
            batch: 1,
            image: Some(vec![1.0]),
            audio: None,
            text: Some(vec![1]),
        };
        let text = input.without(Modality::Image);
        assert_eq!(text.clone().without(Modality::Text), text);
    }
}
