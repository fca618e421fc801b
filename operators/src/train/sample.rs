//! Examples as they wait for their step.

use anabranch_models::train::Batch;
use anabranch_models::transformer::Input;

use super::options::TrainOptions;
use super::state::{Damaged, Reader, Writer};
use crate::brightness::brightness;

/// One example: a window of text, or a record with its label.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Sample {
    /// The record that it is of, or ends in.
    pub(super) record: String,
    /// Samples of a picture.
    pub(super) image: Option<Vec<u8>>,
    /// Frames of a spectrum.
    pub(super) audio: Option<Vec<f32>>,
    /// Tokens: of a window one more than the model sees.
    pub(super) tokens: Option<Vec<u32>>,
    /// The class.
    pub(super) label: u32,
}

/// What an example takes beside its values.
const OVERHEAD: usize = size_of::<Sample>() + 32;

impl Sample {
    /// Which modalities it has: examples of one step have the same.
    pub(super) fn modalities(&self) -> u8 {
        u8::from(self.image.is_some())
            | u8::from(self.audio.is_some()) << 1
            | u8::from(self.tokens.is_some()) << 2
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        OVERHEAD
            + self.record.len()
            + self.image.as_ref().map_or(0, Vec::len)
            + self.audio.as_ref().map_or(0, |values| 4 * values.len())
            + self.tokens.as_ref().map_or(0, |values| 4 * values.len())
    }

    /// Bytes that one takes at most, for options that a plan was made of.
    pub(super) fn largest(options: &TrainOptions) -> usize {
        let image = options.image.as_ref().map_or(0, |of| of.width * of.height * of.channels);
        let audio = options.audio.as_ref().map_or(0, |of| 4 * of.frames * of.bands);
        let text = options.text.as_ref().map_or(0, |of| 4 * of.length);
        let tokens = options.tokens.as_ref().map_or(0, |of| 4 * (of.context + 1));
        // Keys are of any length; most are short.
        OVERHEAD + 128 + image + audio + text + tokens
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.text(&self.record);
        to.number(u64::from(self.modalities()));
        self.image.iter().for_each(|bytes| to.bytes(bytes));
        self.audio.iter().for_each(|values| to.words(values.iter().map(|v| v.to_bits())));
        self.tokens.iter().for_each(|values| to.words(values.iter().copied()));
        to.number(u64::from(self.label));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let record = from.text()?;
        let has = from.number()?;
        let image = (has & 1 > 0).then(|| from.bytes().map(<[u8]>::to_vec)).transpose()?;
        let audio = (has & 2 > 0).then(|| from.words()).transpose()?;
        let audio = audio.map(|words| words.into_iter().map(f32::from_bits).collect());
        let tokens = (has & 4 > 0).then(|| from.words()).transpose()?;
        let label = u32::try_from(from.number()?).map_err(|_| Damaged("a label is too large"))?;
        Ok(Self { record, image, audio, tokens, label })
    }
}

/// Examples with the same modalities as a model takes them.
pub(super) fn batch(options: &TrainOptions, samples: &[&Sample]) -> Batch {
    if let Some(of) = &options.tokens {
        let windows = samples.iter().filter_map(|sample| sample.tokens.as_deref());
        let (mut ids, mut targets) = (Vec::new(), Vec::new());
        for window in windows {
            ids.extend_from_slice(window.get(..of.context).unwrap_or_default());
            targets.extend_from_slice(window.get(1..).unwrap_or_default());
        }
        return Batch { input: Input::Tokens { ids, length: of.context }, targets };
    }
    let has = samples.first().map_or(0, |sample| sample.modalities());
    let image = || -> Vec<f32> {
        let pictures = samples.iter().filter_map(|sample| sample.image.as_deref());
        pictures.flat_map(brightness).collect()
    };
    let input = if options.audio.is_none() && options.text.is_none() {
        Input::Images(image())
    } else {
        let audio = || samples.iter().filter_map(|s| s.audio.as_deref()).flatten().copied();
        let text = || samples.iter().filter_map(|s| s.tokens.as_deref()).flatten().copied();
        Input::Modalities {
            batch: samples.len(),
            image: (has & 1 > 0).then(image),
            audio: (has & 2 > 0).then(|| audio().collect()),
            text: (has & 4 > 0).then(|| text().collect()),
        }
    };
    Batch { input, targets: samples.iter().map(|sample| sample.label).collect() }
}
