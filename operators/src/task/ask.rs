//! Asks a model about records, many at once.

use anabranch_models::engine::{Encoder, Input};
use anabranch_pipelines::record::Modality;

use super::takes::input;
use crate::codec::Media;

/// Records that go through the model at once.
const TOGETHER: usize = 32;

/// What `judge` makes of the model's logits for each record, which it gets with the record's place; `values` gives what
/// the model takes.
///
/// # Errors
/// Of each record that `values`, the model or `judge` refuses.
pub(super) fn ask<'a, T>(
    model: &Encoder,
    modality: Modality,
    media: &[Media<'a>],
    values: impl Fn(&Media<'a>) -> Result<Vec<f32>, String>,
    judge: impl Fn(usize, &[f32]) -> Result<T, String>,
) -> Vec<Result<T, String>> {
    let architecture = model.architecture();
    let each = (architecture.answers() * architecture.outputs()).max(1);
    let mut judged = Vec::with_capacity(media.len());
    for media in media.chunks(TOGETHER) {
        let values: Vec<Result<Vec<f32>, String>> = media.iter().map(&values).collect();
        let whole: Vec<&[f32]> = values.iter().flatten().map(Vec::as_slice).collect();
        let together = match whole.is_empty() {
            true => Ok(Vec::new()),
            false => predict(model, modality, &whole),
        };
        let mut together = together.as_ref().map(|logits| logits.chunks_exact(each));
        for values in &values {
            let place = judged.len();
            let answer = values.as_ref().map_err(Clone::clone).and_then(|values| {
                match &mut together {
                    Ok(all) => judge(place, all.next().ok_or("the model gave no answer")?),
                    // The model fails at one of them: which, it tells when it is asked one by one.
                    Err(_) => judge(place, &predict(model, modality, &[values])?),
                }
            });
            judged.push(answer);
        }
    }
    judged
}

fn predict(model: &Encoder, modality: Modality, values: &[&[f32]]) -> Result<Vec<f32>, String> {
    let inputs: Vec<Input<'_>> = values.iter().map(|values| input(modality, values)).collect();
    model.predict(&inputs).map_err(|e| e.to_string())
}
