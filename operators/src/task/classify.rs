//! Pictures or sounds, by a model of classes.

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::{Head, ImageTokens, Inputs};
use anabranch_models::engine::{Encoder, Input};
use anabranch_pipelines::record::Modality;

use super::{Outcome, Spectra, Task};
use crate::brightness::brightness;
use crate::codec::{Facts, Media};
use crate::decode;
use crate::spectrum::{Bands, Mel};

/// Records that go through the model at once.
const TOGETHER: usize = 32;

pub(super) struct Classify {
    model: Encoder,
    takes: Takes,
    classes: usize,
}

/// How records become what the model takes.
enum Takes {
    Pictures(ImageTokens),
    Sounds(Mel),
}

impl Classify {
    /// With `spectra` the model is asked about sounds, without about pictures.
    pub(super) fn new(artifact: &Artifact, spectra: Option<Spectra>) -> Result<Self, String> {
        let architecture = artifact.architecture();
        let (image, audio) = match &architecture.inputs {
            Inputs::Image(image) => (Some(*image), None),
            Inputs::Modalities { image, audio, .. } => (*image, *audio),
            Inputs::Tokens { .. } => (None, None),
        };
        let takes = match (image, audio, spectra) {
            (_, Some(audio), Some(Spectra { rate, window, hop })) => {
                let (frames, bands) = (audio.frames, audio.bands);
                Takes::Sounds(Bands { rate, frames, bands, window, hop }.filters()?)
            }
            (Some(image), _, None) => Takes::Pictures(image),
            (_, Some(_), None) => {
                return Err("it takes sounds: say how they become its spectra, with \
                            `spectrum = { rate = .. }`"
                    .to_owned());
            }
            (_, None, Some(_)) => {
                return Err("it takes no sounds; leave `spectrum` out".to_owned());
            }
            (None, None, None) => return Err("it takes no pictures and no sounds".to_owned()),
        };
        let Head::Classes(classes) = architecture.head else {
            return Err("it does not answer with classes".to_owned());
        };
        let model = Encoder::load(artifact).map_err(|e| e.to_string())?;
        Ok(Self { model, takes, classes })
    }

    /// The values of a record as the model was trained on them.
    fn values(&self, media: &Media<'_>) -> Result<Vec<f32>, String> {
        let takes = match &self.takes {
            Takes::Pictures(takes) => takes,
            Takes::Sounds(mel) => {
                let mut values = Vec::new();
                return mel.append(media, &mut values).map(|()| values);
            }
        };
        let ImageTokens { width, height, channels, .. } = *takes;
        let mut samples = media.samples.to_vec();
        let mode = if channels == 1 { "gray" } else { "rgb" };
        let facts = decode::recolour(media.facts, 0, mode, &mut samples);
        let wanted =
            Facts::Image { width: width as u32, height: height as u32, channels: channels as u8 };
        match facts == wanted {
            true => Ok(brightness(&samples).collect()),
            false => Err(format!(
                "the model takes {width} x {height} pixels of {channels} channels, and this is {facts:?}; \
                 `resize` it first"
            )),
        }
    }

    /// The likeliest class of each record, all at once.
    fn answers(&self, values: &[&[f32]]) -> Result<Vec<u32>, String> {
        let input = |values| match self.takes {
            Takes::Pictures(_) => Input { image: Some(values), ..Input::default() },
            Takes::Sounds(_) => Input { audio: Some(values), ..Input::default() },
        };
        let inputs: Vec<Input<'_>> = values.iter().map(|values| input(*values)).collect();
        let logits = self.model.predict(&inputs).map_err(|e| e.to_string())?;
        let likeliest = |logits: &[f32]| {
            // Of equals the first.
            let all = logits.iter().enumerate().rev();
            all.max_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(class, _)| class as u32)
        };
        Ok(logits.chunks_exact(self.classes.max(1)).map(likeliest).collect())
    }
}

impl Task for Classify {
    fn name(&self) -> &'static str {
        "classify"
    }

    fn modality(&self) -> Modality {
        match self.takes {
            Takes::Pictures(_) => Modality::Image,
            Takes::Sounds(_) => Modality::Audio,
        }
    }

    fn outcomes(&self, media: &[Media<'_>], right: &[Option<u32>]) -> Vec<Result<Outcome, String>> {
        let mut outcomes = Vec::with_capacity(media.len());
        for (media, right) in media.chunks(TOGETHER).zip(right.chunks(TOGETHER)) {
            let values: Vec<Result<Vec<f32>, String>> =
                media.iter().map(|media| self.values(media)).collect();
            let whole: Vec<&[f32]> = values.iter().flatten().map(Vec::as_slice).collect();
            let together = match whole.is_empty() {
                true => Ok(Vec::new()),
                false => self.answers(&whole),
            };
            let mut together = together.map(Vec::into_iter);
            outcomes.extend(values.iter().zip(right).map(|(values, right)| {
                let values = values.as_ref().map_err(Clone::clone)?;
                let answer = match &mut together {
                    Ok(answers) => answers.next(),
                    // The model fails at one of them: which, it tells when it is asked one by one.
                    Err(_) => self.answers(&[values.as_slice()])?.pop(),
                };
                let answer = answer.ok_or_else(|| "the model gave no answer".to_owned())?;
                let score = f64::from(u8::from(right.is_none_or(|right| right == answer)));
                Ok(Outcome { score, answer: Some(answer) })
            }));
        }
        outcomes
    }
}
