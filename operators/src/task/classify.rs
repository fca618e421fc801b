//! Pictures or sounds, by a model of classes.

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::Head;
use anabranch_models::engine::Encoder;
use anabranch_pipelines::record::Modality;

use super::ask::ask;
use super::takes::Takes;
use super::{Outcome, Right, Spectra, Task};
use crate::codec::Media;

pub(super) struct Classify {
    model: Encoder,
    takes: Takes,
}

impl Classify {
    /// With `spectra` the model is asked about sounds, without about pictures.
    pub(super) fn new(artifact: &Artifact, spectra: Option<Spectra>) -> Result<Self, String> {
        let architecture = artifact.architecture();
        let takes = Takes::of(architecture, spectra)?;
        let Head::Classes(_) = architecture.head else {
            return Err("it does not answer with classes".to_owned());
        };
        let model = Encoder::load(artifact).map_err(|e| e.to_string())?;
        Ok(Self { model, takes })
    }
}

impl Task for Classify {
    fn name(&self) -> &'static str {
        super::CLASSIFY
    }

    fn modality(&self) -> Modality {
        self.takes.modality()
    }

    fn outcomes(
        &self,
        media: &[Media<'_>],
        right: &[Option<Right<'_>>],
    ) -> Vec<Result<Outcome, String>> {
        let judge = |(logits, right): (Result<Vec<f32>, String>, &Option<Right<'_>>)| {
            Ok(Outcome::of(&logits?, right.map(Right::class).transpose()?))
        };
        self.logits(media).into_iter().zip(right).map(judge).collect()
    }

    fn logits(&self, media: &[Media<'_>]) -> Vec<Result<Vec<f32>, String>> {
        let values = |media: &Media<'_>| self.takes.values(media);
        ask(&self.model, self.modality(), media, values, |_, logits| Ok(logits.to_vec()))
    }
}
