//! Pictures, by a model that draws what is in them.
//!
//! The right answer is a mask: a picture of the same size, white where there is something and black elsewhere. The model
//! decides each pixel of a patch by a bit of its head. The score of a picture is the intersection of both drawings over
//! their union (Jaccard's index, IoU), from 0 to 1, and 1 when there is nothing and nothing is drawn; losses are then
//! from -1 to 1, as [`choose`](crate::choose) wants them.

use anabranch_models::artifact::Artifact;
use anabranch_models::artifact::architecture::{Architecture, Head, ImageTokens, Inputs};
use anabranch_models::engine::Encoder;
use anabranch_pipelines::record::Modality;

use super::ask::ask;
use super::{Blind, Labels, Lesson, Outcome, Right, Task, picture};
use crate::codec::Media;

pub(super) struct Segment {
    model: Encoder,
    takes: ImageTokens,
}

impl Segment {
    pub(super) fn new(artifact: &Artifact) -> Result<Self, String> {
        let takes = takes(artifact.architecture())?;
        let model = Encoder::load(artifact).map_err(|e| e.to_string())?;
        Ok(Self { model, takes })
    }

    /// What is drawn of each picture, judged as if it were of the picture so many places behind it.
    fn judged(
        &self,
        media: &[Media<'_>],
        right: &[Option<Right<'_>>],
        by: usize,
    ) -> Vec<Result<Outcome, String>> {
        let values = |media: &Media<'_>| picture::values(&self.takes, media);
        let judge = |place: usize, logits: &[f32]| {
            let of = (place + by) % right.len().max(1);
            self.score(logits, right.get(of).copied().flatten())
        };
        ask(&self.model, Modality::Image, media, values, judge)
    }

    fn score(&self, logits: &[f32], right: Option<Right<'_>>) -> Result<Outcome, String> {
        let right = right.ok_or("it has no mask, and only that is right")?.media()?;
        let right = picture::mask(&self.takes, &right)?;
        let (mut both, mut either) = (0_u32, 0_u32);
        for (logit, at) in logits.iter().zip(picture::in_patches(&self.takes)) {
            let (drawn, there) = (*logit > 0.0, right.get(at).is_some_and(|there| *there));
            both += u32::from(drawn && there);
            either += u32::from(drawn || there);
        }
        let score = if either == 0 { 1.0 } else { f64::from(both) / f64::from(either) };
        Ok(Outcome { score, answer: None })
    }
}

/// The pictures of a model that draws masks of their pixels.
pub(super) fn takes(architecture: &Architecture) -> Result<ImageTokens, String> {
    let takes = match &architecture.inputs {
        Inputs::Image(image)
        | Inputs::Modalities { image: Some(image), audio: None, text: None } => *image,
        _ => return Err("it does not take pictures alone".to_owned()),
    };
    let pixels = takes.patch * takes.patch;
    match architecture.head {
        Head::Masks(bits) if bits == pixels => Ok(takes),
        Head::Masks(bits) => Err(format!(
            "it draws {bits} bits for each patch, and this task wants one for each of its {pixels} pixels"
        )),
        _ => Err("it does not draw masks; its head must be `masks`".to_owned()),
    }
}

/// A picture and its mask, as such a model learns them.
pub(super) fn lesson(
    takes: &ImageTokens,
    media: &Media<'_>,
    mask: &Media<'_>,
) -> Result<Lesson, String> {
    let (values, mask) = (picture::values(takes, media)?, picture::mask(takes, mask)?);
    let bits = picture::in_patches(takes).map(|at| u32::from(mask.get(at).is_some_and(|bit| *bit)));
    Ok(Lesson { values, bits: bits.collect() })
}

impl Task for Segment {
    fn name(&self) -> &'static str {
        super::SEGMENT
    }

    fn modality(&self) -> Modality {
        Modality::Image
    }

    fn labels(&self) -> Labels {
        Labels::Media
    }

    fn outcomes(
        &self,
        media: &[Media<'_>],
        right: &[Option<Right<'_>>],
    ) -> Vec<Result<Outcome, String>> {
        self.judged(media, right, 0)
    }

    fn blind_outcomes(&self, media: &[Media<'_>], right: &[Option<Right<'_>>]) -> Vec<Blind> {
        let pixels = self.takes.height * self.takes.width;
        let drawing = |answers, logit: f32| {
            let logits = vec![logit; pixels];
            let outcomes = right.iter().map(|right| self.score(&logits, *right));
            Blind { answers, outcomes: outcomes.collect() }
        };
        vec![
            Blind::others(self.judged(media, right, 1)),
            drawing("everything drawn", 1.0),
            drawing("nothing drawn", -1.0),
        ]
    }
}
