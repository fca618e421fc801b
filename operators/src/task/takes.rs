//! How pictures and sounds become what a model takes.

use anabranch_models::artifact::architecture::{Architecture, ImageTokens, Inputs};
use anabranch_models::engine::Input;
use anabranch_pipelines::record::Modality;

use super::{Spectra, picture};
use crate::codec::Media;
use crate::spectrum::{Bands, Mel};

/// What a model takes of a record.
pub(crate) enum Takes {
    Pictures(ImageTokens),
    Sounds(Mel),
}

impl Takes {
    /// With `spectra` the model is asked about sounds, without about pictures.
    ///
    /// # Errors
    /// When the model takes no such thing, as a sentence.
    pub(crate) fn of(
        architecture: &Architecture,
        spectra: Option<Spectra>,
    ) -> Result<Self, String> {
        let (image, audio) = match &architecture.inputs {
            Inputs::Image(image) => (Some(*image), None),
            Inputs::Modalities { image, audio, .. } => (*image, *audio),
            Inputs::Tokens { .. } => (None, None),
        };
        match (image, audio, spectra) {
            (_, Some(audio), Some(Spectra { rate, window, hop })) => {
                let (frames, bands) = (audio.frames, audio.bands);
                Ok(Self::Sounds(Bands { rate, frames, bands, window, hop }.filters()?))
            }
            (Some(image), _, None) => Ok(Self::Pictures(image)),
            (_, Some(_), None) => Err(
                "it takes sounds: say how they become its spectra, with `spectrum = { rate = .. }`"
                    .to_owned(),
            ),
            (_, None, Some(_)) => Err("it takes no sounds; leave `spectrum` out".to_owned()),
            (None, None, None) => Err("it takes no pictures and no sounds".to_owned()),
        }
    }

    pub(crate) fn modality(&self) -> Modality {
        match self {
            Self::Pictures(_) => Modality::Image,
            Self::Sounds(_) => Modality::Audio,
        }
    }

    /// The values of a record as the model was trained on them.
    ///
    /// # Errors
    /// When the record is of another size or rate, as a sentence.
    pub(crate) fn values(&self, media: &Media<'_>) -> Result<Vec<f32>, String> {
        let takes = match self {
            Self::Pictures(takes) => takes,
            Self::Sounds(mel) => {
                let mut values = Vec::new();
                return mel.append(media, &mut values).map(|()| values);
            }
        };
        picture::values(takes, media)
    }

    /// Values as an input of the model.
    pub(crate) fn input<'a>(&self, values: &'a [f32]) -> Input<'a> {
        input(self.modality(), values)
    }
}

/// Values of a picture or a sound as an input of a model.
pub(super) fn input(modality: Modality, values: &[f32]) -> Input<'_> {
    match modality {
        Modality::Audio => Input { audio: Some(values), ..Input::default() },
        _ => Input { image: Some(values), ..Input::default() },
    }
}
