//! Pictures or sounds, by a model of classes.

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::{Head, ImageTokens, Inputs};
use anabranch_models::engine::Encoder;
use anabranch_pipelines::record::Modality;

use super::ask::ask;
use super::{Outcome, Right, Spectra, Task, picture};
use crate::codec::Media;
use crate::spectrum::{Bands, Mel};

pub(super) struct Classify {
    model: Encoder,
    takes: Takes,
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
        let Head::Classes(_) = architecture.head else {
            return Err("it does not answer with classes".to_owned());
        };
        let model = Encoder::load(artifact).map_err(|e| e.to_string())?;
        Ok(Self { model, takes })
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
        picture::values(takes, media)
    }
}

impl Task for Classify {
    fn name(&self) -> &'static str {
        super::CLASSIFY
    }

    fn modality(&self) -> Modality {
        match self.takes {
            Takes::Pictures(_) => Modality::Image,
            Takes::Sounds(_) => Modality::Audio,
        }
    }

    fn outcomes(
        &self,
        media: &[Media<'_>],
        right: &[Option<Right<'_>>],
    ) -> Vec<Result<Outcome, String>> {
        let judge = |place: usize, logits: &[f32]| {
            // Of equals the first.
            let all = logits.iter().enumerate().rev();
            let likeliest = all.max_by(|(_, a), (_, b)| a.total_cmp(b));
            let answer = likeliest.map_or(0, |(class, _)| class as u32);
            let right = right.get(place).copied().flatten().map(Right::class).transpose()?;
            let score = f64::from(u8::from(right.is_none_or(|right| right == answer)));
            Ok(Outcome { score, answer: Some(answer) })
        };
        ask(&self.model, self.modality(), media, |media| self.values(media), judge)
    }
}
