//! Pictures or sounds, by a model of classes.

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::Head;
use anabranch_models::engine::{Encoder, Input};
use anabranch_pipelines::record::Modality;

use super::takes::Takes;
use super::{Outcome, Spectra, Task};
use crate::codec::Media;

/// Records that go through the model at once.
const TOGETHER: usize = 32;

pub(super) struct Classify {
    model: Encoder,
    takes: Takes,
    classes: usize,
}

impl Classify {
    /// With `spectra` the model is asked about sounds, without about pictures.
    pub(super) fn new(artifact: &Artifact, spectra: Option<Spectra>) -> Result<Self, String> {
        let architecture = artifact.architecture();
        let takes = Takes::of(architecture, spectra)?;
        let Head::Classes(classes) = architecture.head else {
            return Err("it does not answer with classes".to_owned());
        };
        let model = Encoder::load(artifact).map_err(|e| e.to_string())?;
        Ok(Self { model, takes, classes })
    }

    /// The logits of each record, all at once.
    fn answers(&self, values: &[&[f32]]) -> Result<Vec<Vec<f32>>, String> {
        let inputs: Vec<Input<'_>> = values.iter().map(|values| self.takes.input(values)).collect();
        let logits = self.model.predict(&inputs).map_err(|e| e.to_string())?;
        Ok(logits.chunks_exact(self.classes.max(1)).map(<[f32]>::to_vec).collect())
    }
}

impl Task for Classify {
    fn name(&self) -> &'static str {
        "classify"
    }

    fn modality(&self) -> Modality {
        self.takes.modality()
    }

    fn outcomes(&self, media: &[Media<'_>], right: &[Option<u32>]) -> Vec<Result<Outcome, String>> {
        let logits = self.logits(media).into_iter().zip(right);
        logits.map(|(logits, right)| logits.map(|logits| Outcome::of(&logits, *right))).collect()
    }

    fn logits(&self, media: &[Media<'_>]) -> Vec<Result<Vec<f32>, String>> {
        let mut all = Vec::with_capacity(media.len());
        for media in media.chunks(TOGETHER) {
            let values: Vec<Result<Vec<f32>, String>> =
                media.iter().map(|media| self.takes.values(media)).collect();
            let whole: Vec<&[f32]> = values.iter().flatten().map(Vec::as_slice).collect();
            let together = match whole.is_empty() {
                true => Ok(Vec::new()),
                false => self.answers(&whole),
            };
            let mut together = together.map(Vec::into_iter);
            all.extend(values.iter().map(|values| {
                let values = values.as_ref().map_err(Clone::clone)?;
                let logits = match &mut together {
                    Ok(answers) => answers.next(),
                    // The model fails at one of them: which, it tells when it is asked one by one.
                    Err(_) => self.answers(&[values.as_slice()])?.pop(),
                };
                logits.ok_or_else(|| "the model gave no answer".to_owned())
            }));
        }
        all
    }
}
